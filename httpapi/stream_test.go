package httpapi

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/orrery-io/orrery/command"
	"github.com/orrery-io/orrery/job"
)

// serve puts the API behind a real server.
func (b *testBundle) serve() string {
	b.t.Helper()
	srv := httptest.NewServer(b)
	b.t.Cleanup(func() {
		b.Close()
		srv.Close()
	})
	return srv.URL
}

// sse is one server-sent event.
type sse struct{ id, name, data string }

// listener reads a stream.
type listener struct {
	t    testing.TB
	resp *http.Response
	r    *bufio.Reader
}

func listen(t testing.TB, target string, headers ...string) *listener {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, target, http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { resp.Body.Close() })
	if resp.StatusCode != 200 {
		body, _ := io.ReadAll(resp.Body)
		t.Fatalf("%s: %s", resp.Status, body)
	}
	return &listener{t, resp, bufio.NewReader(resp.Body)}
}

// next returns the next event; false at the end of the stream.
func (l *listener) next() (ev sse, ok bool) {
	l.t.Helper()
	for {
		line, err := l.r.ReadString('\n')
		if err != nil {
			return ev, false
		}
		name, value, _ := strings.Cut(strings.TrimSuffix(line, "\n"), ": ")
		switch name {
		case "id":
			ev.id = value
		case "event":
			ev.name = value
		case "data":
			ev.data = value
		case "":
			if ev.data != "" {
				return ev, true
			}
			ev = sse{}
		}
	}
}

func (l *listener) want(name string) sse {
	l.t.Helper()
	ev, ok := l.next()
	if !ok || ev.name != name {
		l.t.Fatalf("got %+v, %v; want %s", ev, ok, name)
	}
	return ev
}

func TestEvents_page(t *testing.T) {
	b := setup(t)
	id := b.submit()
	other := b.submit(func(s *job.Spec) { s.Queue, s.Type = "other", "mail" })
	b.finish(id, b.dispatch(id), job.Completed)
	types := func(target string) (got []string, next string) {
		t.Helper()
		var list EventList
		b.get(target).want(200).into(&list)
		for _, e := range list.Events {
			got = append(got, e.Type.String())
		}
		return got, list.Next
	}
	all, next := types("/v1/events")
	if want := "job.submitted job.submitted agent.connected job.dispatched job.completed"; strings.Join(all, " ") != want {
		t.Errorf("got %q", all)
	}
	if got, again := types("/v1/events?after=" + next); len(got) != 0 || again != next {
		t.Errorf("after the last: %q, %q", got, again)
	}
	first, place := types("/v1/events?limit=2")
	rest, _ := types("/v1/events?after=" + place)
	if len(first) != 2 || len(rest) != 3 {
		t.Errorf("pages of %d and %d", len(first), len(rest))
	}
	for target, want := range map[string]int{
		"?types=job.submitted": 2, "?types=job.*": 4, "?types=agent.*,job.completed": 2, "?queue=other": 1, "?job_type=mail": 1,
		fmt.Sprintf("?job=%d", id): 3, fmt.Sprintf("?job=%d,%d", id, other): 4, "?after=latest": 0, "?after=oldest": 5, "?after=0": 5,
	} {
		if got, _ := types("/v1/events" + target); len(got) != want {
			t.Errorf("%s: %q", target, got)
		}
	}
	// NDJSON and server-sent events, without following.
	r := b.get("/v1/events", "Accept", "application/x-ndjson").want(200)
	if lines := strings.Split(strings.TrimSpace(string(r.body)), "\n"); len(lines) != 5 || !json.Valid([]byte(lines[4])) {
		t.Errorf("NDJSON: %s", r.body)
	}
	r = b.get("/v1/events?follow=false&after=oldest", "Accept", "text/event-stream").want(200)
	if text := string(r.body); strings.Count(text, "data: ") != 6 || !strings.HasSuffix(text, "event: end\ndata: {\"next\":\""+next+"\"}\n\n") {
		t.Errorf("SSE: %s", text)
	}
	if r := b.send(http.MethodHead, "/v1/events", "", "Accept", "text/event-stream").want(200); len(r.body) != 0 {
		t.Errorf("HEAD answered with %s", r.body)
	}
	b.get("/v1/events", "Accept", "application/xml").problem(406, "not_acceptable")
}

func TestEvents_trimmed(t *testing.T) {
	b := setup(t)
	b.submit()
	index := uint64(b.dispatch(b.submit()))
	b.propose(&command.TrimFeed{Through: index - 1})
	p := b.get("/v1/events?after=1.0").problem(404, "events_trimmed")
	if p.Hint == "" {
		t.Errorf("%+v", p)
	}
	var list EventList
	b.get("/v1/events").want(200).into(&list)
	if len(list.Events) != 1 {
		t.Errorf("%+v", list)
	}
	l := listen(t, b.serve()+"/v1/events?after=1.0", "Accept", "text/event-stream")
	if ev := l.want("error"); !strings.Contains(ev.data, "events_trimmed") {
		t.Errorf("%+v", ev)
	}
}

func TestEvents_follow_and_resume(t *testing.T) {
	b := setup(t)
	b.submit() // before the stream: not shown
	url := b.serve()
	l := listen(t, url+"/v1/events", "Accept", "text/event-stream")
	if got := l.resp.Header.Get("Content-Type"); got != "text/event-stream" {
		t.Errorf("Content-Type %q", got)
	}
	b.waitOpen(1)
	id := b.submit()
	ev := l.want("job.submitted")
	var e job.Event
	if err := json.Unmarshal([]byte(ev.data), &e); err != nil || e.Job != id || e.ID.String() != ev.id {
		t.Errorf("%+v, %v", ev, err)
	}
	l.resp.Body.Close()
	// While nobody listens, things happen.
	fence := b.dispatch(id)
	b.finish(id, fence, job.Completed)
	l = listen(t, url+"/v1/events?after=latest&types=job.*", "Accept", "text/event-stream", "Last-Event-ID", ev.id)
	l.want("job.dispatched")
	l.want("job.completed")
	b.submit()
	l.want("job.submitted")
	// Closing the API ends the stream.
	b.Close()
	if ev, ok := l.next(); ok {
		t.Errorf("after Close: %+v", ev)
	}
}

func TestEvents_follow_NDJSON(t *testing.T) {
	b := setup(t)
	l := listen(t, b.serve()+"/v1/events?follow=true&after=oldest", "Accept", "application/x-ndjson")
	b.submit()
	line, err := l.r.ReadString('\n')
	if err != nil || !strings.Contains(line, `"type":"job.submitted"`) {
		t.Errorf("%q, %v", line, err)
	}
}

// TestSubscribed_keeps_alive: without news a comment goes out, and it carries how
// far the feed was looked at.
func TestSubscribed_keeps_alive(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		feed := make(chan []job.Event)
		w := httptest.NewRecorder()
		s := newStream(&response{ResponseWriter: w}, httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/", http.NoBody), typeSSE)
		a := &API{log: discard()}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() {
			done <- a.subscribed(ctx, s, chanFeed(feed), func(*job.Event) (bool, error) { return true, nil })
		}()
		time.Sleep(keepAliveEvery + time.Second) // of the bubble
		feed <- []job.Event{{ID: job.EventID{Index: 7, N: 1}}}
		time.Sleep(keepAliveEvery + time.Second)
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
		if got := w.Body.String(); got != ": keep-alive\n\n: keep-alive\nid: 7.1\n\n" {
			t.Errorf("wrote %q", got)
		}
	})
}

// stuckWriter is a client that does not read.
type stuckWriter struct {
	*httptest.ResponseRecorder
	deadlines int
}

func (w *stuckWriter) Write([]byte) (int, error)        { return 0, context.DeadlineExceeded }
func (w *stuckWriter) SetWriteDeadline(time.Time) error { w.deadlines++; return nil }
func (w *stuckWriter) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	return nil, nil, errors.ErrUnsupported
}

func TestStream_stuck_client(t *testing.T) {
	w := &stuckWriter{ResponseRecorder: httptest.NewRecorder()}
	s := newStream(&response{ResponseWriter: w}, httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/", http.NoBody), typeSSE)
	var err error
	for n := 0; err == nil; n++ {
		if err = s.event("1.0", "x", strings.Repeat("x", 1000)); n > 1000 {
			t.Fatal("what is not read is gathered without bound")
		}
	}
	if !errors.Is(err, errStuckClient) || w.deadlines == 0 {
		t.Errorf("%v, %d deadlines", err, w.deadlines)
	}
}

func TestJobEvents(t *testing.T) {
	b := setup(t)
	id := b.submit()
	b.submit()
	url := b.serve()
	l := listen(t, fmt.Sprintf("%s/v1/jobs/%d/events", url, id), "Accept", "text/event-stream")
	first := l.want("job.submitted")
	fence := b.dispatch(id)
	l.want("job.dispatched")
	b.finish(id, fence, job.Completed)
	l.want("job.completed")
	if ev := l.want("end"); ev.data != fmt.Sprintf(`{"job":%d,"state":"completed"}`, id) {
		t.Errorf("%+v", ev)
	}
	if _, ok := l.next(); ok {
		t.Error("the stream goes on")
	}
	var list JobEvents
	b.get(fmt.Sprintf("/v1/jobs/%d/events", id)).want(200).into(&list)
	if len(list.Events) != 3 {
		t.Errorf("%+v", list)
	}
	l = listen(t, fmt.Sprintf("%s/v1/jobs/%d/events", url, id), "Accept", "text/event-stream", "Last-Event-ID", first.id)
	l.want("job.dispatched")
	b.get("/v1/jobs/99/events").problem(404, "job_not_found")
	b.get("/v1/jobs/99/events", "Accept", "text/event-stream").problem(404, "job_not_found")
	b.get(fmt.Sprintf("/v1/jobs/%d/events", id), "Last-Event-ID", "x").problem(400, "invalid_header")
	b.get("/v1/events", "Last-Event-ID", "x").problem(400, "invalid_header")
}

// TestStreams_end_with_the_client leaves nothing behind.
func TestStreams_end_with_the_client(t *testing.T) {
	b := setup(t)
	url := b.serve()
	id := b.submit()
	for _, target := range []string{"/v1/events", fmt.Sprintf("/v1/jobs/%d/events", id), fmt.Sprintf("/v1/jobs/%d/logs", id)} {
		l := listen(t, url+target, "Accept", "text/event-stream")
		b.waitOpen(1)
		l.resp.Body.Close()
		b.waitClosed()
	}
	b.watchers.mu.Lock()
	defer b.watchers.mu.Unlock()
	if n := len(b.watchers.byJob); n != 0 {
		t.Errorf("%d jobs are still watched", n)
	}
}
