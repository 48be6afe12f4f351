package scheduler

import (
	"context"
	"sync"
	"time"

	"github.com/orrery-io/orrery/command"
	"github.com/orrery-io/orrery/internal/obs"
	"github.com/orrery-io/orrery/job"
)

// record is a command on its way into the log.
type record struct {
	item command.Item
	done func(r command.Result, err error, fx *effects)
}

// maxRecords bounds one proposal; the proposer makes entries of it as it likes.
const maxRecords = 2000

// pause is how long to wait before something that was refused for a passing reason
// is tried again.
const pause = 50 * time.Millisecond

// recorder is the queue of commands that the record loop proposes, in the order in
// which they were pushed. It is not bounded by itself: results are bounded by what
// the agents may hold, logs by maxLogBacklog, and the rest by the agents' number.
type recorder struct {
	mu      sync.Mutex
	pending []record
	wake    chan struct{} // capacity 1
}

func (r *recorder) push(records []record) {
	if len(records) == 0 {
		return
	}
	r.mu.Lock()
	r.pending = append(r.pending, records...)
	r.mu.Unlock()
	kick(r.wake)
}

// take returns what waits, and keeps the emptied slice free for the next.
func (r *recorder) take(free []record) []record {
	clear(free)
	r.mu.Lock()
	defer r.mu.Unlock()
	taken := r.pending
	r.pending = free[:0]
	return taken
}

// recordLoop proposes what has been pushed, all of it at once, as soon as the
// proposal before has returned.
func (t *term) recordLoop(ctx context.Context) error {
	var batch []record
	items := make([]command.Item, 0, maxRecords)
	for {
		batch = t.records.take(batch)
		if len(batch) == 0 {
			select {
			case <-ctx.Done():
				return nil
			case <-t.records.wake:
				continue
			}
		}
		for rest := batch; len(rest) > 0; {
			part := rest[:min(len(rest), maxRecords)]
			rest = rest[len(part):]
			items = items[:0]
			for i := range part {
				items = append(items, part[i].item)
			}
			results, err := t.propose(ctx, items)
			if ctx.Err() != nil {
				return nil //nolint:nilerr // the term is over; agents report again to the next leader
			}
			t.settle(ctx, part, results, err)
		}
	}
}

// settle tells each record its outcome.
func (t *term) settle(ctx context.Context, part []record, results []command.Result, err error) {
	t.do(ctx, func(fx *effects) {
		for i := range part {
			var r command.Result
			if err == nil {
				r = results[i]
			}
			if part[i].done != nil {
				part[i].done(r, err, fx)
			}
		}
	})
}

// propose hands items to the log, again and again while they are refused for a
// reason that passes. So an error means: the outcome is unknown, or will never be
// any other, or ctx has ended.
func (t *term) propose(ctx context.Context, items []command.Item) ([]command.Result, error) {
	for {
		results, err := t.s.cfg.Propose(ctx, items...)
		if err == nil || ctx.Err() != nil {
			return results, err
		}
		switch job.KindOf(err) {
		case job.Unavailable, job.Overloaded:
		default:
			t.log.ErrorContext(ctx, "proposal failed", obs.Count(len(items)), obs.Err(err))
			return nil, err
		}
		if !sleep(ctx, pause) {
			return nil, err
		}
	}
}

// sleep waits for d, and reports false when ctx has ended before.
func sleep(ctx context.Context, d time.Duration) bool {
	tm := time.NewTimer(d)
	defer tm.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-tm.C:
		return true
	}
}
