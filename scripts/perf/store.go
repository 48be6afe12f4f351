//go:build ignore

package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// Store is every figure that is known, so that a run of some of them leaves the
// others as they are.
type Store struct {
	Facts   Facts              `json:"facts"`
	Figures map[string]*Figure `json:"figures"`
	// Soak is what the nodes used during the long run.
	Soak []Sample `json:"soak,omitempty"`
}

// Figure is one number, measured several times.
type Figure struct {
	Values   []float64 `json:"values"`
	Date     string    `json:"date"`
	Revision string    `json:"revision"`
}

// Sample is a moment of the long run; see bench.Sample.
type Sample struct {
	At         float64 `json:"at_s"`
	RSS        int64   `json:"rss_bytes"`
	Live       int64   `json:"live_bytes"`
	Goroutines int64   `json:"goroutines"`
	FDs        int64   `json:"fds"`
	Database   int64   `json:"database_bytes"`
	WAL        int64   `json:"wal_bytes"`
	Log        int64   `json:"log_bytes"`
}

func (f *Figure) median() float64 {
	v := slices.Sorted(slices.Values(f.Values))
	n := len(v)
	if n%2 == 1 {
		return v[n/2]
	}
	return (v[n/2-1] + v[n/2]) / 2
}

func (f *Figure) low() float64  { return slices.Min(f.Values) }
func (f *Figure) high() float64 { return slices.Max(f.Values) }

// quantile of sorted values, by the nearest rank.
func quantile(sorted []float64, q float64) float64 {
	if len(sorted) == 0 {
		return math.NaN()
	}
	return sorted[max(int(math.Ceil(q*float64(len(sorted))))-1, 0)]
}

func readStore(name string) (*Store, error) {
	s := &Store{Figures: map[string]*Figure{}}
	b, err := os.ReadFile(name)
	if errors.Is(err, fs.ErrNotExist) {
		return s, nil
	}
	if err == nil {
		err = json.Unmarshal(b, s)
	}
	if s.Figures == nil {
		s.Figures = map[string]*Figure{}
	}
	return s, err
}

// collect adds what was measured to the store. A figure that was measured anew
// replaces the old one.
func collect(args []string) error {
	s, err := readStore(args[1])
	if err != nil {
		return fmt.Errorf("%s: %w", args[1], err)
	}
	b, err := os.ReadFile(args[2])
	if err != nil {
		return err
	}
	if err := json.Unmarshal(b, &s.Facts); err != nil {
		return fmt.Errorf("%s: %w", args[2], err)
	}
	results, soak, err := readResults(args[0])
	if err != nil {
		return err
	}
	for key, values := range results {
		s.Figures[key] = &Figure{Values: values, Date: s.Facts.Date, Revision: s.Facts.Revision}
	}
	if soak != nil {
		s.Soak = soak
	}
	out, err := json.MarshalIndent(s, "", " ")
	if err != nil {
		return err
	}
	return os.WriteFile(args[1], append(out, '\n'), 0o644)
}

// readResults reads a folder of results: the values of each figure, and the samples
// of the long run, nil when there was none.
func readResults(dir string) (map[string][]float64, []Sample, error) {
	found := map[string][]float64{}
	var soak []Sample
	err := filepath.WalkDir(dir, func(name string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		b, err := os.ReadFile(name)
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(dir, filepath.Dir(name))
		if err != nil {
			return err
		}
		add := func(what string, v float64) {
			key := filepath.ToSlash(rel) + "/" + what
			found[key] = append(found[key], v)
		}
		switch filepath.Ext(name) {
		case ".num":
			err = addNumbers(string(b), add)
		case ".json":
			var r report
			if err = json.Unmarshal(b, &r); err == nil {
				err = r.add(add)
			}
			if strings.HasPrefix(rel, "soak") && len(r.Nodes) > 0 {
				soak = r.Nodes[0].Samples
			}
		}
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		return nil
	})
	return found, soak, err
}

func addNumbers(text string, add func(string, float64)) error {
	for line := range strings.Lines(text) {
		name, value, ok := strings.Cut(strings.TrimSpace(line), " ")
		if !ok {
			return fmt.Errorf("%q is no name and number", line)
		}
		v, err := strconv.ParseFloat(value, 64)
		if err != nil {
			return err
		}
		add(name, v)
	}
	return nil
}

// report is what is needed of bench.Report.
type report struct {
	Mode      string
	Rate      float64 `json:"jobs_per_second"`
	Late      float64 `json:"late"`
	Unsent    float64 `json:"unsent"`
	Throttled float64 `json:"throttled"`
	Bench     float64 `json:"bench_cpus"`
	Latency   []struct {
		Name string
		P50  float64 `json:"p50_ms"`
		P90  float64 `json:"p90_ms"`
		P99  float64 `json:"p99_ms"`
		P999 float64 `json:"p99_9_ms"`
	}
	Nodes []struct {
		CPUs    float64
		Before  Sample
		After   Sample
		MaxRSS  float64 `json:"max_rss_bytes"`
		Samples []Sample
	}
	Check struct{ Agrees bool }
	Idle  *struct {
		PerAgent     float64 `json:"bytes_per_agent"`
		HeapPerAgent float64 `json:"heap_bytes_per_agent"`
		ConnectRate  float64 `json:"connects_per_second"`
		CPUs         float64 `json:"cpus"`
		Lost         float64 `json:"lost"`
	} `json:"idle_agents"`
	Interrupted bool
}

// add hands over every figure of a report.
func (r *report) add(add func(string, float64)) error {
	if r.Interrupted || !r.Check.Agrees || len(r.Nodes) == 0 {
		return errors.New("the report is not that of a good measurement")
	}
	cpus, rss, before := 0.0, 0.0, 0.0
	for _, n := range r.Nodes {
		cpus += n.CPUs
		rss = max(rss, n.MaxRSS)
		before = max(before, float64(n.Before.RSS))
	}
	add("cpus", cpus)
	add("rss", rss)
	add("rss_before", before)
	add("bench_cpus", r.Bench)
	if r.Idle != nil {
		add("per_agent", r.Idle.PerAgent)
		add("heap_per_agent", r.Idle.HeapPerAgent)
		add("connects", r.Idle.ConnectRate)
		add("idle_cpus", r.Idle.CPUs)
		add("lost", r.Idle.Lost)
		return nil
	}
	add("rate", r.Rate)
	if r.Rate > 0 {
		// On a machine that others use too this varies less than the rate.
		add("cpu_ms", cpus/r.Rate*1000)
	}
	add("late", r.Late+r.Unsent)
	add("throttled", r.Throttled)
	for _, l := range r.Latency {
		add(l.Name+"_p50", l.P50)
		add(l.Name+"_p90", l.P90)
		add(l.Name+"_p99", l.P99)
		add(l.Name+"_p999", l.P999)
	}
	return nil
}
