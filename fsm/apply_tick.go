package fsm

import (
	"fmt"

	"github.com/orrery-io/orrery/command"
	"github.com/orrery-io/orrery/job"
)

// tick records what becomes of a planned time, or of several in a row. The cursor,
// which only goes forward, sees to it that each is decided once.
func (a *apply) tick(c *command.Tick, r *command.Result) error {
	rev := c.Rev
	if mutant == "cursor" {
		rev = 0
	}
	old, err := a.schedule(c.Schedule, rev)
	if err != nil {
		return err
	}
	if c.Planned <= old.Cursor && mutant != "cursor" {
		return refuse(job.Errorf(job.Conflict, "tick_decided", "schedule %s has decided its ticks up to %s", c.Schedule, old.Cursor))
	}
	fires := c.Action == job.TickFired || c.Action == job.TickCaughtUp
	if fires && old.Overlap != job.OverlapAllow && old.Open > 0 {
		return refuse(job.Errorf(job.Conflict, "jobs_open", "schedule %s has %d open jobs", c.Schedule, old.Open))
	}
	s := new(*old)
	s.Cursor, s.Next = max(c.Planned, c.Through), c.Next
	t := job.Tick{Planned: c.Planned, Through: c.Through, Count: max(1, c.Count), AtLeast: c.AtLeast, Action: c.Action, Reason: c.Reason}
	switch c.Action {
	case job.TickFired, job.TickCaughtUp:
		t.Job = a.fire(s, c.Planned)
		r.Job = t.Job
	case job.TickQueued:
		a.queueTick(s, c.Planned)
		a.skipped(job.ScheduleQueued, s, &t)
	case job.TickSkipped:
		s.Ticks.Skipped += int64(t.Count)
		a.skipped(job.ScheduleSkipped, s, &t)
	case job.TickMissed:
		s.Ticks.Missed += int64(t.Count)
		a.skipped(job.ScheduleSkipped, s, &t)
	case job.TickPaused:
		s.Ticks.Paused += int64(t.Count)
		a.skipped(job.ScheduleSkipped, s, &t)
	default:
		return refuse(job.Errorf(job.Invalid, "unknown_action", "a tick cannot be recorded as %s", c.Action))
	}
	a.history(s, t)
	a.schedules.put(s.Name, s)
	return nil
}

// queueTick has a planned time wait for open jobs to end. When none is open any more
// it fires with this very command.
func (a *apply) queueTick(s *job.Schedule, planned job.Time) {
	if s.Queued != 0 {
		gone := job.Tick{Planned: s.Queued, Count: 1, Action: job.TickSkipped, Reason: "a newer tick took its place while it waited"}
		a.skipped(job.ScheduleSkipped, s, &gone)
		a.history(s, gone)
		s.Ticks.Skipped++
	}
	s.Queued = planned
	if s.Open == 0 {
		a.freed = append(a.freed, s.Name)
	}
}

// skipped appends an event about ticks that made no job, or none yet.
func (a *apply) skipped(t job.EventType, s *job.Schedule, x *job.Tick) {
	text := x.Action.String() + " " + x.Planned.String()
	if x.Through != 0 {
		text += " to " + x.Through.String()
	}
	switch {
	case x.AtLeast && x.Count == 1:
		text += ", at least 1 tick"
	case x.AtLeast:
		text += fmt.Sprintf(", at least %d ticks", x.Count)
	case x.Count > 1:
		text += fmt.Sprintf(", %d ticks", x.Count)
	}
	if x.Reason != "" {
		text += ": " + x.Reason
	}
	a.emitSchedule(t, s).Detail = detail(text)
}

// fireQueued fires the ticks whose schedules have no open job any more since the last
// command. That was decided when they were queued.
func (a *apply) fireQueued() {
	for _, name := range a.freed {
		old, _ := a.schedules.peek(name)
		if old == nil || old.Queued == 0 || old.Open > 0 || old.Paused {
			continue
		}
		s := new(*old)
		planned := s.Queued
		s.Queued = 0
		id := a.fire(s, planned)
		a.history(s, job.Tick{Planned: planned, Count: 1, Action: job.TickFired, Reason: "the jobs that it waited for have ended", Job: id})
		a.schedules.put(s.Name, s)
	}
	a.freed = a.freed[:0]
}

// fire makes the job of a planned time, for a row that is not stored yet.
func (a *apply) fire(s *job.Schedule, planned job.Time) job.ID {
	s.Ticks.Fired++
	s.LastTick = max(s.LastTick, planned)
	return a.make(s, planned)
}

// make makes a job of a schedule.
func (a *apply) make(s *job.Schedule, planned job.Time) job.ID {
	j := a.newJob(s.Template.Job(a.now))
	j.Schedule, j.Tick = s.Name, planned
	a.move(nil, j)
	a.jobs.put(j.ID, j)
	a.emit(job.JobSubmitted, j)
	e := a.emitSchedule(job.ScheduleFired, s)
	e.Job, e.JobType, e.Queue, e.State, e.Row = j.ID, j.Type, j.Queue, j.State, j
	e.Detail = planned.String()
	opened(s, j.ID)
	s.LastJob = j.ID
	return j.ID
}

// runSchedule makes jobs of a schedule by hand.
func (a *apply) runSchedule(c *command.RunSchedule, r *command.Result) error {
	old, err := a.schedule(c.Schedule, 0)
	if err != nil {
		return err
	}
	s := new(*old)
	if len(c.Times) == 0 {
		r.Job = a.make(s, 0)
		a.history(s, job.Tick{Planned: a.now, Count: 1, Action: job.TickManual, Reason: c.Reason, Job: r.Job})
		r.Jobs, r.Count = []job.ID{r.Job}, 1
	}
	for _, planned := range c.Times {
		r.Jobs = append(r.Jobs, a.make(s, planned))
		r.Count++
	}
	if n := len(c.Times); n > 0 {
		// One entry: thousands would take the place of everything else.
		t := job.Tick{Planned: c.Times[0], Count: n, Action: job.TickBackfilled, Reason: c.Reason, Job: r.Jobs[0]}
		if n > 1 {
			t.Through = c.Times[n-1]
		}
		a.history(s, t)
	}
	a.schedules.put(s.Name, s)
	return nil
}
