package agent

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/orrery-io/orrery/job"
	"github.com/orrery-io/orrery/wire"
)

func TestHandBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHold()
		n := start(t, Config{Slots: 2}, func(a *Agent) { Handle(a, "hold", h.run) })
		l := n.welcomed()
		l.send(dispatch(1, 10, "hold"), dispatch(2, 11, "hold"), dispatch(3, 12, "hold"))
		expectAll(t, "messages", l.kinds(), "ack", "ack", "ack")
		expect(t, "begun", len(h.jobs()), 2)
		time.Sleep(handBackAfter - time.Second/2)
		for _, m := range l.all() {
			if m.Reject != nil {
				t.Fatalf("job %d was handed back before anything took long", m.Reject.Job)
			}
		}
		time.Sleep(time.Second)
		var back []job.ID
		for _, m := range l.all() {
			if m.Reject != nil {
				back = append(back, m.Reject.Job)
			}
		}
		expectAll(t, "handed back behind long jobs", back, 3)
		h.free <- nil
		expect(t, "outcome", l.result().Outcome, "completed")
		expect(t, "begun after a slot came free", len(h.jobs()), 0)
		h.free <- nil
		expect(t, "outcome", l.result().Outcome, "completed")
	})
}

func TestDrain(t *testing.T) {
	setup := func(t *testing.T, cfg Config) (*hold, *fakeNode, *fakeLink) {
		h := newHold()
		cfg.Slots = 1
		n := start(t, cfg, func(a *Agent) { Handle(a, "hold", h.run) })
		l := n.welcomed()
		l.send(dispatch(1, 10, "hold"), dispatch(2, 11, "hold"))
		expectAll(t, "messages", l.kinds(), "ack", "ack")
		expectAll(t, "begun", h.jobs(), 1)
		return h, n, l
	}
	t.Run("what waits is handed back, what runs is finished, then goodbye", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			h, n, l := setup(t, Config{})
			n.stop()
			msgs := l.all()
			if len(msgs) != 2 || msgs[0].Drain == nil || msgs[1].Reject == nil || msgs[1].Reject.Job != 2 {
				t.Fatalf("got %+v", msgs)
			}
			l.send(dispatch(3, 12, "hold")) // crossed the drain
			expectAll(t, "messages", l.kinds(), "reject")
			h.free <- nil
			expect(t, "outcome", l.result().Outcome, "completed")
			time.Sleep(time.Second)
			expect(t, "left before the acknowledgement", len(n.ended), 0)
			l.send(ack(1, 10))
			expect(t, "Run", n.wait(), nil)
			expectAll(t, "last words", l.kinds(), "bye")
			expect(t, "held at last", len(l.lastHeartbeat().Held), 0)
			expect(t, "closed in order", l.leftInPeace, true)
			expect(t, "connections", len(n.links), 0)
		})
	})
	t.Run("what takes too long is told to stop and not reported", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			h, n, l := setup(t, Config{DrainTimeout: 7 * time.Second})
			began := time.Now()
			n.stop()
			expect(t, "Run", n.wait(), nil)
			expect(t, "after", time.Since(began), 7*time.Second)
			expectCause(t, h, ErrStopped)
			expectAll(t, "messages", l.kinds(), "drain", "reject", "start", "bye")
			expect(t, "held at last", len(l.lastHeartbeat().Held), 0)
		})
	})
	t.Run("a handler that doesn't listen is left behind", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			h, n, l := setup(t, Config{DrainTimeout: -1})
			h.deaf = true
			// Another one, because the first looks at its context.
			h.free <- nil
			l.result()
			l.send(ack(1, 10))
			expectAll(t, "begun", h.jobs(), 2)
			n.stop()
			expect(t, "Run", n.wait(), nil)
			expect(t, "held at last", len(l.lastHeartbeat().Held), 1)
			h.free <- nil
		})
	})
	t.Run("draining goes on over a new connection", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			h, n, l := setup(t, Config{})
			n.stop()
			l.all()
			l.cut()
			l2, hello := n.next()
			expect(t, "draining", hello.Draining, true)
			expect(t, "held", len(hello.Held), 1)
			l2.send(wire.Message{Welcome: welcome()})
			synctest.Wait()
			h.free <- nil
			l2.result()
			l2.send(ack(1, 10))
			expect(t, "Run", n.wait(), nil)
		})
	})
	t.Run("without a connection and without work it ends at once", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			n := start(t, Config{}, func(*Agent) {})
			l := n.welcomed()
			n.answerWith(errors.New("no route"))
			l.cut()
			synctest.Wait()
			n.stop()
			began := time.Now()
			expect(t, "Run", n.wait(), nil)
			expect(t, "after", time.Since(began), 0)
		})
	})
	t.Run("a node can ask for it", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			h, n, l := setup(t, Config{})
			l.send(wire.Message{Drain: &wire.Drain{Reason: "maintenance"}})
			expectAll(t, "messages", l.kinds(), "drain", "reject")
			h.free <- nil
			l.result()
			l.send(ack(1, 10))
			expect(t, "Run", n.wait(), nil)
		})
	})
	t.Run("Close doesn't wait for the work", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			h, n, l := setup(t, Config{})
			n.stop()
			synctest.Wait()
			if err := n.agent.Close(); err != nil {
				t.Fatal(err)
			}
			expectCause(t, h, ErrStopped)
			expect(t, "Run", n.wait(), nil)
			expectAll(t, "messages", l.kinds(), "drain", "reject", "bye")
		})
	})
	t.Run("Run after Close or a second time is refused", func(t *testing.T) {
		a, err := New(Config{Addrs: []string{"x"}})
		if err != nil {
			t.Fatal(err)
		}
		if err := a.Close(); err != nil {
			t.Fatal(err)
		}
		if a.Run(context.Background()) == nil { //nolint:usetesting // it doesn't run
			t.Error("Run after Close returned nil")
		}
	})
}
