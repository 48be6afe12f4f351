package cluster

import (
	"sync"
	"time"
)

// overdueSteps is in how many steps an overdue waits.
const overdueSteps = 10

// overdue calls late when it isn't stopped within a time in which this process ran. A
// process that was paused, with its machine or by a signal, has not waited for the
// disk meanwhile: whatever the clock says then, a pause counts as a single step.
type overdue struct {
	mu    sync.Mutex
	timer *time.Timer
	step  time.Duration
	left  int // zero: over
	late  func()
}

func newOverdue(limit time.Duration, late func()) *overdue {
	o := &overdue{step: limit / overdueSteps, left: overdueSteps, late: late}
	o.mu.Lock()
	defer o.mu.Unlock()
	o.timer = time.AfterFunc(o.step, o.next)
	return o
}

func (o *overdue) next() {
	o.mu.Lock()
	defer o.mu.Unlock()
	switch {
	case o.left == 0: // stopped at this moment
	case o.left == 1:
		o.left = 0
		go o.late()
	default:
		o.left--
		o.timer.Reset(o.step)
	}
}

// stop ends the waiting. It may be called more than once.
func (o *overdue) stop() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.left = 0
	o.timer.Stop()
}
