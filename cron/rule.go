package cron

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// Config says when a rule fires.
type Config struct {
	// Expressions are joined: the rule fires when any of them does, and an
	// instant that several name counts once. There is at least one, at most
	// MaxExpressions.
	Expressions []string
	// Zone is an IANA name such as "Europe/Berlin"; "" means UTC.
	Zone string
	// HashKey is what H is hashed from, usually the name of the schedule.
	HashKey string
	// Anchor is the first tick of an "@every" without a "from" of its own; it is
	// cut to whole seconds. Zero means the Unix epoch.
	Anchor time.Time
	// Start and End bound the ticks: none before Start, none at End or later.
	// Zero means unbounded.
	Start, End time.Time
	// Exclude are times to leave out: dates, yearly dates, weekly windows. At
	// most MaxExclusions.
	Exclude []string
}

// Limits on what a rule may be made of. They keep the time that Next takes
// bounded, see there.
const (
	MaxExpressions = 64
	MaxExclusions  = 1000
	// MaxLength is in bytes and counts for each expression and exclusion.
	MaxLength = 1024
)

// Rule is a set of instants, its ticks. It is immutable and safe for concurrent
// use.
type Rule struct {
	terms      []term
	zone       zone
	exclusions exclusions
	// first and end bound the ticks: first <= t < end, in Unix seconds.
	first, end int64
	config     Config
}

// term is one expression of a rule.
type term interface {
	// next returns the first tick later than after and the civil time that it
	// was planned for, both in seconds; ok is false when there is none.
	next(after int64) (tick, planned int64, ok bool)
	// String is the expression in its plainest form: names are numbers, hashed
	// values stand in place of H.
	String() string
	// describe says the same in words, without the zone.
	describe() string
}

// Instants outside are never ticks: the years 1 to 9999, which every format of a
// time can write.
const (
	earliest = -62135596800
	latest   = 253402300799
)

// New makes a rule of cfg. The error is an *Error that lists all faults.
func New(cfg Config) (*Rule, error) {
	r := &Rule{config: cfg, first: earliest, end: latest + 1}
	r.config.Expressions = slices.Clone(cfg.Expressions)
	r.config.Exclude = slices.Clone(cfg.Exclude)

	var zoneFault string
	r.zone, zoneFault = loadZone(cfg.Zone)
	excluded, excludeFaults := parseExclusions(cfg.Exclude)
	r.exclusions = excluded
	terms, faults := r.parse(cfg)
	r.terms = terms
	if zoneFault != "" {
		faults = append(faults, Fault{Field: FieldZone, Index: -1, Message: zoneFault})
	}
	faults = append(faults, r.bound(cfg)...)
	faults = append(faults, excludeFaults...)
	if len(faults) > 0 {
		return nil, &Error{Faults: faults}
	}
	return r, nil
}

// bound sets first and end.
func (r *Rule) bound(cfg Config) (faults []Fault) {
	if !cfg.Start.IsZero() {
		r.first = max(r.first, ceil(cfg.Start))
	}
	if !cfg.End.IsZero() {
		r.end = min(r.end, ceil(cfg.End))
	}
	if !cfg.Start.IsZero() && !cfg.End.IsZero() && !cfg.Start.Before(cfg.End) {
		faults = append(faults, Fault{Field: FieldEnd, Index: -1, Message: fmt.Sprintf(
			"the end %s is not later than the start %s", stamp(cfg.End), stamp(cfg.Start))})
	}
	if a := cfg.Anchor; !a.IsZero() && (a.Unix() < earliest || a.Unix() > latest) {
		faults = append(faults, Fault{Field: FieldAnchor, Index: -1, Message: "the anchor is not in the years 1 to 9999"})
	}
	return faults
}

// parse reads the expressions; zone and exclusions are there already.
func (r *Rule) parse(cfg Config) (terms []term, faults []Fault) {
	switch n := len(cfg.Expressions); {
	case n == 0:
		return nil, []Fault{{Field: FieldExpressions, Index: -1, Message: `no expression: write at least one, such as "0 9 * * MON-FRI"`}}
	case n > MaxExpressions:
		return nil, []Fault{{Field: FieldExpressions, Index: -1, Message: fmt.Sprintf("%d expressions, but a rule has at most %d", n, MaxExpressions)}}
	}
	var anchor int64
	if !cfg.Anchor.IsZero() {
		anchor = cfg.Anchor.Unix()
	}
	for i, text := range cfg.Expressions {
		p := parser{text: text, index: i, key: cfg.HashKey, zone: r.zone, anchor: anchor, exclusions: &r.exclusions}
		if t := p.expression(); t != nil {
			terms = append(terms, t)
		}
		faults = append(faults, p.faults...)
	}
	return terms, faults
}

// Next returns the first tick strictly later than after, in UTC and in whole
// seconds. When there is none, ok is false, and stays so for every later after.
//
// It allocates nothing and is bounded. A rule of cron expressions fires never
// again when it has no tick for 100 years, years that a dated exclusion
// removes not counted: the longest gap without exclusions is 40 years (February's
// fifth Monday). An "@every" also ends when 100,000 of its ticks in a row
// fall into exclusions that don't touch each other. Nothing fires after the year
// 9999.
func (r *Rule) Next(after time.Time) (next time.Time, ok bool) {
	t, ok := r.next(floor(after))
	if !ok {
		return time.Time{}, false
	}
	return time.Unix(t, 0).UTC(), true
}

func (r *Rule) next(after int64) (int64, bool) {
	after = max(after, r.first-1)
	best := r.end
	for _, term := range r.terms {
		if t, _, ok := term.next(after); ok && t < best {
			best = t
		}
	}
	return best, best < r.end
}

// Location returns the rule's time zone.
func (r *Rule) Location() *time.Location { return r.zone.loc }

// Expressions returns the rule's expressions in their plainest form: numbers
// instead of names, the hashed value instead of H, "@at" in UTC. A rule made of
// them, with the same zone, anchor, bounds and exclusions, has the same ticks.
func (r *Rule) Expressions() []string {
	list := make([]string, len(r.terms))
	for i, t := range r.terms {
		list[i] = t.String()
	}
	return list
}

// floor and ceil are the whole seconds around t, kept within what a tick can be
// compared with.
func floor(t time.Time) int64 { return min(max(t.Unix(), earliest-1), latest+1) }

func ceil(t time.Time) int64 {
	s := floor(t)
	if t.Nanosecond() > 0 && s <= latest {
		s++
	}
	return s
}

// stamp writes an instant the way the API does.
func stamp(t time.Time) string { return t.UTC().Format(time.RFC3339) }

// Names of the fields of Config, as Fault has them.
const (
	FieldExpressions = "expressions"
	FieldZone        = "zone"
	FieldAnchor      = "anchor"
	FieldEnd         = "end"
	FieldExclude     = "exclude"
)

// Fault is one thing that is wrong with a Config.
type Fault struct {
	// Field is one of the constants above.
	Field string
	// Index is the place in a list, -1 when the fault is not in one of its
	// strings.
	Index int
	// Offset is where in the string the fault is, in bytes from its start. It is
	// at most the string's length.
	Offset int
	// Message says what is wrong and what to write instead, without a final stop.
	Message string
}

// Error lists everything that is wrong with a Config, in its order.
type Error struct{ Faults []Fault }

// Error returns all faults with their places.
func (e *Error) Error() string {
	var b strings.Builder
	for i, f := range e.Faults {
		if i > 0 {
			b.WriteString("; ")
		}
		b.WriteString(f.Field)
		if f.Index >= 0 {
			fmt.Fprintf(&b, "[%d] at byte %d", f.Index, f.Offset)
		}
		b.WriteString(": ")
		b.WriteString(f.Message)
	}
	return b.String()
}
