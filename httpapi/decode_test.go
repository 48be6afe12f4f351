package httpapi

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/orrery-io/orrery/job"
)

func TestSubmit_bad_input(t *testing.T) {
	labels := func(n int) string {
		var b strings.Builder
		for i := range n {
			fmt.Fprintf(&b, `"k%d":"v",`, i)
		}
		return "{" + strings.TrimSuffix(b.String(), ",") + "}"
	}
	repeat := strings.Repeat
	tests := []struct {
		name    string
		body    string
		status  int
		code    string
		pointer string // "-" when the problem has no entry
		detail  string // a part of the entry's, or of the problem's
	}{
		{"malformed", `{"type":"echo"`, 400, "invalid_json", "-", "line 1, column 14"},
		{"malformed on a later line", "{\n \"type\": echo}", 400, "invalid_json", "-", "line 2, column 10"},
		{"empty", ``, 400, "invalid_json", "-", "empty"},
		{"white space", ` `, 400, "invalid_json", "-", "empty"},
		{"trailing garbage", `{"type":"echo"} x`, 400, "invalid_json", "-", "after top-level value"},
		{"two values", `{"type":"echo"}{"type":"echo"}`, 400, "invalid_json", "-", "after top-level value"},
		{"invalid UTF-8", "{\"type\":\"ec\xffho\"}", 400, "invalid_utf8", "-", "byte 11"},
		{"array", `[{"type":"echo"}]`, 400, "wrong_type", "", "an object, not an array"},
		{"null", `null`, 400, "wrong_type", "", "not null"},
		{"number", `7`, 400, "wrong_type", "", "not a number"},
		{"unknown field", `{"type":"echo","paylod":{}}`, 400, "unknown_field", "/paylod", `did you mean "payload"?`},
		{"unknown field in another style", `{"type":"echo","maxAttempts":3}`, 400, "unknown_field", "/maxAttempts", `did you mean "max_attempts"?`},
		{"unknown field far from any", `{"type":"echo","zzzzzz":1}`, 400, "unknown_field", "/zzzzzz", "is not a field here"},
		{"unknown field with a slash", `{"type":"echo","a/b~c":1}`, 400, "unknown_field", "/a~1b~0c", "is not a field"},
		{"unknown field in retry", `{"type":"echo","retry":{"back_off":"fixed"}}`, 400, "unknown_field", "/retry/back_off", `"backoff"`},
		{"duplicate field", `{"type":"echo","type":"other"}`, 400, "duplicate_field", "/type", "twice"},
		{"duplicate field by escape", `{"type":"echo","typ\u0065":"other"}`, 400, "duplicate_field", "/type", "twice"},
		{"duplicate metadata", `{"type":"echo","metadata":{"a":"1","a":"2"}}`, 400, "duplicate_field", "/metadata/a", "twice"},
		{"no type", `{}`, 400, "invalid_value", "/type", "is required"},
		{"type null", `{"type":null}`, 400, "invalid_value", "/type", "is required"},
		{"type of a wrong type", `{"type":7}`, 400, "wrong_type", "/type", "must be a string, not a number"},
		{"type with a blank", `{"type":"a b"}`, 400, "invalid_value", "/type", "character"},
		{"type too long", `{"type":"` + repeat("x", 201) + `"}`, 400, "invalid_value", "/type", "the limit is 200"},
		{"queue of a wrong type", `{"type":"echo","queue":{}}`, 400, "wrong_type", "/queue", "not an object"},
		{"priority negative", `{"type":"echo","priority":-1}`, 400, "out_of_range", "/priority", "0 to 9"},
		{"priority too high", `{"type":"echo","priority":10}`, 400, "out_of_range", "/priority", "0 to 9"},
		{"priority fraction", `{"type":"echo","priority":1.5}`, 400, "wrong_type", "/priority", "whole number"},
		{"priority absurd", `{"type":"echo","priority":1e400}`, 400, "out_of_range", "/priority", "0 to 9"},
		{"priority text", `{"type":"echo","priority":"high"}`, 400, "wrong_type", "/priority", "not a string"},
		{"attempts zero", `{"type":"echo","max_attempts":0}`, 400, "out_of_range", "/max_attempts", "1 to 100"},
		{"attempts absurd", `{"type":"echo","max_attempts":99999999999999999999}`, 400, "out_of_range", "/max_attempts", "1 to 100"},
		{"timeout a number", `{"type":"echo","timeout":30}`, 400, "wrong_type", "/timeout", `such as "250ms"`},
		{"timeout negative", `{"type":"echo","timeout":"-5s"}`, 400, "invalid_value", "/timeout", "negative"},
		{"timeout zero", `{"type":"echo","timeout":"0s"}`, 400, "out_of_range", "/timeout", "longer than zero"},
		{"timeout absurd", `{"type":"echo","timeout":"99999999h"}`, 400, "invalid_value", "/timeout", ""},
		{"lease too short", `{"type":"echo","lease":"1s"}`, 400, "invalid_value", "/lease", "at least 2s"},
		{"run_at malformed", `{"type":"echo","run_at":"tomorrow"}`, 400, "invalid_value", "/run_at", "RFC 3339"},
		{"run_at a number", `{"type":"echo","run_at":1}`, 400, "wrong_type", "/run_at", "a time such as"},
		{"run_at and delay", `{"type":"echo","run_at":"2030-01-01T00:00:00Z","delay":"5s"}`, 400, "invalid_value", "/delay", "not both"},
		{"expires_in and start_by", `{"type":"echo","expires_in":"5s","start_by":"2030-01-01T00:00:00Z"}`, 400, "invalid_value", "/expires_in", "not both"},
		{"expires before it runs", `{"type":"echo","expires_in":"5s","delay":"10s"}`, 400, "invalid_value", "/expires_in", "before the job may run"},
		{"start_by in the past", `{"type":"echo","start_by":"2001-01-01T00:00:00Z"}`, 400, "invalid_value", "/start_by", "past"},
		{"unknown backoff", `{"type":"echo","retry":{"backoff":"quadratic"}}`, 400, "invalid_value", "/retry/backoff", "exponential, linear, fixed, list"},
		{"retry not an object", `{"type":"echo","retry":3}`, 400, "wrong_type", "/retry", "an object"},
		{"delays without list", `{"type":"echo","retry":{"delays":["1s"]}}`, 400, "invalid_value", "/retry/delays", "list"},
		{"delay entry", `{"type":"echo","retry":{"backoff":"list","delays":["1s",2]}}`, 400, "wrong_type", "/retry/delays/1", "a duration"},
		{"multiplier absurd", `{"type":"echo","retry":{"multiplier":1e9}}`, 400, "invalid_value", "/retry/multiplier", "1 to 100"},
		{"tags not an array", `{"type":"echo","tags":"a"}`, 400, "wrong_type", "/tags", "an array of strings"},
		{"tag of a wrong type", `{"type":"echo","tags":["a",null]}`, 400, "wrong_type", "/tags/1", "not null"},
		{"too many tags", `{"type":"echo","tags":[` + repeat(`"a",`, 40) + `"a"]}`, 400, "out_of_range", "/tags", "the limit is 32"},
		{"tag with a comma", `{"type":"echo","tags":["a,b"]}`, 400, "invalid_value", "/tags/0", "comma"},
		{"10,000 labels", `{"type":"echo","metadata":` + labels(10_000) + `}`, 400, "out_of_range", "/metadata", "has 10000 entries; the limit is 64"},
		{"label value a number", `{"type":"echo","metadata":{"a/b":1}}`, 400, "wrong_type", "/metadata/a~1b", "must be a string"},
		{"metadata an array", `{"type":"echo","metadata":[]}`, 400, "wrong_type", "/metadata", "an object whose values are strings"},
		{"both payloads", `{"type":"echo","payload":1,"payload_bytes":"YQ=="}`, 400, "invalid_value", "/payload_bytes", "not both"},
		{"payload_bytes not base64", `{"type":"echo","payload_bytes":"%%%"}`, 400, "invalid_value", "/payload_bytes", "base64"},
		{"payload too deep", `{"type":"echo","payload":` + repeat("[", 100) + repeat("]", 100) + `}`, 400, "invalid_value", "/payload", "nested 100 levels"},
		{"payload absurdly deep", `{"type":"echo","payload":` + repeat("[", 20_000) + repeat("]", 20_000) + `}`, 400, "invalid_json", "-", "depth"},
		{"payload over 1 MiB", `{"type":"echo","payload":"` + repeat("x", job.MaxPayload) + `"}`, 413, "too_large", "/payload", "the limit is 1048576"},
		{"payload_bytes over 1 MiB", `{"type":"echo","payload_bytes":"` + repeat("AAAA", job.MaxPayload/3+1) + `"}`, 413, "too_large", "/payload", "the limit is 1048576"},
		{"body over the limit", `{"type":"echo","payload":"` + repeat("x", 2<<20) + `"}`, 413, "too_large", "", "the limit is"},
		{"key too long", `{"type":"echo","idempotency_key":"` + repeat("x", 300) + `"}`, 400, "invalid_value", "/idempotency_key", "256"},
		{"key with a control character", `{"type":"echo","idempotency_key":"a\u0000b"}`, 400, "invalid_value", "/idempotency_key", "printable"},
		{"traceparent", `{"type":"echo","traceparent":"` + repeat("x", 100) + `"}`, 400, "invalid_value", "/traceparent", "W3C"},
	}
	b := setup(t)
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r := b.post("/v1/jobs", tt.body, "Content-Type", "application/json")
			r.t = t
			p := r.problem(tt.status, tt.code)
			text := p.Detail
			if tt.pointer != "-" {
				if len(p.Errors) == 0 {
					t.Fatalf("no entry: %s", r.body)
				}
				if p.Errors[0].Pointer != tt.pointer {
					t.Errorf("pointer %q, want %q", p.Errors[0].Pointer, tt.pointer)
				}
				text = p.Errors[0].Detail
			}
			if !strings.Contains(text, tt.detail) {
				t.Errorf("%q does not say %q", text, tt.detail)
			}
			if len(r.body) > 4096 {
				t.Errorf("the answer has %d bytes", len(r.body))
			}
		})
	}
	if n := b.node.proposed(); n != 0 {
		t.Errorf("%d commands were proposed", n)
	}
}

func TestSubmit_says_everything_that_is_wrong(t *testing.T) {
	b := setup(t)
	p := b.post("/v1/jobs", `{"typ":"echo","priority":-1,"tags":7}`).problem(400, "invalid_request")
	var got []string
	for _, e := range p.Errors {
		got = append(got, e.Pointer)
	}
	if want := []string{"/typ", "/priority", "/tags"}; !slices.Equal(got, want) {
		t.Errorf("pointers %q, want %q", got, want)
	}
}

func TestSubmit_bad_headers(t *testing.T) {
	b := setup(t)
	const good = `{"type":"echo"}`
	tests := []struct {
		name, header, value string
		status              int
		code                string
	}{
		{"no content type", "Content-Type", "", 415, "unsupported_media_type"},
		{"a form", "Content-Type", "application/x-www-form-urlencoded", 415, "unsupported_media_type"},
		{"another charset", "Content-Type", "application/json; charset=latin1", 415, "unsupported_media_type"},
		{"compressed", "Content-Encoding", "gzip", 415, "unsupported_content_encoding"},
		{"accepts images", "Accept", "image/png", 406, "not_acceptable"},
		{"request id too long", "Orrery-Request-Id", strings.Repeat("x", 101), 400, "invalid_header"},
		{"request id with a blank", "Orrery-Request-Id", "a b", 400, "invalid_header"},
		{"empty key", "Idempotency-Key", `""`, 400, "invalid_header"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r := b.post("/v1/jobs", good, tt.header, tt.value)
			r.t = t
			if p := r.problem(tt.status, tt.code); p.Hint == "" && len(p.Errors) == 0 {
				t.Errorf("nothing says what to do: %s", r.body)
			}
		})
	}
	if n := b.node.proposed(); n != 0 {
		t.Errorf("%d commands were proposed", n)
	}
	for _, ok := range []string{"application/json", "application/json; charset=utf-8", "application/json;charset=UTF-8"} {
		b.post("/v1/jobs", good, "Content-Type", ok).want(201)
	}
	for _, ok := range []string{"*/*", "application/*", "text/html, application/json;q=0.5", "application/json"} {
		b.post("/v1/jobs", good, "Accept", ok).want(201)
	}
}

// TestSubmission_fields compares the struct that is documented with the names
// that are read.
func TestSubmission_fields(t *testing.T) {
	check := func(v any, want []string) {
		var got []string
		for f := range reflect.TypeOf(v).Fields() {
			name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
			got = append(got, name)
		}
		if !slices.Equal(got, want) {
			t.Errorf("%T has\n%q, read are\n%q", v, got, want)
		}
	}
	check(Submission{}, submissionFields())
	check(RetryPolicy{}, retryNames[:])
	if submissionNames[fieldRetention] != "retention" || submissionNames[fieldTags] != "tags" {
		t.Error("the numbers of the fields do not fit their names")
	}
}

func FuzzDecodeSubmission(f *testing.F) {
	for _, s := range []string{
		`{"type":"echo"}`, `{"type":"a","retry":{"backoff":"list","delays":["1s"]},"tags":["x"],"metadata":{"a":"b"}}`,
		`{"type":"a","payload":{"a":[1,2,{"b":null}]},"priority":1e0}`, `[]`, `{"":1,"type":"\ud800"}`, `{"type" : "x" , "delay":"1h"}`,
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		if checkJSON("the body", raw) != nil {
			return
		}
		s, err := decodeSubmission(path{}, raw)
		if err != nil {
			if p, ok := problemOf(err); !ok || p.Status >= 500 {
				t.Fatalf("%q: %v", raw, err)
			}
			return
		}
		if len(s.spec.Payload) > 0 && !json.Valid(s.spec.Payload) {
			t.Fatalf("%q: payload %q", raw, s.spec.Payload)
		}
		if len(s.hash()) == 0 {
			t.Fatal("no hash")
		}
		if _, err := s.command(path{}, 1); err != nil && job.KindOf(err) != job.Invalid {
			t.Fatalf("%q: %v", raw, err)
		}
	})
}

func FuzzScan(f *testing.F) {
	for _, s := range []string{`{"a":1,"b":[1,2,"x\"y"],"c":{"d":null}}`, `[]`, `[1, {"a":"]"} , "}" ]`, `{`, `"`, `{"a"`, `[,`, `{"a":}`} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		raw = trim(raw)
		var keys, values int
		if len(raw) > 0 && raw[0] == '{' {
			for key, value := range members(raw) {
				keys++
				if json.Valid(raw) && (!json.Valid(key) || !json.Valid(value)) {
					t.Fatalf("%q: %q, %q", raw, key, value)
				}
			}
		}
		if len(raw) > 0 && raw[0] == '[' {
			for _, value := range elements(raw) {
				values++
				if json.Valid(raw) && !json.Valid(value) {
					t.Fatalf("%q: %q", raw, value)
				}
			}
			var want []json.RawMessage
			if json.Unmarshal(raw, &want) == nil && len(want) != values {
				t.Fatalf("%q: %d elements, want %d", raw, values, len(want))
			}
		}
		if json.Valid(raw) {
			var compact bytes.Buffer
			if err := json.Compact(&compact, raw); err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(canonical(raw), canonical(compact.Bytes())) {
				t.Fatalf("%q: the canonical form depends on white space", raw)
			}
		} else {
			canonical(raw)
		}
	})
}

func TestUnknownRoutes(t *testing.T) {
	b := setup(t)
	tests := []struct {
		method, path string
		status       int
		code, hint   string
		allow        string
	}{
		{"GET", "/nowhere", 404, "no_such_route", "openapi.json", ""},
		{"GET", "/v1/job", 404, "no_such_route", "did you mean /v1/jobs?", ""},
		{"GET", "/jobs", 404, "no_such_route", "did you mean /v1/jobs?", ""},
		{"DELETE", "/v1/jobs", 405, "method_not_allowed", "allowed: GET, HEAD, POST", "GET, HEAD, POST"},
		{"GET", "/v1/jobs/batch/x", 404, "no_such_route", "", ""},
		{"PUT", "/v1/jobs/7/cancel", 405, "method_not_allowed", "POST", "POST"},
		{"OPTIONS", "/v1/jobs", 405, "method_not_allowed", "", "GET, HEAD, POST"},
		{"POST", "/healthz", 405, "method_not_allowed", "", "GET, HEAD"},
		{"BREW", "/v1/queues", 405, "method_not_allowed", "", "GET, HEAD"},
	}
	for _, tt := range tests {
		t.Run(tt.method+tt.path, func(t *testing.T) {
			r := b.send(tt.method, tt.path, "")
			r.t = t
			p := r.problem(tt.status, tt.code)
			if !strings.Contains(p.Hint, tt.hint) {
				t.Errorf("hint %q does not say %q", p.Hint, tt.hint)
			}
			if got := r.header.Get("Allow"); got != tt.allow {
				t.Errorf("Allow %q, want %q", got, tt.allow)
			}
		})
	}
}

func TestUnknownParameters(t *testing.T) {
	b := setup(t)
	tests := []struct{ target, code, pointer, detail string }{
		{"/v1/jobs?stat=failed", "unknown_parameter", "?stat", `did you mean "state"?`},
		{"/v1/jobs?meta.=x", "unknown_parameter", "?meta.", ""},
		{"/v1/queues?limit=3", "unknown_parameter", "?limit", ""},
		{"/healthz?x=1", "unknown_parameter", "?x", ""},
		{"/v1/jobs?limit=0", "out_of_range", "?limit", "1 to 500"},
		{"/v1/jobs?limit=501", "out_of_range", "?limit", "1 to 500"},
		{"/v1/jobs?limit=1&limit=2", "duplicate_parameter", "?limit", "2 times"},
		{"/v1/jobs?cursor=x", "invalid_cursor", "?cursor", "not a cursor"},
		{"/v1/jobs?consistency=eventual", "invalid_value", "?consistency", "linearizable"},
		{"/v1/jobs?state=lost", "invalid_value", "?state", "the states are"},
		{"/v1/jobs/1?wait=soon", "invalid_value", "?wait", "not a duration"},
		{"/v1/events?types=job.complete", "invalid_value", "?types", `did you mean "job.completed"?`},
		{"/v1/events?after=x", "invalid_value", "?after", "not an event id"},
		{"/v1/events?follow=maybe", "invalid_value", "?follow", "true or false"},
		{"/v1/events?follow=true", "invalid_value", "?follow", "text/event-stream"},
		{"/v1/jobs/1/logs?tail=-1", "out_of_range", "?tail", "from 1"},
		{"/v1/dead-letters?state=completed", "invalid_value", "?state", "no dead letters"},
	}
	for _, tt := range tests {
		t.Run(tt.target, func(t *testing.T) {
			r := b.get(tt.target)
			r.t = t
			p := r.problem(400, tt.code)
			if len(p.Errors) == 0 || p.Errors[0].Pointer != tt.pointer || !strings.Contains(p.Errors[0].Detail, tt.detail) {
				t.Errorf("got %s", r.body)
			}
		})
	}
	b.get("/v1/jobs?state=%zz").problem(400, "invalid_query")
	b.send(http.MethodPost, "/v1/jobs?wiat=3s", `{"type":"echo"}`).problem(400, "unknown_parameter")
	if n := b.node.proposed(); n != 0 {
		t.Errorf("%d commands were proposed", n)
	}
}
