package httpapi

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/orrery-io/orrery/command"
	"github.com/orrery-io/orrery/cron"
	"github.com/orrery-io/orrery/job"
)

func TestPreviewSchedule(t *testing.T) {
	b := setup(t)
	preview := func(body string) *PreviewAnswer {
		t.Helper()
		ans := new(PreviewAnswer)
		b.post("/v1/schedules/preview", body).want(200).into(ans)
		return ans
	}
	got := preview(`{"expressions":["30 2 * * *"],"timezone":"Europe/Berlin","template":{"type":"x"},"n":2,"from":"2027-03-27T01:30:00Z"}`)
	want := []PlannedTime{
		{PlannedAt: 1806111000000, FiresAt: 1806111000000, Local: "2027-03-27T02:30:00+01:00", Zone: "CET"},
		{PlannedAt: 1806195600000, FiresAt: 1806195600000, Local: "2027-03-28T03:00:00+02:00", Zone: "CEST"},
	}
	if got.Summary != "at 02:30 every day, Europe/Berlin" || len(got.Next) != 2 || got.Next[0] != want[0] || got.Next[1] != want[1] {
		t.Errorf("%+v", got)
	}
	got = preview(`{"expressions":"@at 2020-01-01T00:00:00Z","template":{"type":"x"}}`)
	if len(got.Next) != 0 || len(got.Warnings) != 1 || !strings.HasPrefix(got.Warnings[0], "fires 0 times") {
		t.Errorf("%+v", got)
	}
	if got = preview(`{"expressions":"0 9 * * MON-FRI","template":{"type":"x"},"n":1000}`); len(got.Next) != 1000 || got.Warnings == nil || got.Plain[0] != "0 9 * * 1-5" {
		t.Errorf("%d times, warnings %q, plain %q", len(got.Next), got.Warnings, got.Plain)
	}
	// Hashed values and jitter are those of the name.
	one := preview(`{"name":"one","expressions":"H H * * *","jitter":"1h","template":{"type":"x"}}`)
	two := preview(`{"name":"two","expressions":"H H * * *","jitter":"1h","template":{"type":"x"}}`)
	if one.Plain[0] == two.Plain[0] || strings.Contains(one.Plain[0], "H") || one.Next[0].FiresAt < one.Next[0].PlannedAt {
		t.Errorf("%+v, %+v", one, two)
	}
	b.put("/v1/schedules/one", `{"expressions":"H H * * *","jitter":"1h","template":{"type":"x"}}`).want(201)
	next := new(NextTicks)
	b.get("/v1/schedules/one/next").want(200).into(next)
	if fmt.Sprint(next.Next) != fmt.Sprint(one.Next) {
		t.Errorf("planned is\n%v, previewed was\n%v", next.Next, one.Next)
	}
	// An interval counts from where the schedule of that name counts from.
	b.propose(&command.SetSchedule{Name: "old", Anchor: 1_500_000_000_000, Cursor: 1_500_000_000_000, Spec: job.ScheduleSpec{Expressions: []string{"@every 7d"}, Template: job.Template{Spec: job.Spec{Type: "x"}}}})
	if got = preview(`{"name":"old","expressions":"@every 7d","template":{"type":"x"}}`); (got.Next[0].PlannedAt-1_500_000_000_000)%job.Time(7*job.Day) != 0 {
		t.Errorf("%+v", got.Next[0])
	}
	for body, code := range map[string]string{
		`{"expressions":"@daily","template":{"type":"x"},"n":0}`:        "out_of_range",
		`{"expressions":"@daily","template":{"type":"x"},"n":1001}`:     "out_of_range",
		`{"expressions":"@daily","template":{"type":"x"},"name":"a b"}`: "invalid_value",
		`{"expressions":"@daily","template":{"type":"x"},"form":"x"}`:   "unknown_field",
		`{"expressions":"@daily"}`:                                      "missing_field",
	} {
		b.post("/v1/schedules/preview", body).problem(400, code)
	}
	if n := b.node.proposed(); n != 2 {
		t.Errorf("%d commands were proposed, want the two of PUT and this test", n)
	}
}

func TestNextTicks(t *testing.T) {
	b := setup(t)
	b.put("/v1/schedules/s", strings.Replace(everyHour, `"overlap"`, `"jitter":"10m","overlap"`, 1)).want(201)
	next := func(query string) *NextTicks {
		t.Helper()
		list := new(NextTicks)
		b.get("/v1/schedules/s/next" + query).want(200).into(list)
		return list
	}
	first := func(query string) string {
		t.Helper()
		return next(query + "&n=1").Next[0].PlannedAt.String()
	}
	if got := first("?from=2030-01-01T05:00:00Z"); got != "2030-01-01T05:00:00.000Z" {
		t.Errorf("from a planned time on: %s", got)
	}
	if got := first("?from=2030-01-01T05:00:00.001Z"); got != "2030-01-01T06:00:00.000Z" {
		t.Errorf("from a moment later on: %s", got)
	}
	list := next("")
	if len(list.Next) != 10 || list.Next[0].PlannedAt <= now().Add(-job.Second) || list.Paused {
		t.Errorf("%+v", list)
	}
	for _, p := range list.Next {
		want := p.PlannedAt.Add(job.For(cron.Jitter("s", p.PlannedAt.Time(), 10*time.Minute)))
		if p.FiresAt != want || p.FiresAt >= p.PlannedAt.Add(10*job.Minute) || p.Zone != "UTC" {
			t.Errorf("%+v fires at %s, want %s", p, p.FiresAt, want)
		}
	}
	if got := next("?from=24h&n=1").Next[0].PlannedAt; got < now().Add(23*job.Hour) {
		t.Errorf("from tomorrow on: %s", got)
	}
	b.post("/v1/schedules/s/pause", `{"for":"30d"}`).want(200)
	if list = next("?n=1"); !list.Paused || list.Next[0].PlannedAt <= list.PausedUntil || list.PausedUntil == 0 {
		t.Errorf("%+v", list)
	}
	b.post("/v1/schedules/s/pause", "").want(200)
	if list = next("?n=1"); !list.Paused || len(list.Next) != 1 || list.PausedUntil != 0 {
		t.Errorf("%+v", list)
	}
	b.get("/v1/schedules/s/next?n=0").problem(400, "out_of_range")
	b.get("/v1/schedules/s/next?n=1001").problem(400, "out_of_range")
	b.get("/v1/schedules/s/next?from=soon").problem(400, "invalid_value")
	b.get("/v1/schedules/none/next").problem(404, "schedule_not_found")
}
