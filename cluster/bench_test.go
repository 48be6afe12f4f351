package cluster

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"runtime/debug"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hashicorp/raft"
	"github.com/orrery-io/orrery/command"
	"github.com/orrery-io/orrery/job"
	"golang.org/x/sys/unix"
)

// BenchmarkJobs takes jobs through submit, dispatch and finish, each a command of its
// own, with the log and the database on disk and the garbage collector set as the
// program sets it. Point TMPDIR at a real disk.
func BenchmarkJobs(b *testing.B) {
	defer debug.SetGCPercent(debug.SetGCPercent(400))
	payload := `{"data":"` + strings.Repeat("x", 189) + `"}`
	for _, callers := range []int{1, 64, 1024} {
		b.Run(fmt.Sprintf("callers=%d", callers), func(b *testing.B) {
			n := launch(b, b.TempDir(), nil)
			n.awaitLead(b)
			agent := job.Agent{ID: "a", Name: "a", Session: "s", Node: "n1", Status: job.AgentReady}
			if _, err := n.Propose(b.Context(), command.Item{Command: &command.SetAgent{Agent: agent}}); err != nil {
				b.Fatal(err)
			}
			one := spec(payload)
			var left atomic.Int64
			left.Store(int64(b.N))
			var wg sync.WaitGroup
			ctx := b.Context()
			b.ReportAllocs()
			before := cpuTime(b)
			b.ResetTimer()
			for range callers {
				wg.Go(func() {
					for left.Add(-1) >= 0 {
						if err := oneJob(ctx, n.Node, one); err != nil {
							b.Error(err)
							return
						}
					}
				})
			}
			wg.Wait()
			b.StopTimer()
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "jobs/s")
			b.ReportMetric(float64((cpuTime(b)-before).Nanoseconds())/float64(b.N), "cpu-ns/op")
		})
	}
}

// cpuTime is what the process has used of all processors. On a machine that others use
// too it varies less than the time on the clock.
func cpuTime(b *testing.B) time.Duration {
	b.Helper()
	var u unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
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

// BenchmarkLog writes entries of several sizes to the log, and for comparison the same
// bytes to the end of a file, each with an fsync.
func BenchmarkLog(b *testing.B) {
	for _, size := range []int{100, 3 << 10, 30 << 10, 100 << 10, 500 << 10} {
		data := make([]byte, size)
		b.Run(fmt.Sprintf("bolt/bytes=%d", size), func(b *testing.B) {
			bolt, err := openLog(b.TempDir())
			if err != nil {
				b.Fatal(err)
			}
			defer func() { _ = bolt.Close() }()
			b.SetBytes(int64(size))
			b.ReportAllocs()
			for i := uint64(1); b.Loop(); i++ {
				if err := bolt.StoreLog(&raft.Log{Index: i, Term: 1, Data: data}); err != nil {
					b.Fatal(err)
				}
			}
		})
		b.Run(fmt.Sprintf("file/bytes=%d", size), func(b *testing.B) {
			f, err := os.Create(filepath.Join(b.TempDir(), "file"))
			if err != nil {
				b.Fatal(err)
			}
			defer func() { _ = f.Close() }()
			b.SetBytes(int64(size))
			for b.Loop() {
				if _, err := f.Write(data); err != nil {
					b.Fatal(err)
				}
				if err := unix.Fdatasync(int(f.Fd())); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
