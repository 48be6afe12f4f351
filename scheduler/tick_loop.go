package scheduler

import (
	"context"
	"time"

	"github.com/orrery-io/orrery/command"
	"github.com/orrery-io/orrery/cron"
	"github.com/orrery-io/orrery/internal/obs"
	"github.com/orrery-io/orrery/job"
)

const (
	// tickPage is how many schedules are decided in one go.
	tickPage = 1000
	// tickAtLeast bounds how long a tick loop sleeps: the wall clock may be set.
	tickAtLeast = time.Second
)

// loadPlans takes in all schedules. Their rules are made when they are needed.
func (t *term) loadPlans() {
	for _, row := range t.s.machine.Schedules() {
		t.plans.load(row)
	}
	t.plans.init()
}

// tickLoop decides what becomes of planned times as they come due. Two of them run:
// while one waits for its entry to be recorded, the other decides.
func (t *term) tickLoop(ctx context.Context) error {
	tm := time.NewTimer(0)
	defer tm.Stop()
	var due []*plan
	for {
		var wait time.Duration
		now := t.wall()
		due, wait = t.plans.take(due, now, tickPage)
		if len(due) > 0 {
			t.decideTicks(ctx, due, now)
			if ctx.Err() != nil {
				return nil
			}
			continue
		}
		tm.Reset(min(wait, tickAtLeast))
		select {
		case <-ctx.Done():
			return nil
		case <-tm.C:
		case <-t.plans.kick:
		}
	}
}

// tickBatch is what one go of a tick loop proposes.
type tickBatch struct {
	items []command.Item
	// at is when the tick of each item should have fired; zero for what fires nothing.
	at []job.Time
}

// decideTicks decides about schedules, has the decisions recorded, and puts the
// schedules back.
func (t *term) decideTicks(ctx context.Context, due []*plan, now job.Time) {
	var b tickBatch
	for _, x := range due {
		t.decideTick(ctx, x, now, &b)
	}
	for rest := b; len(rest.items) > 0; {
		n := min(len(rest.items), maxRecords)
		results, err := t.propose(ctx, rest.items[:n])
		if ctx.Err() != nil {
			return
		}
		if err != nil {
			// Whatever became of them: the rows tell.
			t.log.WarnContext(ctx, "ticks not recorded", obs.Count(n), obs.Err(err))
			sleep(ctx, pause)
			break
		}
		if t.ticked(ctx, rest.items[:n], rest.at[:n], results) {
			sleep(ctx, pause)
		}
		rest.items, rest.at = rest.items[n:], rest.at[n:]
	}
	for _, x := range due {
		t.replan(x)
	}
	t.plans.give(due)
}

// decideTick adds what is to be recorded about one schedule.
func (t *term) decideTick(ctx context.Context, x *plan, now job.Time, b *tickBatch) {
	row, err := t.s.machine.Schedule(x.name)
	if err != nil {
		return // replan sees it, too
	}
	rule, err := x.ruleOf(row)
	if err != nil {
		// It was checked when it was recorded, by this version or another.
		t.log.ErrorContext(ctx, "schedule can't be read, it doesn't fire", obs.Schedule(x.name), obs.Err(err))
		return
	}
	d := deciding{row: row, rule: rule, now: now, cancelling: func(id job.ID) bool {
		j, err := t.s.machine.Job(ctx, id)
		return err == nil && j.CancelRequested
	}}
	for _, c := range d.decide() {
		at := job.Time(0)
		if tick, ok := c.(*command.Tick); ok {
			switch tick.Action {
			case job.TickFired:
				at = fireAt(row, tick.Planned)
			case job.TickMissed:
				t.log.WarnContext(ctx, "ticks missed", obs.Schedule(x.name), obs.Count(tick.Count), obs.Reason(tick.Reason))
			default:
			}
		}
		b.items, b.at = append(b.items, command.Item{Command: c}), append(b.at, at)
	}
}

// ticked counts what was recorded. It reports whether some was refused because the
// cluster takes no new jobs for a while.
func (t *term) ticked(ctx context.Context, items []command.Item, at []job.Time, results []command.Result) (overloaded bool) {
	now := t.wall()
	for i := range items {
		c, ok := items[i].Command.(*command.Tick)
		if !ok {
			continue
		}
		if err := results[i].Err; err != nil {
			// The schedule or its jobs changed meanwhile: it is decided again.
			t.s.metrics.refusedTicks.Inc()
			overloaded = overloaded || err.Kind == job.Overloaded
			t.log.DebugContext(ctx, "tick decided anew", obs.Schedule(c.Schedule), obs.Err(err))
			continue
		}
		t.s.metrics.ticks[c.Action].Add(float64(c.Count))
		if at[i] != 0 {
			t.s.metrics.tickLag.Observe(max(0, now.Sub(at[i]).Duration().Seconds()))
		}
	}
	return overloaded
}

// replan says when to look at a schedule next.
func (t *term) replan(x *plan) {
	row, err := t.s.machine.Schedule(x.name)
	if err != nil {
		x.gone = true
		return
	}
	if row.Paused {
		x.due = rowDue(row)
		return
	}
	rule, err := x.ruleOf(row)
	if err != nil {
		x.due = noMoment // decideTick has said so
		return
	}
	next := NextTick(rule, max(row.Cursor, row.PausedThrough))
	switch {
	case row.PausedThrough > row.Cursor && NextTick(rule, row.Cursor) != next:
		x.due = 0 // what fell into the pause is to be recorded
	case next == 0:
		x.due = noMoment
	default:
		x.due = fireAt(row, next)
	}
}

// ruleOf returns the rule of a row.
func (x *plan) ruleOf(row *job.Schedule) (*cron.Rule, error) {
	if x.rule != nil && x.rev == row.Rev {
		return x.rule, nil
	}
	rule, err := Rule(row)
	if err != nil {
		return nil, err
	}
	x.rule, x.rev = rule, row.Rev
	return rule, nil
}

// Rule makes the rule of a schedule, of which name, anchor and definition count. The
// error is a *cron.Error.
func Rule(row *job.Schedule) (*cron.Rule, error) {
	return cron.New(cron.Config{
		Expressions: row.Expressions, Zone: row.Timezone, HashKey: row.Name, Anchor: row.Anchor.Time(),
		Start: row.Start.Time(), End: row.End.Time(), Exclude: row.Exclude,
	})
}
