package cron

import (
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"sync/atomic"
	"testing"
	"time"
)

// patterns are rules of all kinds, each written a second time as functions.
func patterns() []*pattern {
	every := func(time.Time) bool { return true }
	in := func(v int, list ...int) bool { return slices.Contains(list, v) }
	lastDay := func(d time.Time) int { return time.Date(d.Year(), d.Month()+1, 0, 0, 0, 0, 0, time.UTC).Day() }
	return []*pattern{
		{
			cfg:  Config{Expressions: []string{"30 2 * * *"}},
			time: func(h, m, s int) bool { return h == 2 && m == 30 && s == 0 }, date: every,
		},
		{
			cfg:  Config{Expressions: []string{"0 0 * * *"}},
			time: func(h, m, s int) bool { return h+m+s == 0 }, date: every,
		},
		{
			cfg:  Config{Expressions: []string{"*/20 * * * *"}},
			time: func(_, m, s int) bool { return m%20 == 0 && s == 0 }, date: every, elapsed: true,
		},
		{
			cfg:  Config{Expressions: []string{"5,35,59 22-23,0-3 * * *"}},
			time: func(h, m, s int) bool { return in(m, 5, 35, 59) && in(h, 22, 23, 0, 1, 2, 3) && s == 0 }, date: every,
		},
		{
			cfg:  Config{Expressions: []string{"15 */2 * * SAT-MON"}},
			time: func(h, m, s int) bool { return h%2 == 0 && m == 15 && s == 0 },
			date: func(d time.Time) bool { return in(int(d.Weekday()), 6, 0, 1) },
		},
		{
			cfg:  Config{Expressions: []string{"45 * L,1-7 * ?"}},
			time: func(_, m, s int) bool { return m == 45 && s == 0 }, elapsed: true,
			date: func(d time.Time) bool { return d.Day() <= 7 || d.Day() == lastDay(d) },
		},
		{
			cfg:  Config{Expressions: []string{"10 1,23 13 * 5L,SUN#2"}},
			time: func(h, m, s int) bool { return in(h, 1, 23) && m == 10 && s == 0 },
			date: func(d time.Time) bool {
				return d.Day() == 13 || d.Weekday() == time.Friday && d.Day()+7 > lastDay(d) ||
					d.Weekday() == time.Sunday && (d.Day()-1)/7 == 1
			},
		},
		{
			cfg:  Config{Expressions: []string{"*/30 0-4 * * *"}, Exclude: []string{"sun", "* 02:10-03:20", "sat 23:00-00:30"}},
			time: func(h, m, s int) bool { return h <= 4 && m%30 == 0 && s == 0 }, date: every,
			excluded: func(d time.Time, h, m int) bool {
				return d.Weekday() == time.Sunday || h*60+m >= 130 && h*60+m < 200
			},
		},
		{
			cfg:  Config{Expressions: []string{"0 * * * *", "30 * * * *"}, Exclude: []string{"mon-fri 22:00-02:00", "03-25..04-02", "10-31"}},
			time: func(_, m, s int) bool { return m%30 == 0 && s == 0 }, date: every, elapsed: true,
			excluded: func(d time.Time, h, _ int) bool {
				w := d.Weekday()
				late := w >= 1 && w <= 5 && h >= 22 || w >= 2 && h < 2
				return late || d.Month() == 3 && d.Day() >= 25 || d.Month() == 4 && d.Day() <= 2 || d.Month() == 10 && d.Day() == 31
			},
		},
	}
}

// ruled are patterns with their rules in one zone.
func ruled(t *testing.T, p place) ([]*pattern, []*Rule) {
	list := patterns()
	rules := make([]*Rule, len(list))
	for i, pattern := range list {
		pattern.cfg.Zone = p.name
		pattern.number = math.MinInt64
		rules[i] = mustNew(t, pattern.cfg)
	}
	return list, rules
}

func mustNew(t testing.TB, cfg Config) *Rule {
	t.Helper()
	r, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// seed is of the stretches that are drawn; ORRERY_CRON_SEED repeats a run.
func seed(t *testing.T) uint64 {
	s := uint64(time.Now().UnixNano())
	if text := os.Getenv("ORRERY_CRON_SEED"); text != "" {
		var err error
		if s, err = strconv.ParseUint(text, 10, 64); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("ORRERY_CRON_SEED=%d", s)
	return s
}

// Next agrees with the oracle around every change of every zone from 1970 to
// 2040, and in stretches between them.
func TestNextAgreesWithAWalkThroughTime(t *testing.T) {
	s := seed(t)
	for _, p := range places(t) {
		t.Run(p.name, func(t *testing.T) {
			t.Parallel()
			list, rules := ruled(t, p)
			random := rand.New(rand.NewPCG(s, uint64(len(p.changes))))
			look := func(from, to int64) {
				tr := walk(p.loc, from, to)
				for i := range list {
					compare(t, p.loc, list[i], rules[i], tr)
				}
				i := random.IntN(len(list))
				want := list[i]
				ticks := tr.ticks(want)
				for range 20 {
					compareFrom(t, p.loc, want, rules[i], ticks, from+random.Int64N(to-from), to)
				}
			}
			const around = 26 * 3600
			for _, c := range p.changes {
				look(c.at-around, c.at+around)
			}
			for range 3 {
				from := year1970 + random.Int64N(year2040-year1970)
				look(from, from+3*day)
			}
		})
	}
}

// The same for every minute of 70 years in every zone: half an hour of computing.
func TestNextAgreesWithAWalkThroughAllTime(t *testing.T) {
	if os.Getenv("ORRERY_CRON_FULL") == "" {
		t.Skip("set ORRERY_CRON_FULL=1 to walk through every minute from 1970 to 2040 in every zone")
	}
	all := places(t)
	var done atomic.Int32
	for _, p := range all {
		t.Run(p.name, func(t *testing.T) {
			t.Parallel()
			list, rules := ruled(t, p)
			const month = 30 * day
			for from := year1970; from < year2040; from += month {
				tr := walk(p.loc, from, from+month)
				for i := range list {
					compare(t, p.loc, list[i], rules[i], tr)
				}
			}
			fmt.Fprintln(os.Stderr, done.Add(1), "of", len(all), "zones:", p.name)
		})
	}
}
