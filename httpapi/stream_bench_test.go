package httpapi

import (
	"bytes"
	"context"
	"fmt"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/orrery-io/orrery/command"
	"github.com/orrery-io/orrery/job"
)

// counter counts the events of a stream that nobody reads.
type counter struct {
	header http.Header
	begun  *sync.WaitGroup
	left   *atomic.Int64
	done   chan<- struct{}
}

func (w *counter) Header() http.Header { return w.header }
func (w *counter) WriteHeader(int)     { w.begun.Done() }
func (w *counter) Flush()              {}

func (w *counter) Write(b []byte) (int, error) {
	if n := int64(bytes.Count(b, []byte("\nevent: job."))); n > 0 && w.left.Add(-n) == 0 {
		w.done <- struct{}{}
	}
	return len(b), nil
}

// BenchmarkFanOut is from the log entry with 500 submissions to the last listener
// having been written its 500 events.
func BenchmarkFanOut(b *testing.B) {
	for _, listeners := range []int{1, 10, 100} {
		b.Run(fmt.Sprint("listeners=", listeners), func(b *testing.B) {
			const batch = 500
			t := setup(b)
			ctx, stop := context.WithCancel(b.Context())
			var left atomic.Int64
			done := make(chan struct{})
			var streams, begun sync.WaitGroup
			begun.Add(listeners)
			for range listeners {
				r, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://127.0.0.1:7700/v1/events?after=latest", nil)
				if err != nil {
					b.Fatal(err)
				}
				r.Header.Set("Accept", typeSSE)
				w := &counter{header: http.Header{}, begun: &begun, left: &left, done: done}
				streams.Go(func() { t.ServeHTTP(w, r) })
			}
			begun.Wait()
			items := make([]command.Command, batch)
			for i := range items {
				items[i] = &command.Submit{Spec: job.Spec{Type: "email.send", Queue: "default", Payload: job.JSON(`{"to":"ada@example.org"}`), MaxAttempts: 1}}
			}
			b.ReportAllocs()
			for b.Loop() {
				left.Store(int64(batch * listeners))
				t.propose(items...)
				<-done
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*batch*listeners), "ns/event")
			stop()
			streams.Wait()
		})
	}
}
