package agent

import (
	"sync/atomic"
	"time"
)

// clock is the clock by which leases are measured: the monotonic one, plus the time
// during which the machine was suspended. The monotonic clock stands still then,
// while the cluster gives the work away.
type clock struct {
	// start has both readings, of the wall clock and of the monotonic one.
	start time.Time
	// suspended returns for how long the machine has been suspended in all.
	suspended func() time.Duration
	before    time.Duration

	// drift is how far the wall clock had moved against the monotonic one when slept
	// was looked up, in nanoseconds.
	drift, slept atomic.Int64
}

// newClock returns a clock that counts suspensions from now on.
func newClock(suspended func() time.Duration) *clock {
	return &clock{start: time.Now(), suspended: suspended, before: suspended()}
}

// driftBelow is what the two clocks may move against each other before that can
// mean a suspension.
const driftBelow = 100 * time.Millisecond

func (c *clock) now() time.Time {
	t := time.Now()
	return t.Add(c.observe(t.Round(0).Sub(c.start.Round(0)), t.Sub(c.start)))
}

// observe returns for how long the machine was suspended, given what has passed by
// both clocks. It asks the system only when they have moved against each other:
// after a suspension, and after somebody set the time.
func (c *clock) observe(wall, monotonic time.Duration) time.Duration {
	drift := wall - monotonic
	if moved := drift - time.Duration(c.drift.Load()); moved > driftBelow || moved < -driftBelow {
		c.slept.Store(int64(c.suspended() - c.before))
		c.drift.Store(int64(drift))
	}
	return time.Duration(c.slept.Load())
}
