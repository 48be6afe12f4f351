package job

import (
	"fmt"
	"slices"
)

// Check returns everything that is wrong with a normalized ScheduleSpec, but for its
// expressions, zone and exclusions, of which package cron knows.
func (s *ScheduleSpec) Check() []FieldError {
	var errs []FieldError
	bad := func(pointer, format string, args ...any) {
		errs = append(errs, FieldError{Pointer: pointer, Detail: fmt.Sprintf(format, args...)})
	}
	if len(s.Description) > MaxDescription || !printable(s.Description) {
		bad("/description", "must be at most %d printable bytes", MaxDescription)
	}
	if n := len(s.Expressions); n == 0 || n > MaxExpressions {
		bad("/expressions", "has %d entries; it must have 1 to %d", n, MaxExpressions)
	}
	if n := len(s.Exclude); n > MaxExclusions {
		bad("/exclude", "has %d entries; the limit is %d", n, MaxExclusions)
	}
	lists := map[string][]string{"/expressions": s.Expressions, "/exclude": s.Exclude}
	for _, pointer := range []string{"/expressions", "/exclude"} {
		for i, x := range lists[pointer] {
			if len(x) > MaxExpression {
				bad(fmt.Sprintf("%s/%d", pointer, i), "is %d bytes long; the limit is %d", len(x), MaxExpression)
			}
		}
	}
	if s.Start != 0 && s.End != 0 && s.End <= s.Start {
		bad("/end", "must be later than start")
	}
	if s.Jitter < 0 || s.Jitter > Day {
		bad("/jitter", "is %s; it must be at most 24h", s.Jitter)
	}
	if w := s.CatchUp.Window; w < Second || w > MaxDuration {
		bad("/catch_up/window", "is %s; it must be 1s to a hundred years", w)
	}
	if m := s.CatchUp.Max; m < 1 || m > MaxCatchUp {
		bad("/catch_up/max", "is %d; it must be 1 to %d", m, MaxCatchUp)
	}
	return append(errs, s.Template.check()...)
}

// check returns what is wrong with a template. What would fix a moment, or make two
// of its jobs one, has no place in it.
func (t *Template) check() []FieldError {
	errs := t.Spec.Check()
	for i := range errs {
		errs[i].Pointer = "/template" + errs[i].Pointer
	}
	for _, x := range []struct {
		set     bool
		pointer string
		detail  string
	}{
		{t.RunAt != 0, "/template/run_at", "the schedule says when; give delay to have the job run later than its tick"},
		{t.ExpiresAt != 0, "/template/start_by", "would be the same moment for every tick; give expires_in"},
		{t.IdempotencyKey != "", "/template/idempotency_key", "would make all ticks one job; each tick is recorded once as it is"},
	} {
		if x.set {
			errs = append(errs, FieldError{Pointer: x.pointer, Detail: x.detail})
		}
	}
	return errs
}

// SameTimes reports whether two schedules plan the same ticks.
func (s *ScheduleSpec) SameTimes(o *ScheduleSpec) bool {
	return slices.Equal(s.Expressions, o.Expressions) && slices.Equal(s.Exclude, o.Exclude) &&
		s.Timezone == o.Timezone && s.Start == o.Start && s.End == o.End
}
