package scheduler

import (
	"testing"
	"time"

	"github.com/orrery-io/orrery/command"
	"github.com/orrery-io/orrery/job"
	"github.com/orrery-io/orrery/wire"
)

func TestDispatch(t *testing.T) {
	t.Run("a job goes to a free agent and ends", func(t *testing.T) {
		play(t, Config{}, func(b *bundle) {
			a := b.agent("a", 1)
			id := b.submit(job.Spec{Payload: job.JSON(`{"x":1}`), Metadata: job.LabelsOf(map[string]string{"k": "v"}), Tags: []string{"t"}})
			d := a.take()
			if d.Job != id || d.Attempt != 1 || string(d.Payload) != `{"x":1}` || d.Metadata["k"] != "v" || d.Fence == 0 {
				t.Errorf("got %+v", d)
			}
			b.is(id, job.Dispatched)
			a.complete(d)
			b.is(id, job.Completed)
		})
	})

	t.Run("a job that waits goes to the agent that comes", func(t *testing.T) {
		play(t, Config{}, func(b *bundle) {
			id := b.submit(job.Spec{})
			b.is(id, job.Pending)
			if d := b.agent("a", 1).take(); d.Job != id {
				t.Errorf("got job %d", d.Job)
			}
		})
	})

	t.Run("waiting jobs come by priority, then in the order of their submission", func(t *testing.T) {
		play(t, Config{}, func(b *bundle) {
			a := b.agent("a", 1)
			b.submit(job.Spec{})
			d := a.take()
			var want []job.ID
			low, first, second, high := b.submit(job.Spec{Priority: 1}), b.submit(job.Spec{}), b.submit(job.Spec{}), b.submit(job.Spec{Priority: 9})
			want = append(want, high, first, second, low)
			for _, id := range want {
				time.Sleep(100 * time.Millisecond) // too slow for prefetch
				a.complete(d)
				if d = a.take(); d.Job != id {
					t.Fatalf("got job %d, want %d", d.Job, id)
				}
			}
		})
	})

	t.Run("the slot of a result is free for the next job before the result is recorded", func(t *testing.T) {
		play(t, Config{}, func(b *bundle) {
			a := b.agent("a", 1)
			b.submit(job.Spec{})
			d := a.take()
			next := b.submit(job.Spec{})
			a.complete(d)
			if d := a.take(); d.Job != next {
				t.Errorf("got job %d", d.Job)
			}
		})
	})

	t.Run("an agent with short jobs gets some ahead", func(t *testing.T) {
		play(t, Config{}, func(b *bundle) {
			a := b.agent("a", 1)
			b.submit(job.Spec{})
			d := a.take()
			time.Sleep(2 * time.Millisecond)
			for range 5 {
				b.submit(job.Spec{})
			}
			a.complete(d)
			if n := len(a.dispatches()); n != 5 {
				t.Errorf("got %d at once", n)
			}
		})
	})

	t.Run("a paused queue waits until it is resumed", func(t *testing.T) {
		play(t, Config{}, func(b *bundle) {
			a := b.agent("a", 5)
			b.record(&command.SetQueue{Queue: "default", Paused: true})
			id := b.submit(job.Spec{})
			b.is(id, job.Pending)
			b.record(&command.SetQueue{Queue: "default"})
			if d := a.take(); d.Job != id {
				t.Errorf("got job %d", d.Job)
			}
		})
	})

	t.Run("a draining agent gets nothing new and ends what it has", func(t *testing.T) {
		play(t, Config{}, func(b *bundle) {
			a := b.agent("a", 5)
			b.submit(job.Spec{})
			d := a.take()
			a.say(wire.Message{Drain: &wire.Drain{}})
			id := b.submit(job.Spec{})
			b.is(id, job.Pending)
			a.complete(d)
			b.is(id, job.Pending)
			if row := b.machine.Agents()[0]; row.Status != job.AgentDraining {
				t.Errorf("the agent is %s", row.Status)
			}
		})
	})

	t.Run("an agent that drains does so under the next leader too", func(t *testing.T) {
		play(t, Config{}, func(b *bundle) {
			a := b.agent("a", 5)
			a.say(wire.Message{Drain: &wire.Drain{}})
			b.leadAgain()
			a.up()
			b.is(b.submit(job.Spec{}), job.Pending)
		})
	})

	t.Run("an agent that comes draining gets nothing", func(t *testing.T) {
		play(t, Config{}, func(b *bundle) {
			a := b.agent("a", 5)
			a.hello.Draining = true
			a.connect()
			b.is(b.submit(job.Spec{}), job.Pending)
		})
	})

	t.Run("a cancelled job that waited is not dispatched", func(t *testing.T) {
		play(t, Config{}, func(b *bundle) {
			id := b.submit(job.Spec{})
			b.record(&command.Cancel{Job: id})
			a := b.agent("a", 5)
			if ds := a.dispatches(); len(ds) > 0 {
				t.Errorf("got %+v", ds)
			}
			b.is(id, job.Cancelled)
		})
	})

	t.Run("a refused proposal is made again", func(t *testing.T) {
		play(t, Config{}, func(b *bundle) {
			id := b.submit(job.Spec{})
			refusals := 0
			b.refusing(func(items []command.Item) error {
				if _, ok := items[0].Command.(*command.Dispatch); ok && refusals < 3 {
					refusals++
					return &job.Error{Kind: job.Overloaded, Code: "overloaded", Message: "later"}
				}
				return nil
			})
			a := b.agent("a", 5)
			b.pass(time.Second)
			if d := a.take(); d.Job != id || refusals != 3 {
				t.Errorf("got job %d after %d refusals", d.Job, refusals)
			}
		})
	})
}

func TestReject(t *testing.T) {
	t.Run("another agent gets the job at once", func(t *testing.T) {
		play(t, Config{}, func(b *bundle) {
			x := b.agent("x", 5)
			id := b.submit(job.Spec{MaxAttempts: 1})
			d := x.dispatches()[0]
			y := b.agent("y", 1)
			x.say(wire.Message{Reject: &wire.Reject{Job: d.Job, Fence: d.Fence, Reason: "no"}})
			if d := y.take(); d.Job != id {
				t.Errorf("got job %d", d.Job)
			}
			if at := b.job(id).Attempts[0]; at.Outcome != job.OutcomeRevoked || at.Error.Message != "no" {
				t.Errorf("got %+v", at)
			}
		})
	})

	t.Run("the same agent gets it again after a while that grows", func(t *testing.T) {
		play(t, Config{}, func(b *bundle) {
			x := b.agent("x", 1)
			id := b.submit(job.Spec{})
			for _, backOff := range []time.Duration{time.Second, 2 * time.Second, 4 * time.Second} {
				ds := x.dispatches()
				if len(ds) != 1 || ds[0].Job != id {
					t.Fatalf("before the back-off of %s: got %v", backOff, ds)
				}
				x.say(wire.Message{Reject: &wire.Reject{Job: id, Fence: ds[0].Fence}})
				b.pass(backOff - 10*time.Millisecond)
				b.is(id, job.Pending)
				b.pass(20 * time.Millisecond)
				b.is(id, job.Dispatched)
			}
		})
	})

	t.Run("other jobs still go to the agent", func(t *testing.T) {
		play(t, Config{}, func(b *bundle) {
			x := b.agent("x", 1)
			b.submit(job.Spec{})
			d := x.dispatches()[0]
			x.say(wire.Message{Reject: &wire.Reject{Job: d.Job, Fence: d.Fence}})
			id := b.submit(job.Spec{})
			if d := x.take(); d.Job != id {
				t.Errorf("got job %d", d.Job)
			}
		})
	})
}

func TestAckTimeout(t *testing.T) {
	t.Run("a dispatch that a live agent neither acknowledges nor lists is taken back", func(t *testing.T) {
		play(t, Config{}, func(b *bundle) {
			a := b.agent("a", 1)
			id := b.submit(job.Spec{})
			d := a.dispatches()[0]
			b.pass(4 * time.Second)
			b.is(id, job.Dispatched)
			b.pass(8 * time.Second)
			j := b.job(id)
			if at := j.Attempts[0]; at.Outcome != job.OutcomeRevoked || j.Failures != 0 || j.Lost != 0 {
				t.Errorf("got %+v", at)
			}
			dropped := false
			for _, m := range a.got() {
				dropped = dropped || m.Cancel != nil && m.Cancel.Drop && m.Cancel.Fence == d.Fence
			}
			if !dropped {
				t.Error("the agent was not told to drop it")
			}
		})
	})

	t.Run("an agent that lists the dispatch keeps it", func(t *testing.T) {
		play(t, Config{}, func(b *bundle) {
			a := b.agent("a", 1)
			id := b.submit(job.Spec{})
			a.hold(a.dispatches()[0])
			b.pass(time.Minute)
			if j := b.job(id); len(j.Attempts) != 1 || !j.State.Active() {
				t.Errorf("got %s with %d attempts", j.State, len(j.Attempts))
			}
		})
	})

	t.Run("from a silent agent it is taken by the lease only", func(t *testing.T) {
		play(t, Config{}, func(b *bundle) {
			a := b.agent("a", 1)
			a.silent = true
			id := b.submit(job.Spec{})
			b.pass(14 * time.Second)
			b.is(id, job.Dispatched)
			b.pass(2 * time.Second)
			if at := b.is(id, job.Pending).Attempts[0]; at.Outcome != job.OutcomeLost {
				t.Errorf("got %+v", at)
			}
		})
	})

	t.Run("a job that may be executed only once has failed, because it may have begun", func(t *testing.T) {
		play(t, Config{}, func(b *bundle) {
			b.agent("a", 1)
			id := b.submit(job.Spec{MaxAttempts: 1})
			b.pass(12 * time.Second)
			j := b.is(id, job.Failed)
			if j.Error.Kind != "lost" || len(j.Attempts) != 1 {
				t.Errorf("got %+v", j.Error)
			}
		})
	})
}
