package scheduler

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/orrery-io/orrery/internal/obs"
	"github.com/orrery-io/orrery/job"
)

// feedChunk is how many events are handled before the mutex is let go.
const feedChunk = 512

// feedLoop follows the change feed: what has really happened.
func (t *term) feedLoop(ctx context.Context, sub subscription) error {
	for {
		events, err := sub.Next(ctx)
		if ctx.Err() != nil {
			return nil //nolint:nilerr // the term is over
		}
		if err != nil {
			return fmt.Errorf("feed: %w", err)
		}
		events = t.withRows(ctx, events)
		for rest := events; len(rest) > 0; {
			chunk := rest[:min(len(rest), feedChunk)]
			rest = rest[len(chunk):]
			t.do(ctx, func(fx *effects) {
				now := t.now()
				for i := range chunk {
					t.happened(chunk, i, now, fx)
				}
				if len(rest) == 0 {
					t.seen = chunk[len(chunk)-1].ID.Index
				}
			})
		}
	}
}

// withRows gives events their rows that were read back from the store without. A
// row may be newer than its event; then a later event tells of it, and this one is
// left alone.
func (t *term) withRows(ctx context.Context, events []job.Event) []job.Event {
	missing := func(e job.Event) bool {
		return e.Row == nil && e.Job != 0 && (e.State.Waiting() || e.State.Active())
	}
	if !slices.ContainsFunc(events, missing) {
		return events
	}
	events = slices.Clone(events)
	for i := range events {
		if !missing(events[i]) {
			continue
		}
		row, err := t.s.machine.Job(ctx, events[i].Job)
		if err != nil {
			t.log.WarnContext(ctx, "job of an event not read", obs.JobID(events[i].Job), obs.Err(err))
			continue
		}
		if row.State == events[i].State {
			events[i].Row = row
		}
	}
	return events
}

// happened handles events[i].
func (t *term) happened(events []job.Event, i int, now time.Duration, fx *effects) {
	e := &events[i]
	switch e.Type {
	case job.QueuePaused:
		t.setPaused(e.Queue, true)
		return
	case job.QueueResumed:
		t.setPaused(e.Queue, false)
		return
	case job.ScheduleSet, job.ScheduleDeleted, job.SchedulePaused, job.ScheduleResumed:
		t.plans.look(e.Schedule)
		return
	default:
	}
	if e.Job == 0 || e.Type.OfSchedule() {
		return
	}
	switch {
	case e.State == job.Pending:
		t.end(e.Job)
		if next := i + 1; next < len(events) && events[next].Job == e.Job && events[next].Type == job.JobDispatched {
			return // by the same entry
		}
		if e.Row != nil {
			t.waits(e.Row)
		}
	case e.State.Active():
		t.active(e, now, fx)
	case e.State == job.Scheduled:
		t.end(e.Job)
		if e.Row != nil {
			t.due.notice(e.Row.ReadyAt)
			t.watchExpiry(e.Row)
		}
	case e.Type == job.JobCancelled, e.Type == job.JobExpired:
		t.end(e.Job)
		t.withdrawJob(e.Queue, e.JobType, e.Job)
	default:
		t.end(e.Job)
	}
}

// active handles an event about a job that an agent has.
func (t *term) active(e *job.Event, now time.Duration, fx *effects) {
	switch e.Type {
	case job.JobDispatched:
		t.withdrawJob(e.Queue, e.JobType, e.Job)
		if e.Row != nil && e.Row.Fence == e.Fence {
			t.dispatched(e.Row, now, fx)
		}
	case job.JobStarted:
		if att := t.attempts[e.Job]; att != nil && att.fence == e.Fence {
			att.running = true
		}
	case job.JobCancelRequested:
		reason := e.Detail
		if e.Row != nil {
			reason = e.Row.CancelReason
		}
		if att := t.attempts[e.Job]; att != nil {
			t.cancelRequested(e.Job, att.fence, reason, now, fx)
		}
	default:
	}
}

// waits takes a job into its group's window, or leaves it to the database when the
// window does not reach so far.
func (t *term) waits(row *job.Job) {
	t.watchExpiry(row)
	g := t.groupOf(groupKey{row.Queue, row.Type})
	t.restore(g, entryOf(row))
}

// restore puts an entry into the window of g, or of the group that has taken its
// place.
func (t *term) restore(g *group, e entry) {
	if t.groups[g.key] != g {
		g = t.groupOf(g.key)
	}
	if !g.win.add(e) && g.filling {
		g.late = append(g.late, e)
	}
	g.rest()
	t.feedGroup(g)
}

// withdrawJob takes a job out of its group's window.
func (t *term) withdrawJob(queue, typ string, id job.ID) {
	if g := t.groups[groupKey{queue, typ}]; g != nil && g.win.len() > 0 {
		g.win.remove(id)
		t.tidy(g)
	}
}

// end lets go of a job's attempt, which is over.
func (t *term) end(id job.ID) {
	if att := t.attempts[id]; att != nil {
		t.forget(att)
	}
}

// dispatched makes the attempt that the log has given to an agent, and sends it.
func (t *term) dispatched(row *job.Job, now time.Duration, fx *effects) {
	if att := t.attempts[row.ID]; att != nil {
		if att.fence == row.Fence {
			return // known from the load
		}
		t.forget(att)
	}
	a := t.agentOf(row.Agent)
	if a.reserved > 0 {
		a.reserved--
	}
	att := t.hold(a, row)
	t.s.metrics.dispatched(row)
	switch {
	case !a.connected:
		att.unsent = row
		t.revoke(att, "the agent disconnected before it could be sent", fx)
	case !a.welcomed:
		att.unsent = row
	default:
		t.dispatchTo(att, row, now, fx)
	}
	t.update(a)
}
