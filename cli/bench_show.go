package cli

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/orrery-io/orrery/internal/bench"
)

// showBench writes a report for people.
func showBench(a *app, r *bench.Report) error {
	a.printf("%s\n\n", benchTitle(r))
	var err error
	if r.Idle != nil {
		err = showIdle(a, r.Idle)
	} else {
		err = showRate(a, r)
	}
	if err = cmp.Or(err, showNodes(a, r)); err != nil {
		return err
	}
	a.printf("\nthe bench itself used %.2f processors\n", r.Bench)
	for _, kind := range slices.Sorted(maps.Keys(r.Errors)) {
		t := r.Errors[kind]
		a.printf("error: %s, %s: %s\n", kind, times(t.Count), printable(t.Example))
	}
	for _, note := range r.Notes {
		a.printf("note: %s\n", printable(note))
	}
	if r.Interrupted {
		a.printf("note: interrupted; the figures are about the time until then\n")
	}
	if r.Idle == nil && r.Check.Agrees {
		a.printf("the cluster's counts agree: %s\n", checkText(&r.Check))
	}
	return nil
}

// benchTitle says what was measured.
func benchTitle(r *bench.Report) string {
	nodes := count(r.Servers, "node")
	if r.Idle != nil {
		return fmt.Sprintf("bench %s: %s, held for %s, %s", r.Mode, count(r.Agents, "agent"), seconds(r.Seconds-r.Idle.ConnectSeconds), nodes)
	}
	text := fmt.Sprintf("bench %s: %s, ", r.Mode, nodes)
	if r.OpenLoop {
		text += fmt.Sprintf("open loop of %s jobs/s, ", thousands(int64(r.TargetRate)))
	} else {
		text += "closed loop, "
	}
	text += count(r.Connections, "connection") + ", "
	if r.Batch > 1 {
		text += fmt.Sprintf("batches of %d jobs", r.Batch)
	} else {
		text += "single jobs"
	}
	text += " with " + byteText(int64(r.Payload))
	if r.Mode != bench.Submit {
		text += fmt.Sprintf(", %s with %s", count(r.Agents, "agent"), count(r.Slots, "slot"))
	}
	if r.InFlight > 0 {
		text += fmt.Sprintf(", at most %s in flight", thousands(int64(r.InFlight)))
	}
	return text
}

func showRate(a *app, r *bench.Report) error {
	what := "recorded"
	if r.Mode == bench.Submit {
		what = "acknowledged"
	}
	a.printf("%s jobs/s: %s %s in %s", thousands(int64(r.Rate)), thousands(r.Jobs), what, seconds(r.Seconds))
	if r.Warmup > 0 {
		a.printf(", after %s of warm-up", seconds(r.Warmup))
	}
	a.printf("\n")
	if r.OpenLoop && r.Late+r.Unsent > 0 {
		a.printf("the cluster did not follow: %s sent more than 10 ms late, %s not sent at all\n", requests(r.Late), requests(r.Unsent))
	}
	if r.Throttled > 0 {
		a.printf("the cluster asked to be slower (429) %s\n", times(r.Throttled))
	}
	if len(r.Latency) == 0 {
		return nil
	}
	from := "the request"
	if r.OpenLoop {
		from = "the time at which the request was due"
	}
	a.printf("\nmilliseconds since %s:\n", from)
	t := newTable(a.out, "UNTIL", "COUNT", "P50", "P90", "P99", "P99.9", "MAX")
	until := map[string]string{"request": "acknowledged", "start": "handler starts", "recorded": "result recorded"}
	for _, l := range r.Latency {
		t.row(until[l.Name], thousands(l.Count), millis(l.P50), millis(l.P90), millis(l.P99), millis(l.P999), millis(l.Max))
	}
	return t.end()
}

func showIdle(a *app, i *bench.Idle) error {
	return fields(a.out,
		"connected", fmt.Sprintf("in %s, %s per second", seconds(i.ConnectSeconds), thousands(int64(i.ConnectRate))),
		"sessions at the end", thousands(i.Sessions),
		"connections lost", thousands(i.Lost),
		"memory per agent", byteText(int64(i.BytesPerAgent))+", Go heap "+byteText(int64(i.HeapPerAgent)),
		"per agent", fmt.Sprintf("%.2f descriptors, %.2f goroutines", i.FDsPerAgent, i.GoroutinesPerAgent),
		"processors while held", fmt.Sprintf("%.2f", i.CPUs),
		"messages", fmt.Sprintf("%s, %.2f per agent and second", thousands(i.Messages), i.MessagesPerAgent))
}

func showNodes(a *app, r *bench.Report) error {
	a.printf("\n")
	t := newTable(a.out, "NODE", "CPUS", "MEMORY", "MOST", "GOROUTINES", "FILES", "DATABASE", "LOG")
	for _, n := range r.Nodes {
		name := strings.TrimPrefix(n.Addr, "http://")
		if n.Leader && r.Servers > 1 {
			name += " (leader)"
		}
		t.row(name, fmt.Sprintf("%.2f", n.CPUs), byteText(n.After.RSS), byteText(n.MaxRSS), n.After.Goroutines, n.After.FDs,
			byteText(n.After.Database), byteText(n.After.Log))
	}
	return t.end()
}

func checkText(c *bench.Check) string {
	parts := []string{thousands(c.Acked) + " acknowledged"}
	add := func(n int64, what string) {
		if n > 0 {
			parts = append(parts, thousands(n)+" "+what)
		}
	}
	add(c.Unknown, "without an answer")
	for _, s := range slices.Sorted(maps.Keys(c.Server)) {
		add(c.Server[s], s.String())
	}
	add(c.Untold, "of them without telling the agent")
	add(c.Deleted, "deleted already")
	add(c.Repeated, "executed again")
	return strings.Join(parts, ", ")
}

// thousands writes a number with commas.
func thousands(n int64) string {
	s := fmt.Sprint(max(n, -n))
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	if n < 0 {
		return "-" + s
	}
	return s
}

// millis writes milliseconds with three digits or so.
func millis(ms float64) string {
	switch {
	case ms < 10:
		return fmt.Sprintf("%.2f", ms)
	case ms < 100:
		return fmt.Sprintf("%.1f", ms)
	}
	return thousands(int64(ms + 0.5))
}

func seconds(s float64) string { return took(time.Duration(s * float64(time.Second))) }

func requests(n int64) string { return thousands(n) + " requests" }

func times(n int64) string {
	if n == 1 {
		return "once"
	}
	return thousands(n) + " times"
}
