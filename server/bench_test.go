package server

import (
	"context"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/orrery-io/orrery/agent"
	"github.com/orrery-io/orrery/client"
	"github.com/orrery-io/orrery/job"
)

// benchNode runs a node in this process, with its data on a real disk, and an
// agent with one handler over a real WebSocket.
func benchNode(b *testing.B, slots int, handler func(id job.ID)) *client.Client {
	b.Helper()
	s, err := New(Config{Data: b.TempDir(), HTTP: "127.0.0.1:0", Version: "bench"})
	if err != nil {
		b.Fatal(err)
	}
	a, err := agent.New(agent.Config{Addrs: []string{s.URL()}, ID: "bench", Slots: slots})
	if err != nil {
		b.Fatal(err)
	}
	agent.Handle(a, "noop", func(_ context.Context, j *agent.Job[job.JSON]) (struct{}, error) {
		handler(j.ID)
		return struct{}{}, nil
	})
	ctx, cancel := context.WithCancel(context.WithoutCancel(b.Context()))
	agentCtx, stopAgent := context.WithCancel(ctx)
	var node, worker sync.WaitGroup
	node.Go(func() {
		if err := s.Run(ctx); err != nil {
			b.Errorf("node: %v", err)
		}
	})
	<-s.Ready()
	worker.Go(func() {
		if err := a.Run(agentCtx); err != nil {
			b.Errorf("agent: %v", err)
		}
	})
	b.Cleanup(func() {
		stopAgent()
		worker.Wait()
		cancel()
		node.Wait()
	})
	c, err := client.New(client.Config{Addr: s.URL()})
	if err != nil {
		b.Fatal(err)
	}
	return c
}

// BenchmarkIdleLatency measures, on an idle node with fsync, the time from before
// the HTTP request of a submission until its handler starts in an agent at the
// other end of a WebSocket: one job at a time, each after the one before it has
// ended.
//
//	go test -run '^$' -bench IdleLatency -benchtime 3000x ./server
func BenchmarkIdleLatency(b *testing.B) {
	started := make(chan time.Time, 1)
	c := benchNode(b, 4, func(job.ID) { started <- time.Now() })
	ctx := b.Context()
	payload := job.JSON(`"` + string(slices.Repeat([]byte("x"), 198)) + `"`)
	one := func() time.Duration {
		begin := time.Now()
		j, err := c.Submit(ctx, client.Submission{Type: "noop", Payload: payload})
		if err != nil {
			b.Fatal(err)
		}
		at := <-started
		if _, err := c.Wait(ctx, j.ID); err != nil {
			b.Fatal(err)
		}
		return at.Sub(begin)
	}
	for range 100 {
		one() // connections, caches
	}
	var took []time.Duration
	for b.Loop() {
		took = append(took, one())
	}
	slices.Sort(took)
	at := func(q float64) float64 {
		return float64(took[min(int(q*float64(len(took))), len(took)-1)].Microseconds()) / 1000
	}
	b.ReportMetric(at(0.50), "p50-ms")
	b.ReportMetric(at(0.99), "p99-ms")
	b.ReportMetric(at(0.999), "p99.9-ms")
	b.ReportMetric(0, "ns/op")
}

// BenchmarkEndToEnd measures jobs per second from batched HTTP submissions to
// recorded results, with no-op handlers in an agent at the other end of a
// WebSocket.
//
//	go test -run '^$' -bench EndToEnd -benchtime 200x ./server
func BenchmarkEndToEnd(b *testing.B) {
	const batch = 500
	var arrived atomic.Int64
	c := benchNode(b, 64, func(job.ID) { arrived.Add(1) })
	jobs := make([]client.Submission, batch)
	for i := range jobs {
		jobs[i] = client.Submission{Type: "noop", Payload: job.JSON(`"` + string(slices.Repeat([]byte("x"), 198)) + `"`)}
	}
	begin := time.Now()
	var senders sync.WaitGroup
	turns := make(chan struct{})
	for range 4 {
		senders.Go(func() {
			for range turns {
				res, err := c.SubmitBatch(b.Context(), jobs, client.BatchOptions{})
				if err != nil || res.Accepted != batch {
					b.Errorf("batch: %v, %v", res, err)
				}
			}
		})
	}
	n := 0
	for b.Loop() {
		turns <- struct{}{}
		n += batch
	}
	close(turns)
	senders.Wait()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for arrived.Load() < int64(n) {
		<-tick.C
	}
	b.ReportMetric(float64(n)/time.Since(begin).Seconds(), "jobs/s")
	b.ReportMetric(0, "ns/op")
}
