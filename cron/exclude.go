package cron

import (
	"slices"
	"sort"
)

// exclusions are the civil times that a rule leaves out. Whole days and parts of
// days are kept apart, so that a calendar can take whole days out of its months
// before it looks for a time.
type exclusions struct {
	// dates are ranges of numbered days, in order and apart from each other.
	dates []dateRange
	// yearly has a bit for every day of every month, as monthDays has them.
	yearly [13]uint32
	// weekly are the windows of each weekday, in order and apart from each other.
	weekly [7][]window
	// parts are the strings they were made of.
	parts []exclusion
}

// dateRange is a row of numbered days, both ends included.
type dateRange struct{ from, to int64 }

// window is a part of a day in seconds, without its end.
type window struct{ from, to int64 }

// exclusion is one string of Config.Exclude. One of its three parts is set.
type exclusion struct {
	text  string
	dates *dateRange
	// yearly are a first and a last month and day; the last may come before the
	// first.
	yearly *[2]monthDay
	// days are the weekdays on which a window begins.
	days weekdays
	// from and to are minutes of the day; to is later than from, and more than a
	// day when the window goes on after midnight.
	from, to int
}

type monthDay struct{ month, day int }

// weekdays has a bit for each weekday, the lowest for Sunday.
type weekdays uint8

// compile makes parts into what lookups need.
func compile(parts []exclusion) exclusions {
	x := exclusions{parts: parts}
	for _, p := range parts {
		switch {
		case p.dates != nil:
			x.dates = append(x.dates, *p.dates)
		case p.yearly != nil:
			x.addYearly(p.yearly[0], p.yearly[1])
		default:
			x.addWindows(p)
		}
	}
	slices.SortFunc(x.dates, func(a, b dateRange) int { return int(a.from - b.from) })
	merged := x.dates[:0]
	for _, d := range x.dates {
		if n := len(merged); n > 0 && d.from <= merged[n-1].to+1 {
			merged[n-1].to = max(merged[n-1].to, d.to)
		} else {
			merged = append(merged, d)
		}
	}
	x.dates = merged
	for i := range x.weekly {
		x.weekly[i] = mergeWindows(x.weekly[i])
	}
	return x
}

// addYearly sets the bits from one day to another, around the end of the year
// when they are in that order.
func (x *exclusions) addYearly(from, to monthDay) {
	for at := from; ; {
		x.yearly[at.month] |= 1 << at.day
		if at == to {
			return
		}
		if at.day++; at.day > longest(at.month) {
			at = monthDay{month: at.month%12 + 1, day: 1}
		}
	}
}

func (x *exclusions) addWindows(p exclusion) {
	from, to := int64(p.from)*60, int64(p.to)*60
	for d := range 7 {
		if p.days&(1<<d) == 0 {
			continue
		}
		x.weekly[d] = append(x.weekly[d], window{from, min(to, day)})
		if to > day {
			next := (d + 1) % 7
			x.weekly[next] = append(x.weekly[next], window{0, to - day})
		}
	}
}

func mergeWindows(list []window) []window {
	slices.SortFunc(list, func(a, b window) int { return int(a.from - b.from) })
	merged := list[:0]
	for _, w := range list {
		if n := len(merged); n > 0 && w.from <= merged[n-1].to {
			merged[n-1].to = max(merged[n-1].to, w.to)
		} else {
			merged = append(merged, w)
		}
	}
	return merged
}

// dated returns the last day of the range of dates that a numbered day is in.
func (x *exclusions) dated(number int64) (last int64, ok bool) {
	if len(x.dates) == 0 {
		return 0, false
	}
	i := sort.Search(len(x.dates), func(i int) bool { return x.dates[i].to >= number })
	if i == len(x.dates) || x.dates[i].from > number {
		return 0, false
	}
	return x.dates[i].to, true
}

// window returns the end of the window that a second of a weekday is in, or the
// second itself.
func (x *exclusions) window(weekday int, second int64) int64 {
	for _, w := range x.weekly[weekday] {
		if second < w.from {
			break
		}
		if second < w.to {
			return w.to
		}
	}
	return second
}

// skip returns the end of what c falls into, a civil time later than c, or c
// itself when it is not excluded. What it returns may be excluded too, by
// another part.
func (x *exclusions) skip(c int64) int64 {
	number, second := civilDay(c)
	if last, ok := x.dated(number); ok {
		return (last + 1) * day
	}
	if date := dateOf(c); x.yearly[date.Month()]&(1<<date.Day()) != 0 {
		return (number + 1) * day
	}
	return c - second + x.window(weekday(number), second)
}

// empty reports whether nothing is excluded.
func (x *exclusions) empty() bool { return len(x.parts) == 0 }

// longest is how many days a month can have.
func longest(month int) int {
	switch month {
	case 2:
		return 29
	case 4, 6, 9, 11:
		return 30
	}
	return 31
}
