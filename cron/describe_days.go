package cron

import (
	"fmt"
	"math/bits"
	"strconv"
	"time"
)

// describeDays says on which days and in which months, with a space in front, or
// "" when on all of them.
func (c *calendar) describeDays() string {
	months := ""
	if c.months != allMonths {
		months = values(uint64(c.months), func(m int) string { return time.Month(m).String() })
	}
	switch {
	case c.dom.any && c.dow.any:
		return c.inMonths("", months)
	case c.dom.any:
		return c.inMonths(on(c.dow.describe()), months)
	case !c.dow.any:
		return c.inMonths(" on "+c.dom.describe()+" of the month or"+on(c.dow.describe()), months)
	case months == "":
		return " on " + c.dom.describe() + " of the month"
	case bits.OnesCount16(c.months) == 1 && c.dom.plain():
		return " on " + values(uint64(c.dom.days), strconv.Itoa) + " " + months
	}
	return " on " + c.dom.describe() + " of " + months
}

// on puts "on" before days that need it.
func on(days string) string {
	if days == everyDay {
		return " " + days
	}
	return " on " + days
}

const everyDay = "every day"

func (c *calendar) inMonths(days, months string) string {
	if months == "" {
		return days
	}
	if days == "" && c.fixed() {
		days = " " + everyDay
	}
	return days + " in " + months
}

// plain reports whether the field has numbers of days only.
func (f *monthDays) plain() bool {
	return f.beforeLast == 0 && f.nearest == 0 && !f.lastWorkday
}

func (f *monthDays) describe() string {
	var words []string
	if f.days != 0 {
		words = append(words, numbers("day", uint64(f.days)))
	}
	for b := f.nearest; b != 0; b &= b - 1 {
		words = append(words, fmt.Sprintf("the working day nearest to day %d", bits.TrailingZeros32(b)))
	}
	for b := f.beforeLast &^ 1; b != 0; b &= b - 1 {
		words = append(words, "the day "+count(bits.TrailingZeros32(b), "day")+" before the last")
	}
	if f.beforeLast&1 != 0 {
		words = append(words, "the last day")
	}
	if f.lastWorkday {
		words = append(words, "the last working day")
	}
	return list(words)
}

func (f *weekDays) describe() string {
	var words []string
	if f.days != 0 {
		words = append(words, f.days.describe())
	}
	for b := f.nth; b != 0; b &= b - 1 {
		i := bits.TrailingZeros64(b)
		words = append(words, fmt.Sprintf("the %s %s", ordinals[i%8], time.Weekday(i/8)))
	}
	for b := f.last; b != 0; b &= b - 1 {
		words = append(words, "the last "+time.Weekday(bits.TrailingZeros8(uint8(b))).String())
	}
	text := list(words)
	if f.nth != 0 || f.last != 0 {
		text += " of the month"
	}
	return text
}

var ordinals = [...]string{1: "first", 2: "second", 3: "third", 4: "fourth", 5: "fifth"}

// describe lists weekdays from Monday on.
func (w weekdays) describe() string {
	if w == allWeek {
		return everyDay
	}
	fromMonday := uint64(w>>1 | w&1<<6)
	return values(fromMonday, func(d int) string { return time.Weekday((d + 1) % 7).String() })
}

func (e *exclusion) describe() string {
	switch {
	case e.dates != nil:
		return through(date(e.dates.from*day), date(e.dates.to*day))
	case e.yearly != nil:
		return through(e.yearly[0].String(), e.yearly[1].String())
	case e.from == 0 && e.to == 24*60:
		return e.days.describe()
	}
	to := fmt.Sprintf("%02d:%02d", e.to/60, e.to%60)
	if e.to > 24*60 {
		to = fmt.Sprintf("%02d:%02d", e.to/60-24, e.to%60)
	}
	return fmt.Sprintf("%s from %02d:%02d to %s", e.days.describe(), e.from/60, e.from%60, to)
}

func (m monthDay) String() string { return fmt.Sprintf("%d %s", m.day, time.Month(m.month)) }

func through(from, to string) string {
	if from == to {
		return from
	}
	return from + " to " + to
}
