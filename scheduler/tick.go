package scheduler

import (
	"fmt"
	"strings"

	"github.com/orrery-io/orrery/command"
	"github.com/orrery-io/orrery/cron"
	"github.com/orrery-io/orrery/job"
)

// maxCounted is how far missed ticks are counted; beyond it the history says "at
// least".
const maxCounted = 1000

// deciding decides about one schedule at one moment. It is a function of its fields.
type deciding struct {
	row  *job.Schedule
	rule *cron.Rule
	now  job.Time
	// cancelling reports whether a job was asked to stop already.
	cancelling func(job.ID) bool

	commands []command.Command
}

// decide returns what is to be recorded, in order; nothing when nothing is due. Not
// all that is due need be decided at once: the schedule is looked at again.
func (d *deciding) decide() []command.Command {
	row := d.row
	if row.Paused {
		if row.PausedUntil != 0 && row.PausedUntil <= d.now {
			d.add(&command.PauseSchedule{Name: row.Name, Rev: row.Rev})
		}
		return d.commands
	}
	from := row.Cursor
	if row.PausedThrough > from {
		if d.pass(from, row.PausedThrough, job.TickPaused, "the schedule was paused") {
			return d.commands
		}
		from = row.PausedThrough
	}
	next := d.next(from)
	if next == 0 || fireAt(row, next) > d.now {
		return d.commands
	}
	// What was planned before the longest jitter has come due for certain; of what is
	// younger only the first tick is looked at, so that they keep their order.
	through := max(next, d.now-job.Time(row.Jitter))
	chosen := d.choose(from, through)
	if len(chosen) == 0 {
		d.pass(from, through, job.TickMissed, d.missedReason())
		return d.commands
	}
	if chosen[0] > next {
		d.pass(from, chosen[0]-1, job.TickMissed, d.missedReason())
	}
	for i, planned := range chosen {
		late := d.now.Sub(fireAt(row, planned)) > job.OnTime || i < len(chosen)-1
		if row.Overlap != job.OverlapAllow {
			d.fireOrGiveWay(planned, late)
			break // what follows depends on what this one does
		}
		d.fire(planned, late)
	}
	return d.commands
}

// choose returns those of the ticks in (from, through] that the catch-up policy has
// fire, oldest first.
func (d *deciding) choose(from, through job.Time) []job.Time {
	c := d.row.CatchUp
	from = max(from, d.now-job.Time(c.Window)-1)
	n := 1
	if c.Policy == job.CatchUpAll {
		n = c.Max
	}
	list := newest(d.rule, from, through, n)
	if c.Policy == job.CatchUpNone && len(list) == 1 && d.now.Sub(fireAt(d.row, list[0])) > job.OnTime {
		return nil
	}
	return list
}

func (d *deciding) missedReason() string {
	c := d.row.CatchUp
	switch c.Policy {
	case job.CatchUpNone:
		return "it could not be decided in time, and catch_up is none"
	case job.CatchUpAll:
		return fmt.Sprintf("it could not be decided in time, and catch_up takes the newest %d of the last %s", c.Max, c.Window)
	case job.CatchUpLast:
	}
	return fmt.Sprintf("it could not be decided in time, and catch_up takes the newest one of the last %s", c.Window)
}

// fire makes the job of a tick.
func (d *deciding) fire(planned job.Time, late bool) {
	action, reason := job.TickFired, ""
	if late {
		action, reason = job.TickCaughtUp, fmt.Sprintf("%s late", d.now.Sub(planned))
	}
	d.tick(&command.Tick{Planned: planned, Action: action, Reason: reason})
}

// fireOrGiveWay does the same where jobs must not overlap.
func (d *deciding) fireOrGiveWay(planned job.Time, late bool) {
	row := d.row
	if row.Open == 0 {
		d.fire(planned, late)
		return
	}
	switch {
	case row.Overlap == job.OverlapSkip:
		d.tick(&command.Tick{Planned: planned, Action: job.TickSkipped, Reason: d.openReason() + " not ended"})
	case row.Overlap == job.OverlapQueueOne && row.Queued != 0:
		d.tick(&command.Tick{Planned: planned, Action: job.TickSkipped, Reason: "the tick of " + row.Queued.String() + " waits already"})
	case row.Overlap == job.OverlapCancelRunning:
		// First the tick, so that it is there when the last job ends.
		d.tick(&command.Tick{Planned: planned, Action: job.TickQueued, Reason: "it waits: " + d.openReason() + " not ended, and cancelling was asked for"})
		for _, id := range row.OpenJobs {
			if !d.cancelling(id) {
				d.add(&command.Cancel{Job: id, Reason: "the next tick of schedule " + row.Name + " has come"})
			}
		}
	default:
		d.tick(&command.Tick{Planned: planned, Action: job.TickQueued, Reason: "it waits: " + d.openReason() + " not ended"})
	}
}

// openReason names the open jobs, up to the verb: "job 4 has", "jobs 4, 5 have".
func (d *deciding) openReason() string {
	row := d.row
	const most = 3
	names := make([]string, 0, most)
	for _, id := range row.OpenJobs[max(0, len(row.OpenJobs)-most):] {
		names = append(names, id.String())
	}
	text := strings.Join(names, ", ")
	if n := row.Open - int64(len(names)); n > 0 && len(names) > 0 {
		return fmt.Sprintf("jobs %s and %d more have", text, n)
	} else if len(names) == 1 {
		return "job " + text + " has"
	}
	return "jobs " + text + " have"
}

// pass records that nothing comes of the ticks in (from, through]. It reports whether
// there were any.
func (d *deciding) pass(from, through job.Time, action job.TickAction, reason string) bool {
	first := d.next(from)
	if first == 0 || first > through {
		return false
	}
	c := &command.Tick{Planned: first, Count: 1, Action: action, Reason: reason}
	for t := d.next(first); t != 0 && t <= through; t = d.next(t) {
		if c.Through = t; c.Count == maxCounted {
			c.AtLeast = true
			c.Through = newest(d.rule, t-1, through, 1)[0]
			break
		}
		c.Count++
	}
	d.tick(c)
	return true
}

// tick adds a decision, with what it has in common with all of them.
func (d *deciding) tick(c *command.Tick) {
	c.Schedule, c.Rev, c.Count = d.row.Name, d.row.Rev, max(1, c.Count)
	c.Next = d.next(max(c.Planned, c.Through))
	d.add(c)
}

func (d *deciding) add(c command.Command) { d.commands = append(d.commands, c) }

// next returns the first planned time behind a moment, 0 when there is none.
func (d *deciding) next(after job.Time) job.Time { return NextTick(d.rule, after) }

// NextTick returns the first planned time of a rule behind a moment, 0 when there is none.
func NextTick(r *cron.Rule, after job.Time) job.Time {
	next, ok := r.Next(after.Time())
	if !ok {
		return 0
	}
	return job.At(next)
}

// newest returns up to n of the newest ticks in (after, through], oldest first. A rule
// only tells what comes next: it is asked from twice as far back each time, until
// there are enough, so about 2n ticks are looked at.
func newest(r *cron.Rule, after, through job.Time, n int) []job.Time {
	for back := job.Time(job.Second); ; back *= 2 {
		from := max(after, through-back)
		var list []job.Time
		for t := NextTick(r, from); t != 0 && t <= through; t = NextTick(r, t) {
			list = append(list, t)
		}
		if len(list) >= n {
			return list[len(list)-n:]
		}
		if from == after {
			return list
		}
	}
}
