package clustertest

import (
	"context"
	"fmt"
	"log/slog"
	"runtime/debug"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/orrery-io/orrery/cluster"
	"github.com/orrery-io/orrery/command"
	"github.com/orrery-io/orrery/job"
)

// BenchmarkJobs takes jobs through submit, dispatch and finish, each a command of its
// own, in three nodes with logs and databases on disk and the garbage collector set as
// the program sets it. The network between them is this process. Point TMPDIR at a
// real disk. The benchmark of package cluster is the same for one node.
//
//	go test -run '^$' -bench Jobs -benchtime 100000x ./internal/clustertest
func BenchmarkJobs(b *testing.B) {
	defer debug.SetGCPercent(debug.SetGCPercent(400))
	payload := `{"data":"` + strings.Repeat("x", 189) + `"}`
	for _, callers := range []int{1, 64, 1024} {
		b.Run(fmt.Sprintf("callers=%d", callers), func(b *testing.B) {
			c := Start(b, Config{Real: true, Log: slog.New(slog.DiscardHandler)})
			n := c.Leader()
			agent := job.Agent{ID: "a", Name: "a", Session: "s", Node: "n1", Status: job.AgentReady}
			if _, err := n.Propose(b.Context(), command.Item{Command: &command.SetAgent{Agent: agent}}); err != nil {
				b.Fatal(err)
			}
			spec := job.Spec{Type: "noop", Queue: "default", Payload: job.JSON(payload), Priority: 4, MaxAttempts: 5}
			var left atomic.Int64
			left.Store(int64(b.N))
			var all sync.WaitGroup
			b.ReportAllocs()
			b.ResetTimer()
			for range callers {
				all.Go(func() {
					for left.Add(-1) >= 0 {
						if err := oneJob(b.Context(), n.Node, spec); err != nil {
							b.Error(err)
							return
						}
					}
				})
			}
			all.Wait()
			b.StopTimer()
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "jobs/s")
		})
	}
}

func oneJob(ctx context.Context, n *cluster.Node, spec job.Spec) error {
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
