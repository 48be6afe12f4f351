package cron

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"
)

// The oracle is what Next is compared with. It shares nothing with it but Go's
// own notion of a zone: it walks through instants one by one, asks the time
// package what a clock shows there, and keeps the highest civil time it has seen.

// pattern is a rule as the oracle understands it.
type pattern struct {
	cfg Config
	// time and date say whether a time of the day (in seconds) and a date match.
	time func(hour, minute, second int) bool
	date func(d time.Time) bool
	// excluded says which of them are left out; nil for none.
	excluded func(d time.Time, hour, minute int) bool
	elapsed  bool

	// seen are the times of a day that were asked about: 0 unknown, 1 no, 2 yes.
	seen [86400]byte
	// number is the day last asked about, and its answer.
	number  int64
	matched bool
}

func (p *pattern) matches(c int64) bool {
	number := (c - (c%86400+86400)%86400) / 86400
	second := c - number*86400
	h, m, s := int(second/3600), int(second/60%60), int(second%60)
	if p.seen[second] == 0 {
		p.seen[second] = 1
		if p.time(h, m, s) {
			p.seen[second] = 2
		}
	}
	if p.seen[second] == 1 {
		return false
	}
	d := time.Unix(number*86400, 0).UTC()
	if number != p.number {
		p.number, p.matched = number, p.date(d)
	}
	return p.matched && (p.excluded == nil || !p.excluded(d, h, m))
}

// track is what a clock showed at a row of instants.
type track struct {
	begin, grain int64
	walls        []int64
	offset       func(t int64) int64
}

// lead is how long before a stretch of interest the oracle begins to walk: longer
// than any clock was ever put back.
const lead = 50 * 3600

// walk makes a track from lead before from up to to, minute by minute, or second
// by second where a change or an offset is not in whole minutes.
func walk(loc *time.Location, from, to int64) track {
	offset := func(t int64) int64 {
		_, o := time.Unix(t, 0).In(loc).Zone()
		return int64(o)
	}
	from -= mod60(from)
	tr := track{begin: from - lead, grain: 60, offset: offset}
	for t := tr.begin; t <= to; t += tr.grain {
		o := offset(t)
		if tr.grain == 60 && (o%60 != 0 || len(tr.walls) > 0 && o != tr.walls[len(tr.walls)-1]-(t-60) && offset(t-1) == o) {
			// Walk again, in smaller steps.
			tr.grain, tr.walls, t = 1, tr.walls[:0], tr.begin-1
			continue
		}
		tr.walls = append(tr.walls, t+o)
	}
	return tr
}

func mod60(t int64) int64 { return (t%60 + 60) % 60 }

// ticks returns what the pattern fires at within the track, without its lead.
func (tr track) ticks(p *pattern) (list []int64) {
	highest := tr.walls[0]
	for i, wall := range tr.walls[1:] {
		t := tr.begin + int64(i+1)*tr.grain
		fires := false
		if p.elapsed {
			fires = p.matches(wall)
		} else {
			// All civil times that the clock reaches or passes for the first time.
			for c := highest + tr.grain; c <= wall && !fires; c += tr.grain {
				fires = p.matches(c)
			}
		}
		highest = max(highest, wall)
		if fires && t >= tr.begin+lead {
			list = append(list, t)
		}
	}
	return list
}

// change is an instant at which the offset of a zone changes.
type change struct{ at, before, after int64 }

// changes finds the changes of a zone by looking at its offset twice a day and
// halving the interval where it differs.
func changes(loc *time.Location, from, to int64) (list []change) {
	offset := func(t int64) int64 {
		_, o := time.Unix(t, 0).In(loc).Zone()
		return int64(o)
	}
	const pace = 12 * 3600
	before := offset(from)
	for t := from + pace; t < to+pace; t += pace {
		after := offset(t)
		if after == before {
			continue
		}
		lo, hi := t-pace, t
		for hi-lo > 1 {
			if mid := lo + (hi-lo)/2; offset(mid) == before {
				lo = mid
			} else {
				hi = mid
			}
		}
		list = append(list, change{hi, before, offset(hi)})
		if before = offset(hi); before != after {
			t = hi // another one follows soon
		}
	}
	return list
}

// place is a zone and its changes in the years that are tested.
type place struct {
	name    string
	loc     *time.Location
	changes []change
}

var (
	year1970 = time.Date(1970, 1, 1, 0, 0, 0, 0, time.UTC).Unix()
	year2040 = time.Date(2040, 1, 1, 0, 0, 0, 0, time.UTC).Unix()
)

// places returns all zones, those that show the same for all those years only
// once. With -short it returns a few that have something special.
func places(t *testing.T) []place {
	t.Helper()
	names := strings.Fields(zoneNames)
	if testing.Short() {
		names = []string{
			"Africa/Cairo", "Africa/Casablanca", "Africa/Monrovia", "America/Caracas", "America/New_York", "America/Sao_Paulo",
			"America/St_Johns", "Antarctica/Troll", "Asia/Beirut", "Asia/Gaza", "Asia/Kathmandu", "Australia/Lord_Howe",
			"Europe/Berlin", "Europe/Dublin", "Pacific/Apia", "Pacific/Kwajalein", "UTC",
		}
	}
	var list []place
	seen := map[string]bool{}
	for _, name := range names {
		loc, err := time.LoadLocation(name)
		if err != nil {
			t.Fatal(err)
		}
		_, offset := time.Unix(year1970, 0).In(loc).Zone()
		p := place{name, loc, changes(loc, year1970, year2040)}
		if key := fmt.Sprint(offset, p.changes); !seen[key] {
			seen[key] = true
			list = append(list, p)
		}
	}
	return list
}

// compare holds what Next says about a stretch of time against the oracle.
func compare(t *testing.T, loc *time.Location, p *pattern, r *Rule, tr track) {
	t.Helper()
	want := tr.ticks(p)
	from, to := tr.begin+lead-1, tr.begin+int64(len(tr.walls)-1)*tr.grain
	at := from
	for i := 0; ; i++ {
		next, ok := r.Next(time.Unix(at, 0))
		if ok && next.Unix() <= at {
			t.Fatalf("%s, %v: Next(%s) = %s is not later", loc, p.cfg.Expressions, show(at, loc), show(next.Unix(), loc))
		}
		over := !ok || next.Unix() > to
		if over && i == len(want) {
			return
		}
		if over || i == len(want) || next.Unix() != want[i] {
			t.Fatalf("%s, %v, without %v: Next(%s) = %s, the oracle's %s", loc, p.cfg.Expressions, p.cfg.Exclude,
				show(at, loc), show(next.Unix(), loc), show(elem(want, i), loc))
		}
		at = next.Unix()
	}
}

// compareFrom asks Next at an instant that needn't be a tick.
func compareFrom(t *testing.T, loc *time.Location, p *pattern, r *Rule, want []int64, at, to int64) {
	t.Helper()
	i, found := slices.BinarySearchFunc(want, at, func(a, b int64) int { return cmp.Compare(a, b) })
	if found {
		i++
	}
	next, ok := r.Next(time.Unix(at, 0))
	if i == len(want) {
		if ok && next.Unix() <= to {
			t.Fatalf("%s, %v: Next(%s) = %s, the oracle has none", loc, p.cfg.Expressions, show(at, loc), show(next.Unix(), loc))
		}
		return
	}
	if !ok || next.Unix() != want[i] {
		t.Fatalf("%s, %v: Next(%s) = %s, the oracle's %s", loc, p.cfg.Expressions, show(at, loc), show(next.Unix(), loc), show(want[i], loc))
	}
}

func elem(list []int64, i int) int64 {
	if i < len(list) {
		return list[i]
	}
	return 0
}

func show(t int64, loc *time.Location) string {
	return time.Unix(t, 0).In(loc).Format("2006-01-02 15:04:05 -07:00:00")
}
