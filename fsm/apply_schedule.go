package fsm

import (
	"context"

	"github.com/orrery-io/orrery/command"
	"github.com/orrery-io/orrery/job"
)

// schedule reads a schedule; the error is a refusal when there is none, or when rev
// is neither zero nor its revision.
func (a *apply) schedule(name string, rev uint64) (*job.Schedule, error) {
	s, err := a.schedules.get(context.Background(), name)
	switch {
	case err != nil:
		return nil, err
	case s == nil:
		return nil, refuse(job.ErrScheduleNotFound)
	case rev != 0 && rev != s.Rev:
		return nil, refuse(errRevision(s))
	}
	return s, nil
}

func errRevision(s *job.Schedule) *job.Error {
	return job.Errorf(job.Conflict, "revision_conflict", "schedule %s was changed meanwhile, its revision is %d", s.Name, s.Rev).
		WithHint("read it again, and repeat your change on what it is now")
}

// setSchedule makes a schedule or gives it another definition.
func (a *apply) setSchedule(c *command.SetSchedule, r *command.Result) error {
	if a.schema < schemaSchedules {
		return refuse(job.Errorf(job.Unavailable, "schema_too_old", "a node of this cluster has a version that knows no schedules").
			WithHint("upgrade all nodes, then try again"))
	}
	old, err := a.schedules.get(context.Background(), c.Name)
	if err != nil {
		return err
	}
	var next *job.Schedule
	if old == nil {
		if c.Rev != 0 {
			return refuse(job.ErrScheduleNotFound)
		}
		a.lastID++
		next = &job.Schedule{ID: a.lastID, Name: c.Name, CreatedAt: a.now, Anchor: c.Anchor}
	} else {
		if c.Rev != old.Rev {
			return refuse(errRevision(old))
		}
		next = new(*old)
	}
	next.ScheduleSpec = c.Spec
	next.Rev, next.UpdatedAt = a.index, a.now
	if old != nil && old.Next > old.Cursor && old.Next <= c.Cursor {
		a.overtaken(old, next)
	}
	if c.Cursor != 0 {
		next.Cursor, next.Next = max(next.Cursor, c.Cursor), c.Next
	}
	a.schedules.put(next.Name, next)
	what := "changed"
	if old == nil {
		what = "created"
	}
	a.emitSchedule(job.ScheduleSet, next).Detail = what
	r.Existing = old != nil
	return nil
}

// overtaken tells of ticks that were due under the old times of a schedule, and of which
// nobody had decided: it was paused, there was no leader, or the change came between.
// Only a rule could count them.
func (a *apply) overtaken(old, next *job.Schedule) {
	t := job.Tick{Planned: old.Next, Count: 1, AtLeast: true, Action: job.TickChanged, Reason: "the schedule got other times before it fired"}
	if old.Paused || old.Next <= old.PausedThrough {
		t.Action, t.Reason = job.TickPaused, "the schedule was paused, and then got other times"
		next.Ticks.Paused++
	}
	a.skipped(job.ScheduleSkipped, next, &t)
	a.history(next, t)
}

// pauseSchedule pauses or resumes a schedule.
func (a *apply) pauseSchedule(c *command.PauseSchedule) error {
	old, err := a.schedule(c.Name, c.Rev)
	if err != nil {
		return err
	}
	if !c.Paused && !old.Paused {
		return nil
	}
	next := new(*old)
	next.Rev, next.UpdatedAt = a.index, a.now
	next.Paused, next.PauseReason, next.PausedUntil = c.Paused, c.Reason, c.Until
	t := job.ScheduleResumed
	if c.Paused {
		t = job.SchedulePaused
		if !old.Paused {
			next.PausedAt = a.now
		}
		if next.Queued != 0 {
			gone := job.Tick{Planned: next.Queued, Count: 1, Action: job.TickPaused, Reason: "the schedule was paused while the tick waited"}
			a.skipped(job.ScheduleSkipped, next, &gone)
			a.history(next, gone)
			next.Queued = 0
			next.Ticks.Paused++
		}
	} else {
		next.PausedAt, next.PauseReason, next.PausedUntil = 0, "", 0
		next.PausedThrough = a.now
	}
	a.schedules.put(next.Name, next)
	a.emitSchedule(t, next).Detail = detail(c.Reason)
	return nil
}

// deleteSchedule removes a schedule with its history.
func (a *apply) deleteSchedule(c *command.DeleteSchedule) error {
	old, err := a.schedule(c.Name, c.Rev)
	if err != nil {
		return err
	}
	for seq := max(1, old.Seq-job.MaxTicksKept+1); seq <= old.Seq; seq++ {
		a.ticks.remove(tickKey{old.Name, seq})
	}
	a.schedules.remove(old.Name)
	a.emitSchedule(job.ScheduleDeleted, old)
	return nil
}

// history appends to the history of a schedule that is not stored yet, and forgets
// the oldest entry.
func (a *apply) history(s *job.Schedule, t job.Tick) {
	s.Seq++
	t.Seq, t.At = s.Seq, a.now
	a.ticks.put(tickKey{s.Name, s.Seq}, &t)
	if gone := s.Seq - job.MaxTicksKept; gone > 0 {
		a.ticks.remove(tickKey{s.Name, gone})
	}
}

// openJobs keeps what a schedule knows of its open jobs: a job was old and is next.
// The last one to end makes way for the tick that waits.
func (a *apply) openJobs(old, next *job.Job) {
	if next.Schedule == "" || old.State.Terminal() == next.State.Terminal() {
		return
	}
	row, _ := a.schedules.peek(next.Schedule)
	if row == nil || next.ID < row.ID {
		return // the schedule was deleted, and perhaps made anew
	}
	s := new(*row)
	if next.State.Terminal() {
		s.Open--
		s.OpenJobs = without(s.OpenJobs, next.ID)
		if s.Open == 0 && s.Queued != 0 {
			a.freed = append(a.freed, s.Name)
		}
	} else { // retried or redriven
		opened(s, next.ID)
	}
	a.schedules.put(s.Name, s)
}

// opened counts a job that has not ended.
func opened(s *job.Schedule, id job.ID) {
	s.Open++
	keep := s.OpenJobs
	if len(keep) >= job.MaxOpenJobs {
		keep = keep[len(keep)-job.MaxOpenJobs+1:]
	}
	s.OpenJobs = append(append(make([]job.ID, 0, len(keep)+1), keep...), id)
}

// without returns a list without one id.
func without(ids []job.ID, id job.ID) []job.ID {
	var rest []job.ID
	for _, x := range ids {
		if x != id {
			rest = append(rest, x)
		}
	}
	return rest
}

func (a *apply) emitSchedule(t job.EventType, s *job.Schedule) *job.Event {
	a.events = append(a.events, job.Event{
		ID:       job.EventID{Index: a.index, N: uint32(len(a.events))}, //nolint:gosec // bounded by the entry
		Time:     a.now,
		Type:     t,
		Schedule: s.Name,
	})
	return &a.events[len(a.events)-1]
}
