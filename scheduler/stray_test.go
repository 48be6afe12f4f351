package scheduler

import (
	"slices"
	"testing"
	"time"

	"github.com/orrery-io/orrery/job"
	"github.com/orrery-io/orrery/wire"
)

// stray makes the agent's node forget a dispatch: it was lost on its way there.
func (p *player) stray() {
	p.b.mu.Lock()
	defer p.b.mu.Unlock()
	p.reached = nil
}

// TestStray is about what is lost between the leader and the agent's node.
func TestStray(t *testing.T) {
	t.Run("a dispatch that did not reach the node is sent again", func(t *testing.T) {
		play(t, Config{}, func(b *bundle) {
			x := b.agent("x", 1)
			id := b.submit(job.Spec{MaxAttempts: 1})
			first := x.dispatches()[0]
			x.stray()
			b.pass(2 * time.Second)
			x.up()
			d := x.take()
			if d.Fence != first.Fence || d.Job != id {
				t.Errorf("got %+v", d)
			}
			b.pass(20 * time.Second)
			x.complete(d)
			if j := b.is(id, job.Completed); len(j.Attempts) != 1 {
				t.Errorf("took %+v", j.Attempts)
			}
		})
	})

	t.Run("also by a new leader, who never sent it", func(t *testing.T) {
		play(t, Config{}, func(b *bundle) {
			x := b.agent("x", 1)
			id := b.submit(job.Spec{MaxAttempts: 1})
			x.got()
			x.stray()
			b.leadAgain()
			x.up()
			x.complete(x.take())
			if j := b.is(id, job.Completed); len(j.Attempts) != 1 {
				t.Errorf("took %+v", j.Attempts)
			}
		})
	})

	t.Run("one that reached it is not sent again", func(t *testing.T) {
		play(t, Config{}, func(b *bundle) {
			x := b.agent("x", 1)
			id := b.submit(job.Spec{})
			d := x.dispatches()[0]
			x.up()
			if again := x.dispatches(); len(again) != 0 {
				t.Errorf("got %+v", again)
			}
			x.hold(d)
			x.say(wire.Message{Ack: &wire.Ack{Job: d.Job, Fence: d.Fence}})
			x.complete(d)
			b.is(id, job.Completed)
		})
	})

	t.Run("one that is not the agent's any more is dropped", func(t *testing.T) {
		play(t, Config{}, func(b *bundle) {
			x := b.agent("x", 1)
			b.submit(job.Spec{})
			d := x.dispatches()[0]
			b.pass(20 * time.Second) // taken back
			x.b.mu.Lock()
			x.reached = []wire.Held{{Job: d.Job, Fence: d.Fence}} // the cancel got lost
			x.b.mu.Unlock()
			if w := x.up(); !slices.Contains(w.Drop, wire.Held{Job: d.Job, Fence: d.Fence}) {
				t.Errorf("got %+v", w)
			}
		})
	})

	t.Run("one that never reached the agent costs nothing when its session ends", func(t *testing.T) {
		play(t, Config{}, func(b *bundle) {
			x := b.agent("x", 1)
			id := b.submit(job.Spec{MaxAttempts: 1})
			x.stray()
			x.drop()
			b.is(id, job.Pending)
			x.connect()
			x.complete(x.take())
			if j := b.is(id, job.Completed); j.Lost != 0 {
				t.Errorf("lost %d times", j.Lost)
			}
		})
	})

	t.Run("also when the agent has connected elsewhere before that is known", func(t *testing.T) {
		play(t, Config{}, func(b *bundle) {
			x := b.agent("x", 1)
			id := b.submit(job.Spec{MaxAttempts: 1})
			old := x.session
			x.connect()
			b.is(id, job.Dispatched)
			b.s.Deliver([]wire.Envelope{{Session: old, Node: "n1", Agent: "x", Down: &wire.Error{Code: "drain"}}})
			b.pass(time.Second)
			x.complete(x.take())
			if j := b.is(id, job.Completed); j.Lost != 0 {
				t.Errorf("lost %d times", j.Lost)
			}
		})
	})

	t.Run("a node that tells of an older connection ends that one", func(t *testing.T) {
		play(t, Config{}, func(b *bundle) {
			x := b.agent("x", 1)
			id := b.submit(job.Spec{})
			d := x.take()
			ghost := &player{b: b, id: "x", hello: x.hello, session: "ghost", welcomed: true}
			b.sessions["ghost"] = ghost
			ghost.deliver(wire.Envelope{Up: &ghost.hello, Again: true})
			if ghost.closed == nil || ghost.closed.Code != "replaced" || x.closed != nil {
				t.Errorf("the older: %+v, the newer: %+v", ghost.closed, x.closed)
			}
			b.pass(time.Minute)
			x.complete(d)
			b.is(id, job.Completed)
		})
	})

	t.Run("what is not listed while two connections seem open is not lost before a heartbeat", func(t *testing.T) {
		play(t, Config{}, func(b *bundle) {
			x := b.agent("x", 1)
			id := b.submit(job.Spec{})
			x.take()
			late := &player{b: b, id: "x", hello: x.hello, silent: true} // it said so long ago
			b.all = append(b.all, late)
			late.connect()
			b.pass(2 * time.Second)
			b.is(id, job.Dispatched)
			late.beat()
			if j := b.job(id); j.Attempts[0].Outcome != job.OutcomeLost {
				t.Errorf("got %+v", j.Attempts)
			}
		})
	})
}
