package scheduler

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/orrery-io/orrery/command"
	"github.com/orrery-io/orrery/fsm"
	"github.com/orrery-io/orrery/job"
)

// planned is a state machine with schedules that fire every minute, and a term that
// decides about them when the benchmark says so.
type planned struct {
	m    *fsm.Machine
	term *term
	rows []*job.Schedule
}

func planMany(b *testing.B, n int) *planned {
	b.Helper()
	ctx, cancel := context.WithCancel(context.Background()) //nolint:usetesting // ends before the machine is closed
	m, err := fsm.Open(ctx, fsm.Config{Dir: b.TempDir()})
	if err != nil {
		b.Fatal(err)
	}
	p := &proposer{tb: b, machine: m, queue: make(chan proposal, 4096)}
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := m.Run(ctx); err != nil {
			b.Error(err)
		}
	})
	wg.Go(func() { p.run(ctx) })
	b.Cleanup(func() {
		cancel()
		wg.Wait()
		if err := m.Close(); err != nil {
			b.Error(err)
		}
	})
	p.s = New(Config{Machine: m, Propose: p.propose})
	record := func(items ...command.Item) {
		if _, err := p.propose(ctx, items...); err != nil {
			b.Fatal(err)
		}
	}
	record(command.Item{Command: &command.Migrate{To: fsm.NewestSchema}})
	start := job.At(time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC))
	items := make([]command.Item, 0, 1000)
	for i := range n {
		s := job.ScheduleSpec{
			Expressions: []string{"* * * * *"}, Timezone: "Europe/Berlin",
			Template: job.Template{Spec: normal(job.Spec{Payload: payload})},
		}
		s.Normalize()
		items = append(items, command.Item{Command: &command.SetSchedule{
			Name: fmt.Sprint("schedule-", i), Spec: s, Anchor: start, Cursor: start, Next: start.Add(job.Minute),
		}})
		if len(items) == cap(items) || i == n-1 {
			record(items...)
			items = items[:0]
		}
	}
	return &planned{m: m, term: newTerm(p.s, 1), rows: m.Schedules()}
}

// BenchmarkTicks is a minute in which all schedules fire at once: decided, recorded,
// applied, without Raft and its disk.
func BenchmarkTicks(b *testing.B) {
	const n = 10_000
	p := planMany(b, n)
	p.term.loadPlans()
	at := p.rows[0].Cursor
	var due []*plan
	for b.Loop() {
		at = at.Add(job.Minute)
		for {
			due, _ = p.term.plans.take(due, at, tickPage)
			if len(due) == 0 {
				break
			}
			p.term.decideTicks(b.Context(), due, at)
		}
	}
	b.ReportMetric(float64(b.N*n)/b.Elapsed().Seconds(), "ticks/s")
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*n), "ns/tick")
	if got := p.m.Stats().Jobs[job.Pending]; got != int64(b.N*n) {
		b.Fatalf("%d jobs, want %d", got, b.N*n)
	}
}

// BenchmarkLoadPlans is what 100 000 schedules add to the beginning of a term.
func BenchmarkLoadPlans(b *testing.B) {
	p := planMany(b, 100_000)
	for b.Loop() {
		t := newTerm(p.term.s, 1)
		t.loadPlans()
		if t.plans.count() != len(p.rows) {
			b.Fatal("plans are missing")
		}
	}
}

// BenchmarkDecide is one schedule's decision that a tick fires.
func BenchmarkDecide(b *testing.B) {
	row := &job.Schedule{Name: "s", Rev: 1, ScheduleSpec: job.ScheduleSpec{Expressions: []string{"* * * * *"}, Timezone: "Europe/Berlin"}}
	row.Normalize()
	rule, err := Rule(row)
	if err != nil {
		b.Fatal(err)
	}
	row.Cursor = job.At(time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC))
	b.ReportAllocs()
	for b.Loop() {
		d := deciding{row: row, rule: rule, now: row.Cursor.Add(job.Minute)}
		if len(d.decide()) != 1 {
			b.Fatal("it doesn't fire")
		}
	}
}
