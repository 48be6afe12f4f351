package bench

import (
	"context"
	"fmt"
	"net/http"
	"sync"
	"time"

	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
)

// Sample is how a node stood at a moment, from its /metrics.
type Sample struct {
	// At is when, in seconds since the measured time began; negative before that.
	At float64 `json:"at_s"`
	// CPU is what the process has used since its start, in seconds of one processor.
	CPU float64 `json:"cpu_s"`
	// RSS is the resident memory, Heap what the Go heap has in use, Live what the
	// collector last found to be needed of it; in bytes.
	RSS        int64 `json:"rss_bytes"`
	Heap       int64 `json:"heap_bytes"`
	Live       int64 `json:"live_bytes"`
	Goroutines int64 `json:"goroutines"`
	FDs        int64 `json:"fds"`
	// Database includes its write-ahead log, WAL. Log is the file of the raft log.
	Database int64 `json:"database_bytes"`
	WAL      int64 `json:"wal_bytes"`
	Log      int64 `json:"log_bytes"`
	// Sessions are connections of agents, Active attempts that agents have.
	Sessions int64 `json:"sessions"`
	Active   int64 `json:"active"`

	// Deleted counts jobs removed at the end of their retention since the node's start.
	Deleted int64 `json:"deleted_jobs"`

	leader bool
	// messages are those from agents since the node's start.
	messages int64
	// maxFDs is how many descriptors the process may have.
	maxFDs int64
}

// watcher looks at the nodes while they work.
type watcher struct {
	http  *http.Client
	token string
	nodes []*watched
}

type watched struct {
	to target
	mu sync.Mutex
	// taken are all samples, in order; begin and end those around the measured time.
	taken      []sampled
	begin, end sampled
	err        error
}

type sampled struct {
	at time.Duration
	Sample
}

// mark keeps a sample as that of an end of the measured time. One that could not be
// taken changes nothing.
func (n *watched) mark(s sampled, begin bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	switch {
	case s.at == 0:
	case begin:
		n.begin = s
	default:
		n.end = s
	}
}

func newWatcher(targets []target, token string) *watcher {
	w := &watcher{token: token, http: &http.Client{Timeout: 10 * time.Second}}
	for _, t := range targets {
		w.nodes = append(w.nodes, &watched{to: t})
	}
	return w
}

// look takes a sample of every node, at the same time.
func (w *watcher) look(ctx context.Context, now func() time.Duration) []sampled {
	out := make([]sampled, len(w.nodes))
	var all sync.WaitGroup
	for i, n := range w.nodes {
		all.Go(func() {
			s, err := w.scrape(ctx, n.to)
			n.mu.Lock()
			defer n.mu.Unlock()
			if err != nil {
				n.err = err
				return
			}
			out[i] = sampled{now(), s}
			n.taken = append(n.taken, out[i])
		})
	}
	all.Wait()
	return out
}

// trouble is why a node could not be looked at; nil when all could.
func (w *watcher) trouble() error {
	for _, n := range w.nodes {
		n.mu.Lock()
		err := n.err
		n.mu.Unlock()
		if err != nil {
			return err
		}
	}
	return nil
}

// follow takes a sample in every interval, until ctx ends.
func (w *watcher) follow(ctx context.Context, every time.Duration, now func() time.Duration) {
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			w.look(ctx, now)
		}
	}
}

func (w *watcher) scrape(ctx context.Context, t target) (Sample, error) {
	url := t.base + "/metrics"
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return Sample{}, err
	}
	if w.token != "" {
		req.Header.Set("Authorization", "Bearer "+w.token)
	}
	resp, err := w.http.Do(req)
	if err != nil {
		return Sample{}, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return Sample{}, fmt.Errorf("%s answered %s", url, resp.Status)
	}
	parser := expfmt.NewTextParser(model.UTF8Validation)
	families, err := parser.TextToMetricFamilies(resp.Body)
	if err != nil {
		return Sample{}, fmt.Errorf("%s: %w", url, err)
	}
	// sum adds up the counters or gauges of a name; labels of the form name=value
	// select some of them.
	sum := func(name string, labels ...string) (total float64) {
		for _, m := range families[name].GetMetric() {
			if len(labels) == 2 {
				match := false
				for _, l := range m.GetLabel() {
					match = match || l.GetName() == labels[0] && l.GetValue() == labels[1]
				}
				if !match {
					continue
				}
			}
			total += m.GetCounter().GetValue() + m.GetGauge().GetValue()
		}
		return total
	}
	return sampleOf(sum), nil
}

// sampleOf reads what is of interest here.
func sampleOf(sum func(name string, labels ...string) float64) Sample {
	whole := func(name string, labels ...string) int64 { return int64(sum(name, labels...)) }
	return Sample{
		CPU:        sum("process_cpu_seconds_total"),
		RSS:        whole("process_resident_memory_bytes"),
		Heap:       whole("go_memstats_heap_inuse_bytes"),
		Live:       whole("go_gc_heap_live_bytes"),
		Goroutines: whole("go_goroutines"),
		FDs:        whole("process_open_fds"),
		Database:   whole("orrery_fsm_database_bytes"),
		WAL:        whole("orrery_fsm_wal_bytes"),
		Log:        whole("orrery_cluster_log_file_bytes"),
		Sessions:   whole("orrery_agentconn_sessions"),
		Active:     whole("orrery_scheduler_active_attempts"),
		leader:     sum("orrery_cluster_is_leader") > 0,
		Deleted:    whole("orrery_scheduler_deleted_jobs_total"),
		messages:   whole("orrery_agentconn_messages_total", "direction", "in"),
		maxFDs:     whole("process_max_fds"),
	}
}
