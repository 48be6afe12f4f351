package cron

import (
	"fmt"
	"testing"
	"time"
)

// A daily rule has one tick for every civil day from 1970 to 2040 in every zone:
// on a day whose time exists it is that time, the first time where it comes twice;
// else, and on days that the zone skipped, it is the first moment after. Only a
// tick that is there already isn't doubled.
func TestFixedHoursFireOncePerCivilDay(t *testing.T) {
	times := []int64{0, 2*3600 + 30*60, 12 * 3600, 23*3600 + 59*60}
	for _, p := range places(t) {
		t.Run(p.name, func(t *testing.T) {
			t.Parallel()
			for _, second := range times {
				r := mustNew(t, Config{Zone: p.name, Expressions: []string{
					fmt.Sprintf("%d %d * * *", second/60%60, second/3600),
				}})
				checkDays(t, p, r, second)
			}
		})
	}
}

func checkDays(t *testing.T, p place, r *Rule, second int64) {
	var at int64
	shared, moved := 0, 0
	first, last := year1970/day+2, year2040/day-2
	for number := first; number < last; number++ {
		c := number*day + second
		want, exists := firstReached(p, c)
		if number == first {
			at = want - 1
		}
		if want == at {
			// Only the midnight after a skipped day is a tick already.
			if shared++; exists && second != 0 {
				t.Fatalf("%s shares its tick", dateOf(c))
			}
			continue
		}
		next, ok := r.Next(time.Unix(at, 0))
		if !ok || next.Unix() != want {
			t.Fatalf("after %s: %s, want %s for %s", show(at, p.loc), show(next.Unix(), p.loc), show(want, p.loc), dateOf(c))
		}
		at = want
		wall := shows(at, p.loc)
		if exists != (wall == c) {
			t.Fatalf("%s fires at %s", dateOf(c), show(at, p.loc))
		}
		if !exists {
			moved++
		}
	}
	skipped := 0
	for _, c := range p.changes {
		if c.after-c.before >= day {
			skipped++
		}
	}
	if shared > skipped || moved > len(p.changes) {
		t.Fatalf("%d ticks shared with %d skipped days, %d moved by %d changes", shared, skipped, moved, len(p.changes))
	}
}

func shows(t int64, loc *time.Location) int64 {
	_, offset := time.Unix(t, 0).In(loc).Zone()
	return t + int64(offset)
}

// firstReached looks through all stretches of a zone for the first instant at
// which the clock has reached c, and says whether it shows c at any time.
func firstReached(p place, c int64) (first int64, exists bool) {
	offset, begin := shows(year1970, p.loc)-year1970, int64(-1<<40)
	for i := 0; i <= len(p.changes); i++ {
		end := int64(1 << 40)
		if i < len(p.changes) {
			end = p.changes[i].at
		}
		if u := c - offset; u < end {
			if u >= begin {
				return u, true
			}
			return begin, false
		}
		if i < len(p.changes) {
			begin, offset = end, p.changes[i].after
		}
	}
	return 0, false
}
