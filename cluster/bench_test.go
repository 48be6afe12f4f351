package cluster

import (
	"context"
	"fmt"
	"log/slog"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/orrery-io/orrery/command"
	"github.com/orrery-io/orrery/fsm"
	"github.com/orrery-io/orrery/job"
)

// startReal runs a node on a real state machine in dir.
func startReal(t testing.TB, dir string, change func(*Config)) (*Node, *fsm.Machine, func() error) {
	t.Helper()
	log := slog.New(slog.DiscardHandler)
	m, err := fsm.Open(context.Background(), fsm.Config{Dir: filepath.Join(dir, "db"), Log: log})
	if err != nil {
		t.Fatal(err)
	}
	leads := make(chan struct{}, 1)
	cfg := Config{
		ID: "n1", Dir: filepath.Join(dir, "raft"), Machine: m, Version: "test", Log: log,
		Lead: func(ctx context.Context, _ uint64) error { leads <- struct{}{}; <-ctx.Done(); return nil },
	}
	if change != nil {
		change(&cfg)
	}
	n, err := New(cfg)
	if err != nil {
		_ = m.Close()
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var ended sync.WaitGroup
	var nodeErr, machineErr error
	mctx, mcancel := context.WithCancel(context.Background())
	ended.Go(func() { machineErr = m.Run(mctx) })
	nodeDone := make(chan struct{})
	go func() { defer close(nodeDone); nodeErr = n.Run(ctx) }()
	stop := sync.OnceValue(func() error {
		cancel()
		<-nodeDone
		mcancel()
		ended.Wait()
		if err := m.Close(); err != nil {
			return err
		}
		if nodeErr != nil {
			return nodeErr
		}
		return machineErr
	})
	t.Cleanup(func() {
		if err := stop(); err != nil {
			t.Error(err)
		}
	})
	select {
	case <-leads:
	case <-nodeDone:
		t.Fatal(nodeErr)
	}
	return n, m, stop
}

// BenchmarkJobs takes jobs through submit, dispatch and finish, each a command of its
// own, with the log and the database on disk.
func BenchmarkJobs(b *testing.B) {
	payload := job.JSON(`{"data":"` + strings.Repeat("x", 189) + `"}`)
	for _, callers := range []int{1, 64, 1024} {
		b.Run(fmt.Sprintf("callers=%d", callers), func(b *testing.B) {
			n, _, _ := startReal(b, b.TempDir(), nil)
			agent := job.Agent{ID: "a", Name: "a", Session: "s", Node: "n1", Status: job.AgentReady}
			if _, err := n.Propose(b.Context(), command.Item{Command: &command.SetAgent{Agent: agent}}); err != nil {
				b.Fatal(err)
			}
			spec := job.Spec{Type: "noop", Queue: "default", Payload: payload, Priority: 4, MaxAttempts: 5}
			var left atomic.Int64
			left.Store(int64(b.N))
			var wg sync.WaitGroup
			ctx := b.Context()
			b.ReportAllocs()
			b.ResetTimer()
			for range callers {
				wg.Go(func() {
					for left.Add(-1) >= 0 {
						if err := oneJob(ctx, n, spec); err != nil {
							b.Error(err)
							return
						}
					}
				})
			}
			wg.Wait()
			b.StopTimer()
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "jobs/s")
		})
	}
}

func oneJob(ctx context.Context, n *Node, spec job.Spec) error {
	propose := func(c command.Command) (command.Result, error) {
		res, err := n.Propose(ctx, command.Item{Command: c})
		if err != nil {
			return command.Result{}, err
		}
		return res[0], res[0].Error()
	}
	made, err := propose(&command.Submit{Spec: spec})
	if err != nil {
		return err
	}
	given, err := propose(&command.Dispatch{Job: made.Job, Assign: command.Assign{Agent: "a", Session: "s", Node: "n1"}})
	if err != nil {
		return err
	}
	_, err = propose(&command.Finish{Job: made.Job, Fence: job.Fence(given.Index), Outcome: job.OutcomeCompleted, Next: job.Completed})
	return err
}
