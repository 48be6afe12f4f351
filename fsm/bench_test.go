package fsm

import (
	"context"
	"slices"
	"testing"
	"time"

	"github.com/orrery-io/orrery/command"
	"github.com/orrery-io/orrery/job"
)

// jobsPerEntry is what the proposer puts into an entry under load.
const jobsPerEntry = 500

// payload200 is the 200-byte payload of the performance budget.
var payload200 = func() job.JSON {
	p := make([]byte, 200)
	for i := range p {
		p[i] = 'x'
	}
	p[0], p[199] = '"', '"'
	return p
}()

// cycle makes the three entries that take jobsPerEntry jobs from submission to
// their end.
type cycle struct {
	index uint64
	id    job.ID
	now   job.Time
}

func (c *cycle) entry(b testing.TB, items []command.Item) Entry {
	c.index++
	c.now++
	e := command.Entry{Time: c.now, Version: "test", Items: items}
	data, err := e.Append(nil)
	if err != nil {
		b.Fatal(err)
	}
	return Entry{Index: c.index, Term: 1, Data: data}
}

func (c *cycle) next(b testing.TB) []Entry {
	submit := make([]command.Item, jobsPerEntry)
	dispatch := make([]command.Item, jobsPerEntry)
	finish := make([]command.Item, jobsPerEntry)
	for i := range submit {
		id := c.id + job.ID(i) + 1
		submit[i].Command = &command.Submit{Spec: job.Spec{Type: "email.send", Queue: "default", Payload: payload200, Priority: 4, MaxAttempts: 5}}
		dispatch[i].Command = &command.Dispatch{Job: id, Assign: command.Assign{Agent: "agent-1", Session: "01J9ZQ3", Node: "node-1"}}
		finish[i].Command = &command.Finish{Job: id, Fence: job.Fence(c.index + 2), Outcome: job.OutcomeCompleted, Next: job.Completed, Result: job.JSON("null")}
	}
	c.id += jobsPerEntry
	return []Entry{c.entry(b, submit), c.entry(b, dispatch), c.entry(b, finish)}
}

// benchMachine is a machine without the bundle's bookkeeping.
func benchMachine(b *testing.B) *Machine {
	m, err := Open(b.Context(), Config{Dir: b.TempDir()})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { m.Close() })
	e := command.Entry{Time: 1, Items: []command.Item{{Command: &command.Migrate{To: NewestSchema}}}}
	data, err := e.Append(nil)
	if err != nil {
		b.Fatal(err)
	}
	if _, err := m.Apply([]Entry{{Index: 1, Term: 1, Data: data}}); err != nil {
		b.Fatal(err)
	}
	return m
}

// meter counts the time between start and stop, on the wall and on the cores.
type meter struct {
	b    *testing.B
	cpu  time.Duration
	from time.Duration
	jobs int
}

func (m *meter) start() {
	m.from = cpuTime()
	m.b.StartTimer()
}

func (m *meter) stop() {
	m.b.StopTimer()
	m.cpu += cpuTime() - m.from
}

func (m *meter) report() {
	m.b.ReportMetric(0, "ns/op") // an op is many jobs
	m.b.ReportMetric(float64(m.b.Elapsed().Nanoseconds())/float64(m.jobs), "ns/job")
	m.b.ReportMetric(float64(m.cpu.Nanoseconds())/float64(m.jobs), "cpu-ns/job")
	m.b.ReportMetric(float64(m.jobs)/m.b.Elapsed().Seconds(), "jobs/s")
}

// BenchmarkApply takes jobs from submission to their end while the flusher writes
// behind, three commands each.
func BenchmarkApply(b *testing.B) {
	m := benchMachine(b)
	ctx, cancel := context.WithCancel(b.Context())
	done := make(chan error, 1)
	go func() { done <- m.Run(ctx) }()
	c := &cycle{index: 1, now: 1_700_000_000_000}
	t := &meter{b: b}
	b.ReportAllocs()
	for b.Loop() {
		b.StopTimer()
		entries := slices.Concat(c.next(b), c.next(b), c.next(b), c.next(b))
		t.start()
		if _, err := m.Apply(entries); err != nil {
			b.Fatal(err)
		}
		t.stop()
		t.jobs += 4 * jobsPerEntry
		b.StartTimer()
	}
	t.report()
	cancel()
	if err := <-done; err != nil {
		b.Fatal(err)
	}
}

// BenchmarkApplyOnly is apply without writing: the flush between two ops is not
// timed.
func BenchmarkApplyOnly(b *testing.B) {
	m := benchMachine(b)
	c := &cycle{index: 1, now: 1_700_000_000_000}
	t := &meter{b: b}
	b.ReportAllocs()
	for b.Loop() {
		b.StopTimer()
		if err := m.Flush(b.Context()); err != nil {
			b.Fatal(err)
		}
		entries := c.next(b)
		t.start()
		if _, err := m.Apply(entries); err != nil {
			b.Fatal(err)
		}
		t.stop()
		t.jobs += jobsPerEntry
		b.StartTimer()
	}
	t.report()
}

// BenchmarkFlush writes jobs that are new and completed, about as many as come
// together in 20 ms at 100,000 jobs/s, with their events.
func BenchmarkFlush(b *testing.B) {
	m := benchMachine(b)
	c := &cycle{index: 1, now: 1_700_000_000_000}
	t := &meter{b: b}
	b.ReportAllocs()
	for b.Loop() {
		b.StopTimer()
		for range 4 {
			if _, err := m.Apply(c.next(b)); err != nil {
				b.Fatal(err)
			}
		}
		t.start()
		if err := m.Flush(b.Context()); err != nil {
			b.Fatal(err)
		}
		t.stop()
		t.jobs += 4 * jobsPerEntry
		b.StartTimer()
	}
	t.report()
}

// BenchmarkJob reads jobs by id while apply works.
func BenchmarkJob(b *testing.B) {
	m := benchMachine(b)
	c := &cycle{index: 1, now: 1_700_000_000_000}
	for range 8 {
		if _, err := m.Apply(c.next(b)); err != nil {
			b.Fatal(err)
		}
		if err := m.Flush(b.Context()); err != nil {
			b.Fatal(err)
		}
	}
	i := 0
	b.ReportAllocs()
	for b.Loop() {
		i++
		if _, err := m.Job(b.Context(), job.ID(i%4000+1)); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkLatency is one command until its events are read, as an idle system
// sees it.
func BenchmarkLatency(b *testing.B) {
	bb := setup(b, Config{FlushEvery: 20 * time.Millisecond})
	s := bb.m.Subscribe(bb.m.LastEvent())
	b.ReportAllocs()
	for b.Loop() {
		bb.do(submission(nil))
		if _, err := s.Next(b.Context()); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkDelete removes jobs that ended long ago, as the sweep for retention
// does: their rows are no longer in memory.
func BenchmarkDelete(b *testing.B) {
	m := benchMachine(b)
	c := &cycle{index: 1, now: 1_700_000_000_000}
	t := &meter{b: b}
	b.ReportAllocs()
	for b.Loop() {
		b.StopTimer()
		first := c.id + 1
		if _, err := m.Apply(c.next(b)); err != nil {
			b.Fatal(err)
		}
		if err := m.Flush(b.Context()); err != nil {
			b.Fatal(err)
		}
		del := &command.Delete{}
		for id := first; id <= c.id; id++ {
			del.Jobs = append(del.Jobs, id)
		}
		entry := c.entry(b, []command.Item{{Command: del}})
		t.start()
		results, err := m.Apply([]Entry{entry})
		if err != nil || results[0][0].Count != jobsPerEntry {
			b.Fatal(results, err)
		}
		if err := m.Flush(b.Context()); err != nil {
			b.Fatal(err)
		}
		t.stop()
		t.jobs += jobsPerEntry
		b.StartTimer()
	}
	t.report()
}

// BenchmarkVerify hashes a database of 20,000 jobs.
func BenchmarkVerify(b *testing.B) {
	m := benchMachine(b)
	c := &cycle{index: 1, now: 1_700_000_000_000}
	for range 40 {
		if _, err := m.Apply(c.next(b)); err != nil {
			b.Fatal(err)
		}
	}
	if err := m.Flush(b.Context()); err != nil {
		b.Fatal(err)
	}
	t := &meter{b: b}
	for index := uint64(1 << 40); b.Loop(); index++ {
		b.StopTimer()
		t.start()
		if err := m.beginHash(index); err != nil { // apply waits for this only
			b.Fatal(err)
		}
		if _, err := m.Hash(b.Context(), index); err != nil {
			b.Fatal(err)
		}
		t.stop()
		t.jobs += 40 * jobsPerEntry
		b.StartTimer()
	}
	t.report()
}
