package cron

import (
	"fmt"
	"math/bits"
	"slices"
	"time"
)

// Warnings says what may surprise whoever wrote the rule, looking ahead from an
// instant: one sentence each, without a final stop. A rule without surprises has
// none. It takes microseconds for most rules, and some tens of milliseconds for the
// largest.
func (r *Rule) Warnings(from time.Time) []string {
	now := max(floor(from), earliest)
	if _, ok := r.next(now); !ok {
		return []string{r.warnNever(now)}
	}
	var warnings []string
	for i, t := range r.terms {
		if c, ok := t.(*calendar); ok {
			text := quote(r.config.Expressions[i])
			warnings = append(warnings, c.warnBoth(text)...)
			warnings = append(warnings, c.warnMissing(text, r.zone.wall(max(now, r.first)))...)
		}
	}
	for _, t := range r.terms {
		for _, w := range r.warnChanges(t, now) {
			if !slices.Contains(warnings, w) {
				warnings = append(warnings, w)
			}
		}
	}
	return append(warnings, r.warnIdle(now)...)
}

// warnNever says why there is no tick any more.
func (r *Rule) warnNever(now int64) string {
	text := "fires 0 times after " + dateOf(now).Format(time.RFC3339)
	if r.end <= now+1 {
		return text + ": it ended at " + stamp(r.config.End)
	}
	last := int64(earliest)
	for _, t := range r.terms {
		tick, _, ok := without(t, &exclusions{}).next(max(now, r.first-1))
		if ok && tick < r.end {
			return text + ": everything it plans is excluded"
		}
		if ok {
			return text + ": its next time would be " + dateOf(tick).Format(time.RFC3339) + ", and it ends before"
		}
		if o, single := t.(*once); single {
			last = max(last, o.at)
		}
	}
	if last > earliest {
		text += ": its last time was " + dateOf(last).Format(time.RFC3339)
	}
	return text
}

// without is a term with other exclusions than its own.
func without(t term, x *exclusions) term {
	switch t := t.(type) {
	case *calendar:
		c := *t
		c.exclusions = x
		c.ready()
		return &c
	case *interval:
		i := *t
		i.exclusions = x
		return &i
	case *once:
		o := *t
		o.exclusions = x
		return &o
	}
	return t
}

// warnBoth says what two day fields mean together.
func (c *calendar) warnBoth(text string) []string {
	if c.dom.any || c.dow.any {
		return nil
	}
	return []string{fmt.Sprintf("%s fires when either of its day fields matches: on %s of the month, and also on %s",
		text, c.dom.describe(), c.dow.describe())}
}

// looked is over how many months warnMissing counts.
const looked = 12

// warnMissing counts the months that lack the days of the expression.
func (c *calendar) warnMissing(text string, wall int64) (warnings []string) {
	if c.dom.any == c.dow.any {
		return nil
	}
	date := dateOf(wall)
	year, month := date.Year(), int(date.Month())
	empty, lack := 0, [32]int{}
	for left := looked; left > 0; year, month = following(year, month) {
		if c.months>>month&1 == 0 {
			continue
		}
		left--
		n := daysIn(month, year)
		first := int(time.Date(year, time.Month(month), 1, 0, 0, 0, 0, time.UTC).Weekday())
		if c.monthBits(n, first) == 0 {
			empty++
			continue
		}
		for d := n + 1; d <= 31; d++ {
			lack[d]++
		}
	}
	of := fmt.Sprintf("of the next %d months", looked)
	if c.months != allMonths {
		of = fmt.Sprintf("of the next %d months that it names", looked)
	}
	if empty > 0 {
		return []string{fmt.Sprintf("%s skips %d %s, for lack of %s", text, empty, of, c.lack())}
	}
	for d := 29; d <= 31; d++ {
		if c.dom.single>>d&1 != 0 && lack[d] > 0 {
			warnings = append(warnings, fmt.Sprintf("%s misses its day %d in %d %s (L is the last day of any month)", text, d, lack[d], of))
		}
	}
	return warnings
}

// lack names what some months don't have, and what they all have.
func (c *calendar) lack() string {
	switch {
	case c.dom.any:
		return fmt.Sprintf("%s (%dL is the last one of any month)", c.dow.describe(), bits.TrailingZeros64(c.dow.nth)/8)
	case c.dom.days == 0 && c.dom.beforeLast == 0:
		return c.dom.describe() + " (LW is the last working day of any month)"
	}
	return c.dom.describe() + " (L is the last day of any month)"
}

// ahead is how far changes of the clock are looked for: a year and a month.
const ahead = 396 * day

// warnChanges says what a term with fixed hours does where the clock changes.
func (r *Rule) warnChanges(t term, now int64) (warnings []string) {
	if c, ok := t.(*calendar); ok && !c.fixed() {
		return nil
	}
	if _, ok := t.(*interval); ok {
		return nil
	}
	s := r.zone.at(now)
	for s.end <= now+ahead {
		at := s.end
		after := r.zone.at(at)
		low, high := at+s.offset, at+after.offset
		gap := low < high
		first, n := r.planned(t, min(low, high), max(low, high), now)
		if s = after; n == 0 {
			continue
		}
		what, exist, come, they := clock(first), "doesn't exist", "comes", "it fires"
		if n > 1 {
			others := count(n-1, "other time")
			if n == many {
				others = "many other times"
			}
			what, exist, come, they = what+" and "+others, "don't exist", "come", "they fire"
		}
		day := dateOf(first).Format(time.DateOnly)
		if !gap {
			warnings = append(warnings, fmt.Sprintf("%s %s twice on %s in %s; %s the first time", what, come, day, r.zone.loc, they))
			continue
		}
		fires := clock(high)
		if d := dateOf(high).Format(time.DateOnly); d != day {
			fires += " on " + d
		}
		warnings = append(warnings, fmt.Sprintf("%s %s on %s in %s; %s at %s instead", what, exist, day, r.zone.loc, they, fires))
	}
	return warnings
}

// many is how many times planned counts to.
const many = 60

// planned returns the first civil time from low to before high that a term plans
// and that becomes a tick of the rule later than now, and how many there are, at
// most many.
func (r *Rule) planned(t term, low, high, now int64) (first int64, n int) {
	each := func(c, tick int64) {
		if tick <= now || tick < r.first || tick >= r.end {
			return
		}
		if n == 0 {
			first = c
		}
		n++
	}
	switch t := t.(type) {
	case *calendar:
		for c, ok := t.civil(low); ok && c < high && n < many; c, ok = t.civil(c + 1) {
			each(c, r.zone.instant(c))
		}
	case *once:
		if low <= t.planned && t.planned < high && r.zone.instant(t.planned) == t.at {
			each(t.planned, t.at)
		}
	}
	return first, n
}
