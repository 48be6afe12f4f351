package cron

import (
	"time"
)

// The oracle is what Next is compared with. It shares nothing with it but Go's
// own notion of a zone: it walks through instants one by one, asks the time
// package what a clock shows, and looks whether that matches.

// pattern is an expression as the oracle understands it: one function for each
// field of a civil time.
type pattern struct {
	second, minute, hour, month func(int) bool
	date                        func(civil time.Time) bool
	excluded                    func(civil time.Time) bool
	fixed                       bool
}

func (p *pattern) matches(civil time.Time) bool {
	return p.second(civil.Second()) && p.minute(civil.Minute()) && p.hour(civil.Hour()) &&
		p.month(int(civil.Month())) && p.date(civil) && (p.excluded == nil || !p.excluded(civil))
}

// shows is what a clock in loc shows at t, as a civil time.
func shows(t time.Time, loc *time.Location) time.Time {
	l := t.In(loc)
	return time.Date(l.Year(), l.Month(), l.Day(), l.Hour(), l.Minute(), l.Second(), 0, time.UTC)
}

// ticks returns all ticks t with from < t <= to. It begins early enough to know
// the highest the clock has shown before, and goes by grain, which must divide
// every matching time and every change of the zone in there.
func (p *pattern) ticks(loc *time.Location, from, to time.Time, grain time.Duration) (list []time.Time) {
	start := from.Add(-72 * time.Hour).Truncate(time.Minute)
	highest := shows(start, loc)
	for t := start.Add(grain); !t.After(to); t = t.Add(grain) {
		now := shows(t, loc)
		fires := false
		if p.fixed {
			// All civil times that the clock reaches or passes at t for the
			// first time.
			for c := highest.Add(grain); !c.After(now); c = c.Add(grain) {
				if p.matches(c) {
					fires = true
					break
				}
			}
		} else {
			fires = p.matches(now)
		}
		if now.After(highest) {
			highest = now
		}
		if fires && t.After(from) {
			list = append(list, t)
		}
	}
	return list
}
