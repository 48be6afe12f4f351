package clustertest

import (
	"fmt"
	"log/slog"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
)

// BenchmarkPropose records jobs on a follower, with real state machines, logs and
// databases on disk. Point TMPDIR at a real disk.
func BenchmarkPropose(b *testing.B) {
	for _, on := range []string{"leader", "follower"} {
		for _, callers := range []int{1, 16, 256} {
			b.Run(fmt.Sprintf("on=%s/callers=%d", on, callers), func(b *testing.B) {
				c := Start(b, Config{Real: true, Log: slog.New(slog.DiscardHandler)})
				n := c.Leader()
				if on == "follower" {
					n = c.Followers()[0]
				}
				if _, err := n.Propose(b.Context(), Submit("0", "")); err != nil {
					b.Fatal(err)
				}
				var left atomic.Int64
				left.Store(int64(b.N))
				b.ReportAllocs()
				b.ResetTimer()
				var all sync.WaitGroup
				for range callers {
					all.Go(func() {
						for i := left.Add(-1); i >= 0; i = left.Add(-1) {
							if _, err := n.Propose(b.Context(), Submit(strconv.FormatInt(i, 10), "")); err != nil {
								b.Error(err)
								return
							}
						}
					})
				}
				all.Wait()
				b.StopTimer()
				b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "jobs/s")
				if err := n.Stop(); err != nil {
					b.Error(err)
				}
			})
		}
	}
}

// BenchmarkReadIndex reads on a follower, after each write and between them.
func BenchmarkReadIndex(b *testing.B) {
	c := Start(b, Config{Real: true, Log: slog.New(slog.DiscardHandler)})
	f := c.Followers()[0]
	l := c.Leader()
	b.Run("alone", func(b *testing.B) {
		for b.Loop() {
			if _, err := f.ReadIndex(b.Context()); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("after a write on the leader", func(b *testing.B) {
		for b.Loop() {
			c.Record(l, Submit("1", ""))
			if _, err := f.ReadIndex(b.Context()); err != nil {
				b.Fatal(err)
			}
		}
	})
}
