package scheduler

import (
	"testing"
	"time"

	"github.com/orrery-io/orrery/job"
	"github.com/orrery-io/orrery/wire"
)

func TestReconnect(t *testing.T) {
	t.Run("an agent resumes what it runs, over a new session", func(t *testing.T) {
		play(t, Config{}, func(b *bundle) {
			x := b.agent("x", 1)
			id := b.submit(job.Spec{})
			d := x.take()
			x.drop()
			if row, _ := b.machine.Agent("x"); row.Status != job.AgentDisconnected {
				t.Errorf("the agent is %s", row.Status)
			}
			b.pass(10 * time.Second)
			if w := x.connect(); len(w.Drop) != 0 || w.Lease != 15_000 || w.Heartbeat != 5000 || w.Margin != 3000 {
				t.Errorf("got %+v", w)
			}
			b.pass(time.Minute)
			x.complete(d)
			if j := b.is(id, job.Completed); len(j.Attempts) != 1 {
				t.Errorf("took %d attempts", len(j.Attempts))
			}
		})
	})

	t.Run("a result in the outbox is waited for", func(t *testing.T) {
		play(t, Config{}, func(b *bundle) {
			x := b.agent("x", 1)
			id := b.submit(job.Spec{})
			d := x.take()
			x.drop()
			x.release(id)
			x.hello.Outbox = []wire.Held{{Job: id, Fence: d.Fence}}
			x.connect()
			b.pass(6 * time.Second)
			b.is(id, job.Dispatched)
			x.complete(d)
			b.is(id, job.Completed)
		})
	})

	t.Run("what it no longer has is lost at once", func(t *testing.T) {
		play(t, Config{}, func(b *bundle) {
			x := b.agent("x", 1)
			id := b.submit(job.Spec{})
			x.take()
			x.drop()
			x.held = nil
			x.connect()
			if at := b.job(id).Attempts[0]; at.Outcome != job.OutcomeLost {
				t.Errorf("got %+v", at)
			}
		})
	})

	t.Run("a dispatch that never reached it is taken back at once", func(t *testing.T) {
		play(t, Config{}, func(b *bundle) {
			x := b.agent("x", 1)
			id := b.submit(job.Spec{})
			x.dispatches()
			x.drop()
			x.connect()
			if at := b.job(id).Attempts[0]; at.Outcome != job.OutcomeRevoked {
				t.Errorf("got %+v", at)
			}
		})
	})

	t.Run("what another agent has by now it has to drop", func(t *testing.T) {
		play(t, Config{}, func(b *bundle) {
			x := b.agent("x", 1)
			id := b.submit(job.Spec{})
			d := x.take()
			x.drop()
			b.pass(20 * time.Second)
			b.is(id, job.Pending)
			w := x.connect()
			if len(w.Drop) != 1 || w.Drop[0].Fence != d.Fence {
				t.Errorf("got %+v", w.Drop)
			}
		})
	})

	t.Run("a second live connection replaces the first", func(t *testing.T) {
		play(t, Config{}, func(b *bundle) {
			x := b.agent("x", 1)
			twin := &player{b: b, id: "x", hello: x.hello}
			b.all = append(b.all, twin)
			twin.connect()
			if x.closed == nil || x.closed.Code != "replaced" {
				t.Errorf("the first: %+v", x.closed)
			}
			b.submit(job.Spec{})
			twin.complete(twin.take())
			// The end of the old connection is of no interest any more.
			x.drop()
			id := b.submit(job.Spec{})
			b.is(id, job.Dispatched)
		})
	})

	t.Run("one that leaves in order gives back at once what it does not have", func(t *testing.T) {
		play(t, Config{}, func(b *bundle) {
			x := b.agent("x", 2)
			kept, aborted := b.submit(job.Spec{}), b.submit(job.Spec{})
			for _, d := range x.dispatches() {
				x.hold(d)
				x.say(wire.Message{Ack: &wire.Ack{Job: d.Job, Fence: d.Fence}})
			}
			x.release(aborted)
			x.beat()
			x.say(wire.Message{Bye: &wire.Bye{}})
			b.is(kept, job.Dispatched)
			b.is(aborted, job.Pending)
			if row, _ := b.machine.Agent("x"); row.Status != job.AgentDisconnected {
				t.Errorf("the agent is %s", row.Status)
			}
		})
	})

	t.Run("an agent gone for more than a day is forgotten", func(t *testing.T) {
		play(t, Config{}, func(b *bundle) {
			b.agent("x", 2).drop()
			time.Sleep(23 * time.Hour)
			if len(b.machine.Agents()) != 1 {
				t.Error("forgotten too early")
			}
			time.Sleep(2 * time.Hour)
			if len(b.machine.Agents()) != 0 {
				t.Error("not forgotten")
			}
		})
	})
}
