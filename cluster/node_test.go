package cluster

import (
	"context"
	"fmt"
	"log/slog"
	"strconv"
	"testing"

	"github.com/orrery-io/orrery/command"
	"github.com/orrery-io/orrery/fsm"
	"github.com/orrery-io/orrery/job"
)

// running is a node while it runs.
type running struct {
	*Node
	machine *fakeMachine
	leads   chan uint64 // gets each term in which Lead was called
	stop    func() error
}

func submit(payload string) command.Item {
	return command.Item{Command: &command.Submit{Spec: job.Spec{Type: "t", Payload: job.JSON(payload)}}}
}

// testLog shows what a node logs when the test fails.
func testLog(t testing.TB) *slog.Logger {
	t.Helper()
	return slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelDebug}))
}

// start runs a node that is alone unless cfg says otherwise.
func start(t testing.TB, cfg Config) *running {
	t.Helper()
	if cfg.ID == "" {
		cfg.ID = "n1"
	}
	if cfg.Dir == "" {
		cfg.Dir = t.TempDir()
	}
	m, ok := cfg.Machine.(*fakeMachine)
	if !ok {
		m = newFake(nil)
		cfg.Machine = m
	}
	if cfg.Log == nil {
		cfg.Log = testLog(t)
	}
	r := &running{machine: m, leads: make(chan uint64, 16)}
	lead := cfg.Lead
	cfg.Lead = func(ctx context.Context, term uint64) error {
		r.leads <- term
		if lead != nil {
			return lead(ctx, term)
		}
		<-ctx.Done()
		return nil
	}
	n, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	r.Node = n
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	done := make(chan error, 1)
	go func() { done <- n.Run(ctx) }()
	stopped := false
	r.stop = func() error {
		if stopped {
			return nil
		}
		stopped = true
		cancel()
		return <-done
	}
	t.Cleanup(func() {
		if err := r.stop(); err != nil {
			t.Errorf("Run: %v", err)
		}
	})
	return r
}

// awaitLead waits until the node leads.
func (r *running) awaitLead(t testing.TB) uint64 {
	t.Helper()
	select {
	case term := <-r.leads:
		return term
	case <-t.Context().Done():
		t.Fatal("the test ended before the node led")
		return 0
	case <-r.over:
		t.Fatal("the node ended before it led")
		return 0
	}
}

// record proposes and expects success.
func (r *running) record(t testing.TB, items ...command.Item) []command.Result {
	t.Helper()
	results, err := r.Propose(t.Context(), items...)
	if err != nil {
		t.Fatal(err)
	}
	return results
}

func payloads(from, to int) []string {
	var p []string
	for i := from; i <= to; i++ {
		p = append(p, strconv.Itoa(i))
	}
	return p
}

func TestNode(t *testing.T) {
	t.Run("an empty folder becomes a cluster of one", func(t *testing.T) {
		r := start(t, Config{Version: "v1"})
		term := r.awaitLead(t)
		if !r.IsLeader() {
			t.Error("IsLeader is false in Lead")
		}
		results := r.record(t, submit("1"), submit("2"))
		if len(results) != 2 || results[0].Job != 1 || results[1].Job != 2 {
			t.Errorf("results %+v", results)
		}
		st := r.Status()
		if st.ID != "n1" || st.State != "leader" || st.Leader != "n1" || st.Term != term || len(st.ClusterID) != 26 ||
			st.Applied != results[0].Index || st.Commit != st.Applied || st.LogLast != st.Applied || len(st.Servers) != 1 || !st.Servers[0].Voter {
			t.Errorf("status %+v", st)
		}
		if r.machine.SchemaVersion() != fsm.NewestSchema {
			t.Errorf("schema %d", r.machine.SchemaVersion())
		}
		index, err := r.ReadIndex(t.Context())
		if err != nil || index != results[0].Index {
			t.Errorf("ReadIndex = %d, %v; want %d", index, err, results[0].Index)
		}
	})

	t.Run("a restart replays nothing and keeps everything", func(t *testing.T) {
		dir, disk := t.TempDir(), &fakeDisk{}
		r := start(t, Config{Dir: dir, Machine: newFake(disk)})
		r.awaitLead(t)
		id := r.Status().ClusterID
		for i := range 50 {
			r.record(t, submit(strconv.Itoa(i+1)))
		}
		if err := r.stop(); err != nil {
			t.Fatal(err)
		}
		r.machine.flush()
		before, _ := r.machine.Applied()

		r = start(t, Config{Dir: dir, Machine: newFake(disk)})
		r.awaitLead(t)
		if fed := r.machine.feed(); len(fed) != 0 {
			t.Errorf("%d entries were replayed", len(fed))
		}
		if m, ok := r.machine.Marker(); !ok || m.Index != before {
			t.Errorf("marker %+v, %v; want %d", m, ok, before)
		}
		r.record(t, submit("51"))
		if got, want := fmt.Sprint(r.machine.jobs()), fmt.Sprint(payloads(1, 51)); got != want {
			t.Errorf("jobs %s, want %s", got, want)
		}
		if got := r.Status().ClusterID; got != id {
			t.Errorf("cluster id %s, want %s", got, id)
		}
	})

	t.Run("a database behind the log is brought up", func(t *testing.T) {
		dir, disk := t.TempDir(), &fakeDisk{}
		r := start(t, Config{Dir: dir, Machine: newFake(disk)})
		r.awaitLead(t)
		r.record(t, submit("1"))
		r.machine.flush()
		r.record(t, submit("2"))
		r.record(t, submit("3"))
		if err := r.stop(); err != nil {
			t.Fatal(err)
		}
		r = start(t, Config{Dir: dir, Machine: newFake(disk)})
		r.awaitLead(t)
		if got := fmt.Sprint(r.machine.jobs()); got != "[1 2 3]" {
			t.Errorf("jobs %s", got)
		}
		if fed := r.machine.feed(); len(fed) != 2 {
			t.Errorf("%d entries were replayed, want 2", len(fed))
		}
	})
}
