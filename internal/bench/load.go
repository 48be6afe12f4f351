package bench

import (
	"context"
	"sync"
	"sync/atomic"
	"time"
)

// load submits until the measured time is over, cfg.Jobs are submitted, or ctx
// ends. What is on its way then is waited for. The error is why the cluster can't
// be loaded.
func (r *run) load(ctx context.Context) error {
	inner, fail := context.WithCancelCause(ctx)
	defer fail(nil)
	begin := r.now()
	end := begin + r.cfg.Warmup + r.cfg.Duration
	r.span.set(begin+r.cfg.Warmup, end)
	if r.cfg.Jobs > 0 && r.cfg.Rate == 0 {
		end = begin + forever
		r.span.set(begin, end)
	}
	// Nobody waits longer for a cluster that records nothing.
	limited, cancel := context.WithTimeout(inner, end-begin)
	defer cancel()
	defer r.window.shutWith(limited)()
	next := r.closedLoop(inner, end)
	var pacing sync.WaitGroup
	if r.cfg.Rate > 0 {
		p := newPacer(r.cfg.Rate, r.cfg.Batch, r.now, r.sleep)
		pacing.Go(func() { p.run(inner, begin, end) })
		next = r.openLoop(p, end)
	}
	var all, marking sync.WaitGroup
	marking.Go(func() {
		if pauseFor(inner, time.Duration(r.span.begin.Load())-r.now()) {
			r.mark(inner, true)
		}
	})
	for i := range r.cfg.Connections {
		s := &sender{run: r, number: i, at: i % len(r.targets), conn: conn{dial: r.dial}}
		all.Go(func() {
			defer s.conn.close()
			for inner.Err() == nil {
				t, ok := next()
				if !ok {
					return
				}
				if err := s.send(inner, t); err != nil {
					fail(err)
				}
			}
		})
	}
	all.Wait()
	err := context.Cause(inner)
	fail(nil)
	pacing.Wait()
	marking.Wait()
	if !r.endsWithResults() || err != nil {
		r.endSpan(ctx, r.now())
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return err
}

// endsWithResults reports whether the measured time goes on until the last result is
// recorded.
func (r *run) endsWithResults() bool {
	return r.cfg.executes() && r.cfg.Jobs > 0 && r.cfg.Rate == 0
}

// endSpan ends the measured time at t, or where it ended before.
func (r *run) endSpan(ctx context.Context, t time.Duration) {
	r.span.cut(t)
	r.mark(ctx, false)
}

// forever is longer than any measurement.
const forever = 10000 * time.Hour

// closedLoop gives out a ticket whenever it is asked, and there is room.
func (r *run) closedLoop(ctx context.Context, end time.Duration) func() (ticket, bool) {
	var left atomic.Int64
	left.Store(forever.Nanoseconds())
	if r.cfg.Jobs > 0 {
		left.Store(r.cfg.Jobs)
	}
	batch := int64(r.cfg.Batch)
	return func() (ticket, bool) {
		n := int(min(batch, left.Add(-batch)+batch))
		if n <= 0 || !r.window.enter(n) || ctx.Err() != nil {
			return ticket{}, false
		}
		now := r.now()
		return ticket{now, n}, now < end
	}
}

// openLoop gives out the pacer's tickets. Those that are late when the measured time
// is over are not sent. They count with the time that they have waited, which is less
// than they would have taken; to leave them out would make a cluster that can't
// follow look better than it is.
func (r *run) openLoop(p *pacer, end time.Duration) func() (ticket, bool) {
	var sent atomic.Int64
	c := r.counters
	return func() (ticket, bool) {
		for t := range p.tickets {
			if r.cfg.Jobs > 0 && sent.Add(int64(t.jobs)) > r.cfg.Jobs {
				return t, false
			}
			now := r.now()
			if now-t.due > lateAfter && r.span.has(t.due) {
				c.late.Add(1)
			}
			if now < end || now-t.due <= lateAfter {
				return t, true
			}
			if r.span.has(t.due) {
				c.unsent.Add(1)
				r.request.add(0, now-t.due)
			}
		}
		return ticket{}, false
	}
}
