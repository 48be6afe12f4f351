package cron

import (
	"errors"
	"slices"
	"testing"
	"time"
)

// Whatever is written, New says what is wrong with it, at a place that is there,
// or makes a rule that keeps its promises.
func FuzzRule(f *testing.F) {
	for _, seed := range []struct{ expression, exclude, zone string }{
		{"*/15 9-17 * * MON-FRI", "12-24..01-01", "Europe/Berlin"},
		{"0 0 1W,15,L-3,LW * 5#3,MONL", "sat,sun", "Pacific/Apia"},
		{"H(0-29)/10 ~ * H FRI-MON/2", "mon-fri 22:00-06:00", "Australia/Lord_Howe"},
		{"@every 1d12h from 2027-01-01T00:00", "2026-12-24..2027-01-01", "Africa/Monrovia"},
		{"@at 2027-03-28T02:30", "* 12:00-24:00", "America/Sao_Paulo"},
		{"59 59 23 31 12 7", "*", ""},
		{"0 0 29 2 ?", "02-28", "UTC"},
		{"@yearly", "2026-12-24", "Asia/Manila"},
		{"1,,2 60 x * *", "mo 1:00", "Berlin"},
		{"0 0 ? 2 MON#5", "fri 00:00-12:00", "Africa/Casablanca"},
	} {
		f.Add(seed.expression, seed.exclude, seed.zone, "key", int64(1_800_000_000))
		f.Add(seed.expression, seed.exclude, seed.zone, "", int64(-1_500_000_000))
	}
	f.Fuzz(func(t *testing.T, expression, exclude, zone, key string, from int64) {
		cfg := Config{Expressions: []string{expression}, Zone: zone, HashKey: key, Exclude: []string{exclude}}
		r, err := New(cfg)
		if err != nil {
			checkFaults(t, cfg, err)
			cfg.Exclude = nil
			if r, err = New(cfg); err != nil {
				return
			}
		}
		if r.Describe() == "" {
			t.Error("no description")
		}
		// The plainest form of it is one of itself, and has the same ticks.
		cfg.Expressions = r.Expressions()
		again, err := New(cfg)
		if err != nil {
			t.Fatalf("%q became %q: %v", expression, cfg.Expressions, err)
		}
		if !slices.Equal(again.Expressions(), cfg.Expressions) {
			t.Fatalf("%q became %q, then %q", expression, cfg.Expressions, again.Expressions())
		}
		at := time.Unix(from, 0)
		for range 50 {
			next, ok := r.Next(at)
			same, too := again.Next(at)
			if ok != too || !next.Equal(same) {
				t.Fatalf("%q: Next(%s) = %s; %q: %s", expression, at, next, cfg.Expressions, same)
			}
			if !ok {
				break
			}
			if !next.After(at) || next.Nanosecond() != 0 || next.Location() != time.UTC || next.Year() > 9999 {
				t.Fatalf("%q: Next(%s) = %s", expression, at, next)
			}
			// A moment before a tick, that tick is the next.
			if before, _ := r.Next(next.Add(-1)); !before.Equal(next) {
				t.Fatalf("%q: Next(%s) = %s, but a moment before it %s", expression, at, next, before)
			}
			at = next
		}
		for _, w := range r.Warnings(time.Unix(from, 0)) {
			if w == "" {
				t.Error("an empty warning")
			}
		}
	})
}

func checkFaults(t *testing.T, cfg Config, err error) {
	e, ok := errors.AsType[*Error](err)
	if !ok || len(e.Faults) == 0 || e.Error() == "" {
		t.Fatalf("%#v is no list of faults", err)
	}
	for _, f := range e.Faults {
		length := 0
		switch {
		case f.Field == FieldExpressions && f.Index == 0:
			length = len(cfg.Expressions[0])
		case f.Field == FieldExclude && f.Index == 0:
			length = len(cfg.Exclude[0])
		case f.Field != FieldZone || f.Index != -1:
			t.Errorf("a fault nowhere: %+v", f)
		}
		if f.Offset < 0 || f.Offset > length || f.Message == "" {
			t.Errorf("%+v of %d bytes", f, length)
		}
	}
}
