package cli

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"github.com/orrery-io/orrery/internal/bench"
	"github.com/orrery-io/orrery/job"
)

func TestFigures(t *testing.T) {
	for n, want := range map[int64]string{0: "0", 7: "7", 999: "999", 1000: "1,000", 1234567: "1,234,567", -12345: "-12,345"} {
		if got := thousands(n); got != want {
			t.Errorf("thousands(%d) is %q, want %q", n, got, want)
		}
	}
	for ms, want := range map[float64]string{0: "0.00", 0.456: "0.46", 9.99: "9.99", 12.34: "12.3", 123.4: "123", 12345.6: "12,346"} {
		if got := millis(ms); got != want {
			t.Errorf("millis(%g) is %q, want %q", ms, got, want)
		}
	}
}

// TestShowBench has everything in it that makes figures doubtful: none of it may be
// left out.
func TestShowBench(t *testing.T) {
	var out bytes.Buffer
	a := &app{out: &out}
	err := showBench(a, &bench.Report{
		Mode: bench.EndToEnd, Servers: 3, OpenLoop: true, TargetRate: 5000, Connections: 16, Batch: 10, Payload: 200, Agents: 4, Slots: 64,
		Seconds: 10, Jobs: 45_000, Rate: 4500, Late: 1200, Unsent: 300, Throttled: 2, Interrupted: true,
		Latency: []bench.Percentiles{{Name: "start", Count: 45_000, P50: 0.5, P90: 1.25, P99: 12.5, P999: 125, Max: 1250}},
		Errors:  map[string]bench.Trouble{"429 overloaded": {Count: 2, Example: "slower"}, "connection lost": {Count: 1, Example: "EOF\x1b"}},
		Nodes:   []bench.Node{{Addr: "http://10.0.0.1:7700", Leader: true, CPUs: 1.5}},
		Check:   bench.Check{Acked: 46_000, Unknown: 1, Repeated: 3, Agrees: true, Server: map[job.State]int64{job.Completed: 46_001}},
		Notes:   []string{"something else ran"},
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"bench e2e: 3 nodes, open loop of 5,000 jobs/s, 16 connections, batches of 10 jobs with 200 B, 4 agents with 64 slots\n",
		"4,500 jobs/s: 45,000 recorded in 10s\n",
		"the cluster did not follow: 1,200 requests sent more than 10 ms late, 300 requests not sent at all\n",
		"the cluster asked to be slower (429) 2 times\n",
		"handler starts  45,000  0.50  1.25  12.5  125    1,250\n",
		"10.0.0.1:7700 (leader)  1.50 ",
		"error: 429 overloaded, 2 times: slower\n",
		"error: connection lost, once: EOF·\n",
		"note: something else ran\n",
		"note: interrupted;",
		"the cluster's counts agree: 46,000 acknowledged, 1 without an answer, 46,001 completed, 3 executed again\n",
	} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("%q is not in\n%s", want, &out)
		}
	}
}

func TestProgressLine(t *testing.T) {
	var out bytes.Buffer
	line := &progressLine{a: &app{err: &out}}
	line.show(bench.Progress{Stage: "submitting"})
	line.end()
	if out.Len() != 0 {
		t.Errorf("a stream that is no terminal got %q", &out)
	}
	line.live = true
	line.show(bench.Progress{Stage: "submitting", Elapsed: 3 * time.Second, Of: 11 * time.Second, Done: 45678, Rate: 15226.4, P99: 4.321, Errors: 1, Waiting: 12})
	line.show(bench.Progress{Stage: "short"})
	line.end()
	lines := strings.Split(out.String(), "\r")
	want := []string{"", "submitting  3s of 11s  45,678  15,226/s  p99 4.32 ms  12 waiting  1 error", "short  0s  0  0/s", "", ""}
	if len(lines) != len(want) {
		t.Fatalf("%q", lines)
	}
	for i := range want {
		if strings.TrimRight(lines[i], " ") != want[i] {
			t.Errorf("line %d is %q, want %q", i, lines[i], want[i])
		}
	}
	if len(lines[2]) < len(want[1]) {
		t.Errorf("%q doesn't cover the line before", lines[2])
	}
}
