package scheduler

import (
	"context"
	"errors"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/orrery-io/orrery/command"
	"github.com/orrery-io/orrery/fsm"
	"github.com/orrery-io/orrery/job"
	"github.com/prometheus/client_golang/prometheus"
)

// faulty is a state machine that cannot be read at times.
type faulty struct {
	machine
	unreadable string // a type whose jobs cannot be listed
	broken     atomic.Bool
	trimmed    chan struct{}
	trim       atomic.Uint64 // what the feed may be cut to
}

func (m *faulty) FeedToTrim() (uint64, bool) { return m.trim.Load(), m.trim.Load() > 0 }

var errDisk = errors.New("the disk is on fire")

func (m *faulty) ReadyJobs(ctx context.Context, queue, typ string, after fsm.ReadyPos, limit int) ([]*job.Job, error) {
	if typ == m.unreadable {
		return nil, errDisk
	}
	return m.machine.ReadyJobs(ctx, queue, typ, after, limit)
}

func (m *faulty) DueJobs(ctx context.Context, until job.Time, limit int) ([]job.ID, job.Time, error) {
	if m.broken.Load() {
		return nil, 0, errDisk
	}
	return m.machine.DueJobs(ctx, until, limit)
}

func (m *faulty) ReadyGroups(ctx context.Context) ([]fsm.ReadyGroup, error) {
	if m.broken.Load() {
		return nil, errDisk
	}
	return m.machine.ReadyGroups(ctx)
}

func (m *faulty) Subscribe(after job.EventID) subscription {
	return &faultySubscription{m.machine.Subscribe(after), m.trimmed}
}

type faultySubscription struct {
	subscription
	trimmed chan struct{}
}

func (s *faultySubscription) Next(ctx context.Context) ([]job.Event, error) {
	select {
	case <-s.trimmed:
		return nil, job.Errorf(job.NotFound, "events_trimmed", "gone")
	default:
	}
	events, err := s.subscription.Next(ctx)
	for i := range events {
		events[i].Row = nil // as if they were read back from the store
	}
	return events, err
}

func TestFaults(t *testing.T) {
	on := func(t *testing.T, f func(b *bundle, m *faulty)) {
		t.Helper()
		m := &faulty{trimmed: make(chan struct{})}
		playOn(t, Config{}, func(real machine) machine {
			m.machine = real
			return m
		}, func(b *bundle) { f(b, m) })
	}

	t.Run("a group that cannot be read does not stop the others or the term", func(t *testing.T) {
		on(t, func(b *bundle, m *faulty) {
			b.submit(job.Spec{Type: "bad"})
			id := b.submit(job.Spec{})
			b.stop()
			m.unreadable = "bad"
			b.lead()
			a := b.agent("a", 5)
			a.hello.Capabilities = append(a.hello.Capabilities, job.Capability{Type: "bad"})
			a.connect()
			b.pass(time.Second)
			b.is(id, job.Dispatched)
			b.is(b.submit(job.Spec{}), job.Dispatched)
		})
	})

	t.Run("due jobs that cannot be read are read later", func(t *testing.T) {
		on(t, func(b *bundle, m *faulty) {
			m.broken.Store(true)
			id := b.submit(job.Spec{RunAt: job.At(time.Now().Add(time.Second))})
			b.pass(5 * time.Second)
			b.is(id, job.Scheduled)
			m.broken.Store(false)
			b.pass(2 * time.Second)
			b.is(id, job.Pending)
		})
	})

	t.Run("events without rows are completed from the state machine", func(t *testing.T) {
		on(t, func(b *bundle, _ *faulty) {
			a := b.agent("a", 1)
			first, second := b.submit(job.Spec{}), b.submit(job.Spec{})
			a.complete(a.take())
			a.complete(a.take())
			b.is(first, job.Completed)
			b.is(second, job.Completed)
		})
	})

	t.Run("the feed is never cut before the term has heard of it", func(t *testing.T) {
		on(t, func(b *bundle, m *faulty) {
			b.agent("a", 5)
			b.is(b.submit(job.Spec{}), job.Dispatched)
			m.trim.Store(1000)
			b.pass(20 * time.Second)
			b.is(b.submit(job.Spec{}), job.Dispatched)
			if first := b.machine.FirstEvent(); first.Index == 0 || first.Index >= b.machine.LastEvent().Index {
				t.Errorf("the feed begins after %s and ends with %s", first, b.machine.LastEvent())
			}
		})
	})

	t.Run("a term that cannot be loaded says so", func(t *testing.T) {
		on(t, func(b *bundle, m *faulty) {
			b.stop()
			m.broken.Store(true)
			b.mayFail = true
			b.lead()
			if !errors.Is(b.led, errDisk) || !strings.Contains(b.led.Error(), "load: ") {
				t.Errorf("got %v", b.led)
			}
			if b.s.term.Load() != nil {
				t.Error("it still leads")
			}
		})
	})

	t.Run("a term that has lost its place in the feed ends with an error", func(t *testing.T) {
		on(t, func(b *bundle, m *faulty) {
			b.mayFail = true
			close(m.trimmed)
			b.submit(job.Spec{})
			if job.KindOf(b.led) != job.NotFound {
				t.Errorf("got %v", b.led)
			}
		})
	})
}

func TestMetrics_tellWhatHappened(t *testing.T) {
	reg := prometheus.NewRegistry()
	play(t, Config{Registerer: reg}, func(b *bundle) {
		a := b.agent("a", 1)
		b.submit(job.Spec{})
		b.submit(job.Spec{})
		a.complete(a.take())
		a.result(a.take(), "failed", nil)
		b.submit(job.Spec{Queue: "other"})
		b.record(&command.SetQueue{Queue: "other", Paused: true})

		families, err := reg.Gather()
		if err != nil {
			t.Fatal(err)
		}
		got := make(map[string]float64)
		for _, f := range families {
			for _, m := range f.GetMetric() {
				var name strings.Builder
				name.WriteString(strings.TrimPrefix(f.GetName(), "orrery_scheduler_"))
				for _, l := range m.GetLabel() {
					name.WriteString(" " + l.GetValue())
				}
				got[name.String()] = m.GetCounter().GetValue() + m.GetGauge().GetValue() + float64(m.GetHistogram().GetSampleCount())
			}
		}
		want := map[string]float64{
			"leading_terms": 1, "agents_connected": 1, "active_attempts": 0, "window_jobs": 1,
			"dispatches_total": 2, "dispatch_latency_seconds": 2, "attempts_total completed": 1, "attempts_total failed": 1,
			"attempts_total lost": 0, "retries_total": 1, "queue_jobs other pending": 1, "queue_jobs default scheduled": 1,
		}
		for name, v := range want {
			if g, ok := got[name]; !ok || g != v {
				t.Errorf("%s is %v, want %v", name, g, v)
			}
		}
	})
}
