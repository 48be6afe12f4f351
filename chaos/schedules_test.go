//go:build linux

package chaos

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/http"
	"sync"
	"time"

	"github.com/orrery-io/orrery/client"
	"github.com/orrery-io/orrery/job"
)

// tickEvery is the distance of the planned times of all schedules of the suite.
const tickEvery = job.Time(job.Second)

// Two ways to say that.
const (
	cronSecond = "* * * * * *"
	everySpan  = "@every 1s"
)

// tickType is the type of the jobs that they make.
const tickType = "tick"

// routine is what the suite does with one schedule, and what the schedule must do.
type routine struct {
	name    string
	every   string
	catchUp job.CatchUp
	overlap job.OverlapPolicy
	work    work
	use     use
}

// use is what is done to a schedule while things are broken, besides making it.
type use uint8

const (
	left     use = iota // nothing
	runs                // a job by hand now and then
	pauses              // it is paused and resumed
	replaces            // it gets other times, which are the same in other words
	renews              // it is deleted, and made anew with the same name
)

// routines are the schedules of every run. The jobs of those that must not overlap
// take longer than a second now and then.
func routines() []routine {
	quick := work{Kind: "quick"}
	slow := work{Kind: "slow", Steps: 50}
	all := job.CatchUp{Policy: job.CatchUpAll, Window: job.Day, Max: 200}
	none, last := job.CatchUp{Policy: job.CatchUpNone}, job.CatchUp{}
	return []routine{
		{"last", cronSecond, last, job.OverlapAllow, quick, left},
		{"none", everySpan, none, job.OverlapAllow, quick, left},
		{"all", cronSecond, all, job.OverlapAllow, quick, left},
		{"skip", everySpan, last, job.OverlapSkip, work{Kind: "flaky", Steps: 30}, runs},
		{"queue-one", cronSecond, all, job.OverlapQueueOne, slow, left},
		{"cancel-running", everySpan, last, job.OverlapCancelRunning, slow, left},
		{"paused", cronSecond, all, job.OverlapAllow, quick, pauses},
		{"paused-queue", everySpan, last, job.OverlapQueueOne, slow, pauses},
		{"replaced", cronSecond, all, job.OverlapAllow, quick, replaces},
		{"renewed", everySpan, none, job.OverlapAllow, quick, renews},
	}
}

func (t routine) definition() client.ScheduleDefinition {
	return client.ScheduleDefinition{
		Expressions: []string{t.every}, CatchUp: t.catchUp, Overlap: t.overlap,
		Template: client.Submission{Type: tickType, Payload: t.work, Retry: job.Retry{Backoff: job.Fixed, Initial: 50}, MaxAttempts: 20},
	}
}

// scheduleLife is one schedule from its making to its deletion, or to the end of the
// run.
type scheduleLife struct {
	routine
	id job.ID
	// anchor is the second in which it was made: the next one is its first tick.
	anchor job.Time
	// row is the schedule at the end of the run, and at is when it was asked for;
	// nil when it was deleted before.
	row *client.Schedule
	at  job.Time
	// ticks is its history then, newest first.
	ticks []*client.Tick
}

// scheduleLoad makes and changes schedules, and remembers which there were.
type scheduleLoad struct {
	load  *jobLoad
	found *findings

	mu    sync.Mutex
	lives []*scheduleLife // in the order of their making
}

// opLimit bounds how long one change is tried: by then a fault is over, and whether
// the change was made is known.
const opLimit = 60 * time.Second

// certainly does something until it is known to have been done.
func (l *scheduleLoad) certainly(ctx context.Context, r *rand.Rand, what string, do func(ctx context.Context, c *client.Client) error) bool {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), opLimit)
	defer cancel()
	for {
		err := do(ctx, l.load.client(r))
		e, known := errors.AsType[*client.Error](err)
		switch {
		case err == nil:
			return true
		case known && e.Status >= 400 && e.Status < 500 && e.Status != http.StatusTooManyRequests && e.Status != http.StatusConflict:
			l.found.violated(8, "%s was refused: %v", what, err)
			return false
		}
		if !pauseFor(ctx, 100*time.Millisecond) {
			l.found.violated(8, "%s was not done within %s: %v", what, opLimit, err)
			return false
		}
	}
}

// create makes a schedule that is not there.
func (l *scheduleLoad) create(ctx context.Context, r *rand.Rand, t routine) (x *scheduleLife) {
	l.certainly(ctx, r, "making schedule "+t.name, func(ctx context.Context, c *client.Client) error {
		row, err := c.PutSchedule(ctx, t.name, t.definition(), client.Condition{})
		if err == nil {
			x = &scheduleLife{routine: t, id: row.ID, anchor: row.Anchor}
		}
		return err
	})
	if x != nil {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.lives = append(l.lives, x)
	}
	return x
}

// renew deletes a schedule and makes it anew.
func (l *scheduleLoad) renew(ctx context.Context, r *rand.Rand, t routine) *scheduleLife {
	if !l.certainly(ctx, r, "deleting schedule "+t.name, func(ctx context.Context, c *client.Client) error {
		err := c.DeleteSchedule(ctx, t.name, client.Condition{})
		if e, ok := errors.AsType[*client.Error](err); ok && e.Status == http.StatusNotFound {
			return nil // an earlier try did it
		}
		return err
	}) {
		return nil
	}
	return l.create(ctx, r, t)
}

// aheadLimit is how far the next tick may be before the schedule is made anew: after
// the clock was set forward and back nothing fires until it has come so far again.
const aheadLimit = 30 * time.Second

// keep makes a schedule and uses it until ctx ends.
func (l *scheduleLoad) keep(ctx context.Context, seed uint64, t routine, number uint64) {
	r := rand.New(rand.NewPCG(seed, 500+number))
	x := l.create(ctx, r, t)
	for x != nil && awaitSecond(ctx, r) {
		switch t.use {
		case left:
		case runs:
			l.certainly(ctx, r, "a job by hand of "+t.name, func(ctx context.Context, c *client.Client) error {
				_, err := c.RunSchedule(ctx, t.name, "chaos")
				return err
			})
		case pauses:
			l.pause(ctx, r, t)
		case replaces:
			if t.every == cronSecond {
				t.every = everySpan
			} else {
				t.every = cronSecond
			}
			l.certainly(ctx, r, "changing schedule "+t.name, func(ctx context.Context, c *client.Client) error {
				_, err := c.PutSchedule(ctx, t.name, t.definition(), client.Condition{})
				return err
			})
		case renews:
			x = l.renew(ctx, r, t)
		}
		row, err := l.load.client(r).Schedule(ctx, t.name)
		if err == nil && row.NextAt.Sub(job.At(time.Now())) > job.For(aheadLimit) {
			x = l.renew(ctx, r, t)
		}
	}
}

// awaitSecond waits some seconds, and then for the moment in which a tick is decided:
// what is done then meets decisions that are on their way.
func awaitSecond(ctx context.Context, r *rand.Rand) bool {
	at := time.Now().Add(time.Duration(1+r.IntN(5)) * time.Second).Truncate(time.Second)
	at = at.Add(time.Duration(r.IntN(40)-30) * time.Millisecond)
	return pauseFor(ctx, time.Until(at))
}

// pause pauses a schedule for some seconds, with an end or until it is resumed.
func (l *scheduleLoad) pause(ctx context.Context, r *rand.Rand, t routine) {
	byItself := r.IntN(2) == 0
	l.certainly(ctx, r, "pausing schedule "+t.name, func(ctx context.Context, c *client.Client) error {
		until := job.Time(0)
		if byItself {
			until = job.At(time.Now().Add(2500 * time.Millisecond))
		}
		_, err := c.PauseSchedule(ctx, t.name, "chaos", until)
		if e, ok := errors.AsType[*client.Error](err); ok && byItself && e.Status == http.StatusBadRequest {
			return errors.New(e.Detail) // it came after its own end
		}
		return err
	})
	pauseFor(ctx, time.Duration(1500+r.IntN(3000))*time.Millisecond)
	l.resume(ctx, r, t)
}

func (l *scheduleLoad) resume(ctx context.Context, r *rand.Rand, t routine) {
	l.certainly(ctx, r, "resuming schedule "+t.name, func(ctx context.Context, c *client.Client) error {
		_, err := c.ResumeSchedule(ctx, t.name)
		return err
	})
}

// living are the schedules that were not deleted, by routine.
func (l *scheduleLoad) living() (out []*scheduleLife) {
	l.mu.Lock()
	defer l.mu.Unlock()
	newest := map[string]*scheduleLife{}
	for _, x := range l.lives {
		newest[x.name] = x
	}
	for _, t := range routines() {
		if x := newest[t.name]; x != nil {
			out = append(out, x)
		}
	}
	return out
}

// settleTime is how long all is well before the schedules are stopped.
const settleTime = 2 * time.Second

// close stops the schedules, which nobody uses any more, and notes how they stand.
func (l *scheduleLoad) close(ctx context.Context, seed uint64) {
	r := rand.New(rand.NewPCG(seed, 499))
	for _, x := range l.living() {
		l.resume(ctx, r, x.routine)
	}
	pauseFor(ctx, settleTime)
	for _, x := range l.living() {
		x.at = job.At(time.Now())
		l.certainly(ctx, r, "pausing schedule "+x.name, func(ctx context.Context, c *client.Client) (err error) {
			x.row, err = c.PauseSchedule(ctx, x.name, "the end", 0)
			return err
		})
		l.certainly(ctx, r, "reading the history of schedule "+x.name, func(ctx context.Context, c *client.Client) error {
			x.ticks = nil
			for t, err := range c.Ticks(ctx, x.name, client.TickOptions{PageSize: job.MaxTicksKept, Linearizable: true}) {
				if err != nil {
					return err
				}
				x.ticks = append(x.ticks, t)
			}
			return nil
		})
	}
}

// schedulesOf returns the schedules that a node has, as text by name.
func schedulesOf(ctx context.Context, n *node) (map[string]string, error) {
	c, err := client.New(client.Config{Token: token, Addr: n.http})
	if err != nil {
		return nil, err
	}
	out := map[string]string{}
	for s, err := range c.Schedules(ctx, client.ScheduleOptions{Linearizable: true}) {
		if err != nil {
			return nil, fmt.Errorf("list the schedules of %s: %w", n.name, err)
		}
		text, err := json.Marshal(s.Schedule)
		if err != nil {
			return nil, err
		}
		out[s.Name] = string(text)
	}
	return out, nil
}

// checkSchedules looks at what became of the ticks.
func (e *env) checkSchedules(ctx context.Context, feed []job.Event) {
	e.plans.mu.Lock()
	lives := e.plans.lives
	e.plans.mu.Unlock()
	seen := checkTicks(feed, lives, e.jumps, e.found)
	var first []*job.Job
	var rows map[string]string
	for i, n := range e.nodes {
		jobs, err := e.list(ctx, n, client.Filter{Types: []string{tickType}})
		if err != nil {
			e.found.violated(8, "%v", err)
			continue
		}
		checkTickJobs(n.name, jobs, seen.jobs, e.found)
		have, err := schedulesOf(ctx, n)
		if err != nil {
			e.found.violated(8, "%v", err)
			continue
		}
		if i == 0 {
			first, rows = jobs, have
			continue
		}
		checkSame(e.nodes[0].name, n.name, first, jobs, e.found)
		if !maps.Equal(have, rows) {
			e.found.violated(4, "the schedules of %s are %v; of %s %v", e.nodes[0].name, rows, n.name, have)
		}
	}
	e.say("%d schedules, %d pauses: %d ticks fired, %d missed, %d skipped, %d paused",
		len(lives), seen.pauses, seen.counts.Fired, seen.counts.Missed, seen.counts.Skipped, seen.counts.Paused)
}
