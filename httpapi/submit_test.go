package httpapi

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/orrery-io/orrery/job"
)

func TestSubmit(t *testing.T) {
	b := setup(t)
	before := job.At(time.Now())
	r := b.post("/v1/jobs", `{
		"type": "email.send", "queue": "mail", "payload": {"b":1, "a":[1.0,"<é>"]}, "priority": 0, "delay": "1h",
		"max_attempts": 3, "retry": {"backoff":"list","delays":["1s","2m"],"no_jitter":true}, "timeout": "30s", "lease": "1m",
		"expires_in": "2h", "tags": ["a","b"], "metadata": {"z":"1","a":"2"}, "correlation_id": "c", "retention": "7d"}`,
		"Traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01").want(201)
	j := r.job()
	if got := r.header.Get("Location"); got != "/v1/jobs/"+j.ID.String() {
		t.Errorf("Location %q", got)
	}
	if r.header.Get("Orrery-Index") == "" || r.header.Get("Orrery-Index") == "0" {
		t.Errorf("Orrery-Index %q", r.header.Get("Orrery-Index"))
	}
	// Payloads are stored as they were written, but for white space when shown.
	stored, err := b.machine.Job(t.Context(), j.ID)
	if err != nil {
		t.Fatal(err)
	}
	if string(stored.Payload) != `{"b":1, "a":[1.0,"<é>"]}` || !bytes.Contains(r.body, []byte(`{"b":1,"a":[1.0,"<é>"]}`)) {
		t.Errorf("payload stored as %s, shown in %s", stored.Payload, r.body)
	}
	s := stored.Spec
	switch {
	case s.Type != "email.send", s.Queue != "mail", s.Priority != 0, s.MaxAttempts != 3, s.Timeout != 30*job.Second,
		s.Lease != job.Minute, s.CorrelationID != "c", s.Retention != 7*job.Day, len(s.Tags) != 2,
		s.Retry.Backoff != job.List, len(s.Retry.Delays) != 2, !s.Retry.NoJitter,
		s.Traceparent != "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01":
		t.Errorf("stored %+v", s)
	case j.State != job.Scheduled, s.RunAt < before.Add(job.Hour), s.ExpiresAt < before.Add(2*job.Hour), s.ExpiresAt < s.RunAt:
		t.Errorf("state %v, run_at %v, expires_at %v", j.State, s.RunAt, s.ExpiresAt)
	}
	if v, ok := s.Metadata.Get("a"); !ok || v != "2" {
		t.Errorf("metadata %v", s.Metadata)
	}

	j = b.post("/v1/jobs", `{"type":"echo","queue":null,"payload":null,"payload_bytes":"AAEC"}`).want(201).job()
	switch {
	case j.Queue != "default", j.Priority != job.DefaultPriority, j.MaxAttempts != job.DefaultMaxAttempts, j.State != job.Pending,
		!bytes.Equal(j.PayloadBytes, []byte{0, 1, 2}), len(j.Payload) > 0:
		t.Errorf("defaults %+v", j)
	}
	// A malformed trace context is as if there were none.
	if j := b.post("/v1/jobs", `{"type":"echo"}`, "Traceparent", "nonsense").want(201).job(); j.Traceparent != "" {
		t.Errorf("traceparent %q", j.Traceparent)
	}
}

func TestSubmit_idempotency(t *testing.T) {
	b := setup(t)
	const body = `{"type":"echo","payload":{"a":1,"b":[true,"x"]},"delay":"1h"}`
	first := b.post("/v1/jobs", body, "Idempotency-Key", "k1").want(201).job()
	same := []struct{ name, body, header string }{
		{"the same", body, "k1"},
		{"white space", "{ \"type\" : \"echo\",\n\"payload\": {\"a\": 1, \"b\": [ true, \"x\" ]}, \"delay\":\"1h\" }", "k1"},
		{"another order", `{"delay":"60m","payload":{"b":[true,"\u0078"],"a":1},"type":"echo"}`, "k1"},
		{"the key as a field", `{"idempotency_key":"k1",` + body[1:], ""},
		{"the key in both places", `{"idempotency_key":"k1",` + body[1:], "k1"},
		{"a quoted key", body, `"k1"`},
		{"a default spelled out", `{"queue":"default","max_attempts":5,` + body[1:], "k1"},
	}
	for _, tt := range same {
		t.Run(tt.name, func(t *testing.T) {
			headers := []string{}
			if tt.header != "" {
				headers = []string{"Idempotency-Key", tt.header}
			}
			r := b.post("/v1/jobs", tt.body, headers...)
			r.t = t
			if j := r.want(200).job(); j.ID != first.ID {
				t.Errorf("job %d, want %d", j.ID, first.ID)
			}
		})
	}
	other := []struct{ name, body string }{
		{"another payload", strings.Replace(body, "1", "2", 1)},
		{"another order in an array", strings.Replace(body, `true,"x"`, `"x",true`, 1)},
		{"another delay", strings.Replace(body, "1h", "2h", 1)},
		{"another type", strings.Replace(body, "echo", "fail", 1)},
		{"one more field", `{"priority":9,` + body[1:]},
	}
	for _, tt := range other {
		t.Run(tt.name, func(t *testing.T) {
			r := b.post("/v1/jobs", tt.body, "Idempotency-Key", "k1")
			r.t = t
			r.problem(422, "idempotency_key_reused")
		})
	}
	p := b.post("/v1/jobs", `{"idempotency_key":"k2",`+body[1:], "Idempotency-Key", "k1").problem(400, "idempotency_key_differs")
	if p.Errors[0].Pointer != "/idempotency_key" {
		t.Errorf("pointer %q", p.Errors[0].Pointer)
	}
	b.post("/v1/jobs", body, "Idempotency-Key", "a", "Idempotency-Key", "b").problem(400, "invalid_header")
	if n, err := b.machine.CountJobs(t.Context(), fsmFilter{}); err != nil || n != 1 {
		t.Errorf("%d jobs, %v", n, err)
	}
}

func TestSubmit_repeated_request(t *testing.T) {
	b := setup(t)
	first := b.post("/v1/jobs", `{"type":"echo"}`, "Orrery-Request-Id", "r1").want(201).job()
	again := b.post("/v1/jobs", `{"type":"echo"}`, "Orrery-Request-Id", "r1").job()
	if again.ID != first.ID {
		t.Errorf("job %d, want %d", again.ID, first.ID)
	}
}

func TestSubmit_refused_by_the_cluster(t *testing.T) {
	tests := []struct {
		err    error
		status int
		code   string
		retry  string
	}{
		{job.ErrNotLeader, 503, "no_leader", "1"},
		{job.ErrClosed, 503, "shutting_down", "1"},
		{job.ErrOutcomeUnknown, 504, "outcome_unknown", ""},
		{job.Errorf(job.Overloaded, "overloaded", "too much"), 429, "overloaded", "1"},
		{fmt.Errorf("submit: %w", job.ErrNotLeader), 503, "no_leader", "1"},
	}
	b := setup(t)
	for _, tt := range tests {
		b.node.fail(tt.err)
		r := b.post("/v1/jobs", `{"type":"echo"}`)
		r.problem(tt.status, tt.code)
		if got := r.header.Get("Retry-After"); got != tt.retry {
			t.Errorf("%s: Retry-After %q, want %q", tt.code, got, tt.retry)
		}
		if r.header.Get("Location") != "" {
			t.Errorf("%s: has a Location", tt.code)
		}
	}
}

func TestSubmit_waits(t *testing.T) {
	for _, how := range []struct{ name, target, header string }{
		{"prefer", "/v1/jobs", "wait=30"},
		{"prefer among others", "/v1/jobs", "respond-async, Wait=30; foo=bar"},
		{"query", "/v1/jobs?wait=30s", ""},
	} {
		t.Run(how.name, func(t *testing.T) {
			b := setup(t)
			got := make(chan *reply)
			go func() {
				headers := []string{}
				if how.header != "" {
					headers = []string{"Prefer", how.header}
				}
				got <- b.post(how.target, `{"type":"echo"}`, headers...)
			}()
			// The job is there as soon as its submission is in the feed.
			sub := b.machine.Subscribe(b.machine.FirstEvent())
			var id job.ID
			for id == 0 {
				events, err := sub.Next(t.Context())
				if err != nil {
					t.Fatal(err)
				}
				for _, e := range events {
					if e.Type == job.JobSubmitted {
						id = e.Job
					}
				}
			}
			b.finish(id, b.dispatch(id), job.Completed)
			r := <-got
			r.t = t
			j := r.want(201).job()
			if j.State != job.Completed || string(j.Result) != `{"ok":true}` {
				t.Errorf("got %s", r.body)
			}
			applied := ""
			if how.header != "" {
				applied = "wait=30"
			}
			if got := r.header.Get("Preference-Applied"); got != applied {
				t.Errorf("Preference-Applied %q, want %q", got, applied)
			}
		})
	}
}

func TestSubmit_wait_that_is_too_short(t *testing.T) {
	b := setup(t)
	j := b.post("/v1/jobs?wait=1ms", `{"type":"echo"}`).want(201).job()
	if j.State != job.Pending {
		t.Errorf("state %v", j.State)
	}
}

func TestPrefersWait(t *testing.T) {
	tests := []struct {
		header string
		want   time.Duration
		ok     bool
	}{
		{"", 0, false},
		{"wait=5", 5 * time.Second, true},
		{`wait="5"`, 5 * time.Second, true},
		{"wait=1m", time.Minute, true},
		{"return=minimal, wait=5", 5 * time.Second, true},
		{"wait=999999", maxWait, true},
		{"wait=-5", 0, false},
		{"wait", 0, false},
		{"waiting=5", 0, false},
	}
	for _, tt := range tests {
		r := &http.Request{Header: http.Header{}}
		if tt.header != "" {
			r.Header.Set("Prefer", tt.header)
		}
		if got, ok := prefersWait(r); got != tt.want || ok != tt.ok {
			t.Errorf("%q: %v, %v", tt.header, got, ok)
		}
	}
}

func TestCanonical(t *testing.T) {
	same := [][2]string{
		{`{"a":1,"b":2}`, ` { "b" : 2 , "a" : 1 } `},
		{`["\u0041"]`, `["A"]`},
		{`[[],{}]`, `[ [ ] , { } ]`},
	}
	for _, s := range same {
		if !bytes.Equal(canonical([]byte(s[0])), canonical([]byte(s[1]))) {
			t.Errorf("%s and %s differ", s[0], s[1])
		}
	}
	different := [][2]string{
		{`["a","b"]`, `["a\",\"b"]`}, {`["1:a"]`, `["a"]`}, {`{"a":"b"}`, `["a","b"]`}, {`1`, `"1"`}, {`1`, `1.0`}, {`[[1],2]`, `[[1,2]]`}, {`null`, `"null"`},
	}
	for _, s := range different {
		if bytes.Equal(canonical([]byte(s[0])), canonical([]byte(s[1]))) {
			t.Errorf("%s and %s are the same", s[0], s[1])
		}
	}
}

func TestBatch(t *testing.T) {
	b := setup(t)
	const three = `[{"type":"echo"},{"type":"echo","priority":99},{"type":"echo","idempotency_key":"k"}]`
	var a BatchAnswer
	b.post("/v1/jobs/batch", three).want(200).into(&a)
	if a.Accepted != 2 || a.Refused != 1 || len(a.Items) != 3 {
		t.Fatalf("%+v", a)
	}
	for i, it := range a.Items {
		if it.Index != i {
			t.Errorf("item %d has index %d", i, it.Index)
		}
	}
	if a.Items[0].Status != 201 || a.Items[0].ID == 0 || a.Items[2].Status != 201 || a.Items[2].ID <= a.Items[0].ID {
		t.Errorf("%+v", a.Items)
	}
	if p := a.Items[1].Problem; a.Items[1].Status != 400 || p == nil || p.Code != "out_of_range" || p.Errors[0].Pointer != "/priority" {
		t.Errorf("%+v", a.Items[1])
	}
	b.post("/v1/jobs/batch", `[{"type":"echo","idempotency_key":"k"}]`).want(200).into(&a)
	if a.Items[0].Status != 200 || !a.Items[0].Existing || a.Accepted != 1 {
		t.Errorf("%+v", a.Items)
	}
	b.post("/v1/jobs/batch", `[{"type":"other","idempotency_key":"k"}]`).want(200).into(&a)
	if a.Items[0].Status != 422 || a.Refused != 1 {
		t.Errorf("%+v", a.Items)
	}
}

func TestBatch_atomic(t *testing.T) {
	b := setup(t)
	var a BatchAnswer
	b.post("/v1/jobs/batch?atomic=true", `[{"type":"a"},{"type":"b"}]`).want(200).into(&a)
	if a.Accepted != 2 || a.Items[1].ID != a.Items[0].ID+1 {
		t.Errorf("%+v", a)
	}
	before := b.node.proposed()
	p := b.post("/v1/jobs/batch?atomic=true", `[{"type":"a"},{"type":"b","priority":-1},{"queue":"x"}]`).problem(400, "out_of_range")
	if len(p.Errors) != 2 || p.Errors[0].Pointer != "/1/priority" || p.Errors[1].Pointer != "/2/type" {
		t.Errorf("%+v", p.Errors)
	}
	if n := b.node.proposed() - before; n != 0 {
		t.Errorf("%d commands were proposed", n)
	}
	// Refused by the state machine: nothing of it is stored either.
	b.post("/v1/jobs", `{"type":"a","idempotency_key":"k"}`).want(201)
	b.post("/v1/jobs/batch?atomic=true", `[{"type":"a"},{"type":"other","idempotency_key":"k"}]`).problem(422, "idempotency_key_reused")
	if n, err := b.machine.CountJobs(t.Context(), fsmFilter{}); err != nil || n != 3 {
		t.Errorf("%d jobs, %v", n, err)
	}
}

func TestBatch_NDJSON(t *testing.T) {
	b := setup(t)
	body := `{"type":"echo"}` + "\n\n" + `{"type":` + "\r\n" + "{\"type\":\"\xff\"}\n" + ` {"type":"echo"}`
	var a BatchAnswer
	b.post("/v1/jobs/batch", body, "Content-Type", "application/x-ndjson").want(200).into(&a)
	var got []string
	for _, it := range a.Items {
		code := ""
		if it.Problem != nil {
			code = it.Problem.Code
		}
		got = append(got, fmt.Sprint(it.Status, code))
	}
	if want := "201 400invalid_json 400invalid_utf8 201"; strings.Join(got, " ") != want && strings.ReplaceAll(strings.Join(got, ","), " ", "") != "201,400invalid_json,400invalid_utf8,201" {
		t.Errorf("got %q", got)
	}
	b.post("/v1/jobs/batch?atomic=true", body, "Content-Type", "application/x-ndjson").problem(400, "invalid_json")
}

func TestBatch_bad_input(t *testing.T) {
	b := setup(t)
	many := "[" + strings.Repeat(`{"type":"a"},`, job.MaxBatch) + `{"type":"a"}]`
	tests := []struct {
		name, target, body string
		status             int
		code               string
	}{
		{"empty array", "/v1/jobs/batch", `[]`, 400, "empty_batch"},
		{"an object", "/v1/jobs/batch", `{"type":"a"}`, 400, "wrong_type"},
		{"malformed", "/v1/jobs/batch", `[{"type":"a"},]`, 400, "invalid_json"},
		{"too many", "/v1/jobs/batch", many, 413, "too_large"},
		{"too large", "/v1/jobs/batch", `["` + strings.Repeat("x", 17<<20) + `"]`, 413, "too_large"},
		{"too large for atomic", "/v1/jobs/batch?atomic=1", `[` + strings.Repeat(`{"type":"a","payload":"`+strings.Repeat("x", 1000_000)+`"},`, 4) + `{"type":"a","payload":"` + strings.Repeat("x", 1000_000) + `"}]`, 413, "too_large"},
		{"unknown parameter", "/v1/jobs/batch?wait=3s", `[{"type":"a"}]`, 400, "unknown_parameter"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r := b.post(tt.target, tt.body)
			r.t = t
			r.problem(tt.status, tt.code)
		})
	}
	b.post("/v1/jobs/batch", `[{"type":"a"}]`, "Idempotency-Key", "k").problem(400, "invalid_header")
	b.post("/v1/jobs/batch", `[{"type":"a"}]`, "Content-Type", "text/plain").problem(415, "unsupported_media_type")
	if n := b.node.proposed(); n != 0 {
		t.Errorf("%d commands were proposed", n)
	}
	var a BatchAnswer
	b.post("/v1/jobs/batch", `[7,null,"x"]`).want(200).into(&a)
	if a.Refused != 3 || a.Items[0].Problem.Code != "wrong_type" {
		t.Errorf("%+v", a)
	}
}

// TestWatchers_share_a_subscription: many waiters, one look at each event.
func TestWatchers_share_a_subscription(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		feed := make(chan []job.Event)
		opened := 0
		ws := &watchers{log: discard(), subscribe: func() subscription { opened++; return chanFeed(feed) }}
		var waiters []*watcher
		for range 1000 {
			waiters = append(waiters, ws.watch(1, true))
		}
		other, all := ws.watch(2, true), ws.watch(1, false)
		woken := func(w *watcher) bool {
			select {
			case <-w.wake:
				return true
			default:
				return false
			}
		}
		feed <- []job.Event{{Type: job.JobStarted, Job: 1}}
		synctest.Wait()
		if woken(waiters[0]) || !woken(all) {
			t.Error("an event that is not the end wakes those who wait for the end, or not the others")
		}
		feed <- []job.Event{{Type: job.JobCompleted, Job: 1}, {Type: job.JobFailed, Job: 3}}
		synctest.Wait()
		for _, w := range waiters {
			if !woken(w) {
				t.Fatal("a waiter sleeps on")
			}
			w.close()
		}
		all.close()
		if woken(other) {
			t.Error("the waiter of another job was woken")
		}
		close(feed) // the feed breaks off: everybody looks again
		synctest.Wait()
		if !woken(other) {
			t.Error("nobody was woken when the feed broke off")
		}
		other.close()
		if len(ws.byJob) != 0 {
			t.Errorf("%d jobs are still watched", len(ws.byJob))
		}
		ws.close()
		ws.close()
		if opened < 2 {
			t.Errorf("%d subscriptions", opened)
		}
		if w := ws.watch(1, true); w == nil {
			t.Error("no watcher after close")
		}
	})
}

// BenchmarkSubmit is the whole handler of POST /v1/jobs with a machine that has
// the job already: what HTTP costs on top of consensus.
func BenchmarkSubmit(b *testing.B) {
	for _, bb := range []struct{ name, body string }{
		{"small", `{"type":"email.send","queue":"mail","payload":{"to":"ada@example.org","subject":"hello"}}`},
		{"200B", `{"type":"email.send","queue":"mail","payload":{"to":"ada@example.org","subject":"hello","text":"` + strings.Repeat("x", 120) + `"},"priority":7,"max_attempts":3,"tags":["a","b"],"metadata":{"env":"prod"}}`},
		{"key", `{"type":"email.send","idempotency_key":"k","payload":{"to":"ada@example.org","subject":"hello"}}`},
	} {
		b.Run(bb.name, func(b *testing.B) {
			t := setup(b)
			id := t.submit()
			t.API.node = fixedNode{id, t.node.index}
			w := &discardWriter{header: http.Header{}}
			b.ReportAllocs()
			for b.Loop() {
				r := benchRequest(bb.body)
				clear(w.header)
				t.ServeHTTP(w, r)
				if w.status != 201 {
					b.Fatal(w.status)
				}
			}
		})
	}
}

func BenchmarkDecodeSubmission(b *testing.B) {
	raw := []byte(`{"type":"email.send","queue":"mail","payload":{"to":"ada@example.org","subject":"hello"},"priority":7,"tags":["a","b"],"metadata":{"env":"prod"}}`)
	b.ReportAllocs()
	b.SetBytes(int64(len(raw)))
	for b.Loop() {
		if checkJSON(raw) != nil {
			b.Fatal("not JSON")
		}
		if _, err := decodeSubmission(path{}, raw); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkBatch(b *testing.B) {
	t := setup(b)
	raw := []byte("[" + strings.Repeat(`{"type":"email.send","queue":"mail","payload":{"to":"ada@example.org","subject":"hello"}},`, 999) + `{"type":"x"}]`)
	id := t.submit()
	t.API.node = fixedNode{id, t.node.index}
	w := &discardWriter{header: http.Header{}}
	b.ReportAllocs()
	for b.Loop() {
		r := benchRequest(string(raw))
		r.URL.Path, r.RequestURI = "/v1/jobs/batch", "/v1/jobs/batch"
		t.ServeHTTP(w, r)
		if w.status != 200 {
			b.Fatal(w.status)
		}
	}
	b.ReportMetric(float64(b.N)*1000/b.Elapsed().Seconds(), "jobs/s")
}

func BenchmarkEncodeJob(b *testing.B) {
	t := setup(b)
	j, err := t.machine.Job(b.Context(), t.submit(func(s *job.Spec) { s.Payload = job.JSON(`{"to":"ada@example.org","subject":"hello"}`) }))
	if err != nil {
		b.Fatal(err)
	}
	var buf bytes.Buffer
	b.ReportAllocs()
	for b.Loop() {
		buf.Reset()
		if err := encode(&buf, j); err != nil {
			b.Fatal(err)
		}
	}
	if !json.Valid(buf.Bytes()) {
		b.Fatal("not JSON")
	}
}

// BenchmarkSubmitHTTP is POST /v1/jobs over 64 loopback connections, client
// included.
func BenchmarkSubmitHTTP(b *testing.B) {
	t := setup(b)
	id := t.submit()
	t.API.node = fixedNode{id, t.node.index}
	srv := httptest.NewServer(t)
	defer srv.Close()
	const text = `{"type":"email.send","queue":"mail","payload":{"to":"ada@example.org","subject":"hello"}}`
	request := fmt.Sprintf("POST /v1/jobs HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s", len(text), text)
	b.SetParallelism(64 / runtime.GOMAXPROCS(0))
	b.ReportAllocs()
	b.ResetTimer()
	b.RunParallel(func(pb *testing.PB) {
		c, err := net.Dial("tcp", srv.Listener.Addr().String())
		if err != nil {
			b.Error(err)
			return
		}
		defer c.Close()
		r := bufio.NewReader(c)
		for pb.Next() {
			if _, err := io.WriteString(c, request); err != nil {
				b.Error(err)
				return
			}
			resp, err := http.ReadResponse(r, nil)
			if err != nil || resp.StatusCode != 201 {
				b.Error(resp, err)
				return
			}
			_, _ = io.Copy(io.Discard, resp.Body)
			resp.Body.Close()
		}
	})
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "requests/s")
}
