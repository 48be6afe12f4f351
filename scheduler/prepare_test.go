package scheduler

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/orrery-io/orrery/command"
	"github.com/orrery-io/orrery/job"
)

// submission is an item as the proposer sees it.
func submission(spec job.Spec) command.Item {
	return command.Item{Command: &command.Submit{Spec: normal(spec)}}
}

func assignOf(item command.Item) *command.Assign { return item.Command.(*command.Submit).Assign }

// prepared is a scheduler whose term is loaded, without loops.
func prepared(tb testing.TB) (*Scheduler, *term) {
	tb.Helper()
	s := newScheduler(Config{}, nil)
	t := newTerm(s, 1)
	t.loaded.Store(true)
	s.term.Store(t)
	return s, t
}

func TestPrepare(t *testing.T) {
	queues, types := []string{"default"}, []string{"work"}

	t.Run("one log entry carries a submission and its dispatch when an agent is free", func(t *testing.T) {
		play(t, Config{}, func(b *bundle) {
			x := b.agent("x", 1)
			index := b.index
			id := b.submit(job.Spec{})
			if d := x.take(); d.Job != id || uint64(d.Fence) != index+1 {
				t.Errorf("dispatched by entry %d, submitted by %d", d.Fence, index+1)
			}
		})
	})

	t.Run("what cannot run now is left alone", func(t *testing.T) {
		s, m := prepared(t)
		standIn(m, "x", 10, queues, types)
		m.setPaused("paused", true)
		items := []command.Item{
			submission(job.Spec{RunAt: job.At(time.Now().Add(time.Hour))}),
			submission(job.Spec{Type: "other"}),
			submission(job.Spec{Queue: "other"}),
			submission(job.Spec{Queue: "paused"}),
			{Command: &command.Cancel{Job: 1}},
			submission(job.Spec{RunAt: 1}),
		}
		done := s.Prepare(items)
		for i, item := range items {
			if sub, ok := item.Command.(*command.Submit); ok && (sub.Assign != nil) != (i == 5) {
				t.Errorf("item %d: %+v", i, sub.Assign)
			}
		}
		done(make([]command.Result, len(items)), nil)
	})

	t.Run("credit is not spent twice, and comes back when an assignment was not carried out", func(t *testing.T) {
		s, m := prepared(t)
		a := standIn(m, "x", 2, queues, types)
		items := []command.Item{submission(job.Spec{}), submission(job.Spec{}), submission(job.Spec{})}
		done := s.Prepare(items)
		if assignOf(items[0]) == nil || assignOf(items[1]) == nil || assignOf(items[2]) != nil || a.inflight() != 2 {
			t.Fatalf("%d in flight", a.inflight())
		}
		done([]command.Result{{Index: 1, Dispatched: true}, {Index: 1, Existing: true}, {Index: 1}}, nil)
		if a.inflight() != 1 {
			t.Errorf("%d in flight after one was not carried out", a.inflight())
		}
		again := s.Prepare(items[1:2])
		again(nil, errors.New("no"))
		if a.inflight() != 1 {
			t.Errorf("%d in flight after an error", a.inflight())
		}
	})

	t.Run("it does not overtake what waits", func(t *testing.T) {
		s, m := prepared(t)
		wait(m, "default", "work", 1)
		standIn(m, "x", 2, queues, types)
		items := []command.Item{submission(job.Spec{Priority: 9}), submission(job.Spec{})}
		s.Prepare(items)
		if assignOf(items[0]) == nil || assignOf(items[1]) != nil {
			t.Error("only the one of higher priority may go first")
		}
	})

	t.Run("it does not overtake a submission that the feed has not told of yet", func(t *testing.T) {
		s, m := prepared(t)
		a := standIn(m, "x", 1, queues, types)
		first := s.Prepare([]command.Item{submission(job.Spec{}), submission(job.Spec{})})
		m.forget(m.hold(a, &job.Job{ID: 1}))
		m.release(a) // the agent is free again
		try := func() bool {
			items := []command.Item{submission(job.Spec{})}
			s.Prepare(items)(nil, errors.New("no"))
			return assignOf(items[0]) != nil
		}
		if try() {
			t.Error("overtook one that is being proposed")
		}
		first([]command.Result{{Index: 7, Dispatched: true}, {Index: 7}}, nil)
		if try() {
			t.Error("overtook one that is recorded")
		}
		m.seen = 7
		if !try() {
			t.Error("does not go on when the feed has told")
		}
	})

	t.Run("an old assignment is never encoded", func(t *testing.T) {
		s, _ := prepared(t)
		item := submission(job.Spec{})
		item.Command.(*command.Submit).Assign = &command.Assign{Agent: "gone"}
		s.Prepare([]command.Item{item})
		if assignOf(item) != nil {
			t.Errorf("got %+v", assignOf(item))
		}
	})
}

func BenchmarkPrepare(b *testing.B) {
	queues, types := []string{"default"}, []string{"work"}
	for _, bb := range []struct {
		name string
		set  func(t *term)
	}{
		{"nobody serves it", func(*term) {}},
		{"all are busy", func(t *term) { standIn(t, "x", 1, queues, types).reserved = 1; t.update(t.agents["x"]) }},
		{"assigned", func(t *term) {
			for i := range 100 {
				standIn(t, fmt.Sprint("agent-", i), 1000, queues, types)
			}
		}},
	} {
		b.Run(bb.name, func(b *testing.B) {
			s, t := prepared(b)
			bb.set(t)
			items := make([]command.Item, 100)
			for i := range items {
				items[i] = submission(job.Spec{})
			}
			results := make([]command.Result, len(items))
			b.ReportAllocs()
			for b.Loop() {
				s.Prepare(items)(results, nil)
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*len(items)), "ns/item")
		})
	}
}
