package bench

import (
	"context"
	"errors"
	"math"
	"sync"
	"testing"
	"time"

	"github.com/orrery-io/orrery/client"
	"github.com/orrery-io/orrery/job"
	"github.com/orrery-io/orrery/server"
)

// startNode runs a node for the test, with its data on disk.
func startNode(t *testing.T) *client.Client {
	t.Helper()
	s, err := server.New(server.Config{Data: t.TempDir(), HTTP: "127.0.0.1:0", Version: "test"})
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.WithoutCancel(t.Context()))
	var node sync.WaitGroup
	node.Go(func() {
		if err := s.Run(ctx); err != nil {
			t.Errorf("node: %v", err)
		}
	})
	t.Cleanup(func() {
		stop()
		node.Wait()
	})
	<-s.Ready()
	c, err := client.New(client.Config{Addr: s.URL()})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// queueOf is the queue of a measurement as the node has it.
func queueOf(t *testing.T, c *client.Client, name string) *client.Queue {
	t.Helper()
	q, err := c.Queue(t.Context(), name, true)
	if err != nil {
		t.Fatal(err)
	}
	return q
}

// TestModes measures a real node. What was counted is compared with the node's own
// counters, here once more.
func TestModes(t *testing.T) {
	c := startNode(t)
	for _, tt := range []struct {
		name string
		cfg  Config
		// jobs is how many must have been acknowledged; 0 any number.
		jobs int64
		// kinds are the latencies that are told.
		kinds int
	}{
		{"submit, one by one", Config{Mode: Submit, Connections: 8, Jobs: 500}, 500, 1},
		{"submit, in batches that don't fit", Config{Mode: Submit, Connections: 3, Batch: 64, Jobs: 1000}, 1000, 1},
		{"submit, for a time", Config{Mode: Submit, Connections: 4, Duration: 200 * time.Millisecond, Warmup: -1}, 0, 1},
		{"submit, at a rate", Config{Mode: Submit, Connections: 4, Rate: 500, Duration: 400 * time.Millisecond, Warmup: -1}, 0, 1},
		{"process", Config{Mode: Process, Jobs: 2000, Batch: 200}, 2000, 0},
		{"end to end", Config{Mode: EndToEnd, Batch: 50, InFlight: 400, Duration: 300 * time.Millisecond, Warmup: 100 * time.Millisecond}, 0, 3},
		{"end to end, at a rate", Config{Mode: EndToEnd, Batch: 1, Rate: 200, Duration: 300 * time.Millisecond, Warmup: -1}, 0, 3},
		{"latency", Config{Mode: Latency, Duration: 200 * time.Millisecond, Warmup: -1}, 0, 3},
		{"latency at a rate", Config{Mode: Latency, Rate: 100, Duration: 200 * time.Millisecond, Warmup: -1}, 0, 3},
		{"a payload of 100 kB", Config{Mode: EndToEnd, Batch: 1, Payload: 100_000, Jobs: 50}, 50, 3},
	} {
		t.Run(tt.name, func(t *testing.T) {
			tt.cfg.Addrs = c.Addrs()
			rep, err := Run(t.Context(), tt.cfg)
			// A slow machine may end nothing in so short a time.
			for tt.jobs == 0 && err == nil && rep.Jobs == 0 && tt.cfg.Duration < time.Minute {
				tt.cfg.Duration *= 4
				rep, err = Run(t.Context(), tt.cfg)
			}
			if err != nil {
				t.Fatalf("%v\n%+v", err, rep)
			}
			k := rep.Check
			if !k.Agrees || k.Acked == 0 || tt.jobs > 0 && k.Acked != tt.jobs || k.Unknown+k.Refused != 0 {
				t.Errorf("counted %+v", k)
			}
			q := queueOf(t, c, rep.Queue)
			if q.Counts[job.Completed] != k.Acked || len(q.Counts) != 1 || q.Paused {
				t.Errorf("the node has %v of %d acknowledged jobs, paused %v", q.Counts, k.Acked, q.Paused)
			}
			if want := tt.cfg.Mode != Submit; want && k.Recorded != k.Acked {
				t.Errorf("%d of %d results are recorded", k.Recorded, k.Acked)
			}
			if rep.Jobs == 0 || rep.Rate <= 0 || rep.Jobs > k.Acked || len(rep.Errors) != 0 || len(rep.Notes) != 0 {
				t.Errorf("report %+v", rep)
			}
			if tt.jobs > 0 && rep.Jobs != tt.jobs {
				t.Errorf("%d of %d jobs are in the measured time", rep.Jobs, tt.jobs)
			}
			if len(rep.Latency) != tt.kinds {
				t.Fatalf("latencies %+v", rep.Latency)
			}
			for _, l := range rep.Latency {
				if l.Count == 0 || l.P50 <= 0 || l.P50 > l.P90 || l.P90 > l.P99 || l.P99 > l.P999 || l.P999 > l.Max {
					t.Errorf("latency %+v", l)
				}
			}
			n := rep.Nodes[0]
			if n.CPUs <= 0 || n.After.RSS == 0 || n.After.Database == 0 || n.After.WAL == 0 || n.After.Log == 0 || n.After.Goroutines == 0 || !n.Leader || math.IsNaN(rep.Bench) {
				t.Errorf("node %+v", n)
			}
		})
	}
}

func TestIdleAgents(t *testing.T) {
	c := startNode(t)
	rep, err := Run(t.Context(), Config{Mode: IdleAgents, Addrs: c.Addrs(), Agents: 30, Connections: 7, Duration: 200 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	if i := rep.Idle; i.Sessions != 30 || i.Lost != 0 || i.FDsPerAgent < 0.9 || i.ConnectRate <= 0 {
		t.Errorf("idle agents: %+v", i)
	}
	// Their leaving is recorded a moment later.
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for left := 30; left > 0; <-tick.C {
		agents, err := c.Agents(t.Context())
		if err != nil || len(agents) != 30 {
			t.Fatalf("%d agents, %v", len(agents), err)
		}
		left = 0
		for _, a := range agents {
			if a.Status == job.AgentReady {
				left++
			}
		}
	}
}

// TestInterrupt ends measurements in the middle: they must leave nothing that waits.
func TestInterrupt(t *testing.T) {
	c := startNode(t)
	why := errors.New("Ctrl-C")
	for _, mode := range []Mode{Submit, Process, EndToEnd} {
		t.Run(string(mode), func(t *testing.T) {
			ctx, cancel := context.WithCancelCause(t.Context())
			cfg := Config{Mode: mode, Addrs: c.Addrs(), Batch: 20, Connections: 2, Duration: time.Hour, Warmup: -1}
			if mode == Process {
				cfg.Jobs = 10_000_000
			}
			r, err := newRun(cfg)
			if err != nil {
				t.Fatal(err)
			}
			if r.before, err = r.look(ctx); err != nil {
				t.Fatal(err)
			}
			go func() {
				for r.counters.acked.Load() < 100 {
					time.Sleep(time.Millisecond)
				}
				cancel(why)
			}()
			rep, err := r.measure(ctx)
			if !errors.Is(err, why) || errors.Is(err, ErrMismatch) {
				t.Errorf("the error is %v", err)
			}
			if (rep == nil) != (mode == Process) {
				t.Errorf("report %+v", rep)
			}
			if rep != nil && (!rep.Interrupted || !rep.Check.Agrees || rep.Check.Acked < 100) {
				t.Errorf("report %+v", rep)
			}
			if q := queueOf(t, c, r.queue); q.Paused || len(q.Counts) != 1 || q.Counts[job.Completed] != r.counters.acked.Load() {
				t.Errorf("left behind: %v, paused %v, of %d jobs", q.Counts, q.Paused, r.counters.acked.Load())
			}
		})
	}
}

func TestKeep(t *testing.T) {
	c := startNode(t)
	rep, err := Run(t.Context(), Config{Mode: Submit, Addrs: c.Addrs(), Jobs: 50, Batch: 10, Keep: true})
	if err != nil {
		t.Fatal(err)
	}
	if q := queueOf(t, c, rep.Queue); q.Counts[job.Pending] != 50 {
		t.Errorf("the node has %v", q.Counts)
	}
}

func TestNoNode(t *testing.T) {
	_, err := Run(t.Context(), Config{Mode: Submit, Addrs: []string{"127.0.0.1:1"}})
	e, ok := errors.AsType[*client.Error](err)
	if !ok || e.Code != client.CodeUnreachable {
		t.Errorf("the error is %v", err)
	}
}
