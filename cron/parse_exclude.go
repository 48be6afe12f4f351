package cron

import (
	"fmt"
	"strconv"
	"strings"
	"time"
)

// parseExclusions reads Config.Exclude.
func parseExclusions(texts []string) (exclusions, []Fault) {
	if len(texts) > MaxExclusions {
		return exclusions{}, []Fault{{
			Field: FieldExclude, Index: -1,
			Message: fmt.Sprintf("%d exclusions, but a rule has at most %d", len(texts), MaxExclusions),
		}}
	}
	var faults []Fault
	parts := make([]exclusion, 0, len(texts))
	for i, text := range texts {
		p := excludeParser{text: text}
		e := p.exclusion()
		if p.message != "" {
			faults = append(faults, Fault{Field: FieldExclude, Index: i, Offset: min(p.offset, len(text)), Message: p.message})
			continue
		}
		parts = append(parts, e)
	}
	return compile(parts), faults
}

// excludeParser reads one exclusion.
type excludeParser struct {
	text string
	// offset and message are the first fault; the message is "" while there is
	// none.
	offset  int
	message string
}

func (p *excludeParser) fail(offset int, format string, args ...any) {
	if p.message == "" {
		p.offset, p.message = offset, fmt.Sprintf(format, args...)
	}
}

const exclusionForms = `write a date "2026-12-24", dates "2026-12-24..2027-01-01", a day of every year "12-25", ` +
	`weekdays "sat,sun" or a window "mon-fri 22:00-06:00"`

func (p *excludeParser) exclusion() exclusion {
	e := exclusion{text: strings.Join(strings.Fields(p.text), " ")}
	if len(p.text) > MaxLength {
		p.fail(MaxLength, "%d bytes, but an exclusion has at most %d", len(p.text), MaxLength)
		return e
	}
	words := tokens(p.text)
	if len(words) == 0 {
		p.fail(0, "the exclusion is empty: %s", exclusionForms)
		return e
	}
	first := words[0]
	if c := first.text[0]; c >= '0' && c <= '9' {
		if len(words) > 1 {
			p.fail(words[1].offset, "nothing follows a date: remove %s", quote(words[1].text))
		}
		p.dates(&e, first)
		return e
	}
	e.days = p.weekdays(first)
	switch {
	case len(words) == 1:
		e.from, e.to = 0, 24*60
	case len(words) > 2:
		p.fail(words[2].offset, `nothing follows the window: remove %s`, quote(words[2].text))
	default:
		p.window(&e, words[1])
	}
	return e
}

// dates reads a date or two, with a year or without.
func (p *excludeParser) dates(e *exclusion, t token) {
	from, to, ranged := t.cut("..")
	if !ranged {
		to = from
	}
	if strings.Count(from.text, "-") == 1 && !strings.Contains(from.text, ":") {
		e.yearly = &[2]monthDay{p.monthDay(from), p.monthDay(to)}
		return
	}
	e.dates = &dateRange{p.date(from), p.date(to)}
	if e.dates.to < e.dates.from {
		p.fail(to.offset, "%s is earlier than %s: swap the two", to.text, from.text)
	}
}

func (p *excludeParser) date(t token) int64 {
	d, err := time.Parse(time.DateOnly, t.text)
	if err != nil {
		p.fail(t.offset, "%s is no date: %s", quote(t.text), noDate(t.text))
	}
	return d.Unix() / day
}

// noDate says what is wrong with a date.
func noDate(text string) string {
	if strings.Contains(text, ":") {
		return `a window begins with its weekdays, such as "* 12:00-13:00"`
	}
	if len(text) == len(time.DateOnly) && strings.Count(text, "-") == 2 {
		return "there is no such day, write one of the calendar"
	}
	return exclusionForms
}

func (p *excludeParser) monthDay(t token) monthDay {
	// A leap year, so that 29 February is a day.
	d, err := time.Parse(time.DateOnly, "2000-"+t.text)
	if err != nil {
		p.fail(t.offset, `%s is no day of a year: write month and day, such as "12-25"`, quote(t.text))
		return monthDay{1, 1}
	}
	return monthDay{int(d.Month()), d.Day()}
}

// weekdays reads "*", or names and ranges of them.
func (p *excludeParser) weekdays(t token) (set weekdays) {
	if t.text == "*" {
		return allWeek
	}
	for more := true; more; {
		var item token
		item, t, more = t.cut(",")
		if item.text == "" {
			p.fail(item.offset, "an item of the list is empty: remove the comma")
			return 0
		}
		from, to, ranged := item.cut("-")
		lo := p.weekday(from)
		hi := lo
		if ranged {
			hi = p.weekday(to)
		}
		for d := lo; ; d = (d + 1) % 7 {
			set |= 1 << d
			if d == hi {
				break
			}
		}
	}
	return set
}

func (p *excludeParser) weekday(t token) int {
	for i, name := range weekdayNames {
		if strings.EqualFold(name, t.text) {
			return i
		}
	}
	if t.text == "" {
		p.fail(t.offset, "a weekday is missing: write SUN to SAT")
		return 0
	}
	p.fail(t.offset, "%s is no weekday%s", quote(t.text), weekdayField.nearest(t.text, `SUN to SAT, or "*" for every day`))
	return 0
}

// window reads "22:00-06:00".
func (p *excludeParser) window(e *exclusion, t token) {
	from, to, ranged := t.cut("-")
	if !ranged {
		p.fail(t.offset, `%s is no window: write two times, such as "12:00-13:00"`, quote(t.text))
		return
	}
	e.from, e.to = p.clock(from, 24*60-1), p.clock(to, 24*60)
	switch {
	case e.from == e.to:
		p.fail(to.offset, `the window is empty: write "00:00-24:00" for the whole day`)
	case e.to < e.from:
		e.to += 24 * 60
	}
}

// clock reads a time of the day as minutes, at most most.
func (p *excludeParser) clock(t token, most int) int {
	h, m, ok := strings.Cut(t.text, ":")
	hour, _ := strconv.Atoi(h)
	minute, _ := strconv.Atoi(m)
	if !ok || len(h) != 2 || len(m) != 2 || !digits(h) || !digits(m) || minute > 59 || hour*60+minute > most {
		limit := "23:59"
		if most == 24*60 {
			limit = "24:00"
		}
		p.fail(t.offset, `%s is no time of the day: write hours and minutes from 00:00 to %s`, quote(t.text), limit)
	}
	return hour*60 + minute
}
