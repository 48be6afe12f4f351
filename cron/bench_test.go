package cron

import (
	"testing"
	"time"
)

var benchmarks = []struct {
	name string
	cfg  Config
}{
	{"every_minute", Config{Expressions: []string{"* * * * *"}}},
	{"every_minute_in_Berlin", Config{Expressions: []string{"* * * * *"}, Zone: "Europe/Berlin"}},
	{"daily", Config{Expressions: []string{"0 9 * * *"}}},
	{"workdays_in_Berlin", Config{Expressions: []string{"0 9 * * MON-FRI"}, Zone: "Europe/Berlin"}},
	{"last_day_in_Berlin", Config{Expressions: []string{"0 0 L * *"}, Zone: "Europe/Berlin"}},
	{"third_Friday_or_15W", Config{Expressions: []string{"0 0 15W * FRI#3"}, Zone: "America/New_York"}},
	{"leap_day", Config{Expressions: []string{"0 0 29 2 *"}, Zone: "Europe/Berlin"}},
	{"fifth_Monday_of_February", Config{Expressions: []string{"0 0 ? 2 MON#5"}, Zone: "Europe/Berlin"}},
	{"exclusions", Config{Expressions: []string{"*/5 * * * *"}, Zone: "Europe/Berlin", Exclude: []string{"sat,sun", "mon-fri 18:00-08:00", "12-24..01-01", "2027-05-01..2027-05-31"}}},
	{"three_joined", Config{Expressions: []string{"0 9 * * MON-FRI", "30 10 * * SAT", "0 12 L * *"}, Zone: "Europe/Berlin"}},
	{"every_90s", Config{Expressions: []string{"@every 90s"}}},
	{"every_90s_without_nights", Config{Expressions: []string{"@every 90s"}, Zone: "Europe/Berlin", Exclude: []string{"* 22:00-06:00"}}},
	{"never", Config{Expressions: []string{"* * * * * *"}, Zone: "Europe/Berlin", Exclude: []string{"*"}}},
	{"every_day_never", Config{Expressions: []string{"@every 1d"}, Exclude: []string{"* 00:00-00:01"}}},
}

func BenchmarkNext(b *testing.B) {
	for _, bb := range benchmarks {
		b.Run(bb.name, func(b *testing.B) {
			r := mustNew(b, bb.cfg)
			from := time.Date(2027, 1, 1, 0, 0, 30, 0, time.UTC)
			at := from
			b.ReportAllocs()
			for b.Loop() {
				var ok bool
				if at, ok = r.Next(at); !ok || at.Year() > 2200 {
					at = from
				}
			}
		})
	}
}

func BenchmarkNew(b *testing.B) {
	for _, name := range []string{"every_minute", "workdays_in_Berlin", "exclusions"} {
		for _, bb := range benchmarks {
			if bb.name != name {
				continue
			}
			b.Run(name, func(b *testing.B) {
				b.ReportAllocs()
				for b.Loop() {
					mustNew(b, bb.cfg)
				}
			})
		}
	}
}

// Next allocates nothing, whatever the rule.
func TestNextAllocatesNothing(t *testing.T) {
	for _, bb := range benchmarks {
		t.Run(bb.name, func(t *testing.T) {
			r := mustNew(t, bb.cfg)
			at := time.Date(2027, 1, 1, 0, 0, 30, 0, time.UTC)
			allocs := testing.AllocsPerRun(20, func() {
				if next, ok := r.Next(at); ok {
					at = next
				}
			})
			if allocs != 0 {
				t.Errorf("%v allocations", allocs)
			}
		})
	}
}
