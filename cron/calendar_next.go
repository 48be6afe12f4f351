package cron

import (
	"math"
	"math/bits"
)

// horizon is how many years without a single day end a rule.
const horizon = 100

func (c *calendar) next(after int64) (tick, planned int64, ok bool) {
	if c.fixed() {
		return c.nextFixed(after)
	}
	return c.nextElapsed(after)
}

// nextFixed makes use of f(c) = min{t: W(t) >= c} being later than after exactly
// when c is higher than what the clock has ever shown up to after.
func (c *calendar) nextFixed(after int64) (tick, planned int64, ok bool) {
	wall, s := c.zone.highest(after)
	planned, ok = c.civil(wall + 1)
	if !ok {
		return 0, 0, false
	}
	return c.zone.reach(planned, after+1, s), planned, true
}

// nextElapsed goes through the stretches after after. It knows that no civil
// time of the set is in [low, planned).
func (c *calendar) nextElapsed(after int64) (tick, planned int64, ok bool) {
	t := after + 1
	s := c.zone.at(t)
	low := t + s.offset
	planned, ok = c.civil(low)
	for {
		if ok && planned-s.offset < s.end {
			return planned - s.offset, planned, true
		}
		if s.end > latest {
			return 0, 0, false
		}
		// From here on the clock shows at least low.
		if t = s.end; t >= low+spread/2 {
			if !ok {
				return 0, 0, false
			}
			// Before this instant it shows less than planned.
			t = max(t, planned-spread/2)
		}
		s = c.zone.at(t)
		if wall := t + s.offset; wall < low || ok && wall > planned {
			low = wall
			planned, ok = c.civil(low)
		}
	}
}

// civil returns the first civil time of the set, without what is excluded, that
// is not before from.
func (c *calendar) civil(from int64) (int64, bool) {
	if from > latest+spread {
		return 0, false
	}
	number, second := civilDay(from)
	date := dateOf(from)
	year, month, dom := date.Year(), int(date.Month()), date.Day()
	for limit := year + horizon; year <= limit; {
		n := daysIn(month, year)
		if c.months>>month&1 == 0 {
			number, second, dom = number+int64(n-dom+1), 0, 1
			year, month = following(year, month)
			continue
		}
		first := weekday(number - int64(dom-1))
		days := c.monthBits(n, first) &^ c.exclusions.yearly[month]
		if c.gone != 0 {
			days &^= everyWeek(c.gone, first)
		}
		for days &= math.MaxUint32 << dom; days != 0; days &= math.MaxUint32 << dom {
			d := bits.TrailingZeros32(days)
			if d != dom {
				number, second, dom = number+int64(d-dom), 0, d
			}
			if last, ok := c.exclusions.dated(number); ok {
				return c.civil((last + 1) * day)
			}
			if t := c.freeTime(weekday(number), second); t >= 0 {
				return number*day + t, true
			}
			number, second, dom = number+1, 0, dom+1
		}
		number, second, dom = number+int64(n-dom+1), 0, 1
		year, month = following(year, month)
	}
	return 0, false
}

func following(year, month int) (int, int) {
	if month == 12 {
		return year + 1, 1
	}
	return year, month + 1
}

func daysIn(month, year int) int {
	if month == 2 && (year%4 != 0 || year%100 == 0 && year%400 != 0) {
		return 28
	}
	return longest(month)
}
