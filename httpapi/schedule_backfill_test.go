package httpapi

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/orrery-io/orrery/command"
	"github.com/orrery-io/orrery/job"
)

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
