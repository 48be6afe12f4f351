package fsm

import (
	"reflect"
	"slices"
	"testing"

	"github.com/orrery-io/orrery/command"
	"github.com/orrery-io/orrery/job"
)

// scheduled makes a machine whose schema knows schedules, with one named "s".
func scheduled(t *testing.T, overlap job.OverlapPolicy) *bundle {
	t.Helper()
	b := setup(t, Config{})
	b.do(&command.Migrate{To: NewestSchema})
	b.set("s", overlap)
	return b
}

// set records a schedule, from what it is now.
func (b *bundle) set(name string, overlap job.OverlapPolicy) *job.Schedule {
	b.t.Helper()
	c := &command.SetSchedule{Name: name, Anchor: 1000, Spec: job.ScheduleSpec{
		Expressions: []string{"@daily"}, Overlap: overlap, Template: job.Template{Spec: submission(nil).Spec},
	}}
	if old, err := b.m.Schedule(name); err == nil {
		c.Rev = old.Rev
	} else {
		c.Cursor, c.Next = b.now, b.now+100
	}
	b.do(c)
	return b.row(name)
}

func (b *bundle) row(name string) *job.Schedule {
	b.t.Helper()
	s, err := b.m.Schedule(name)
	if err != nil {
		b.t.Fatal(err)
	}
	return s
}

// tick is a decision about the planned time that comes n milliseconds behind the
// cursor.
func (b *bundle) tick(name string, n job.Time, action job.TickAction) *command.Tick {
	b.t.Helper()
	s := b.row(name)
	return &command.Tick{Schedule: name, Rev: s.Rev, Planned: s.Cursor + n, Count: 1, Action: action, Next: s.Cursor + n + 50}
}

// end ends a job well.
func (b *bundle) end(id job.ID) {
	b.t.Helper()
	b.dispatch(id)
	b.do(&command.Finish{Job: id, Fence: b.job(id).Fence, Outcome: job.OutcomeCompleted, Next: job.Completed})
}

// ticks returns the actions of a schedule's history, oldest first.
func (b *bundle) ticks(name string) (all []job.TickAction) {
	b.t.Helper()
	b.flush()
	list, err := b.m.Ticks(b.t.Context(), name, 0, 1000)
	if err != nil {
		b.t.Fatal(err)
	}
	for _, x := range slices.Backward(list) {
		all = append(all, x.Action)
	}
	return all
}

func TestTick(t *testing.T) {
	t.Run("makes its job once", func(t *testing.T) {
		b := scheduled(t, job.OverlapAllow)
		c := b.tick("s", 10, job.TickFired)
		r := b.do(c)
		s := b.row("s")
		if r.Job == 0 || s.LastJob != r.Job || s.Cursor != c.Planned || s.Next != c.Next || s.Open != 1 || s.Ticks.Fired != 1 {
			t.Fatalf("result %+v, row %+v", r, s)
		}
		if j := b.job(r.Job); j.Schedule != "s" || j.Tick != c.Planned || j.Type != "email.send" || j.State != job.Pending {
			t.Errorf("job %+v", j)
		}
		b.refused(c, "tick_decided")
		c.Planned--
		b.refused(c, "tick_decided")
		b.reopen()
		b.refused(c, "tick_decided")
		if got := b.row("s"); !reflect.DeepEqual(got, s) {
			t.Errorf("after opening again %+v, want %+v", got, s)
		}
	})
	t.Run("that was decided for another definition is refused", func(t *testing.T) {
		b := scheduled(t, job.OverlapAllow)
		c := b.tick("s", 10, job.TickFired)
		b.do(&command.PauseSchedule{Name: "s", Paused: true})
		b.refused(c, "revision_conflict")
		b.do(&command.PauseSchedule{Name: "s"})
		b.refused(c, "revision_conflict")
		b.set("s", job.OverlapSkip)
		b.refused(c, "revision_conflict")
		b.do(b.tick("s", 10, job.TickFired))
		b.do(&command.DeleteSchedule{Name: "s"})
		b.refused(c, "schedule_not_found")
	})
	t.Run("may not fire over open jobs", func(t *testing.T) {
		b := scheduled(t, job.OverlapSkip)
		id := b.do(b.tick("s", 10, job.TickFired)).Job
		b.refused(b.tick("s", 10, job.TickFired), "jobs_open")
		b.refused(b.tick("s", 10, job.TickCaughtUp), "jobs_open")
		b.do(b.tick("s", 10, job.TickSkipped))
		b.end(id)
		b.do(b.tick("s", 10, job.TickFired))
		if got, want := b.ticks("s"), []job.TickAction{job.TickFired, job.TickSkipped, job.TickFired}; !slices.Equal(got, want) {
			t.Errorf("history %v, want %v", got, want)
		}
	})
	t.Run("that waits fires in the entry that ends the last open job", func(t *testing.T) {
		b := scheduled(t, job.OverlapQueueOne)
		first := b.do(b.tick("s", 10, job.TickFired)).Job
		second := b.do(&command.RunSchedule{Schedule: "s"}).Job
		queued := b.tick("s", 10, job.TickQueued)
		b.do(queued)
		b.end(first)
		if s := b.row("s"); s.Open != 1 || s.Queued != queued.Planned {
			t.Fatalf("row %+v", s)
		}
		b.reopen()
		r := b.apply(&command.Cancel{Job: second}, b.tick("s", 10, job.TickSkipped))
		s := b.row("s")
		if r[1].Err != nil || s.Queued != 0 || s.Open != 1 || s.LastJob <= second {
			t.Fatalf("results %+v, row %+v", r, s)
		}
		if j := b.job(s.LastJob); j.Tick != queued.Planned || j.CreatedAt != b.now {
			t.Errorf("job %+v", j)
		}
		want := []job.TickAction{job.TickFired, job.TickManual, job.TickQueued, job.TickFired, job.TickSkipped}
		if got := b.ticks("s"); !slices.Equal(got, want) {
			t.Errorf("history %v, want %v", got, want)
		}
	})
	t.Run("that is queued when nothing is open any more fires at once", func(t *testing.T) {
		b := scheduled(t, job.OverlapQueueOne)
		b.do(b.tick("s", 10, job.TickQueued))
		if s := b.row("s"); s.Queued != 0 || s.Open != 1 {
			t.Errorf("row %+v", s)
		}
	})
	t.Run("replaces one that waits", func(t *testing.T) {
		b := scheduled(t, job.OverlapCancelRunning)
		b.do(b.tick("s", 10, job.TickFired))
		b.do(b.tick("s", 10, job.TickQueued))
		b.do(b.tick("s", 10, job.TickQueued))
		if s := b.row("s"); s.Queued != s.Cursor || s.Ticks.Skipped != 1 {
			t.Errorf("row %+v", s)
		}
		if got, want := b.ticks("s"), []job.TickAction{job.TickFired, job.TickQueued, job.TickSkipped, job.TickQueued}; !slices.Equal(got, want) {
			t.Errorf("history %v, want %v", got, want)
		}
	})
	t.Run("with an action that no decision has is refused", func(t *testing.T) {
		b := scheduled(t, job.OverlapAllow)
		for _, action := range []job.TickAction{0, job.TickManual, job.TickBackfilled, job.TickChanged, 99} {
			b.refused(b.tick("s", 10, action), "unknown_action")
		}
		if s := b.row("s"); s.Seq != 0 || s.Next == 0 {
			t.Errorf("row %+v", s)
		}
	})
	t.Run("tells the feed", func(t *testing.T) {
		b := scheduled(t, job.OverlapAllow)
		from := b.m.LastEvent()
		fired := b.tick("s", 10, job.TickFired)
		id := b.do(fired).Job
		b.do(b.tick("s", 10, job.TickMissed))
		b.flush()
		for _, sub := range []*Subscription{b.m.Subscribe(from), b.m.Subscribe(from)} {
			var got []job.Event
			for len(got) < 3 {
				events, err := sub.Next(t.Context())
				if err != nil {
					t.Fatal(err)
				}
				got = append(got, events...)
			}
			if got[0].Type != job.JobSubmitted || got[1].Type != job.ScheduleFired || got[1].Schedule != "s" || got[1].Job != id ||
				got[1].Agent != "" || got[1].Detail != fired.Planned.String() || got[2].Type != job.ScheduleSkipped || got[2].Schedule != "s" {
				t.Errorf("events %+v", got)
			}
			b.reopen() // the next subscription reads what was stored
			from = job.EventID{Index: from.Index, N: from.N}
		}
	})
}

// Whatever becomes of a planned time is told, in the feed as in the history.
func TestTicksAreTold(t *testing.T) {
	planned := func(t job.Time) string { return t.String() }
	tests := []struct {
		name    string
		overlap job.OverlapPolicy
		do      func(b *bundle) (want []string)
	}{
		{"several that were missed", job.OverlapAllow, func(b *bundle) []string {
			c := b.tick("s", 10, job.TickMissed)
			c.Through, c.Count, c.Reason = c.Planned+20, 3, "late"
			b.do(c)
			return []string{"missed " + planned(c.Planned) + " to " + planned(c.Through) + ", 3 ticks: late"}
		}},
		{"more than were counted", job.OverlapAllow, func(b *bundle) []string {
			c := b.tick("s", 10, job.TickPaused)
			c.Through, c.Count, c.AtLeast = c.Planned+20, 2, true
			b.do(c)
			return []string{"paused " + planned(c.Planned) + " to " + planned(c.Through) + ", at least 2 ticks"}
		}},
		{"one that waits makes way for a newer one", job.OverlapCancelRunning, func(b *bundle) []string {
			b.do(b.tick("s", 10, job.TickFired))
			first, second := b.tick("s", 10, job.TickQueued), b.tick("s", 20, job.TickQueued)
			b.do(first)
			b.do(second)
			return []string{
				"queued " + planned(first.Planned),
				"skipped " + planned(first.Planned) + ": a newer tick took its place while it waited",
				"queued " + planned(second.Planned),
			}
		}},
		{"one that waits when the schedule is paused", job.OverlapQueueOne, func(b *bundle) []string {
			b.do(b.tick("s", 10, job.TickFired))
			c := b.tick("s", 10, job.TickQueued)
			b.do(c)
			b.do(&command.PauseSchedule{Name: "s", Paused: true})
			return []string{"queued " + planned(c.Planned), "paused " + planned(c.Planned) + ": the schedule was paused while the tick waited"}
		}},
		{"one that was due when the schedule gets other times", job.OverlapAllow, func(b *bundle) []string {
			s := b.row("s")
			b.do(&command.SetSchedule{Name: "s", Rev: s.Rev, Spec: s.ScheduleSpec, Cursor: s.Next + 5, Next: s.Next + 20})
			return []string{"changed " + planned(s.Next) + ", at least 1 tick: the schedule got other times before it fired"}
		}},
		{"one that was due in a pause, when the schedule gets other times", job.OverlapAllow, func(b *bundle) []string {
			b.do(&command.PauseSchedule{Name: "s", Paused: true})
			s := b.row("s")
			b.do(&command.SetSchedule{Name: "s", Rev: s.Rev, Spec: s.ScheduleSpec, Cursor: s.Next + 5, Next: s.Next + 20})
			return []string{"paused " + planned(s.Next) + ", at least 1 tick: the schedule was paused, and then got other times"}
		}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			b := scheduled(t, tt.overlap)
			want := tt.do(b)
			b.flush()
			sub := b.m.Subscribe(job.EventID{})
			var got []string
			for n := len(want); len(got) < n; {
				events, err := sub.Next(t.Context())
				if err != nil {
					t.Fatal(err)
				}
				for _, e := range events {
					if e.Type == job.ScheduleSkipped || e.Type == job.ScheduleQueued {
						got = append(got, e.Detail)
					}
				}
			}
			if !slices.Equal(got, want) {
				t.Errorf("the feed says %q, want %q", got, want)
			}
			if n := len(b.ticks("s")); n < len(want) {
				t.Errorf("the history has %d entries", n)
			}
		})
	}
}

func TestOpenJobs(t *testing.T) {
	t.Run("a job that runs again is open again", func(t *testing.T) {
		b := scheduled(t, job.OverlapSkip)
		id := b.do(b.tick("s", 10, job.TickFired)).Job
		b.end(id)
		b.do(b.tick("s", 10, job.TickFired))
		id = b.row("s").LastJob
		b.do(&command.Cancel{Job: id})
		if s := b.row("s"); s.Open != 0 || len(s.OpenJobs) != 0 {
			t.Errorf("row %+v", s)
		}
		b.do(&command.Retry{Job: id})
		if s := b.row("s"); s.Open != 1 || !slices.Equal(s.OpenJobs, []job.ID{id}) {
			t.Errorf("row %+v", s)
		}
		b.do(&command.Cancel{Job: id})
		b.do(&command.Delete{Jobs: []job.ID{id}})
		if s := b.row("s"); s.Open != 0 {
			t.Errorf("row %+v", s)
		}
	})
	t.Run("jobs of a schedule that was deleted don't count for one of the same name", func(t *testing.T) {
		b := scheduled(t, job.OverlapSkip)
		old := b.do(b.tick("s", 10, job.TickFired)).Job
		b.do(&command.DeleteSchedule{Name: "s"})
		b.set("s", job.OverlapSkip)
		b.do(b.tick("s", 10, job.TickFired))
		b.end(old)
		if s := b.row("s"); s.Open != 1 {
			t.Errorf("row %+v", s)
		}
	})
	t.Run("the count is exact beyond the ids that are kept", func(t *testing.T) {
		b := scheduled(t, job.OverlapAllow)
		r := b.do(&command.RunSchedule{Schedule: "s", Times: make([]job.Time, job.MaxOpenJobs+50)})
		if s := b.row("s"); s.Open != job.MaxOpenJobs+50 || len(s.OpenJobs) != job.MaxOpenJobs || s.OpenJobs[0] != r.Jobs[50] {
			t.Errorf("open %d, ids %v", s.Open, s.OpenJobs)
		}
		for _, id := range r.Jobs {
			b.do(&command.Cancel{Job: id})
		}
		if s := b.row("s"); s.Open != 0 || len(s.OpenJobs) != 0 {
			t.Errorf("open %d, ids %v", s.Open, s.OpenJobs)
		}
	})
}

func TestSetSchedule(t *testing.T) {
	t.Run("before the schema has them they are refused", func(t *testing.T) {
		b := setup(t, Config{})
		b.refused(&command.SetSchedule{Name: "s"}, "schema_too_old")
		b.reopen()
	})
	t.Run("with another revision it is refused", func(t *testing.T) {
		b := scheduled(t, job.OverlapAllow)
		rev := b.row("s").Rev
		b.refused(&command.SetSchedule{Name: "s"}, "revision_conflict")
		b.refused(&command.SetSchedule{Name: "s", Rev: rev + 1}, "revision_conflict")
		b.refused(&command.SetSchedule{Name: "other", Rev: rev}, "schedule_not_found")
		b.refused(&command.PauseSchedule{Name: "s", Paused: true, Rev: rev - 1}, "revision_conflict")
		b.refused(&command.DeleteSchedule{Name: "s", Rev: rev - 1}, "revision_conflict")
		b.do(&command.SetSchedule{Name: "s", Rev: rev})
		b.refused(&command.SetSchedule{Name: "s", Rev: rev}, "revision_conflict")
	})
	t.Run("keeps what the ticks have done", func(t *testing.T) {
		b := scheduled(t, job.OverlapAllow)
		b.do(b.tick("s", 10, job.TickFired))
		old := b.row("s")
		s := b.set("s", job.OverlapSkip)
		if s.ID != old.ID || s.Cursor != old.Cursor || s.Next != old.Next || s.Open != 1 || s.CreatedAt != old.CreatedAt || s.Anchor != old.Anchor || s.Rev <= old.Rev {
			t.Errorf("row %+v, before %+v", s, old)
		}
	})
	t.Run("a tick that was due under the old times is told", func(t *testing.T) {
		b := scheduled(t, job.OverlapAllow)
		s := b.row("s")
		b.do(&command.SetSchedule{Name: "s", Rev: s.Rev, Spec: s.ScheduleSpec, Cursor: s.Next + 5, Next: s.Next + 20})
		if got, want := b.ticks("s"), []job.TickAction{job.TickChanged}; !slices.Equal(got, want) {
			t.Errorf("history %v, want %v", got, want)
		}
	})
	t.Run("a deleted one leaves nothing but its jobs", func(t *testing.T) {
		b := scheduled(t, job.OverlapAllow)
		id := b.do(&command.RunSchedule{Schedule: "s", Times: []job.Time{5, 7, 9}, Reason: "why"}).Jobs[0]
		b.flush()
		history, err := b.m.Ticks(t.Context(), "s", 0, 9)
		if err != nil || len(history) != 1 {
			t.Fatalf("history %+v, %v", history, err)
		}
		if got := history[0]; got.Planned != 5 || got.Through != 9 || got.Count != 3 || got.Job != id || got.Reason != "why" || got.Action != job.TickBackfilled {
			t.Errorf("history %+v", got)
		}
		b.do(&command.DeleteSchedule{Name: "s"})
		if got := b.ticks("s"); len(got) != 0 {
			t.Errorf("history %v", got)
		}
		b.job(id)
		b.reopen()
		if list := b.m.Schedules(); len(list) != 0 {
			t.Errorf("schedules %v", list)
		}
	})
}

func TestTickHistory(t *testing.T) {
	b := scheduled(t, job.OverlapAllow)
	const extra = 30
	for range job.MaxTicksKept + extra {
		b.do(b.tick("s", 1, job.TickMissed))
	}
	b.flush()
	first, err := b.m.Ticks(t.Context(), "s", 0, 50)
	if err != nil || len(first) != 50 || first[0].Seq != job.MaxTicksKept+extra {
		t.Fatalf("%d entries, the first %+v, %v", len(first), first[0], err)
	}
	rest, err := b.m.Ticks(t.Context(), "s", first[49].Seq, 1000)
	if err != nil || len(rest) != job.MaxTicksKept-50 || rest[len(rest)-1].Seq != extra+1 {
		t.Fatalf("%d more, the last %+v, %v", len(rest), rest[len(rest)-1], err)
	}
}
