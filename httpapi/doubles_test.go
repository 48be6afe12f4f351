package httpapi

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"net/url"
	"runtime"
	"strings"

	"github.com/orrery-io/orrery/cluster"
	"github.com/orrery-io/orrery/command"
	"github.com/orrery-io/orrery/fsm"
	"github.com/orrery-io/orrery/job"
)

type fsmFilter = fsm.JobFilter

func discard() *slog.Logger { return slog.New(slog.DiscardHandler) }

// chanFeed is a feed that a test writes. Closing the channel breaks it.
type chanFeed chan []job.Event

func (f chanFeed) Next(ctx context.Context) ([]job.Event, error) {
	select {
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	case events, ok := <-f:
		if !ok {
			return nil, errors.New("broken")
		}
		return events, nil
	}
}

// fixedNode answers every command with the same job.
type fixedNode struct {
	id    job.ID
	index uint64
}

func (n fixedNode) Propose(_ context.Context, items ...command.Item) ([]command.Result, error) {
	results := make([]command.Result, len(items))
	for i := range results {
		results[i] = command.Result{Index: n.index, Job: n.id}
	}
	return results, nil
}

func (n fixedNode) ReadIndex(context.Context) (uint64, error) { return n.index, nil }

func (n fixedNode) Status() cluster.Status { return cluster.Status{Leader: "n1"} }

// discardWriter is a ResponseWriter for benchmarks.
type discardWriter struct {
	header http.Header
	status int
}

func (w *discardWriter) Header() http.Header         { return w.header }
func (w *discardWriter) WriteHeader(status int)      { w.status = status }
func (w *discardWriter) Write(b []byte) (int, error) { return len(b), nil }

type body struct{ *strings.Reader }

func (body) Close() error { return nil }

// benchRequest is what the server would make of POST /v1/jobs.
func benchRequest(text string) *http.Request {
	return &http.Request{
		Method: http.MethodPost, URL: &url.URL{Path: "/v1/jobs"}, RequestURI: "/v1/jobs", Host: "127.0.0.1:7700",
		Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		Header:        http.Header{"Content-Type": {"application/json"}, "Accept": {"*/*"}, "User-Agent": {"bench"}},
		ContentLength: int64(len(text)), Body: body{strings.NewReader(text)},
	}
}

func textLog(w *strings.Builder) *slog.Logger {
	return slog.New(slog.NewTextHandler(w, &slog.HandlerOptions{Level: slog.LevelDebug}))
}

// waitOpen waits until so many streams and waiting requests are open. It watches
// the API's own count, whose changes nothing else announces.
func (b *testBundle) waitOpen(n int) {
	b.t.Helper()
	for {
		b.mu.Lock()
		open := len(b.streams)
		b.mu.Unlock()
		if open >= n {
			return
		}
		if err := b.t.Context().Err(); err != nil {
			b.t.Fatal(err)
		}
		runtime.Gosched()
	}
}

// waitClosed waits until no streams are open.
func (b *testBundle) waitClosed() {
	b.t.Helper()
	for {
		b.mu.Lock()
		open := len(b.streams)
		b.mu.Unlock()
		if open == 0 {
			return
		}
		if err := b.t.Context().Err(); err != nil {
			b.t.Fatal(err)
		}
		runtime.Gosched()
	}
}
