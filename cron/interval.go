package cron

import "time"

// interval is "@every": anchor, anchor+every, anchor+2*every and so on.
type interval struct {
	anchor, every int64 // seconds
	// own is set when the expression named the anchor itself.
	own bool

	zone       zone
	exclusions *exclusions
}

// longestEvery bounds the seconds between two ticks to a hundred years.
const longestEvery = 36525 * day

// patience is how many ticks in a row may be excluded, each by something that
// doesn't touch what excluded the one before, until there is never another.
const patience = 100_000

func (i *interval) next(after int64) (tick, planned int64, ok bool) {
	t := i.from(after + 1)
	if i.exclusions.empty() {
		return t, t, t <= latest
	}
	s := i.zone.at(t)
	for range patience {
		if t > latest {
			break
		}
		if t >= s.end {
			s = i.zone.at(t)
		}
		wall := t + s.offset
		end := i.exclusions.skip(wall)
		if end == wall {
			return t, wall, true
		}
		// Everything up to the end is excluded, as long as the clock runs on
		// without a change; at the change it shows something else.
		t = i.from(min(end-s.offset, s.end))
	}
	return 0, 0, false
}

// from is the first tick that is not before t.
func (i *interval) from(t int64) int64 {
	if t <= i.anchor {
		return i.anchor
	}
	return t + mod(i.anchor-t, i.every)
}

func (i *interval) String() string {
	s := "@every " + (time.Duration(i.every) * time.Second).String()
	if i.own {
		s += " from " + dateOf(i.anchor).Format(time.RFC3339)
	}
	return s
}

// once is "@at": one instant.
type once struct {
	at, planned int64

	exclusions *exclusions
}

func (o *once) next(after int64) (tick, planned int64, ok bool) {
	return o.at, o.planned, o.at > after && o.exclusions.skip(o.planned) == o.planned
}

func (o *once) String() string { return "@at " + dateOf(o.at).Format(time.RFC3339) }
