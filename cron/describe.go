package cron

import (
	"fmt"
	"math/bits"
	"strconv"
	"strings"
	"time"
)

// Describe says in plain words when the rule fires: "at 09:00 on Monday to
// Friday, Europe/Berlin, except 24 December". H is shown as the value it has.
func (r *Rule) Describe() string {
	parts := make([]string, len(r.terms))
	clock := !r.exclusions.empty() || !r.config.Start.IsZero() || !r.config.End.IsZero()
	for i, t := range r.terms {
		parts[i] = t.describe()
		if _, elapsed := t.(*interval); !elapsed {
			clock = true
		}
	}
	text := strings.Join(parts, " and also ")
	if clock {
		text += ", " + r.zone.loc.String()
	}
	if !r.config.Start.IsZero() {
		text += ", starting at " + moment(r.zone.wall(r.first))
	}
	if !r.config.End.IsZero() {
		text += ", ending before " + moment(r.zone.wall(r.end))
	}
	if !r.exclusions.empty() {
		except := make([]string, len(r.exclusions.parts))
		for i, e := range r.exclusions.parts {
			except[i] = e.describe()
		}
		text += ", except " + strings.Join(except, ", ")
	}
	return text
}

func (i *interval) describe() string {
	n, unit := i.every, "second"
	for _, u := range [...]struct {
		seconds int64
		name    string
	}{{day, "day"}, {3600, "hour"}, {60, "minute"}} {
		if i.every%u.seconds == 0 {
			n, unit = i.every/u.seconds, u.name
			break
		}
	}
	text := "every " + unit
	if n > 1 {
		text = fmt.Sprintf("every %d %ss", n, unit)
	}
	if i.own {
		text += " from " + dateOf(i.anchor).Format(time.RFC3339)
	}
	return text
}

func (o *once) describe() string { return "once at " + moment(o.planned) }

// moment is a civil time: "09:00 on 1 January 2027".
func moment(c int64) string { return clock(c) + " on " + date(c) }

// clock is the time of the day of a civil time, with seconds where there are any.
func clock(c int64) string {
	if _, second := civilDay(c); second%60 != 0 {
		return dateOf(c).Format(time.TimeOnly)
	}
	return dateOf(c).Format("15:04")
}

func date(c int64) string { return dateOf(c).Format("2 January 2006") }

func (c *calendar) describe() string {
	when := c.describeTimes()
	days := c.describeDays()
	if days == "" && strings.HasPrefix(when, "at ") && c.fixed() {
		days = " " + everyDay
	}
	return when + days
}

// describeTimes says at which times of a day.
func (c *calendar) describeTimes() string {
	times := bits.OnesCount64(c.seconds) * bits.OnesCount64(c.minutes) * bits.OnesCount32(c.hours)
	if times <= 3 {
		return c.listTimes()
	}
	if text := c.describeSteps(); text != "" {
		return text
	}
	if times <= 8 {
		return c.listTimes()
	}
	var text string
	switch {
	case c.seconds == allSeconds:
		text = "every second of "
	case c.seconds != 1:
		text = "at " + numbers("second", c.seconds) + " of "
	}
	switch {
	case c.minutes == allSeconds:
		text += "every minute"
	case text == "":
		text = "at " + numbers("minute", c.minutes)
	default:
		text += numbers("minute", c.minutes)
	}
	switch {
	case c.fixed():
		return text + " of " + numbers("hour", uint64(c.hours))
	case c.minutes == allSeconds:
		return text
	}
	return text + " of every hour"
}

func (c *calendar) listTimes() string {
	var times []string
	for second := int64(0); second < day; second++ {
		if second = c.timeOfDay(second); second < 0 {
			break
		}
		times = append(times, clock(second))
	}
	return "at " + list(times)
}

// describeSteps says the common patterns: every so many seconds, minutes or
// hours, all day or from one hour to another. It returns "" for all else.
func (c *calendar) describeSteps() string {
	var every string
	switch minute := step(c.minutes, 60); {
	case c.seconds == allSeconds && c.minutes == allSeconds:
		every = "every second"
	case c.minutes == allSeconds && c.seconds != 1 && step(c.seconds, 60) > 0:
		every = fmt.Sprintf("every %d seconds", step(c.seconds, 60))
	case c.seconds != 1:
		return ""
	case c.minutes == allSeconds:
		every = "every minute"
	case minute == 60 || bits.OnesCount64(c.minutes) == 1:
		return c.describeHours()
	case minute > 0:
		every = fmt.Sprintf("every %d minutes", minute)
	default:
		return ""
	}
	hours := runs(uint64(c.hours))
	switch {
	case !c.fixed():
		return every
	case len(hours) > 1:
		return ""
	}
	return every + " from " + clock(c.timeOfDay(0)) + " to " + clock(c.lastTime())
}

// describeHours is describeSteps for a single minute.
func (c *calendar) describeHours() string {
	minute := bits.TrailingZeros64(c.minutes)
	if !c.fixed() {
		if minute == 0 {
			return "every hour"
		}
		return "every hour at minute " + strconv.Itoa(minute)
	}
	if n := step(uint64(c.hours), 24); n > 0 {
		return fmt.Sprintf("every %d hours from %s", n, clock(c.timeOfDay(0)))
	}
	if len(runs(uint64(c.hours))) > 1 {
		return ""
	}
	return "every hour from " + clock(c.timeOfDay(0)) + " to " + clock(c.lastTime())
}

// lastTime is the last time of a day.
func (c *calendar) lastTime() int64 {
	h, m, s := bits.Len32(c.hours)-1, bits.Len64(c.minutes)-1, bits.Len64(c.seconds)-1
	return int64(h*3600 + m*60 + s)
}

// step returns n > 1 when set is every n-th value from 0 on, and n divides size;
// otherwise 0. The set of 0 alone gives size.
func step(set uint64, size int) int {
	if set&1 == 0 {
		return 0
	}
	n := size
	if rest := set &^ 1; rest != 0 {
		n = bits.TrailingZeros64(rest)
	}
	if n < 2 || size%n != 0 {
		return 0
	}
	var all uint64
	for v := 0; v < size; v += n {
		all |= 1 << v
	}
	if all != set {
		return 0
	}
	return n
}

// numbers is "minute 5" or "minutes 5, 20 and 30 to 35".
func numbers(noun string, set uint64) string {
	if bits.OnesCount64(set) > 1 {
		noun += "s"
	}
	return noun + " " + values(set, strconv.Itoa)
}

// values lists a set, rows of it as "a to b".
func values(set uint64, name func(int) string) string {
	var words []string
	for _, r := range runs(set) {
		if r.lo == r.hi {
			words = append(words, name(r.lo))
		} else {
			words = append(words, name(r.lo)+" to "+name(r.hi))
		}
	}
	return list(words)
}
