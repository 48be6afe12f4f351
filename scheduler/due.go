package scheduler

import (
	"context"
	"sync"
	"time"

	"github.com/orrery-io/orrery/command"
	"github.com/orrery-io/orrery/internal/obs"
	"github.com/orrery-io/orrery/job"
)

// How much is read, and made ready by one command, when much has come due at once.
const (
	duePage  = 5000
	readyMax = 500
)

// dueAtLeast bounds how long a due loop sleeps: the wall clock may be set.
const dueAtLeast = 30 * time.Second

// alarm is the earliest moment that the feed has told of since the database was
// read last.
type alarm struct {
	mu   sync.Mutex
	at   job.Time // 0 is none
	kick chan struct{}
}

// notice has the loop look at the database no later than at.
func (a *alarm) notice(at job.Time) {
	if at == 0 {
		return
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.at == 0 || at < a.at {
		a.at = at
		kick(a.kick)
	}
}

// take returns the moment and forgets it.
func (a *alarm) take() job.Time {
	a.mu.Lock()
	defer a.mu.Unlock()
	at := a.at
	a.at = 0
	return at
}

// peek returns the moment.
func (a *alarm) peek() job.Time {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.at
}

// dueLoop makes jobs ready when their time has come.
func (t *term) dueLoop(ctx context.Context) error { return t.watch(ctx, &t.due, t.makeReady) }

// expiryLoop ends jobs that were not started by their deadline.
func (t *term) expiryLoop(ctx context.Context) error { return t.watch(ctx, &t.expiry, t.makeExpired) }

// watchExpiry remembers the deadline of a job that waits for its first start.
func (t *term) watchExpiry(row *job.Job) {
	if row.ExpiresAt != 0 && !row.Begun() {
		t.expiry.notice(row.ExpiresAt)
	}
}

// watch calls act at the start, and then whenever the next moment has come that
// the database knew of or that the feed has told of since. act returns the
// database's next moment, 0 when there is none.
func (t *term) watch(ctx context.Context, a *alarm, act func(context.Context) (next job.Time, err error)) error {
	tm := time.NewTimer(0)
	defer tm.Stop()
	<-tm.C
	for {
		// What the feed has told of up to here was applied, so the flush shows it.
		a.take()
		next, err := t.flushThen(ctx, act)
		if ctx.Err() != nil {
			return nil //nolint:nilerr // the term is over
		}
		if err != nil {
			t.log.ErrorContext(ctx, "due jobs not handled", obs.Err(err))
			next = job.At(time.Now().Add(time.Second))
		}
		for waiting := true; waiting; {
			wait := dueAtLeast
			if at := a.peek(); at != 0 && (next == 0 || at < next) {
				next = at
			}
			if next != 0 {
				wait = min(wait, time.Until(next.Time()))
			}
			tm.Reset(max(0, wait))
			select {
			case <-ctx.Done():
				return nil
			case <-tm.C:
				waiting = next == 0 || time.Until(next.Time()) > 0
			case <-a.kick:
			}
		}
	}
}

func (t *term) flushThen(ctx context.Context, act func(context.Context) (job.Time, error)) (job.Time, error) {
	if err := t.s.machine.Flush(ctx); err != nil {
		return 0, err
	}
	return act(ctx)
}

// makeReady proposes to make everything ready that is due.
func (t *term) makeReady(ctx context.Context) (job.Time, error) {
	for {
		ids, next, err := t.s.machine.DueJobs(ctx, t.wall(), duePage)
		if err != nil || len(ids) == 0 {
			return next, err
		}
		items := make([]command.Item, 0, len(ids)/readyMax+1)
		for rest := ids; len(rest) > 0; {
			n := min(len(rest), readyMax)
			items = append(items, command.Item{Command: &command.Ready{Jobs: rest[:n:n]}})
			rest = rest[n:]
		}
		if err := t.proposeAndFlush(ctx, items); err != nil {
			return 0, err
		}
		if len(ids) < duePage {
			return next, nil
		}
	}
}

// makeExpired proposes to end everything whose deadline has passed.
func (t *term) makeExpired(ctx context.Context) (job.Time, error) {
	for {
		now := t.wall()
		ids, next, err := t.s.machine.ExpiringJobs(ctx, now, duePage)
		if err != nil || len(ids) == 0 {
			return next, err
		}
		items := make([]command.Item, 0, len(ids))
		for _, id := range ids {
			row, err := t.s.machine.Job(ctx, id)
			if err != nil {
				t.log.WarnContext(ctx, "expiring job not read", obs.JobID(id), obs.Err(err))
				continue
			}
			// The deadline is for the first start, not for one after a failure.
			if row.State.Waiting() && !row.Begun() && row.ExpiresAt != 0 && row.ExpiresAt <= now {
				items = append(items, command.Item{Command: &command.Expire{Job: id}})
			}
		}
		if len(items) == 0 {
			return next, nil
		}
		if err := t.proposeAndFlush(ctx, items); err != nil {
			return 0, err
		}
		if len(ids) < duePage {
			return next, nil
		}
	}
}

// proposeAndFlush makes what was recorded visible to the next list.
func (t *term) proposeAndFlush(ctx context.Context, items []command.Item) error {
	for rest := items; len(rest) > 0; {
		n := min(len(rest), maxRecords)
		if _, err := t.propose(ctx, rest[:n]); err != nil {
			return err
		}
		rest = rest[n:]
	}
	return t.s.machine.Flush(ctx)
}
