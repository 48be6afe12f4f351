package client_test

import (
	"encoding/json"
	"errors"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/orrery-io/orrery/client"
	"github.com/orrery-io/orrery/job"
)

const nightly = `{"id":3,"name":"nightly","expressions":["0 3 * * *"],"timezone":"Europe/Berlin","overlap":"skip","catch_up":{"policy":"all","window":"2h","max":5},` +
	`"template":{"type":"report","queue":"slow","payload":{"a":1},"delay":"10s"},"revision":17,"paused":true,"paused_until":"2027-01-31T08:00:00.000Z",` +
	`"ticks":{"fired":4,"missed":1,"skipped":0,"paused":0},"open":1,"open_jobs":[9],"state":"paused","next_at":"2027-02-01T02:00:00.000Z","summary":"at 03:00 every day","warnings":["w"]}`

func TestPutSchedule(t *testing.T) {
	b := setup(t, answer(201, nightly))
	s, err := b.client.PutSchedule(t.Context(), "a/b", client.ScheduleDefinition{
		Expressions: []string{"0 3 * * *"}, Timezone: "Europe/Berlin", Overlap: job.OverlapSkip, Exclude: []string{"12-24"}, Jitter: job.Minute,
		CatchUp:  job.CatchUp{Policy: job.CatchUpAll, Max: 5},
		Template: client.Submission{Type: "report", Payload: json.RawMessage(`{"a":"<&>"}`), Priority: new(0)},
	}, client.Condition{Absent: true})
	if err != nil {
		t.Fatal(err)
	}
	if s.Name != "nightly" || s.Rev != 17 || s.State != "paused" || s.Summary == "" || s.NextAt != 1801447200000 || s.Ticks.Fired != 4 || s.Open != 1 ||
		s.CatchUp.Policy != job.CatchUpAll || s.Overlap != job.OverlapSkip || string(s.Template.Payload) != `{"a":1}` || s.Template.Delay != 10*job.Second || len(s.Warnings) != 1 {
		t.Errorf("got %+v", s)
	}
	c := b.seen()[0]
	want := `{"expressions":["0 3 * * *"],"timezone":"Europe/Berlin","exclude":["12-24"],"jitter":"1m","catch_up":{"policy":"all","max":5},"overlap":"skip",` +
		`"template":{"type":"report","payload":{"a":"<&>"},"priority":0}}`
	if c.method != http.MethodPut || c.path != "/v1/schedules/a%2Fb" || c.body != want || c.header.Get("If-None-Match") != "*" || c.header.Get("If-Match") != "" || c.header.Get("Orrery-Request-Id") == "" {
		t.Errorf("%s %s %v\n%s, want\n%s", c.method, c.path, c.header, c.body, want)
	}
}

func TestPutSchedule_bareDefinitionSendsNothingElse(t *testing.T) {
	b := setup(t, answer(200, nightly))
	if _, err := b.client.PutSchedule(t.Context(), "s", client.ScheduleDefinition{Expressions: []string{"@daily"}, Template: client.Submission{Type: "x"}}, client.Condition{Revision: 17}); err != nil {
		t.Fatal(err)
	}
	if c := b.seen()[0]; c.body != `{"expressions":["@daily"],"template":{"type":"x"}}` || c.header.Get("If-Match") != `"17"` || c.header.Get("If-None-Match") != "" {
		t.Errorf("%s with %v", c.body, c.header)
	}
}

func TestPutSchedule_refused(t *testing.T) {
	b := setup(t, answer(400, `{"code":"invalid_schedule","detail":"one thing in the request is wrong","errors":[{"pointer":"/expressions/0","detail":"at position 3: 25 is no hour","position":3}]}`),
		answer(412, `{"code":"precondition_failed","detail":"schedule s is there already"}`))
	_, err := b.client.PutSchedule(t.Context(), "s", client.ScheduleDefinition{}, client.Condition{})
	if e, ok := errors.AsType[*client.Error](err); !ok || e.Errors[0].Position != 3 || !strings.Contains(err.Error(), "expressions/0 at position 3: 25 is no hour") {
		t.Errorf("error %v", err)
	}
	_, err = b.client.PutSchedule(t.Context(), "s", client.ScheduleDefinition{}, client.Condition{Absent: true})
	if e, ok := errors.AsType[*client.Error](err); !ok || e.Code != client.CodePreconditionFailed {
		t.Errorf("error %v", err)
	}
}

func TestSchedules(t *testing.T) {
	b := setup(t,
		answer(200, `{"schedules":[{"name":"a","summary":"x"},{"name":"b"}],"next_cursor":"c1"}`),
		answer(200, `{"schedules":[{"name":"c"}]}`),
	)
	var names []string
	opts := client.ScheduleOptions{States: []string{"active", "paused"}, Prefix: "p", Text: "t", Types: []string{"x"}, Queues: []string{"q"}, Tags: []string{"g", "h"}, PageSize: 2, Linearizable: true}
	for s, err := range b.client.Schedules(t.Context(), opts) {
		if err != nil {
			t.Fatal(err)
		}
		names = append(names, s.Name)
	}
	if !slices.Equal(names, []string{"a", "b", "c"}) {
		t.Errorf("names %q", names)
	}
	if got := b.seen()[0].query.Encode(); got != "consistency=linearizable&limit=2&prefix=p&queue=q&state=active%2Cpaused&tag=g%2Ch&text=t&type=x" {
		t.Errorf("asked with %s", got)
	}
	if got := b.seen()[1].query["cursor"]; !slices.Equal(got, []string{"c1"}) {
		t.Errorf("second page with %q", got)
	}
}

func TestScheduleActions(t *testing.T) {
	until := job.Time(1801382400000)
	b := setup(t, answer(200, nightly))
	for _, do := range []func() error{
		func() error { _, err := b.client.Schedule(t.Context(), "s"); return err },
		func() error { _, err := b.client.PauseSchedule(t.Context(), "s", "why", until); return err },
		func() error { _, err := b.client.PauseSchedule(t.Context(), "s", "", 0); return err },
		func() error { _, err := b.client.ResumeSchedule(t.Context(), "s"); return err },
		func() error {
			_, err := b.client.PatchSchedule(t.Context(), "s", map[string]any{"jitter": nil}, client.Condition{Revision: 4})
			return err
		},
		func() error { return b.client.DeleteSchedule(t.Context(), "s", client.Condition{Revision: 4}) },
		func() error {
			_, err := b.client.PutScheduleBody(t.Context(), "s", json.RawMessage(`{"x":1}`), client.Condition{})
			return err
		},
	} {
		if err := do(); err != nil {
			t.Error(err)
		}
	}
	want := []string{
		"GET /v1/schedules/s ", `POST /v1/schedules/s/pause {"reason":"why","until":"2027-01-31T08:00:00.000Z"}`, "POST /v1/schedules/s/pause {}",
		"POST /v1/schedules/s/resume ", `PATCH /v1/schedules/s {"jitter":null}`, "DELETE /v1/schedules/s ", `PUT /v1/schedules/s {"x":1}`,
	}
	for i, c := range b.seen() {
		if got := c.method + " " + c.path + " " + c.body; got != want[i] {
			t.Errorf("request %d is %s, want %s", i, got, want[i])
		}
		if match := c.header.Get("If-Match"); (match == `"4"`) != (c.method == "PATCH" || c.method == "DELETE") {
			t.Errorf("%s with If-Match %q", c.method, match)
		}
	}
}

func TestRunAndBackfillSchedule(t *testing.T) {
	b := setup(t,
		answer(201, `{"id":9,"schedule":"s","state":"pending"}`),
		answer(200, `{"count":2,"first":"2027-01-31T08:00:00.000Z","last":"2027-01-31T09:00:00.000Z","jobs":[10,11]}`),
		answer(422, `{"code":"too_many_ticks","detail":"there are 25000"}`),
	)
	j, err := b.client.RunSchedule(t.Context(), "s", "why")
	if err != nil || j.ID != 9 || j.Schedule != "s" {
		t.Errorf("%+v, %v", j, err)
	}
	res, err := b.client.BackfillSchedule(t.Context(), "s", client.Backfill{From: 1801382400000, DryRun: true})
	if err != nil || res.Count != 2 || !slices.Equal(res.Jobs, []job.ID{10, 11}) || res.Last.Sub(res.First) != job.Hour {
		t.Errorf("%+v, %v", res, err)
	}
	if _, err := b.client.BackfillSchedule(t.Context(), "s", client.Backfill{From: 1, To: 2}); err == nil || !strings.Contains(err.Error(), "there are 25000") {
		t.Errorf("error %v", err)
	}
	want := []string{`{"reason":"why"}`, `{"from":"2027-01-31T08:00:00.000Z","dry_run":true}`, `{"from":"1970-01-01T00:00:00.001Z","to":"1970-01-01T00:00:00.002Z"}`}
	for i, c := range b.seen() {
		if c.body != want[i] {
			t.Errorf("body %d is %s, want %s", i, c.body, want[i])
		}
	}
}

func TestNextTicksAndPreview(t *testing.T) {
	const planned = `"next":[{"planned_at":"2027-03-28T01:00:00.000Z","fires_at":"2027-03-28T01:00:05.000Z","local":"2027-03-28T03:00:00+02:00","zone":"CEST"}]`
	b := setup(t, answer(200, `{`+planned+`,"paused":true}`), answer(200, `{`+planned+`}`), answer(200, `{"summary":"s","plain":["0 3 * * *"],"warnings":["w"],`+planned+`}`))
	next, err := b.client.NextTicks(t.Context(), "s", 3, time.UnixMilli(1801382400000))
	if err != nil || !next.Paused || next.Next[0].Zone != "CEST" || next.Next[0].FiresAt.Sub(next.Next[0].PlannedAt) != 5*job.Second {
		t.Errorf("%+v, %v", next, err)
	}
	if next, err = b.client.NextTicks(t.Context(), "s", 0, time.Time{}); err != nil || next.Paused {
		t.Errorf("%+v, %v", next, err)
	}
	p, err := b.client.PreviewSchedule(t.Context(), client.ScheduleDefinition{Expressions: []string{"@daily"}, Template: client.Submission{Type: "x"}}, client.PreviewOptions{Name: "s", N: 1})
	if err != nil || p.Summary != "s" || p.Plain[0] != "0 3 * * *" || len(p.Next) != 1 || p.Warnings[0] != "w" {
		t.Errorf("%+v, %v", p, err)
	}
	calls := b.seen()
	if got := calls[0].query.Encode(); got != "from=2027-01-31T08%3A00%3A00.000Z&n=3" {
		t.Errorf("asked with %s", got)
	}
	if got := calls[1].query.Encode(); got != "" {
		t.Errorf("asked with %s", got)
	}
	if got := calls[2].body; got != `{"expressions":["@daily"],"template":{"type":"x"},"name":"s","n":1}` {
		t.Errorf("body %s", got)
	}
}

func TestTicks(t *testing.T) {
	b := setup(t,
		answer(200, `{"ticks":[{"seq":2,"planned_at":"2027-01-31T08:00:00.000Z","count":3,"at_least":true,"action":"missed","reason":"late"}],"next_cursor":"c"}`),
		answer(200, `{"ticks":[{"seq":1,"action":"caught_up","job":4,"late":"1m30s"}],"next_cursor":"d"}`),
	)
	var ticks []*client.Tick
	for x, err := range b.client.Ticks(t.Context(), "s", client.TickOptions{Limit: 2, PageSize: 1, Linearizable: true}) {
		if err != nil {
			t.Fatal(err)
		}
		ticks = append(ticks, x)
	}
	if len(ticks) != 2 || ticks[0].Action != job.TickMissed || ticks[0].Count != 3 || !ticks[0].AtLeast || ticks[1].Late != 90*job.Second || ticks[1].Job != 4 {
		t.Errorf("%+v", ticks)
	}
	if got := b.seen()[1].query.Encode(); got != "consistency=linearizable&cursor=c&limit=1" || b.seen()[1].path != "/v1/schedules/s/ticks" {
		t.Errorf("asked %s with %s", b.seen()[1].path, got)
	}
}

func TestScheduleFilters(t *testing.T) {
	b := setup(t, answer(200, `{"jobs":[]}`))
	for range b.client.List(t.Context(), client.ListOptions{Filter: client.Filter{Schedules: []string{"a", "b"}}}) {
		t.Error("a job")
	}
	if got := b.seen()[0].query["schedule"]; !slices.Equal(got, []string{"a,b"}) {
		t.Errorf("schedule %q", got)
	}
}
