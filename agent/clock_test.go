package agent

import (
	"testing"
	"time"
)

func TestClock(t *testing.T) {
	var slept time.Duration
	asked := 0
	c := newClock(func() time.Duration { asked++; return time.Hour + slept })
	expect(t, "asked by New", asked, 1)
	for _, tt := range []struct {
		name            string
		wall, monotonic time.Duration
		slept           time.Duration // in all, as the system says
		want            time.Duration
		asked           bool
	}{
		{"nothing happens", time.Second, time.Second, 0, 0, false},
		{"the clocks differ a little", time.Minute + 50*time.Millisecond, time.Minute, 0, 0, false},
		{"the time is set", time.Hour, time.Minute, 0, 0, true},
		{"and stays so", time.Hour + time.Second, time.Minute + time.Second, 0, 0, false},
		{"the time is set back", 2 * time.Minute, 2 * time.Minute, 0, 0, true},
		{"the machine sleeps", 12 * time.Minute, 2 * time.Minute, 10 * time.Minute, 10 * time.Minute, true},
		{"and is awake", 13 * time.Minute, 3 * time.Minute, 10 * time.Minute, 10 * time.Minute, false},
		{"the machine sleeps again", 33 * time.Minute, 3 * time.Minute, 30 * time.Minute, 30 * time.Minute, true},
	} {
		slept = tt.slept
		before := asked
		expect(t, tt.name, c.observe(tt.wall, tt.monotonic), tt.want)
		expect(t, tt.name+": asked", asked > before, tt.asked)
	}
	if d := time.Until(newClock(suspended).now()); d > time.Second || d < -time.Second {
		t.Errorf("a new clock differs by %s", d)
	}
	if a, b := suspended(), suspended(); a < 0 || b < a-time.Second {
		t.Errorf("suspended for %s, then %s", a, b)
	}
}
