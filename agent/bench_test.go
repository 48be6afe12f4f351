package agent

import (
	"context"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/coder/websocket"

	"github.com/orrery-io/orrery/job"
	"github.com/orrery-io/orrery/wire"
)

// BenchmarkJobs is one job from its dispatch to the acknowledgement of its result,
// with a handler that does nothing, over a WebSocket. Node and agent are in the
// same process and share its processors.
func BenchmarkJobs(b *testing.B) {
	for _, format := range []wire.Format{wire.Msgpack, wire.JSON} {
		for _, bb := range []struct {
			name   string
			window int
		}{{"one at a time", 1}, {"256 at once", 256}} {
			b.Run(format.String()+"/"+bb.name, func(b *testing.B) { benchmarkJobs(b, format, bb.window) })
		}
	}
}

func benchmarkJobs(b *testing.B, format wire.Format, window int) {
	credits := make(chan struct{}, window)
	work := make(chan job.ID, window)
	for range window {
		credits <- struct{}{}
	}
	ready := make(chan struct{})
	node := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		serveBenchmark(b, w, r, format, ready, work, credits)
	}))
	defer node.Close()

	a, err := New(Config{Addrs: []string{node.URL}, ID: "a", Format: format, Slots: 64, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		b.Fatal(err)
	}
	Handle(a, "noop", func(_ context.Context, j *Job[greeting]) (greeting, error) { return j.Args, nil })
	done := make(chan error, 1)
	ctx, cancel := context.WithCancel(b.Context())
	go func() { done <- a.Run(ctx) }()
	<-ready

	b.ReportAllocs()
	id := job.ID(0)
	for b.Loop() {
		<-credits
		id++
		work <- id
	}
	for range window {
		<-credits
	}
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "jobs/s")
	cancel()
	if err := <-done; err != nil {
		b.Error(err)
	}
	close(work)
}

// serveBenchmark is the node: one goroutine sends dispatches, one takes results.
func serveBenchmark(b *testing.B, w http.ResponseWriter, r *http.Request, format wire.Format, ready chan struct{}, work chan job.ID, credits chan struct{}) {
	ws, err := websocket.Accept(w, r, &websocket.AcceptOptions{Subprotocols: []string{format.Subprotocol()}})
	if err != nil {
		b.Error(err)
		return
	}
	defer ws.CloseNow()
	ws.SetReadLimit(wire.MaxFrame)
	ctx := context.Background() //nolint:usetesting // must not end before the agent has said goodbye
	typ := websocket.MessageText
	if format.Binary() {
		typ = websocket.MessageBinary
	}
	out := make(chan []wire.Message, 1000)
	go func() {
		var buf []byte
		for msgs := range out {
			for more := true; more && len(msgs) < 1000; {
				select {
				case m := <-out:
					msgs = append(msgs, m...)
				default:
					more = false
				}
			}
			if buf, err = wire.AppendFrame(buf[:0], format, msgs); err != nil {
				b.Error(err)
			}
			_ = ws.Write(ctx, typ, buf)
		}
	}()
	go func() {
		for id := range work {
			d := dispatch(id, 1, "noop", payload(`{"name":"Ann","age":42}`))
			d.Dispatch.Tags = []string{"bench"}
			out <- []wire.Message{d}
		}
	}()
	for {
		_, frame, err := ws.Read(ctx)
		if err != nil {
			return
		}
		msgs, err := wire.DecodeFrame(format, frame, wire.Limits{})
		if err != nil {
			b.Error(err)
		}
		var acks []wire.Message
		results := 0
		for _, m := range msgs {
			switch {
			case m.Hello != nil:
				out <- []wire.Message{{Welcome: welcome()}}
				close(ready)
			case m.Heartbeat != nil:
				acks = append(acks, wire.Message{Beat: &wire.Beat{Seq: m.Heartbeat.Seq}})
			case m.Result != nil:
				acks = append(acks, ack(m.Result.Job, m.Result.Fence))
				results++
			}
		}
		if len(acks) > 0 {
			out <- acks
		}
		for range results {
			credits <- struct{}{}
		}
	}
}
