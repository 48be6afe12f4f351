package scheduler

import (
	"testing"
	"time"

	"github.com/orrery-io/orrery/command"
	"github.com/orrery-io/orrery/job"
	"github.com/orrery-io/orrery/wire"
)

func TestTerm(t *testing.T) {
	t.Run("a new leader lets agents go on with what they run", func(t *testing.T) {
		play(t, Config{}, func(b *bundle) {
			x := b.agent("x", 2)
			id := b.submit(job.Spec{})
			d := x.take()
			b.leadAgain()
			x.up()
			b.pass(30 * time.Second)
			x.complete(d)
			if j := b.is(id, job.Completed); len(j.Attempts) != 1 {
				t.Errorf("took %d attempts", len(j.Attempts))
			}
		})
	})

	t.Run("an Up that comes before Lead counts", func(t *testing.T) {
		play(t, Config{}, func(b *bundle) {
			x := b.agent("x", 2)
			b.stop()
			x.got()
			h := x.hello
			x.deliver(wire.Envelope{Up: &h})
			b.lead()
			b.is(b.submit(job.Spec{}), job.Dispatched)
		})
	})

	t.Run("an Up that came long before Lead does not", func(t *testing.T) {
		play(t, Config{}, func(b *bundle) {
			x := b.agent("x", 2)
			b.stop()
			h := x.hello
			x.deliver(wire.Envelope{Up: &h})
			time.Sleep(time.Minute)
			b.lead()
			b.is(b.submit(job.Spec{}), job.Pending)
		})
	})

	t.Run("an agent that does not come to the new leader loses its work after a lease", func(t *testing.T) {
		play(t, Config{}, func(b *bundle) {
			x := b.agent("x", 2)
			id := b.submit(job.Spec{})
			x.take()
			x.silent = true
			b.leadAgain()
			b.pass(14 * time.Second)
			b.is(id, job.Dispatched)
			b.pass(2 * time.Second)
			b.is(id, job.Pending)
			if row, _ := b.machine.Agent("x"); row.Status != job.AgentLost {
				t.Errorf("the agent is %s", row.Status)
			}
		})
	})

	t.Run("a new leader finds the waiting jobs, the delayed ones and the paused queues", func(t *testing.T) {
		play(t, Config{}, func(b *bundle) {
			b.record(&command.SetQueue{Queue: "paused", Paused: true})
			first, second := b.submit(job.Spec{}), b.submit(job.Spec{})
			later := b.submit(job.Spec{RunAt: job.At(time.Now().Add(time.Minute))})
			b.leadAgain()
			x := b.agent("x", 10)
			x.hello.Queues = []string{"default", "paused"}
			x.connect()
			b.is(first, job.Dispatched)
			b.is(second, job.Dispatched)
			b.is(b.submit(job.Spec{Queue: "paused"}), job.Pending)
			b.pass(time.Minute + time.Second)
			b.is(later, job.Dispatched)
		})
	})

	t.Run("without a term nothing is decided and nothing blocks", func(t *testing.T) {
		play(t, Config{}, func(b *bundle) {
			x := b.agent("x", 2)
			b.stop()
			b.is(b.submit(job.Spec{}), job.Pending)
			if _, ok := b.s.AgentLoad(x.id); ok {
				t.Error("knows an agent's load without leading")
			}
		})
	})

	t.Run("more than a window waits and all of it is done in order", func(t *testing.T) {
		play(t, Config{}, func(b *bundle) {
			const n = windowMost + 3000
			batch := make([]command.Command, 500)
			for id := 0; id < n; id += len(batch) {
				for i := range batch {
					batch[i] = &command.Submit{Spec: normal(job.Spec{})}
				}
				b.record(batch...)
			}
			b.leadAgain()
			x := b.agent("x", 200)
			var expect job.ID
			for done := 0; done < n; {
				ds := x.dispatches()
				if len(ds) == 0 {
					t.Fatalf("nothing comes after %d", done)
				}
				results := make([]wire.Message, len(ds))
				for i, d := range ds {
					if d.Job <= expect {
						t.Fatalf("job %d comes after %d", d.Job, expect)
					}
					expect = d.Job
					results[i] = wire.Message{Result: &wire.Result{Job: d.Job, Fence: d.Fence, Outcome: "completed"}}
				}
				done += len(ds)
				x.say(results...)
			}
			if q, err := b.machine.Queue("default"); err != nil || q.Counts[job.Completed] < n {
				t.Errorf("got %+v, %v", q, err)
			}
		})
	})
}
