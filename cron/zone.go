package cron

import (
	_ "embed"
	"math"
	"slices"
	"strings"
	"sync"
	"time"
	_ "time/tzdata" // zones are known on machines without zone data too
)

// zoneNames are the names in the zone data of the Go release this is built with,
// one on a line. Only these are accepted, so that a rule which one node took
// means something on every other.
//
//go:embed zones.txt
var zoneNames string

// loadZone returns the zone of that name, or a sentence saying why there is none.
func loadZone(name string) (zone, string) {
	utc := zone{loc: time.UTC}
	switch {
	case name == "" || name == "UTC":
		return utc, ""
	case strings.EqualFold(name, "local"):
		return utc, `"` + name + `" differs from machine to machine: write the name of a zone, such as "Europe/Berlin"`
	}
	if loc, ok := loaded.Load(name); ok {
		return zone{loc: loc.(*time.Location)}, ""
	}
	if !slices.Contains(strings.Fields(zoneNames), name) {
		return utc, quote(name) + " is no time zone" + didYouMean(name, strings.Fields(zoneNames), `: write a name such as "Europe/Berlin"`)
	}
	loc, err := time.LoadLocation(name)
	if err != nil {
		return utc, quote(name) + " can't be read: " + err.Error()
	}
	shared, _ := loaded.LoadOrStore(name, loc)
	return zone{loc: shared.(*time.Location)}, ""
}

// loaded has each zone that was asked for, by its name. The time package reads a
// zone's file for each LoadLocation and makes a table of some 15 KB of it, so ten
// thousand schedules in one zone would hold 150 MB. It only remembers what the
// name gave the first time, and has at most as many entries as there are names.
var loaded sync.Map

// zone turns instants into civil times and back. Both are in seconds since the
// beginning of 1970, instants in UTC.
type zone struct{ loc *time.Location }

// spread is more than any two offsets from UTC are apart, in seconds. The
// widest in the data are -15:56:08 (Manila before 1844) and +15:13:42 (Metlakatla
// before 1867). So W(s) < W(t) whenever s < t-spread, and |W(t)-t| < spread/2.
const spread = 32 * 3600

// stretch is a time in which the offset stays what it is.
type stretch struct {
	offset int64
	// end is the first instant that doesn't belong to it. The offset may be the
	// same there.
	end int64
}

// at returns the stretch that t is in.
func (z zone) at(t int64) stretch {
	if z.loc == time.UTC {
		return stretch{end: math.MaxInt64}
	}
	local := time.Unix(t, 0).In(z.loc)
	_, offset := local.Zone()
	_, end := local.ZoneBounds()
	s := stretch{offset: int64(offset), end: math.MaxInt64}
	if !end.IsZero() {
		s.end = end.Unix()
	}
	if s.end <= t {
		// Where a zone follows a yearly rule, the time package ends its last
		// stretch of a year after 365 days, also in a leap year. There is no
		// change on this day.
		s.end = t - mod(t, day) + day
	}
	return s
}

// highest returns the highest civil time that the clock has shown up to t, and
// the stretch that t is in.
func (z zone) highest(t int64) (int64, stretch) {
	wall := int64(math.MinInt64)
	s := z.at(t - spread)
	for s.end <= t {
		wall = max(wall, s.end-1+s.offset)
		s = z.at(s.end)
	}
	return max(wall, t+s.offset), s
}

// reach returns the first instant at which the clock has reached c. Before t,
// which is in the stretch s or where it ends, it had not.
func (z zone) reach(c, t int64, s stretch) int64 {
	for {
		if u := max(t, c-s.offset); u < s.end {
			return u
		}
		t = max(s.end, c-spread/2)
		s = z.at(t)
	}
}

// instant returns the first instant at which the clock has reached c.
func (z zone) instant(c int64) int64 {
	t := c - spread/2
	return z.reach(c, t, z.at(t))
}

// wall is what the clock shows at t.
func (z zone) wall(t int64) int64 { return t + z.at(t).offset }

const day = 24 * 3600

// mod is a modulo b, never negative.
func mod(a, b int64) int64 {
	if m := a % b; m < 0 {
		return m + b
	} else {
		return m
	}
}

// civilDay returns the number of the day of c, counted from 1970-01-01, and the
// second of that day.
func civilDay(c int64) (number, second int64) {
	second = mod(c, day)
	return (c - second) / day, second
}

// weekday of a numbered day, 0 for Sunday.
func weekday(number int64) int { return int(mod(number+4, 7)) }

// dateOf returns the civil time c as a time.Time that claims to be UTC, for its
// calendar and its formats.
func dateOf(c int64) time.Time { return time.Unix(c, 0).UTC() }
