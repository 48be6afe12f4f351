package link

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
)

// BenchmarkCall measures requests of 300 bytes per second over a loopback socket.
//
//	go test -run '^$' -bench Call -benchtime 2s ./cluster/link
func BenchmarkCall(b *testing.B) {
	for _, callers := range []int{1, 64, 1024} {
		b.Run(fmt.Sprintf("callers=%d", callers), func(b *testing.B) {
			x, y := tcpPair(b, nil)
			y.Handle("echo", func(_ context.Context, _ string, body []byte) ([]byte, error) { return body[:8], nil })
			ctx, cancel := context.WithCancel(b.Context())
			var nodes sync.WaitGroup
			nodes.Go(func() { _ = x.Run(ctx) })
			nodes.Go(func() { _ = y.Run(ctx) })
			defer nodes.Wait()
			defer cancel()
			body := make([]byte, 300)
			if _, err := x.Call(ctx, "b", "echo", body); err != nil {
				b.Fatal(err)
			}
			b.ReportAllocs()
			b.ResetTimer()
			var left atomic.Int64
			left.Store(int64(b.N))
			var wg sync.WaitGroup
			for range callers {
				wg.Go(func() {
					for left.Add(-1) >= 0 {
						if _, err := x.Call(ctx, "b", "echo", body); err != nil {
							b.Error(err)
							return
						}
					}
				})
			}
			wg.Wait()
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "calls/s")
		})
	}
}

// BenchmarkSend measures one-way messages of 300 bytes per second.
func BenchmarkSend(b *testing.B) {
	x, y := tcpPair(b, nil)
	var got atomic.Int64
	all := make(chan struct{}, 1)
	want := int64(b.N)
	y.HandleSend("note", func(string, []byte) {
		if got.Add(1) == want {
			all <- struct{}{}
		}
	})
	ctx, cancel := context.WithCancel(b.Context())
	var nodes sync.WaitGroup
	nodes.Go(func() { _ = x.Run(ctx) })
	nodes.Go(func() { _ = y.Run(ctx) })
	defer nodes.Wait()
	defer cancel()
	_, _ = x.Call(ctx, "b", "nothing", nil)
	body := make([]byte, 300)
	b.ReportAllocs()
	b.ResetTimer()
	for range b.N {
		for !x.Send("b", "note", body) { // the queue is full
		}
	}
	<-all
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "sends/s")
}
