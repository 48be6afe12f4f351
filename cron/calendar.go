package cron

import "math/bits"

// calendar is a cron expression: a set of civil times.
type calendar struct {
	seconds, minutes uint64 // a bit for each value, as in all sets here
	hours            uint32
	months           uint16 // bits 1 to 12
	dom              monthDays
	dow              weekDays

	zone       zone
	exclusions *exclusions
	// gone are the weekdays on which exclusions leave no time of the day.
	gone weekdays
}

// monthDays is the day-of-month field.
type monthDays struct {
	any    bool   // "*" or "?": says nothing about the day
	days   uint32 // bits 1 to 31
	single uint32 // those of days that were written one by one
	// beforeLast has a bit for each n of L-n, the lowest for L.
	beforeLast uint32
	// nearest has a bit for each n of nW.
	nearest uint32
	// lastWorkday is LW.
	lastWorkday bool
}

// weekDays is the day-of-week field.
type weekDays struct {
	any  bool // "*" or "?"
	days weekdays
	// nth has a bit for each weekday and number of d#n, at 8*d+n.
	nth uint64
	// last has a bit for each d of dL.
	last weekdays
}

const (
	allSeconds = 1<<60 - 1
	allHours   = 1<<24 - 1
	allMonths  = 1<<13 - 2
	allDays    = 1<<32 - 2
	allWeek    = 1<<7 - 1
)

// fixed reports whether the hours are fixed, see the package's documentation.
func (c *calendar) fixed() bool { return c.hours != allHours }

// monthBits has a bit for each day of a month that both day fields let
// through, before exclusions. The month has n days and begins on the weekday first.
func (c *calendar) monthBits(n, first int) uint32 {
	switch {
	case c.dom.any && c.dow.any:
		return 1<<(n+1) - 2
	case c.dow.any:
		return c.dom.bits(n, first)
	case c.dom.any:
		return c.dow.bits(n, first)
	}
	return c.dom.bits(n, first) | c.dow.bits(n, first)
}

func (f *monthDays) bits(n, first int) uint32 {
	set := f.days
	for b := f.beforeLast; b != 0; b &= b - 1 {
		if d := n - bits.TrailingZeros32(b); d >= 1 {
			set |= 1 << d
		}
	}
	for b := f.nearest; b != 0; b &= b - 1 {
		if d := bits.TrailingZeros32(b); d <= n {
			set |= 1 << nearestWorkday(d, n, first)
		}
	}
	if f.lastWorkday {
		set |= 1 << nearestWorkday(n, n, first)
	}
	return set & (1<<(n+1) - 1)
}

// nearestWorkday is the day from Monday to Friday that is nearest to day d
// without leaving the month.
func nearestWorkday(d, n, first int) int {
	switch (first + d - 1) % 7 {
	case 6: // Saturday
		if d > 1 {
			return d - 1
		}
		return d + 2
	case 0: // Sunday
		if d < n {
			return d + 1
		}
		return d - 2
	}
	return d
}

func (f *weekDays) bits(n, first int) uint32 {
	set := everyWeek(f.days, first)
	for b := f.nth; b != 0; b &= b - 1 {
		i := bits.TrailingZeros64(b)
		set |= 1 << (1 + (i/8-first+7)%7 + 7*(i%8-1))
	}
	for b := f.last; b != 0; b &= b - 1 {
		d := 1 + (bits.TrailingZeros8(uint8(b))-first+7)%7
		set |= 1 << (d + (n-d)/7*7)
	}
	return set & (1<<(n+1) - 2)
}

// everyWeek has a bit for each day 1 to 31 that falls on one of the weekdays.
func everyWeek(days weekdays, first int) uint32 {
	if days == 0 {
		return 0
	}
	// The week turned so that its lowest bit is the first of the month, five
	// times, and moved to where day 1 is.
	week := uint64(days)<<7 | uint64(days)
	week = week >> first & allWeek
	return uint32((week | week<<7 | week<<14 | week<<21 | week<<28) << 1)
}

// timeOfDay returns the first time of the day that is not before second, -1 when
// there is none.
func (c *calendar) timeOfDay(second int64) int64 {
	h, m, s := int(second/3600), int(second/60%60), int(second%60)
	if c.hours>>h&1 != 0 {
		if c.minutes>>m&1 != 0 {
			if b := c.seconds >> s; b != 0 {
				return second + int64(bits.TrailingZeros64(b))
			}
		}
		if b := c.minutes >> (m + 1); b != 0 {
			m += 1 + bits.TrailingZeros64(b)
			return int64(h*3600 + m*60 + bits.TrailingZeros64(c.seconds))
		}
	}
	b := c.hours >> (h + 1)
	if b == 0 {
		return -1
	}
	h += 1 + bits.TrailingZeros32(b)
	return int64(h*3600 + bits.TrailingZeros64(c.minutes)*60 + bits.TrailingZeros64(c.seconds))
}

// freeTime is timeOfDay without what the windows of a weekday exclude.
func (c *calendar) freeTime(weekday int, second int64) int64 {
	for second < day {
		t := c.timeOfDay(second)
		if t < 0 {
			return -1
		}
		if second = c.exclusions.window(weekday, t); second == t {
			return t
		}
	}
	return -1
}

// ready computes what next needs; called once, when all fields are set.
func (c *calendar) ready() {
	c.gone = 0
	for d := range 7 {
		if c.freeTime(d, 0) < 0 {
			c.gone |= 1 << d
		}
	}
}

// possible reports whether any month of any year has a day for it, exclusions
// aside.
func (c *calendar) possible() bool {
	for month := 1; month <= 12; month++ {
		if c.months>>month&1 == 0 {
			continue
		}
		for first := range 7 {
			if c.monthBits(longest(month), first) != 0 || month == 2 && c.monthBits(28, first) != 0 {
				return true
			}
		}
	}
	return false
}
