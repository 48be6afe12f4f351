package httpapi

import (
	"bytes"
	"encoding/json"
	"reflect"
	"strings"
	"testing"

	"github.com/orrery-io/orrery/job"
)

func TestPatchSchedule(t *testing.T) {
	b := setup(t)
	const full = `{"description":"d","expressions":["0 3 * * *","@every 1h"],"timezone":"Europe/Berlin","start":"2027-01-01T00:00:00Z",` +
		`"exclude":["12-24"],"jitter":"5m","catch_up":{"policy":"all","window":"2h","max":7},"overlap":"skip",` +
		`"template":{"type":"report","queue":"slow","payload":{"b": 1.0, "a":[1,2], "html":"<&>"},"priority":0,"max_attempts":3,"delay":"10s","expires_in":"1h","retry":{"backoff":"fixed","initial":"2s"},` +
		`"timeout":"1m","lease":"30s","tags":["x"],"metadata":{"k":"v"},"correlation_id":"c","retention":"1d"}}`
	spec := func() job.ScheduleSpec { return b.row("s").ScheduleSpec }
	tests := []struct {
		name  string
		patch string
		want  func(s *job.ScheduleSpec)
	}{
		{"nothing", `{}`, func(*job.ScheduleSpec) {}},
		{"a field", `{"overlap":"queue_one"}`, func(s *job.ScheduleSpec) { s.Overlap = job.OverlapQueueOne }},
		{"a field taken away", `{"jitter":null,"description":null,"start":null}`, func(s *job.ScheduleSpec) { s.Jitter, s.Description, s.Start = 0, "", 0 }},
		{"a default comes back", `{"catch_up":null,"timezone":null}`, func(s *job.ScheduleSpec) {
			s.CatchUp, s.Timezone = job.CatchUp{Window: job.Day, Max: 100}, "UTC"
		}},
		{"a list as a whole", `{"expressions":"@daily","exclude":["01-01","05-01"]}`, func(s *job.ScheduleSpec) {
			s.Expressions, s.Exclude = []string{"@daily"}, []string{"01-01", "05-01"}
		}},
		{"inside", `{"catch_up":{"max":8},"template":{"queue":null,"priority":9,"metadata":{"k":null,"l":"w"},"retry":{"initial":null}}}`, func(s *job.ScheduleSpec) {
			s.CatchUp.Max = 8
			s.Template.Queue, s.Template.Priority, s.Template.Metadata, s.Template.Retry.Initial = "default", 9, job.Labels{{Key: "l", Value: "w"}}, 0
		}},
		{"inside the payload", `{"template":{"payload":{"a":{"x":null,"y":2},"b":null}}}`, func(s *job.ScheduleSpec) {
			s.Template.Payload = job.JSON(`{"a":{"y":2},"html":"<&>"}`)
		}},
		{"another payload", `{"template":{"payload":[null, 1]}}`, func(s *job.ScheduleSpec) { s.Template.Payload = job.JSON(`[null, 1]`) }},
		{"bytes instead", `{"template":{"payload":null,"payload_bytes":"AAE="}}`, func(s *job.ScheduleSpec) {
			s.Template.Payload, s.Template.PayloadBytes = nil, []byte{0, 1}
		}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			b.within(t)
			b.put("/v1/schedules/s", full)
			want := spec()
			tt.want(&want)
			for _, media := range []string{typeMergePatch, typeJSON} {
				b.patch("/v1/schedules/s", tt.patch, "Content-Type", media).want(200)
				if got := spec(); !reflect.DeepEqual(got, want) {
					t.Errorf("%s: got\n%+v, want\n%+v", media, got, want)
				}
			}
		})
	}
}

func TestPatchSchedule_refuses(t *testing.T) {
	b := setup(t)
	b.put("/v1/schedules/s", nightly).want(201)
	rev := b.row("s").Rev
	tests := []struct{ name, patch, code, pointer string }{
		{"an unknown field that is to be taken away", `{"overlapp":null}`, "unknown_field", "/overlapp"},
		{"one inside the template", `{"template":{"payloads":null}}`, "unknown_field", "/template/payloads"},
		{"one inside the retries", `{"template":{"retry":{"inital":null}}}`, "unknown_field", "/template/retry/inital"},
		{"one inside the catch-up", `{"catch_up":{"windows":null}}`, "unknown_field", "/catch_up/windows"},
		{"what is needed taken away", `{"expressions":null}`, "invalid_value", "/expressions"},
		{"the template taken away", `{"template":null}`, "missing_field", "/template"},
		{"the type taken away", `{"template":{"type":null}}`, "invalid_value", "/template/type"},
		{"a fault", `{"expressions":["0 25 * * *"]}`, "invalid_schedule", "/expressions/0"},
		{"twice the same", `{"overlap":"skip","overlap":"allow"}`, "duplicate_field", "/overlap"},
		{"what an answer has", `{"revision":null,"summary":"x"}`, "read_only_field", "/summary"},
		{"no object", `[1]`, "wrong_type", ""},
		{"text for the template", `{"template":"report"}`, "wrong_type", "/template"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			b.within(t)
			if p := b.patch("/v1/schedules/s", tt.patch).problem(400, tt.code); p.Errors[0].Pointer != tt.pointer {
				t.Errorf("%+v", p.Errors)
			}
		})
	}
	b.patch("/v1/schedules/none", `{"overlap":"skip"}`).problem(404, "schedule_not_found")
	b.patch("/v1/schedules/s", `{`, "Content-Type", typeMergePatch).problem(400, "invalid_json")
	b.patch("/v1/schedules/s", `{}`, "Content-Type", "application/json-patch+json").problem(415, "unsupported_media_type")
	if got := b.row("s").Rev; got != rev {
		t.Errorf("revision %d, was %d", got, rev)
	}
}

// TestMergePatch has the examples of RFC 7396, appendix A.
func TestMergePatch(t *testing.T) {
	for _, tt := range []struct{ target, patch, want string }{
		{`{"a":"b"}`, `{"a":"c"}`, `{"a":"c"}`},
		{`{"a":"b"}`, `{"b":"c"}`, `{"a":"b","b":"c"}`},
		{`{"a":"b"}`, `{"a":null}`, `{}`},
		{`{"a":"b","b":"c"}`, `{"a":null}`, `{"b":"c"}`},
		{`{"a":["b"]}`, `{"a":"c"}`, `{"a":"c"}`},
		{`{"a":"c"}`, `{"a":["b"]}`, `{"a":["b"]}`},
		{`{"a":{"b":"c"}}`, `{"a":{"b":"d","c":null}}`, `{"a":{"b":"d"}}`},
		{`{"a":[{"b":"c"}]}`, `{"a":[1]}`, `{"a":[1]}`},
		{`["a","b"]`, `["c","d"]`, `["c","d"]`},
		{`{"a":"b"}`, `["c"]`, `["c"]`},
		{`{"a":"foo"}`, `null`, `null`},
		{`{"a":"foo"}`, `"bar"`, `"bar"`},
		{`{"e":null}`, `{"a":1}`, `{"e":null,"a":1}`},
		{`[1,2]`, `{"a":"b","c":null}`, `{"a":"b"}`},
		{`{}`, `{"a":{"bb":{"ccc":null}}}`, `{"a":{"bb":{}}}`},
		// And what is ours: text that stays, names in another spelling, repetitions.
		{`{"n": 1.50,  "s":"\u003c"}`, `{"x": [ 1 ]}`, `{"n":1.50,"s":"\u003c","x":[ 1 ]}`},
		{`{"\u0061":1,"b":2}`, `{"a":null}`, `{"b":2}`},
		{`{}`, `{"a":1,"a":2}`, `{"a":2}`},
		{``, `{"a":{"b":null}}`, `{"a":{}}`},
	} {
		if got := string(mergePatch(nil, []byte(tt.target), []byte(tt.patch), 0)); got != tt.want {
			t.Errorf("%s and %s are %s, want %s", tt.target, tt.patch, got, tt.want)
		}
	}
}

// FuzzMergePatch compares it with a merge of decoded values.
func FuzzMergePatch(f *testing.F) {
	f.Add(`{"a":{"b":[1,{"c":null}]},"d":1e9}`, `{"a":{"b":null,"c":{"d":null}},"d":{"e":1}}`)
	f.Add(`[]`, `{"":null}`)
	f.Fuzz(func(t *testing.T, target, patch string) {
		if checkJSON("", []byte(target)) != nil || checkJSON("", []byte(patch)) != nil || job.JSON(target).Depth() > deepest || job.JSON(patch).Depth() > deepest {
			return
		}
		if twice([]byte(target)) || twice([]byte(patch)) {
			return // what a repeated name means is left to the decoder
		}
		var to, by, got any
		unmarshal(t, target, &to)
		unmarshal(t, patch, &by)
		merged := mergePatch(nil, []byte(target), []byte(patch), 0)
		unmarshal(t, string(merged), &got)
		if want := merged7396(to, by); !reflect.DeepEqual(got, want) {
			t.Errorf("%s and %s are %s, want %v", target, patch, merged, want)
		}
	})
}

func unmarshal(t *testing.T, text string, to *any) {
	t.Helper()
	d := json.NewDecoder(strings.NewReader(text))
	d.UseNumber()
	if err := d.Decode(to); err != nil {
		t.Fatalf("%s: %v", text, err)
	}
}

// twice reports whether an object somewhere has a name twice.
func twice(raw []byte) bool {
	raw = trim(raw)
	switch raw[0] {
	case '{':
		seen := map[string]bool{}
		for key, value := range members(raw) {
			name, err := unquote(key)
			if err != nil || seen[name] || twice(value) {
				return true
			}
			seen[name] = true
		}
	case '[':
		for _, value := range elements(raw) {
			if twice(value) {
				return true
			}
		}
	}
	return false
}

// merged7396 is the algorithm as the RFC has it.
func merged7396(target, patch any) any {
	by, ok := patch.(map[string]any)
	if !ok {
		return patch
	}
	to, ok := target.(map[string]any)
	if !ok {
		to = map[string]any{}
	}
	for name, value := range by {
		if value == nil {
			delete(to, name)
		} else {
			to[name] = merged7396(to[name], value)
		}
	}
	return to
}

// TestScheduleDocument: what an answer says of the definition is what PUT takes.
func TestScheduleDocument(t *testing.T) {
	spec := job.ScheduleSpec{
		Description: "d", Expressions: []string{"@daily"}, Timezone: "UTC", Start: 1_800_000_000_000, End: 1_900_000_000_000, Exclude: []string{"12-24"},
		Jitter: 5, CatchUp: job.CatchUp{Policy: job.CatchUpAll, Window: job.Hour, Max: 3}, Overlap: job.OverlapCancelRunning,
		Template: job.Template{Delay: 5, ExpiresIn: 6, Spec: job.Spec{
			Type: "t", Queue: "q", PayloadBytes: []byte{1}, Priority: 0, MaxAttempts: 2,
			Retry:   job.Retry{Backoff: job.List, Initial: 1, Max: 2, Multiplier: 1.5, Delays: []job.Duration{1, 2}, NoJitter: true},
			Timeout: 3, Lease: 4000, Tags: []string{"a"}, Metadata: job.Labels{{Key: "k", Value: "v"}}, CorrelationID: "c", Traceparent: "p", Retention: 7,
		}},
	}
	// Every field that a definition has is set, but for those that cannot be.
	for _, v := range []any{spec, spec.Template.Spec, spec.Template.Retry} {
		r := reflect.ValueOf(v)
		for i := range r.NumField() {
			switch name := r.Type().Field(i).Name; name {
			case "Payload", "Priority", "RunAt", "ExpiresAt", "IdempotencyKey":
			default:
				if r.Field(i).IsZero() {
					t.Errorf("%T.%s is not tried", v, name)
				}
			}
		}
	}
	var b bytes.Buffer
	if err := encode(&b, &spec); err != nil {
		t.Fatal(err)
	}
	got, err := decodeSchedule(b.Bytes())
	if err != nil {
		t.Fatalf("%s: %v", b.String(), err)
	}
	if !reflect.DeepEqual(*got, spec) {
		t.Errorf("got\n%+v, want\n%+v", *got, spec)
	}
}
