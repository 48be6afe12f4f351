package bench

import (
	"context"
	"sync"
	"time"
)

// ticket allows one request, and says when it is due.
type ticket struct {
	due time.Duration
	// jobs is how many the request submits.
	jobs int
}

// pacer gives out tickets at times that are fixed beforehand: an open loop. It
// never leaves one out; those that nobody takes in time stay due since then.
type pacer struct {
	// interval is the time between two requests.
	interval time.Duration
	jobs     int
	// now is the clock of the measurement; sleep may end early.
	now     func() time.Duration
	sleep   func(time.Duration)
	tickets chan ticket
}

// longestSleep is how long it may take until the pacer sees that it has to end.
const longestSleep = 100 * time.Millisecond

// paceBuffer is how many tickets may lie ready. When it is full the pacer waits;
// their times don't change by that.
const paceBuffer = 1 << 12

func newPacer(rate float64, batch int, now func() time.Duration, sleep func(time.Duration)) *pacer {
	return &pacer{
		interval: time.Duration(float64(time.Second) * float64(batch) / rate),
		jobs:     batch, now: now, sleep: sleep, tickets: make(chan ticket, paceBuffer),
	}
}

// run gives out all tickets of [begin, end), and closes the channel. It returns
// early when ctx ends.
func (p *pacer) run(ctx context.Context, begin, end time.Duration) {
	defer close(p.tickets)
	for k := int64(0); ; k++ {
		due := begin + time.Duration(k)*p.interval
		if due >= end {
			return
		}
		for wait := due - p.now(); wait > 0 && ctx.Err() == nil; wait = due - p.now() {
			p.sleep(min(wait, longestSleep))
		}
		if ctx.Err() != nil {
			return
		}
		select {
		case p.tickets <- ticket{due, p.jobs}:
		case <-ctx.Done():
			return
		}
	}
}

// window bounds how many jobs are on their way.
type window struct {
	mu    sync.Mutex
	room  sync.Cond
	limit int
	used  int
	ended bool
}

// newWindow has no bound when limit is less than zero.
func newWindow(limit int) *window {
	w := &window{limit: limit}
	w.room.L = &w.mu
	return w
}

// shutWith lets everybody go, and refuses everybody, once ctx has ended.
func (w *window) shutWith(ctx context.Context) (stop func() bool) {
	return context.AfterFunc(ctx, func() {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.ended = true
		w.room.Broadcast()
	})
}

// enter waits for room for n jobs. It reports false when there will be none.
func (w *window) enter(n int) bool {
	if w.limit < 0 {
		return true
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	for !w.ended && w.used+n > w.limit {
		w.room.Wait()
	}
	if w.ended {
		return false
	}
	w.used += n
	return true
}

// leave makes room for n jobs.
func (w *window) leave(n int) {
	if w.limit < 0 {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.used -= n
	w.room.Broadcast()
}
