package httpapi

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/orrery-io/orrery/command"
	"github.com/orrery-io/orrery/cron"
	"github.com/orrery-io/orrery/job"
)

func (r *reply) ticks() *TickList {
	r.t.Helper()
	l := new(TickList)
	r.into(l)
	return l
}

func TestRunSchedule(t *testing.T) {
	b := setup(t)
	b.put("/v1/schedules/s", `{"expressions":"@yearly","overlap":"skip","template":{"type":"echo","payload":{"a":1},"delay":"1h"}}`).want(201)
	r := b.post("/v1/schedules/s/run", `{"reason":"data came late"}`, "Orrery-Request-Id", "r1").want(201)
	j := r.job()
	if r.header.Get("Location") != "/v1/jobs/"+j.ID.String() || j.Schedule != "s" || j.Tick != 0 || j.State != job.Scheduled || string(j.Payload) != `{"a":1}` {
		t.Errorf("%v %s", r.header, r.body)
	}
	if again := b.post("/v1/schedules/s/run", `{"reason":"data came late"}`, "Orrery-Request-Id", "r1").want(201).job(); again.ID != j.ID {
		t.Errorf("a request that was repeated made job %d beside %d", again.ID, j.ID)
	}
	// Neither a pause nor an open job keeps it from running.
	b.post("/v1/schedules/s/pause", "").want(200)
	b.post("/v1/schedules/s/run", "").want(201)
	list := b.get("/v1/schedules/s/ticks?consistency=linearizable").want(200).ticks()
	if len(list.Ticks) != 2 || list.Ticks[1].Action != job.TickManual || list.Ticks[1].Job != j.ID || list.Ticks[1].Reason != "data came late" || list.Ticks[1].Late != 0 {
		t.Errorf("%+v", list)
	}
	if s := b.get("/v1/schedules/s").want(200).schedule(); s.Open != 2 || len(s.OpenJobs) != 2 || s.LastJob == 0 || s.LastTick != 0 {
		t.Errorf("%+v", s)
	}
	b.post("/v1/schedules/none/run", "").problem(404, "schedule_not_found")
	b.post("/v1/schedules/s/run", `{"reason":"`+strings.Repeat("x", 501)+`"}`).problem(400, "out_of_range")
	b.post("/v1/schedules/s/run", `{"payload":1}`).problem(400, "unknown_field")
	b.send("GET", "/v1/schedules/s/run", "").problem(405, "method_not_allowed")
}

func TestRunSchedule_waits(t *testing.T) {
	b := setup(t)
	b.put("/v1/schedules/s", nightly).want(201)
	got := make(chan *reply, 1)
	go func() { got <- b.post("/v1/schedules/s/run", "", "Prefer", "wait=60") }()
	b.waitOpen(1)
	id := b.row("s").LastJob
	b.finish(id, b.dispatch(id), job.Completed)
	r := (<-got).want(201)
	if j := r.job(); j.ID != id || j.State != job.Completed || r.header.Get("Preference-Applied") != "wait=60" {
		t.Errorf("%v %s", r.header, r.body)
	}
}

func TestPauseSchedule(t *testing.T) {
	b := setup(t)
	b.put("/v1/schedules/s", nightly).want(201)
	s := b.post("/v1/schedules/s/pause", `{"reason":"migration"}`).want(200).schedule()
	if !s.Paused || s.State != "paused" || s.PauseReason != "migration" || s.PausedAt == 0 || s.PausedUntil != 0 || s.NextAt != 0 {
		t.Errorf("%+v", s)
	}
	until := job.At(time.Now().Add(240 * time.Hour))
	s = b.post("/v1/schedules/s/pause", fmt.Sprintf(`{"until":%q}`, until)).want(200).schedule()
	if s.PausedUntil != until || s.PauseReason != "" || s.NextAt <= until {
		t.Errorf("%+v", s)
	}
	before := now()
	r := b.post("/v1/schedules/s/pause", `{"for":"1h"}`).want(200)
	if s = r.schedule(); s.PausedUntil < before.Add(job.Hour) || s.PausedUntil > now().Add(job.Hour) {
		t.Errorf("until %s", s.PausedUntil)
	}
	b.post("/v1/schedules/s/resume", "", "If-Match", `"3"`).problem(412, "precondition_failed")
	s = b.post("/v1/schedules/s/resume", "", "If-Match", r.header.Get("ETag")).want(200).schedule()
	if s.Paused || s.State != "active" || s.NextAt == 0 || s.PausedUntil != 0 {
		t.Errorf("%+v", s)
	}
	b.post("/v1/schedules/s/resume", "").want(200)

	for body, code := range map[string]string{
		`{"until":"2020-01-01T00:00:00Z"}`:              "invalid_value",
		`{"for":"0s"}`:                                  "out_of_range",
		`{"for":"1h","until":"2999-01-01T00:00:00Z"}`:   "invalid_value",
		`{"reason":5}`:                                  "wrong_type",
		`{"reson":""}`:                                  "unknown_field",
		`{"reason":"` + strings.Repeat("x", 501) + `"}`: "out_of_range",
	} {
		b.post("/v1/schedules/s/pause", body).problem(400, code)
	}
	b.post("/v1/schedules/s/resume", `{"reason":"x"}`).problem(400, "unknown_field")
	b.post("/v1/schedules/none/pause", "").problem(404, "schedule_not_found")
	b.post("/v1/schedules/none/resume", "").problem(404, "schedule_not_found")
	if b.row("s").Paused {
		t.Error("it is paused")
	}
}

func (r *reply) backfill() *BackfillAnswer {
	r.t.Helper()
	ans := new(BackfillAnswer)
	r.into(ans)
	return ans
}

const everyHour = `{"expressions":"@every 1h from 2020-01-01T00:00:00Z","overlap":"skip","template":{"type":"echo","payload":"x"}}`

func TestBackfill(t *testing.T) {
	b := setup(t)
	b.put("/v1/schedules/s", everyHour).want(201)
	at := func(hour int) job.Time { return job.At(time.Date(2020, 1, 1, hour, 0, 0, 0, time.UTC)) }
	body := func(from, to job.Time, more string) string {
		return fmt.Sprintf(`{"from":%q,"to":%q%s}`, from, to, more)
	}
	tests := []struct {
		name     string
		from, to job.Time
		want     int
	}{
		{"from counts, to does not", at(3), at(5), 2},
		{"one", at(3), at(3) + 1, 1},
		{"between two", at(3) + 1, at(4), 0},
		{"a moment later", at(3) + 1, at(5) + 1, 2},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			b.within(t)
			before := b.node.proposed()
			dry := b.post("/v1/schedules/s/backfill", body(tt.from, tt.to, `,"dry_run":true`)).want(200).backfill()
			if dry.Count != tt.want || !dry.DryRun || len(dry.Jobs) != 0 || b.node.proposed() != before {
				t.Fatalf("%+v", dry)
			}
			got := b.post("/v1/schedules/s/backfill", body(tt.from, tt.to, `,"reason":"again"`)).want(200).backfill()
			if got.Count != tt.want || len(got.Jobs) != tt.want || got.DryRun || got.First != dry.First || got.Last != dry.Last {
				t.Fatalf("%+v", got)
			}
			for i, id := range got.Jobs {
				j, err := b.machine.Job(t.Context(), id)
				if want := got.First.Add(job.Duration(i) * job.Hour); err != nil || j.Schedule != "s" || j.Tick != want {
					t.Errorf("job %d stands for %s, want %s, %v", id, j.Tick, want, err)
				}
			}
		})
	}
	list := b.get("/v1/schedules/s/ticks?limit=1&consistency=linearizable").want(200).ticks()
	if x := list.Ticks[0]; x.Action != job.TickBackfilled || x.Planned != at(4) || x.Through != at(5) || x.Count != 2 || x.Job == 0 || x.Reason != "again" || x.Late != 0 {
		t.Errorf("%+v", x)
	}
	t.Run("repeated, it happens once", func(t *testing.T) {
		first := b.post("/v1/schedules/s/backfill", body(at(3), at(5), ""), "Orrery-Request-Id", "r").want(200).backfill()
		again := b.post("/v1/schedules/s/backfill", body(at(3), at(5), ""), "Orrery-Request-Id", "r").want(200).backfill()
		if fmt.Sprint(first.Jobs) != fmt.Sprint(again.Jobs) {
			t.Errorf("jobs %v, then %v", first.Jobs, again.Jobs)
		}
	})
	t.Run("without an end it goes up to now", func(t *testing.T) {
		got := b.post("/v1/schedules/s/backfill", fmt.Sprintf(`{"from":%q,"dry_run":true}`, now().Add(-10*job.Hour))).want(200).backfill()
		if got.Count != 10 {
			t.Errorf("%+v", got)
		}
	})
	for name, x := range map[string]struct{ body, code, pointer string }{
		"no beginning":       {`{}`, "missing_field", "/from"},
		"in the future":      {fmt.Sprintf(`{"from":%q,"to":%q}`, at(1), now().Add(job.Hour)), "invalid_value", "/to"},
		"the wrong way":      {body(at(5), at(3), ""), "invalid_value", "/from"},
		"nothing between":    {body(at(5), at(5), ""), "invalid_value", "/from"},
		"a time that is not": {`{"from":"yesterday"}`, "invalid_value", "/from"},
		"an unknown field":   {`{"from":"2020-01-01T00:00:00Z","until":"x"}`, "unknown_field", "/until"},
	} {
		t.Run(name, func(t *testing.T) {
			b.within(t)
			if p := b.post("/v1/schedules/s/backfill", x.body).problem(400, x.code); p.Errors[0].Pointer != x.pointer {
				t.Errorf("%+v", p)
			}
		})
	}
	b.post("/v1/schedules/none/backfill", body(at(3), at(5), "")).problem(404, "schedule_not_found")
}

func TestBackfill_limits(t *testing.T) {
	b := setup(t)
	b.put("/v1/schedules/s", strings.Replace(everyHour, "1h", "1s", 1)).want(201)
	from := job.At(time.Date(2020, 1, 1, 0, 0, 0, 0, time.UTC))
	body := func(n int, more string) string {
		return fmt.Sprintf(`{"from":%q,"to":%q%s}`, from, from.Add(job.Duration(n)*job.Second), more)
	}
	p := b.post("/v1/schedules/s/backfill", body(25_000, "")).problem(422, "too_many_ticks")
	if !strings.Contains(p.Detail, "25000 planned times") || !strings.Contains(p.Detail, "at most 10000") || !strings.Contains(p.Hint, `"2020-01-01T02:46:40.000Z" it has 10000`) {
		t.Errorf("%+v", p)
	}
	if p := b.post("/v1/schedules/s/backfill", body(2_000_000, "")).problem(422, "too_many_ticks"); !strings.Contains(p.Detail, "more than 1000000 planned times") {
		t.Errorf("%+v", p)
	}
	got := b.post("/v1/schedules/s/backfill", body(job.MaxBackfill, "")).want(200).backfill()
	if got.Count != job.MaxBackfill || len(got.Jobs) != job.MaxBackfill || b.row("s").Open != job.MaxBackfill {
		t.Errorf("count %d, %d jobs, %d open", got.Count, len(got.Jobs), b.row("s").Open)
	}
	// Large payloads are copied into each job: fewer fit.
	payload, err := json.Marshal(strings.Repeat("x", 1<<20-2))
	if err != nil {
		t.Fatal(err)
	}
	b.put("/v1/schedules/s", fmt.Sprintf(`{"expressions":"@every 1s from 2020-01-01T00:00:00Z","template":{"type":"echo","payload":%s}}`, payload)).want(200)
	if p := b.post("/v1/schedules/s/backfill", body(65, `,"dry_run":true`)).problem(422, "too_many_ticks"); !strings.Contains(p.Detail, "at most 64 jobs of this schedule") {
		t.Errorf("%+v", p)
	}
}

// TestBackfill_fits_one_request holds the largest command and its answer against what
// a follower can hand to the leader at once.
func TestBackfill_fits_one_request(t *testing.T) {
	times, ids := make([]job.Time, job.MaxBackfill), make([]job.ID, job.MaxBackfill)
	for i := range times {
		times[i], ids[i] = 253402300799999, 1<<62
	}
	item := command.Item{Command: &command.RunSchedule{Schedule: strings.Repeat("x", job.MaxName), Times: times, Reason: strings.Repeat("x", maxReason)}}
	res := command.Result{Jobs: ids}
	if n, m := item.Size(), res.Msgsize(); n > 512<<10 || m > 512<<10 {
		t.Errorf("the command has %d bytes, its result %d", n, m)
	}
}

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

func TestTicks(t *testing.T) {
	b := setup(t)
	b.put("/v1/schedules/s", everyHour).want(201)
	row := b.row("s")
	planned := row.Next
	tick := func(c command.Tick) {
		t.Helper()
		c.Schedule, c.Rev, c.Planned = "s", row.Rev, planned
		c.Next = max(c.Planned, c.Through).Add(job.Hour)
		planned = c.Next
		b.propose(&c)
	}
	tick(command.Tick{Action: job.TickFired})
	tick(command.Tick{Action: job.TickSkipped, Reason: "job 2 has not ended"})
	tick(command.Tick{Action: job.TickMissed, Count: 3, AtLeast: true, Through: planned.Add(2 * job.Hour), Reason: "too late"})
	b.post("/v1/schedules/s/run", "").want(201)

	all := b.get("/v1/schedules/s/ticks?consistency=linearizable").want(200).ticks()
	if len(all.Ticks) != 4 || all.NextCursor != "" {
		t.Fatalf("%+v", all)
	}
	if x := all.Ticks[1]; x.Action != job.TickMissed || x.Count != 3 || !x.AtLeast || x.Through != x.Planned.Add(2*job.Hour) || x.Reason != "too late" || x.Late != 0 {
		t.Errorf("%+v", x)
	}
	// Planned in the future, as this test has it, it was not late.
	if x := all.Ticks[3]; x.Action != job.TickFired || x.Job == 0 || x.Seq != 1 || x.Late != 0 || x.Planned != row.Next {
		t.Errorf("%+v", x)
	}
	var seqs []int64
	target := "/v1/schedules/s/ticks?limit=3&consistency=linearizable"
	for {
		r := b.get(target).want(200)
		page := r.ticks()
		for _, x := range page.Ticks {
			seqs = append(seqs, x.Seq)
		}
		if page.NextCursor == "" {
			break
		}
		link := r.header.Get("Link")
		if !strings.Contains(link, `rel="next"`) {
			t.Fatalf("Link %q", link)
		}
		target = link[1:strings.Index(link, ">")]
	}
	if fmt.Sprint(seqs) != "[4 3 2 1]" {
		t.Errorf("in pages %v", seqs)
	}
	b.put("/v1/schedules/other", everyHour).want(201)
	cursor := b.get("/v1/schedules/s/ticks?limit=1").want(200).ticks().NextCursor
	b.get("/v1/schedules/other/ticks?limit=1&cursor="+cursor).problem(400, "invalid_cursor")
	b.get("/v1/schedules/none/ticks").problem(404, "schedule_not_found")
}

func TestTicks_are_late_by_the_clock(t *testing.T) {
	b := setup(t)
	b.put("/v1/schedules/s", everyHour).want(201)
	row := *b.row("s")
	// A schedule that has counted for an hour.
	b.propose(&command.DeleteSchedule{Name: "s"}, &command.SetSchedule{Name: "s", Spec: row.ScheduleSpec, Cursor: 1})
	at := now().Add(-90 * job.Second)
	b.propose(&command.Tick{Schedule: "s", Rev: b.row("s").Rev, Planned: at, Action: job.TickCaughtUp})
	x := b.get("/v1/schedules/s/ticks?consistency=linearizable").want(200).ticks().Ticks[0]
	if x.Late < 90*job.Second || x.Late != x.At.Sub(at) {
		t.Errorf("%+v", x)
	}
}

func TestListSchedules(t *testing.T) {
	b := setup(t)
	for _, s := range []struct{ name, body string }{
		{"report/daily", `{"expressions":"@daily","description":"For the Board","template":{"type":"report","queue":"slow","tags":["a","b"]}}`},
		{"report/hourly", `{"expressions":"@hourly","template":{"type":"report","tags":["a"]}}`},
		{"cleanup", `{"expressions":"@every 90s","template":{"type":"exec"}}`},
		{"once", `{"expressions":"@at 2020-01-01T00:00:00Z","template":{"type":"exec"}}`},
	} {
		b.put("/v1/schedules/"+strings.ReplaceAll(s.name, "/", "%2F"), s.body).want(201)
	}
	b.post("/v1/schedules/cleanup/pause", `{"reason":"x"}`).want(200)
	for query, want := range map[string]string{
		"":                           "cleanup once report/daily report/hourly",
		"?state=paused":              "cleanup",
		"?state=ended,paused":        "cleanup once",
		"?state=active":              "report/daily report/hourly",
		"?prefix=report/":            "report/daily report/hourly",
		"?text=board":                "report/daily",
		"?text=EXE":                  "cleanup once",
		"?type=report,nothing":       "report/daily report/hourly",
		"?queue=slow":                "report/daily",
		"?tag=a,b":                   "report/daily",
		"?tag=a&queue=default":       "report/hourly",
		"?type=report&text=nonsense": "",
	} {
		var names []string
		var list ScheduleList
		b.get("/v1/schedules" + query).want(200).into(&list)
		for _, s := range list.Schedules {
			if s.Summary == "" || s.Warnings != nil {
				t.Errorf("%+v", s)
			}
			names = append(names, s.Name)
		}
		if got := strings.Join(names, " "); got != want || list.Schedules == nil {
			t.Errorf("%s: %s, want %s", query, got, want)
		}
	}
	var names []string
	for target := "/v1/schedules?limit=3&type=report,exec"; target != ""; {
		r := b.get(target).want(200)
		var list ScheduleList
		r.into(&list)
		for _, s := range list.Schedules {
			names = append(names, s.Name)
		}
		target = ""
		if list.NextCursor != "" {
			link := r.header.Get("Link")
			target = link[1:strings.Index(link, ">")]
		}
	}
	if got := strings.Join(names, " "); got != "cleanup once report/daily report/hourly" {
		t.Errorf("in pages %s", got)
	}
	var list ScheduleList
	b.get("/v1/schedules?limit=1").want(200).into(&list)
	b.get("/v1/schedules?limit=1&state=active&cursor="+list.NextCursor).problem(400, "invalid_cursor")
	b.get("/v1/schedules?cursor=x").problem(400, "invalid_cursor")
	b.get("/v1/schedules?state=pause").problem(400, "invalid_value")
	b.get("/v1/schedules?paused=true").problem(400, "unknown_parameter")
}

// TestListSchedules_ends_a_page_early: large payloads don't add up.
func TestListSchedules_ends_a_page_early(t *testing.T) {
	b := setup(t)
	payload := `"` + strings.Repeat("x", 1<<20-2) + `"`
	for i := range 6 {
		b.put(fmt.Sprintf("/v1/schedules/s%d", i), `{"expressions":"@daily","template":{"type":"x","payload":`+payload+`}}`).want(201)
	}
	var list ScheduleList
	b.get("/v1/schedules?limit=6").want(200).into(&list)
	if n := len(list.Schedules); n != 4 || list.NextCursor == "" {
		t.Errorf("%d schedules on a page", n)
	}
}

func TestSchedules_in_other_lists(t *testing.T) {
	b := setup(t)
	b.put("/v1/schedules/s", nightly).want(201)
	b.put("/v1/schedules/t", nightly).want(201)
	id := b.post("/v1/schedules/s/run", "").want(201).job().ID
	b.post("/v1/schedules/t/run", "").want(201)
	b.submit()
	var jobs JobList
	b.get("/v1/jobs?schedule=s&consistency=linearizable").want(200).into(&jobs)
	if len(jobs.Jobs) != 1 || jobs.Jobs[0].ID != id || jobs.Jobs[0].Schedule != "s" {
		t.Errorf("%+v", jobs)
	}
	var events EventList
	b.get("/v1/events?schedule=s").want(200).into(&events)
	if len(events.Events) != 2 || events.Events[0].Type != job.ScheduleSet || events.Events[1].Type != job.ScheduleFired || events.Events[1].Job != id {
		t.Errorf("%+v", events.Events)
	}
	b.get("/v1/jobs?schedule=a%20b").problem(400, "invalid_value")
}

func TestSchedules_refuse_other_methods(t *testing.T) {
	b := setup(t)
	if r := b.send(http.MethodPost, "/v1/schedules", nightly); r.status != 405 || r.header.Get("Allow") != "GET, HEAD" {
		t.Errorf("%d %v", r.status, r.header)
	}
	if r := b.send(http.MethodPost, "/v1/schedules/s", nightly); r.status != 405 || !strings.Contains(r.header.Get("Allow"), "PUT") {
		t.Errorf("%d %v", r.status, r.header)
	}
}
