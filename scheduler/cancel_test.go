package scheduler

import (
	"testing"
	"time"

	"github.com/orrery-io/orrery/command"
	"github.com/orrery-io/orrery/job"
	"github.com/orrery-io/orrery/wire"
)

func TestCancel(t *testing.T) {
	cancelOf := func(p *player) *wire.Cancel {
		for _, m := range p.got() {
			if m.Cancel != nil {
				return m.Cancel
			}
		}
		return nil
	}

	t.Run("the agent is asked, stops, and the job is cancelled", func(t *testing.T) {
		play(t, Config{}, func(b *bundle) {
			x := b.agent("x", 1)
			id := b.submit(job.Spec{})
			d := x.take()
			b.record(&command.Cancel{Job: id, Reason: "not needed"})
			b.is(id, job.Dispatched)
			if c := cancelOf(x); c == nil || c.Fence != d.Fence || c.Reason != "not needed" || c.Grace != 10_000 || c.Drop {
				t.Errorf("got %+v", c)
			}
			if a := x.result(d, "cancelled", nil); a == nil || !a.Accepted {
				t.Errorf("answered with %+v", a)
			}
			if j := b.is(id, job.Cancelled); j.CancelReason != "not needed" {
				t.Errorf("the reason is %q", j.CancelReason)
			}
		})
	})

	t.Run("one that fails after it was asked is cancelled, not retried", func(t *testing.T) {
		play(t, Config{}, func(b *bundle) {
			x := b.agent("x", 1)
			id := b.submit(job.Spec{})
			d := x.take()
			b.record(&command.Cancel{Job: id})
			x.result(d, "failed", nil)
			b.is(id, job.Cancelled)
		})
	})

	t.Run("one that completes all the same is completed", func(t *testing.T) {
		play(t, Config{}, func(b *bundle) {
			x := b.agent("x", 1)
			id := b.submit(job.Spec{})
			d := x.take()
			b.record(&command.Cancel{Job: id})
			x.complete(d)
			b.is(id, job.Completed)
		})
	})

	t.Run("one that does not stop within its grace is dropped", func(t *testing.T) {
		play(t, Config{}, func(b *bundle) {
			x := b.agent("x", 1)
			id := b.submit(job.Spec{})
			d := x.take()
			b.record(&command.Cancel{Job: id})
			x.got()
			b.pass(12 * time.Second)
			b.is(id, job.Running)
			b.pass(2 * time.Second)
			b.is(id, job.Cancelled)
			if c := cancelOf(x); c == nil || !c.Drop || c.Fence != d.Fence {
				t.Errorf("got %+v", c)
			}
		})
	})

	t.Run("an agent that comes back is asked again", func(t *testing.T) {
		play(t, Config{}, func(b *bundle) {
			x := b.agent("x", 1)
			id := b.submit(job.Spec{})
			d := x.take()
			x.drop()
			b.record(&command.Cancel{Job: id})
			x.connect()
			if c := cancelOf(x); c == nil || c.Fence != d.Fence {
				t.Errorf("got %+v", c)
			}
		})
	})

	t.Run("the next leader asks again", func(t *testing.T) {
		play(t, Config{}, func(b *bundle) {
			x := b.agent("x", 1)
			id := b.submit(job.Spec{})
			d := x.take()
			b.record(&command.Cancel{Job: id})
			b.leadAgain()
			x.got()
			x.up()
			if c := cancelOf(x); c == nil || c.Fence != d.Fence {
				t.Errorf("got %+v", c)
			}
			b.pass(14 * time.Second)
			b.is(id, job.Cancelled)
		})
	})
}
