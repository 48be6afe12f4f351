package cron

import (
	"fmt"
	"strconv"
	"strings"
)

// field is what the fields of an expression differ in.
type field struct {
	noun   string
	lo, hi int
	// most is the highest number that may be written, 7 for Sunday.
	most int
	// spread is the highest value that H takes by itself.
	spread int
	names  []string
	// salt makes H differ between fields. It never changes.
	salt byte
}

var (
	monthNames   = []string{"JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC"}
	weekdayNames = []string{"SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT"}

	secondField  = field{noun: "second", hi: 59, most: 59, spread: 59, salt: 's'}
	minuteField  = field{noun: "minute", hi: 59, most: 59, spread: 59, salt: 'm'}
	hourField    = field{noun: "hour", hi: 23, most: 23, spread: 23, salt: 'h'}
	domField     = field{noun: "day of the month", lo: 1, hi: 31, most: 31, spread: 28, salt: 'd'}
	monthField   = field{noun: "month", lo: 1, hi: 12, most: 12, spread: 12, names: monthNames, salt: 'M'}
	weekdayField = field{noun: "day of the week", hi: 6, most: 7, spread: 6, names: weekdayNames, salt: 'w'}
)

// items splits a field at its commas and hands them over one by one; it refuses
// empty ones.
func (p *parser) items(t token, each func(token)) {
	for more := true; more; {
		var item token
		item, t, more = t.cut(",")
		if item.text == "" {
			p.fail(item.offset, "an item of the list is empty: remove the comma")
			continue
		}
		each(item)
	}
}

// set reads a field without special forms.
func (p *parser) set(f *field, t token) (set uint64) {
	p.items(t, func(item token) { set |= p.item(f, item) })
	return set
}

// dayOfMonth reads the third field of five.
func (p *parser) dayOfMonth(t token) (d monthDays) {
	if t.text == "*" || t.text == "?" {
		d.any = true
		return d
	}
	p.items(t, func(item token) {
		upper := strings.ToUpper(item.text)
		switch {
		case upper == "L":
			d.beforeLast |= 1
		case upper == "LW":
			d.lastWorkday = true
		case strings.HasPrefix(upper, "L-"):
			if n, ok := p.number(item.offset+2, item.text[2:], 1, 30, "number of days before the last"); ok {
				d.beforeLast |= 1 << n
			}
		case strings.HasSuffix(upper, "W"):
			if n, ok := p.number(item.offset, item.text[:len(item.text)-1], 1, 31, "day of the month"); ok {
				d.nearest |= 1 << n
			}
		default:
			set := uint32(p.item(&domField, item))
			d.days |= set
			if set&(set-1) == 0 {
				d.single |= set
			}
		}
	})
	return d
}

// dayOfWeek reads the last field.
func (p *parser) dayOfWeek(t token) (d weekDays) {
	if t.text == "*" || t.text == "?" {
		d.any = true
		return d
	}
	p.items(t, func(item token) {
		switch before, after, nth := item.cut("#"); {
		case nth:
			day, ok := p.value(&weekdayField, before)
			n, fine := p.number(after.offset, after.text, 1, 5, "number of a weekday in a month")
			if ok && fine {
				d.nth |= 1 << (8*(day%7) + n)
			}
		case strings.EqualFold(item.text, "L"):
			p.fail(item.offset, "L says which weekday is the last of the month: write 5L for the last Friday, or SAT")
		case len(item.text) > 1 && strings.EqualFold(item.text[len(item.text)-1:], "L"):
			if day, ok := p.value(&weekdayField, token{item.text[:len(item.text)-1], item.offset}); ok {
				d.last |= 1 << (day % 7)
			}
		default:
			d.days |= weekdays(p.item(&weekdayField, item))
		}
	})
	return d
}

// item reads what all fields have: *, a value, a range, H, ~, each with a step.
func (p *parser) item(f *field, t token) uint64 {
	base, step, stepped := t.cut("/")
	lo, hi, hashed, ok := p.span(f, base, stepped)
	if !ok {
		return 0
	}
	size := hi - lo + 1
	if hi < lo { // around the end of the week
		size += 7
	}
	by := 1
	if stepped {
		if by, ok = p.step(f, step, size); !ok {
			return 0
		}
	}
	if hashed {
		h := hash(p.key, f.salt)
		if !stepped {
			return 1 << (lo + int(h%uint64(size)))
		}
		lo += int(h % uint64(by))
		size = hi - lo + 1
	}
	var set uint64
	for n := 0; n < size; n += by {
		v := lo + n
		if v > f.hi { // Sunday as 7, or a week that goes on
			v -= 7
		}
		set |= 1 << v
	}
	return set
}

// span reads the part of an item before its step.
func (p *parser) span(f *field, t token, stepped bool) (lo, hi int, hashed, ok bool) {
	if t.text == "*" {
		return f.lo, f.hi, false, true
	}
	if t.text == "?" {
		p.fail(t.offset, `"?" stands alone, in place of the day of the month or the day of the week: write "*"`)
		return 0, 0, false, false
	}
	if t.text[:min(1, len(t.text))] == "H" || t.text[:min(1, len(t.text))] == "h" {
		lo, hi, ok = p.hashRange(f, t)
		return lo, hi, true, ok
	}
	if from, to, tilde := t.cut("~"); tilde {
		lo, hi, ok = p.bounds(f, from, to, f.lo, f.spread)
		return lo, hi, true, ok
	}
	from, to, ranged := t.cut("-")
	if lo, ok = p.value(f, from); !ok {
		return 0, 0, false, false
	}
	if !ranged {
		if stepped {
			return lo % (f.hi + 1), f.hi, false, true
		}
		return lo, lo, false, true
	}
	if hi, ok = p.value(f, to); !ok {
		return 0, 0, false, false
	}
	if f.salt == weekdayField.salt {
		// A week has no end to run backwards over: FRI-MON, SAT-SUN, 5-7.
		if lo == 7 {
			lo = 0
			hi %= 7
		}
		return lo, hi, false, true
	}
	if lo > hi {
		p.fail(t.offset, "the range %s runs backwards: write %s,%s", t.text, f.rangeText(lo, f.hi), f.rangeText(f.lo, hi))
		return 0, 0, false, false
	}
	return lo, hi, false, true
}

// hashRange reads H or H(lo-hi).
func (p *parser) hashRange(f *field, t token) (lo, hi int, ok bool) {
	inner := token{t.text[1:], t.offset + 1}
	if inner.text == "" {
		return f.lo, f.spread, true
	}
	if !strings.HasPrefix(inner.text, "(") || !strings.HasSuffix(inner.text, ")") || len(inner.text) < 2 {
		p.fail(t.offset, "%s is no %s: write H, H(%d-%d) or H/%d", quote(t.text), f.noun, f.lo, f.spread, f.lo+2)
		return 0, 0, false
	}
	from, to, ranged := token{inner.text[1 : len(inner.text)-1], inner.offset + 1}.cut("-")
	if !ranged {
		p.fail(from.offset, "%s is no range: write H(%d-%d)", quote(from.text), f.lo, f.spread)
		return 0, 0, false
	}
	if from.text == "" || to.text == "" {
		p.fail(from.offset, "a bound is missing: write H(%d-%d)", f.lo, f.spread)
		return 0, 0, false
	}
	return p.bounds(f, from, to, 0, 0)
}

// bounds reads two values in order; a missing one is the default.
func (p *parser) bounds(f *field, from, to token, lo, hi int) (int, int, bool) {
	ok := true
	if from.text != "" {
		if lo, ok = p.value(f, from); to.text == "" {
			hi = f.hi
		}
	}
	if to.text != "" && ok {
		hi, ok = p.value(f, to)
	}
	if ok && lo > hi {
		p.fail(from.offset, "the range from %s to %s runs backwards: swap the two", from.text, to.text)
		ok = false
	}
	return lo, hi, ok
}

func (f *field) rangeText(lo, hi int) string {
	if lo == hi {
		return f.text(lo)
	}
	return f.text(lo) + "-" + f.text(hi)
}

// text writes a value as people do.
func (f *field) text(v int) string {
	if f.names != nil {
		return f.names[(v-f.lo)%len(f.names)]
	}
	return strconv.Itoa(v)
}

// step reads what follows a slash.
func (p *parser) step(f *field, t token, size int) (int, bool) {
	n, err := strconv.Atoi(t.text)
	switch {
	case err != nil || !digits(t.text):
		p.fail(t.offset, "%s is no step: write a number from 1 to %d", quote(t.text), size)
	case n == 0:
		p.fail(t.offset, "a step of 0 never moves: write a number from 1 to %d", size)
	case n > size:
		p.fail(t.offset, "the step %d is more than the %s it steps through: write a number from 1 to %d, or an interval such as \"@every %s\"",
			n, count(size, f.noun), size, f.interval(n))
	default:
		return n, true
	}
	return 0, false
}

// interval is a duration of n of what the field counts.
func (f *field) interval(n int) string {
	switch f.salt {
	case secondField.salt:
		return fmt.Sprintf("%ds", n)
	case minuteField.salt:
		return fmt.Sprintf("%dm", n)
	case hourField.salt:
		return fmt.Sprintf("%dh", n)
	case monthField.salt:
		return fmt.Sprintf("%dd", 30*n)
	}
	return fmt.Sprintf("%dd", n)
}

// value reads a number or a name.
func (p *parser) value(f *field, t token) (int, bool) {
	if digits(t.text) {
		return p.number(t.offset, t.text, f.lo, f.most, f.noun)
	}
	for i, name := range f.names {
		if strings.EqualFold(name, t.text) {
			return f.lo + i, true
		}
	}
	switch {
	case t.text == "":
		p.fail(t.offset, "a %s is missing: write %s", f.noun, f.allowed())
	case f.names == nil:
		p.fail(t.offset, "%s is no %s: write %s", quote(t.text), f.noun, f.allowed())
	default:
		p.fail(t.offset, "%s is no %s%s", quote(t.text), f.noun, f.nearest(t.text, f.allowed()))
	}
	return 0, false
}

// nearest ends a sentence about a name that isn't known; allowed says what else
// may be written.
func (f *field) nearest(word, allowed string) string {
	if len(word) > 3 {
		for _, name := range f.names {
			if strings.HasPrefix(strings.ToUpper(word), name) {
				return ": write " + name
			}
		}
	}
	return didYouMean(word, f.names, ": write "+allowed)
}

// allowed says what may be written.
func (f *field) allowed() string {
	if f.names == nil {
		return fmt.Sprintf("a number from %d to %d", f.lo, f.hi)
	}
	return fmt.Sprintf("%s to %s, or a number from %d to %d", f.names[0], f.names[len(f.names)-1], f.lo, f.most)
}

// number reads a number within bounds.
func (p *parser) number(offset int, text string, lo, hi int, noun string) (int, bool) {
	n, err := strconv.Atoi(text)
	switch {
	case !digits(text):
		p.fail(offset, "%s is no %s: write a number from %d to %d", quote(text), noun, lo, hi)
	case err != nil || n < lo || n > hi:
		p.fail(offset, "%s is no %s: write a number from %d to %d", text, noun, lo, hi)
	default:
		return n, true
	}
	return 0, false
}

// digits reports whether text is made of digits only, and of at least one.
func digits(text string) bool {
	for _, r := range text {
		if r < '0' || r > '9' {
			return false
		}
	}
	return text != ""
}
