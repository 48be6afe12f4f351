package httpapi

import (
	"bytes"
	"fmt"
	"net/http"
	"strings"
	"testing"
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
