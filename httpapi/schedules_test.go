package httpapi

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/orrery-io/orrery/command"
	"github.com/orrery-io/orrery/job"
)

const nightly = `{"expressions":"0 3 * * *","timezone":"Europe/Berlin","template":{"type":"echo","payload":{"a":1}}}`

func (b *testBundle) put(target, body string, headers ...string) *reply {
	b.t.Helper()
	return b.send(http.MethodPut, target, body, headers...)
}

func (b *testBundle) patch(target, body string, headers ...string) *reply {
	b.t.Helper()
	return b.send(http.MethodPatch, target, body, headers...)
}

func (r *reply) schedule() *Schedule {
	r.t.Helper()
	s := new(Schedule)
	r.into(s)
	return s
}

// row is a schedule as the machine has it.
func (b *testBundle) row(name string) *job.Schedule {
	b.t.Helper()
	row, err := b.machine.Schedule(name)
	if err != nil {
		b.t.Fatal(err)
	}
	return row
}

func TestPutSchedule(t *testing.T) {
	b := setup(t)
	r := b.put("/v1/schedules/nightly", nightly).want(201)
	s := r.schedule()
	if r.header.Get("Location") != "/v1/schedules/nightly" || r.header.Get("ETag") != fmt.Sprintf(`"%d"`, s.Rev) || r.header.Get("Orrery-Index") == "" {
		t.Errorf("headers %v", r.header)
	}
	if s.Name != "nightly" || s.State != "active" || s.Summary != "at 03:00 every day, Europe/Berlin" || s.NextAt == 0 || s.Template.Queue != "default" ||
		s.CatchUp != (job.CatchUp{Window: job.Day, Max: 100}) || string(s.Template.Payload) != `{"a":1}` || s.Template.Priority != job.DefaultPriority {
		t.Errorf("%s", r.body)
	}
	if slices.ContainsFunc(s.Warnings, func(w string) bool { return !strings.Contains(w, "Europe/Berlin") }) {
		t.Errorf("warnings %q", s.Warnings)
	}
	if again := b.get("/v1/schedules/nightly").want(200); again.header.Get("ETag") != r.header.Get("ETag") || again.schedule().Rev != s.Rev {
		t.Errorf("%s", again.body)
	}

	// The same again changes nothing, whatever it looks like.
	before := b.node.proposed()
	same := `{ "timezone":"Europe/Berlin", "template":{"payload":{"a":1},"type":"echo","queue":"default"},"overlap":"allow","catch_up":"last","expressions":["0 3 * * *"]}`
	if got := b.put("/v1/schedules/nightly", same).want(200).schedule(); got.Rev != s.Rev || b.node.proposed() != before {
		t.Errorf("revision %d, was %d; %d commands", got.Rev, s.Rev, b.node.proposed()-before)
	}
	other := b.put("/v1/schedules/nightly", strings.Replace(nightly, "0 3", "0 4", 1)).want(200).schedule()
	if other.Rev <= s.Rev || other.Summary != "at 04:00 every day, Europe/Berlin" || other.CreatedAt != s.CreatedAt || other.ID != s.ID {
		t.Errorf("%+v", other)
	}
	b.put("/v1/schedules/a%2Fb:c", nightly).want(201)
	if got := b.get("/v1/schedules/a%2Fb:c").want(200).schedule(); got.Name != "a/b:c" {
		t.Errorf("name %q", got.Name)
	}
	b.put("/v1/schedules/a%20b", nightly).problem(400, "invalid_name")
	b.put("/v1/schedules/x", nightly, "Content-Type", "text/plain").problem(415, "unsupported_media_type")
	b.put("/v1/schedules/x", "").problem(415, "unsupported_media_type")
	b.put("/v1/schedules/x", "{").problem(400, "invalid_json")
	if p := b.get("/v1/schedules/x").problem(404, "schedule_not_found"); !strings.Contains(p.Detail, `"x"`) || p.Hint == "" {
		t.Errorf("%+v", p)
	}
}

func TestPutSchedule_conditions(t *testing.T) {
	b := setup(t)
	changed := func(n int) string { return strings.Replace(nightly, `"a":1`, fmt.Sprintf(`"a":%d`, n), 1) }
	b.put("/v1/schedules/s", nightly, "If-Match", "*").problem(412, "precondition_failed")
	b.put("/v1/schedules/s", nightly, "If-Match", `"7"`).problem(412, "precondition_failed")
	first := b.put("/v1/schedules/s", nightly, "If-None-Match", "*").want(201).header.Get("ETag")
	if p := b.put("/v1/schedules/s", changed(2), "If-None-Match", "*").problem(412, "precondition_failed"); !strings.Contains(p.Detail, "is there already") {
		t.Errorf("%+v", p)
	}
	second := b.put("/v1/schedules/s", changed(2), "If-Match", first).want(200).header.Get("ETag")
	if p := b.put("/v1/schedules/s", changed(3), "If-Match", first).problem(412, "precondition_failed"); !strings.Contains(p.Detail, strings.Trim(second, `"`)) {
		t.Errorf("%+v", p)
	}
	b.put("/v1/schedules/s", changed(3), "If-Match", "*").want(200)
	for name, headers := range map[string][]string{
		"a bare number":        {"If-Match", "7"},
		"a weak tag":           {"If-Match", `W/"7"`},
		"a list":               {"If-Match", `"7", "8"`},
		"two":                  {"If-Match", `"7"`, "If-Match", `"8"`},
		"nothing":              {"If-Match", `""`},
		"zero":                 {"If-Match", `"0"`},
		"none but a tag":       {"If-None-Match", `"7"`},
		"one and the other":    {"If-Match", "*", "If-None-Match", "*"},
		"no printable request": {"Orrery-Request-Id", "a b"},
	} {
		if p := b.put("/v1/schedules/s", nightly, headers...).problem(400, "invalid_header"); p.Errors[0].Pointer == "" {
			t.Errorf("%s: %+v", name, p)
		}
	}
	if got := b.row("s"); string(got.Template.Payload) != `{"a":3}` {
		t.Errorf("payload %s", got.Template.Payload)
	}
}

// TestPutSchedule_counts_from_now: only other times begin anew.
func TestPutSchedule_counts_from_now(t *testing.T) {
	b := setup(t)
	before := now()
	b.put("/v1/schedules/s", nightly).want(201)
	made := b.row("s")
	if made.Cursor < before || made.Next <= made.Cursor || made.Anchor%1000 != 0 || made.Anchor > made.Cursor {
		t.Fatalf("cursor %s, next %s, anchor %s", made.Cursor, made.Next, made.Anchor)
	}
	b.patch("/v1/schedules/s", `{"jitter":"1m","overlap":"skip","description":"x","template":{"type":"other"}}`).want(200)
	if row := b.row("s"); row.Cursor != made.Cursor || row.Next != made.Next || row.Jitter != job.Minute || row.Template.Type != "other" {
		t.Errorf("cursor %s, next %s", row.Cursor, row.Next)
	}
	for _, patch := range []string{`{"expressions":"@every 1h"}`, `{"timezone":"UTC"}`, `{"exclude":["12-24"]}`, `{"start":"2020-01-01T00:00:00Z"}`} {
		was := b.row("s")
		b.patch("/v1/schedules/s", patch).want(200)
		if row := b.row("s"); row.Cursor < was.Cursor || row.Rev <= was.Rev || row.Next <= row.Cursor || row.Anchor != made.Anchor {
			t.Errorf("%s: cursor %s, next %s, anchor %s", patch, row.Cursor, row.Next, row.Anchor)
		}
	}
	// Without a time left it ends, and says so.
	s := b.patch("/v1/schedules/s", `{"end":"2020-01-02T00:00:00Z"}`).want(200).schedule()
	if s.State != "ended" || s.NextAt != 0 || len(s.Warnings) == 0 || !strings.HasPrefix(s.Warnings[0], "fires 0 times") {
		t.Errorf("state %s, next %s, warnings %q", s.State, s.NextAt, s.Warnings)
	}
}

func now() job.Time { return job.At(time.Now()) }

// racingNode lets somebody else be faster: before each proposal of a schedule's
// definition it proposes what race says.
type racingNode struct {
	*testNode
	race func(try int) command.Command
	try  int
}

func (n *racingNode) Propose(ctx context.Context, items ...command.Item) ([]command.Result, error) {
	if _, ok := items[0].Command.(*command.SetSchedule); ok {
		if c := n.race(n.try); c != nil {
			if _, err := n.testNode.Propose(ctx, command.Item{Command: c}); err != nil {
				return nil, err
			}
		}
		n.try++
	}
	return n.testNode.Propose(ctx, items...)
}

func TestSetSchedule_when_others_change_it_too(t *testing.T) {
	b := setup(t)
	race := func(f func(try int) command.Command) { b.API.node = &racingNode{testNode: b.node, race: f} }
	set := func(change func(*job.ScheduleSpec)) command.Command {
		c := &command.SetSchedule{Name: "s", Spec: b.row("s").ScheduleSpec, Rev: b.row("s").Rev}
		change(&c.Spec)
		return c
	}
	t.Run("somebody has made it", func(t *testing.T) {
		race(func(try int) command.Command {
			if try > 0 {
				return nil
			}
			return &command.SetSchedule{Name: "s", Spec: job.ScheduleSpec{Expressions: []string{"@daily"}, Template: job.Template{Spec: job.Spec{Type: "x", Queue: "q"}}}}
		})
		b.put("/v1/schedules/s", nightly, "Orrery-Request-Id", "r1").want(200)
		if row := b.row("s"); row.Expressions[0] != "0 3 * * *" || row.Next == 0 {
			t.Errorf("%+v", row)
		}
	})
	t.Run("somebody has changed something else", func(t *testing.T) {
		race(func(try int) command.Command {
			if try > 1 {
				return nil
			}
			return set(func(s *job.ScheduleSpec) { s.Description += "x" })
		})
		s := b.patch("/v1/schedules/s", `{"overlap":"skip"}`, "Orrery-Request-Id", "r2").want(200).schedule()
		if s.Overlap != job.OverlapSkip || s.Description != "xx" {
			t.Errorf("overlap %s, description %q", s.Overlap, s.Description)
		}
		before := b.row("s").Rev
		b.API.node = b.node
		b.patch("/v1/schedules/s", `{"overlap":"skip"}`, "Orrery-Request-Id", "r2").want(200)
		if b.row("s").Rev != before {
			t.Error("a request that was repeated has happened twice")
		}
	})
	t.Run("somebody has removed it", func(t *testing.T) {
		race(func(try int) command.Command {
			if try > 0 {
				return nil
			}
			return &command.DeleteSchedule{Name: "s"}
		})
		b.patch("/v1/schedules/s", `{"overlap":"allow"}`).problem(404, "schedule_not_found")
	})
	t.Run("a revision is meant", func(t *testing.T) {
		b.API.node = b.node
		tag := b.put("/v1/schedules/s", nightly).want(201).header.Get("ETag")
		race(func(int) command.Command {
			return set(func(s *job.ScheduleSpec) { s.Description += "x" })
		})
		b.patch("/v1/schedules/s", `{"overlap":"skip"}`, "If-Match", tag).problem(412, "precondition_failed")
	})
	t.Run("they never stop", func(t *testing.T) {
		race(func(int) command.Command {
			return set(func(s *job.ScheduleSpec) { s.Description += "x" })
		})
		b.patch("/v1/schedules/s", `{"overlap":"skip"}`).problem(409, "revision_conflict")
	})
}

// TestSetSchedule_on_a_node_that_is_behind: what the leader knows counts.
func TestSetSchedule_on_a_node_that_is_behind(t *testing.T) {
	b := setup(t)
	spec := job.ScheduleSpec{Expressions: []string{"0 3 * * *"}, Template: job.Template{Spec: job.Spec{Type: "echo"}}}
	spec.Normalize()
	// What comes with the next question to the leader.
	behind := func(c command.Command) {
		b.node.onRead = func(context.Context) error {
			b.node.onRead = nil
			b.propose(c)
			return nil
		}
	}
	behind(&command.SetSchedule{Name: "s", Spec: spec})
	b.put("/v1/schedules/s", nightly, "If-Match", "*").want(200)
	behind(&command.SetSchedule{Name: "t", Spec: spec})
	b.get("/v1/schedules/t").want(200)
	behind(&command.SetSchedule{Name: "u", Spec: spec})
	b.patch("/v1/schedules/u", `{"overlap":"skip"}`).want(200)
	// Here it is as the body says; at the leader it is not any more.
	other := spec
	other.Description = "changed meanwhile"
	behind(&command.SetSchedule{Name: "s", Spec: other, Rev: b.row("s").Rev})
	b.put("/v1/schedules/s", nightly).want(200)
	if row := b.row("s"); row.Description != "" || b.node.onRead != nil {
		t.Errorf("description %q", row.Description)
	}
}

func TestPutSchedule_says_everything_that_is_wrong(t *testing.T) {
	b := setup(t)
	field := func(pointer, detail string) job.FieldError { return job.FieldError{Pointer: pointer, Detail: detail} }
	tests := []struct {
		name string
		body string
		code string
		want []job.FieldError
	}{
		{"nothing", `{}`, "invalid_request", []job.FieldError{
			field("/template", "is required"), field("/expressions", "no expression"),
		}},
		{"faults of expressions, with their positions", `{"expressions":["0 3 * * *","0 0 30 2 *","0 25 * * *"],"exclude":["12-24","SATT"],"timezone":"Europe/Berln","template":{"type":"a"}}`, "invalid_schedule", []job.FieldError{
			{Pointer: "/expressions/1", Position: 5, Detail: "at position 5: there is never such a day"},
			{Pointer: "/expressions/2", Position: 3, Detail: "at position 3: 25 is no hour"},
			field("/timezone", "did you mean Europe/Berlin?"),
			{Pointer: "/exclude/1", Position: 1, Detail: "at position 1: "},
		}},
		{"the same in one expression alone", `{"expressions":"0 25 * * *","template":{"type":"a"}}`, "invalid_schedule", []job.FieldError{
			{Pointer: "/expressions/0", Position: 3, Detail: "at position 3: 25 is no hour"},
		}},
		{"mistakes of all sorts", `{"expresions":"@daily","expressions":"0 25 * * *","jitter":5,"overlap":"never","catch_up":{"max":0},"template":{"typ":"a"}}`, "invalid_request", []job.FieldError{
			field("/expresions", `did you mean "expressions"?`), field("/jitter", "must be a duration"), field("/overlap", "is not one of the overlap policies"),
			field("/catch_up/max", "is 0"), field("/template/typ", `did you mean "type"?`),
			{Pointer: "/expressions/0", Position: 3, Detail: "at position 3"},
		}},
		{"what a template cannot have", `{"expressions":"@daily","template":{"type":"a b","run_at":"2027-01-01T00:00:00Z","start_by":"2027-01-02T00:00:00Z","idempotency_key":"k"}}`, "invalid_value", []job.FieldError{
			field("/template/type", "has the character"), field("/template/run_at", "the schedule says when"), field("/template/start_by", "give expires_in"), field("/template/idempotency_key", "would make all ticks one job"),
		}},
		{"out of range", `{"expressions":"@daily","jitter":"25h","catch_up":{"window":"1ms"},"start":"2027-01-02T00:00:00Z","end":"2027-01-01T00:00:00Z","template":{"type":"a"}}`, "invalid_value", []job.FieldError{
			field("/end", "must be later than start"), field("/jitter", "at most 24h"), field("/catch_up/window", "it must be 1s to"),
		}},
		{"what an answer has", `{"id":1,"name":"x","paused":true,"expressions":"@daily","template":{"type":"a"}}`, "read_only_field", []job.FieldError{
			field("/id", "leave it out"), field("/name", "it stands in the path"), field("/paused", "POST …/pause"),
		}},
		{"text where a list of texts belongs", `{"expressions":["@daily",5],"exclude":"12-24","template":[]}`, "wrong_type", []job.FieldError{
			field("/expressions/1", "must be a string"), field("/exclude", "must be an array of strings"), field("/template", "must be an object"),
		}},
		{"no object", `[]`, "wrong_type", []job.FieldError{field("", "must be an object")}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			for _, target := range []string{"PUT /v1/schedules/s", "POST /v1/schedules/preview"} {
				method, path, _ := strings.Cut(target, " ")
				body := tt.body
				if method == http.MethodPost && strings.Contains(body, `"name"`) {
					continue // is a field of a preview
				}
				p := b.send(method, path, body).problem(400, tt.code)
				if len(p.Errors) != len(tt.want) {
					t.Errorf("%s: got %+v", target, p.Errors)
					continue
				}
				for i, want := range tt.want {
					got := p.Errors[i]
					if got.Pointer != want.Pointer || got.Position != want.Position || !strings.Contains(got.Detail, want.Detail) {
						t.Errorf("%s: %d is %+v, want %+v", target, i, got, want)
					}
				}
			}
		})
	}
	huge := fmt.Sprintf(`{"expressions":"@daily","template":{"type":"a","payload":"%s"}}`, strings.Repeat("x", job.MaxPayload))
	if p := b.put("/v1/schedules/s", huge).problem(413, "too_large"); p.Errors[0].Pointer != "/template/payload" {
		t.Errorf("%+v", p)
	}
	if n := b.node.proposed(); n != 0 {
		t.Errorf("%d commands were proposed", n)
	}
}

func TestDeleteSchedule(t *testing.T) {
	b := setup(t)
	tag := b.put("/v1/schedules/s", nightly).want(201).header.Get("ETag")
	b.post("/v1/schedules/s/run", "").want(201)
	b.send("DELETE", "/v1/schedules/s", "", "If-Match", `"999"`).problem(412, "precondition_failed")
	b.send("DELETE", "/v1/schedules/s", "", "If-None-Match", "*").problem(400, "invalid_header")
	if r := b.send("DELETE", "/v1/schedules/s", "", "If-Match", tag).want(204); len(r.body) != 0 {
		t.Errorf("body %s", r.body)
	}
	b.send("DELETE", "/v1/schedules/s", "").problem(404, "schedule_not_found")
	b.send("DELETE", "/v1/schedules/s", "", "If-Match", tag).problem(404, "schedule_not_found")
	b.get("/v1/schedules/s/ticks").problem(404, "schedule_not_found")
	var jobs JobList
	b.get("/v1/jobs?schedule=s&consistency=linearizable").want(200).into(&jobs)
	if len(jobs.Jobs) != 1 {
		t.Errorf("%d jobs are left", len(jobs.Jobs))
	}
}

func TestSchedule_warns_when_nobody_takes_its_jobs(t *testing.T) {
	b := setup(t)
	agent := job.Agent{ID: "a1", Queues: []string{"default"}, Capabilities: []job.Capability{{Type: "report"}}, Status: job.AgentReady, Session: "s"}
	warning := func(template string) string {
		t.Helper()
		s := b.put("/v1/schedules/s", `{"expressions":"@daily","template":`+template+`}`).schedule()
		return strings.Join(s.Warnings, "; ")
	}
	if got := warning(`{"type":"repot"}`); got != "" {
		t.Errorf("without agents: %q", got)
	}
	b.propose(&command.SetAgent{Agent: agent})
	for template, want := range map[string]string{
		`{"type":"report"}`:                "",
		`{"type":"repot"}`:                 `no connected agent handles jobs of type repot; did you mean "report"?`,
		`{"type":"report","queue":"slow"}`: "no connected agent that handles report takes jobs of queue slow",
	} {
		if got := warning(template); got != want {
			t.Errorf("%s: %q, want %q", template, got, want)
		}
	}
	agent.Status = job.AgentLost
	b.propose(&command.SetAgent{Agent: agent})
	if got := warning(`{"type":"repot"}`); got != "" {
		t.Errorf("with a lost agent: %q", got)
	}
}

// within makes requests belong to a subtest until it ends.
func (b *testBundle) within(t *testing.T) {
	outer := b.t
	b.t = t
	t.Cleanup(func() { b.t = outer })
}
