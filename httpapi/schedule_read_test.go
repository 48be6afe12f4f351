package httpapi

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/orrery-io/orrery/command"
	"github.com/orrery-io/orrery/job"
)

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
