package scheduler

import (
	"testing"
	"time"

	"github.com/orrery-io/orrery/command"
	"github.com/orrery-io/orrery/job"
	"github.com/orrery-io/orrery/wire"
)

func TestLease(t *testing.T) {
	t.Run("expiry requeues exactly once, and another agent finishes", func(t *testing.T) {
		play(t, Config{}, func(b *bundle) {
			x := b.agent("x", 1)
			id := b.submit(job.Spec{})
			d := x.take()
			y := b.agent("y", 1)
			x.silent = true
			b.pass(14 * time.Second)
			b.is(id, job.Dispatched)
			b.pass(2 * time.Second)
			again := y.take()
			if again.Job != id || again.Fence <= d.Fence || again.Attempt != 2 {
				t.Fatalf("got %+v after %+v", again, d)
			}
			if x.closed == nil || x.closed.Code != "lease_expired" {
				t.Errorf("the lost agent's session: %+v", x.closed)
			}
			y.complete(again)
			j := b.is(id, job.Completed)
			if len(j.Attempts) != 2 || j.Lost != 1 || j.Failures != 0 || j.Attempts[0].Outcome != job.OutcomeLost {
				t.Errorf("got %d attempts, %d lost: %+v", len(j.Attempts), j.Lost, j.Attempts)
			}
			if row, _ := b.machine.Agent("x"); row.Status != job.AgentLost {
				t.Errorf("the agent is %s", row.Status)
			}
		})
	})

	t.Run("a late result of a lost attempt is refused with a reason", func(t *testing.T) {
		play(t, Config{}, func(b *bundle) {
			x := b.agent("x", 1)
			id := b.submit(job.Spec{})
			d := x.take()
			x.silent = true
			b.pass(16 * time.Second)
			b.is(id, job.Pending)
			x.connect()
			if a := x.result(d, "completed", nil); a == nil || a.Accepted || a.Reason == "" {
				t.Errorf("answered with %+v", a)
			}
		})
	})

	t.Run("heartbeats renew it", func(t *testing.T) {
		play(t, Config{}, func(b *bundle) {
			x := b.agent("x", 1)
			id := b.submit(job.Spec{})
			x.take()
			b.pass(5 * time.Minute)
			b.is(id, job.Running)
		})
	})

	t.Run("a job may ask for a longer one than its agent has", func(t *testing.T) {
		play(t, Config{}, func(b *bundle) {
			x := b.agent("x", 2)
			dark, plain := b.submit(job.Spec{Lease: job.Minute}), b.submit(job.Spec{})
			for _, d := range x.dispatches() {
				x.hold(d)
				x.say(wire.Message{Ack: &wire.Ack{Job: d.Job, Fence: d.Fence}})
			}
			x.silent = true
			b.pass(16 * time.Second)
			b.is(dark, job.Dispatched)
			b.is(plain, job.Pending)
			b.pass(40 * time.Second)
			b.is(dark, job.Dispatched)
			b.pass(10 * time.Second)
			b.is(dark, job.Pending)
		})
	})

	t.Run("an agent that went dark keeps such a job when it comes back", func(t *testing.T) {
		play(t, Config{}, func(b *bundle) {
			x := b.agent("x", 1)
			id := b.submit(job.Spec{Lease: 10 * job.Minute})
			d := x.take()
			x.drop()
			b.pass(time.Minute)
			x.connect()
			b.pass(time.Hour)
			x.complete(d)
			if j := b.is(id, job.Completed); len(j.Attempts) != 1 {
				t.Errorf("took %d attempts", len(j.Attempts))
			}
		})
	})

	t.Run("a job that loses its agents again and again is poison", func(t *testing.T) {
		play(t, Config{}, func(b *bundle) {
			x := b.agent("x", 1)
			id := b.submit(job.Spec{MaxAttempts: 2})
			for range job.MaxLost {
				x.take()
				x.silent = true
				b.pass(20 * time.Second)
				b.is(id, job.Pending)
				x.held = nil
				x.connect()
			}
			x.silent = true
			b.pass(20 * time.Second)
			j := b.is(id, job.Failed)
			if j.Error.Kind != "lost" || j.Lost != job.MaxLost+1 || j.Failures != 0 {
				t.Errorf("got %+v after %d lost", j.Error, j.Lost)
			}
		})
	})

	t.Run("a lost attempt ends a job that may be executed only once", func(t *testing.T) {
		play(t, Config{}, func(b *bundle) {
			x := b.agent("x", 1)
			id := b.submit(job.Spec{MaxAttempts: 1})
			x.take()
			x.silent = true
			b.pass(20 * time.Second)
			if j := b.is(id, job.Failed); j.Error.Kind != "lost" {
				t.Errorf("got %+v", j.Error)
			}
		})
	})

	t.Run("a lost attempt of a job that shall be cancelled cancels it", func(t *testing.T) {
		play(t, Config{}, func(b *bundle) {
			x := b.agent("x", 1)
			id := b.submit(job.Spec{})
			x.take()
			x.drop()
			b.record(&command.Cancel{Job: id})
			b.is(id, job.Dispatched)
			b.pass(20 * time.Second)
			b.is(id, job.Cancelled)
		})
	})
}

func TestHeartbeat(t *testing.T) {
	t.Run("an attempt that the agent no longer has is lost", func(t *testing.T) {
		play(t, Config{}, func(b *bundle) {
			x := b.agent("x", 1)
			id := b.submit(job.Spec{})
			d := x.take()
			b.pass(3 * time.Second)
			x.release(d.Job)
			x.beat()
			if j := b.job(id); j.Attempts[0].Outcome != job.OutcomeLost || len(j.Attempts) != 2 {
				t.Errorf("got %+v", j.Attempts)
			}
		})
	})

	t.Run("an attempt that the agent does not own is dropped", func(t *testing.T) {
		play(t, Config{}, func(b *bundle) {
			x := b.agent("x", 1)
			y := b.agent("y", 1)
			b.submit(job.Spec{})
			d := x.take()
			foreign := wire.Held{Job: d.Job, Fence: d.Fence}
			y.held = []wire.Held{foreign, {Job: 999, Fence: 1}}
			beat := y.beat()
			if beat == nil || len(beat.Drop) != 2 || beat.Drop[0] != foreign {
				t.Errorf("got %+v", beat)
			}
		})
	})

	t.Run("a session that the leader does not know is closed so that it comes again", func(t *testing.T) {
		play(t, Config{}, func(b *bundle) {
			x := b.agent("x", 1)
			x.deliver(wire.Envelope{Down: &wire.Error{}})
			x.beat()
			if x.closed == nil || x.closed.Code != "unknown_session" || x.closed.Fatal {
				t.Errorf("got %+v", x.closed)
			}
		})
	})

	t.Run("a long attempt is recorded as running even if its start is never told", func(t *testing.T) {
		play(t, Config{}, func(b *bundle) {
			x := b.agent("x", 1)
			id := b.submit(job.Spec{})
			x.take()
			b.pass(12 * time.Second)
			b.is(id, job.Running)
		})
	})

	t.Run("one that waits in the agent's queue is not", func(t *testing.T) {
		play(t, Config{}, func(b *bundle) {
			x := b.agent("x", 1)
			id := b.submit(job.Spec{})
			x.take()
			x.held[0].Waiting = true
			b.pass(30 * time.Second)
			b.is(id, job.Dispatched)
			if l, ok := b.s.AgentLoad("x"); !ok || l.Waiting != 1 || l.Held != 1 || l.Credit != 0 || !l.Connected || l.LastHeartbeat == 0 {
				t.Errorf("got %+v", l)
			}
		})
	})
}
