package httpapi

import (
	"fmt"
	"strings"
	"testing"
	"time"

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
