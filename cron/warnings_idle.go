package cron

import "fmt"

// warnIdle names the exclusions that remove nothing. Only what is planned in the
// year after now counts for a weekly or yearly one, or the next thousand ticks
// where that is longer; so it is an answer about practice, not a proof.
func (r *Rule) warnIdle(now int64) (warnings []string) {
	left := asks
	for _, part := range r.exclusions.parts {
		hits := false
		x := compile([]exclusion{part})
		for _, t := range r.terms {
			hits = hits || r.hits(without(t, &exclusions{}), &x, max(now, r.first-1), &left)
		}
		if !hits {
			warnings = append(warnings, fmt.Sprintf("the exclusion %s removes nothing", quote(part.text)))
		}
	}
	return warnings
}

// asks is how often warnIdle asks a term for its next tick, in all: some tens of
// milliseconds. It says nothing of what it had no time to look at.
const asks = 200_000

// hits reports whether x removes any of what t plans after now, or whether left
// is used up.
func (r *Rule) hits(t term, x *exclusions, now int64, left *int) bool {
	removed := func(tick, planned int64, ok bool) bool {
		*left--
		return ok && tick < r.end && x.skip(planned) != planned || *left < 0
	}
	// What fires seldom is asked for its ticks, what fires often for those in
	// the times that are excluded.
	const ticks, days = 1000, 366
	after := now
	for range ticks {
		tick, planned, ok := t.next(after)
		if removed(tick, planned, ok) {
			return true
		}
		if !ok || tick >= r.end {
			return false
		}
		after = tick
	}
	number, _ := civilDay(r.zone.wall(now))
	last := number + days
	if len(x.dates) > 0 {
		number = max(number, x.dates[0].from)
		last = min(x.dates[0].to, number+days)
	}
	for ; number <= last; number++ {
		for c := number * day; c < (number+1)*day; {
			end := x.skip(c)
			if end == c {
				if c = x.begin(c); c < 0 {
					break
				}
				continue
			}
			// The first tick from where the clock reaches c is the one that falls
			// into it, if any does.
			if removed(t.next(max(now, r.zone.instant(c)-1))) {
				return true
			}
			c = end
		}
	}
	return false
}

// begin returns the beginning of the first window later than c on its day, -1
// when there is none.
func (x *exclusions) begin(c int64) int64 {
	number, second := civilDay(c)
	for _, w := range x.weekly[weekday(number)] {
		if w.from > second {
			return c - second + w.from
		}
	}
	return -1
}
