package cron

import (
	"fmt"
	"strconv"
	"strings"
	"time"
)

// parser reads one expression.
type parser struct {
	text   string
	index  int
	key    string
	zone   zone
	anchor int64

	exclusions *exclusions
	faults     []Fault
}

// fail notes a fault at a place in the text.
func (p *parser) fail(offset int, format string, args ...any) {
	p.faults = append(p.faults, Fault{
		Field: FieldExpressions, Index: p.index, Offset: min(offset, len(p.text)),
		Message: fmt.Sprintf(format, args...),
	})
}

// token is a word of the text and where it begins.
type token struct {
	text   string
	offset int
}

// cut splits t at the first sep.
func (t token) cut(sep string) (before, after token, found bool) {
	a, b, found := strings.Cut(t.text, sep)
	return token{a, t.offset}, token{b, t.offset + len(a) + len(sep)}, found
}

// tokens splits text at spaces and tabs.
func tokens(text string) []token {
	var list []token
	start := -1
	for i := 0; i <= len(text); i++ {
		blank := i == len(text) || text[i] == ' ' || text[i] == '\t'
		switch {
		case blank && start >= 0:
			list = append(list, token{text[start:i], start})
			start = -1
		case !blank && start < 0:
			start = i
		}
	}
	return list
}

// macros are shorthands for five fields.
var macros = [...]struct{ name, fields string }{
	{"@yearly", "0 0 1 1 *"},
	{"@annually", "0 0 1 1 *"},
	{"@monthly", "0 0 1 * *"},
	{"@weekly", "0 0 * * 0"},
	{"@daily", "0 0 * * *"},
	{"@midnight", "0 0 * * *"},
	{"@hourly", "0 * * * *"},
}

// expression reads the whole text. It returns nil after a fault.
func (p *parser) expression() term {
	if len(p.text) > MaxLength {
		p.fail(MaxLength, "%d bytes, but an expression has at most %d", len(p.text), MaxLength)
		return nil
	}
	words := tokens(p.text)
	if len(words) == 0 {
		p.fail(0, `the expression is empty: write one such as "0 9 * * MON-FRI"`)
		return nil
	}
	first := words[0]
	if !strings.HasPrefix(first.text, "@") {
		return p.fields(words)
	}
	switch name := strings.ToLower(first.text); name {
	case "@every":
		return p.every(words[1:])
	case "@at":
		return p.at(words[1:])
	case "@reboot":
		p.fail(first.offset, `"@reboot" has no meaning in a cluster, which doesn't start as one: write "@every", "@at" or five fields`)
		return nil
	default:
		for _, m := range macros {
			if m.name != name {
				continue
			}
			if len(words) > 1 {
				p.fail(words[1].offset, "nothing follows %s: remove %s", m.name, quote(words[1].text))
				return nil
			}
			fields := parser{text: m.fields, zone: p.zone, exclusions: p.exclusions}
			return fields.fields(tokens(m.fields))
		}
		known := []string{"@every", "@at"}
		for _, m := range macros {
			known = append(known, m.name)
		}
		p.fail(first.offset, "%s is not known%s", quote(first.text), didYouMean(first.text, known, ": there are "+list(known)))
		return nil
	}
}

// fields reads five fields, or six with seconds first.
func (p *parser) fields(words []token) term {
	if name, _, ok := strings.Cut(words[0].text, "="); ok && (name == "TZ" || name == "CRON_TZ") {
		p.fail(words[0].offset, "the time zone is a setting of the schedule, no part of an expression: remove %s", quote(words[0].text))
		return nil
	}
	switch n := len(words); {
	case n < 5:
		p.fail(len(p.text), "%s, but an expression has 5 (minute, hour, day of month, month, day of week), or 6 with seconds first", count(n, "field"))
		return nil
	case n > 6:
		p.fail(words[6].offset, "%d fields, but an expression has 5 (minute, hour, day of month, month, day of week), or 6 with seconds first; "+
			"years are no field: set the schedule's start and end", n)
		return nil
	}
	c := &calendar{seconds: 1, zone: p.zone, exclusions: p.exclusions}
	if len(words) == 6 {
		c.seconds = p.set(&secondField, words[0])
		words = words[1:]
	}
	c.minutes = p.set(&minuteField, words[0])
	c.hours = uint32(p.set(&hourField, words[1]))
	c.dom = p.dayOfMonth(words[2])
	c.months = uint16(p.set(&monthField, words[3]))
	c.dow = p.dayOfWeek(words[4])
	if len(p.faults) > 0 {
		return nil
	}
	if !c.possible() {
		p.fail(words[2].offset, "there is never such a day: %s; write L for the last day of a month", c.impossible(words[2].text))
		return nil
	}
	c.ready()
	return c
}

// impossible says which months lack the days that are asked for.
func (c *calendar) impossible(days string) string {
	var names []string
	for m := 1; m <= 12; m++ {
		if c.months>>m&1 != 0 {
			names = append(names, time.Month(m).String())
		}
	}
	if len(names) == 1 {
		return fmt.Sprintf("%s has no day %s", names[0], days)
	}
	return fmt.Sprintf("none of %s has a day %s", list(names), days)
}

// every reads what follows "@every".
func (p *parser) every(rest []token) term {
	if len(rest) == 0 {
		p.fail(len(p.text), `a duration is missing: write "@every 90s", "@every 1h30m" or "@every 7d"`)
		return nil
	}
	i := &interval{anchor: p.anchor, every: p.duration(rest[0]), zone: p.zone, exclusions: p.exclusions}
	if rest = rest[1:]; len(rest) > 0 {
		if !strings.EqualFold(rest[0].text, "from") {
			p.fail(rest[0].offset, `%s can't follow the duration: write "from" and a time, or nothing`, quote(rest[0].text))
			return nil
		}
		if len(rest) == 1 {
			p.fail(len(p.text), `a time is missing: write "from 2027-01-01T00:00:00Z"`)
			return nil
		}
		i.anchor, i.own = p.time(rest[1]).at, true
		p.last(rest[2:])
	}
	if len(p.faults) > 0 {
		return nil
	}
	return i
}

// duration reads a Go duration that may begin with days, in whole seconds.
func (p *parser) duration(t token) int64 {
	text, days := t.text, int64(0)
	if before, after, ok := strings.Cut(text, "d"); ok {
		n, err := strconv.ParseUint(before, 10, 32)
		if err != nil {
			p.fail(t.offset, `%s is no duration: write one such as "90s", "1h30m" or "7d12h"`, quote(t.text))
			return 0
		}
		text, days = after, int64(n)
	}
	var d time.Duration
	if text != "" || days == 0 && text == t.text {
		var err error
		if d, err = time.ParseDuration(text); err != nil || text[0] == '-' || text[0] == '+' {
			p.fail(t.offset, `%s is no duration: write one such as "90s", "1h30m" or "7d12h"`, quote(t.text))
			return 0
		}
	}
	every := days*day + int64(d/time.Second)
	switch {
	case d%time.Second != 0:
		p.fail(t.offset, "%s is not in whole seconds: leave out the fraction", quote(t.text))
	case every < 1:
		p.fail(t.offset, "%s is too short: write 1s or more", quote(t.text))
	case every > longestEvery:
		p.fail(t.offset, "%s is too long: write %dd or less", quote(t.text), longestEvery/day)
	}
	return every
}

// at reads what follows "@at".
func (p *parser) at(rest []token) term {
	if len(rest) == 0 {
		p.fail(len(p.text), `a time is missing: write "@at 2027-01-01T09:00", or "@at 2027-01-01T09:00:00Z" for UTC`)
		return nil
	}
	o := p.time(rest[0])
	p.last(rest[1:])
	if len(p.faults) > 0 {
		return nil
	}
	o.exclusions = p.exclusions
	return o
}

// last refuses words after the end.
func (p *parser) last(rest []token) {
	if len(rest) > 0 {
		p.fail(rest[0].offset, "nothing follows the time: remove %s", quote(rest[0].text))
	}
}

// time reads an instant, or a civil time in the zone.
func (p *parser) time(t token) *once {
	if at, err := time.Parse(time.RFC3339, t.text); err == nil {
		if at.Nanosecond() != 0 {
			p.fail(t.offset, "%s is not in whole seconds: leave out the fraction", quote(t.text))
		}
		u := at.Unix()
		p.within(t, u)
		return &once{at: u, planned: p.zone.wall(u)}
	}
	for _, layout := range [...]string{"2006-01-02T15:04", "2006-01-02T15:04:05"} {
		if civil, err := time.Parse(layout, t.text); err == nil && civil.Nanosecond() == 0 {
			at := p.zone.instant(civil.Unix())
			p.within(t, at)
			return &once{at: at, planned: civil.Unix()}
		}
	}
	p.fail(t.offset, "%s is no time: write 2027-01-01T09:00 for a time in the schedule's zone, or 2027-01-01T09:00:00Z for UTC", quote(t.text))
	return &once{}
}

func (p *parser) within(t token, at int64) {
	if at < earliest || at > latest {
		p.fail(t.offset, "%s is not in the years 1 to 9999", quote(t.text))
	}
}

// count is "1 field", "2 fields".
func count(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return fmt.Sprintf("%d %ss", n, noun)
}
