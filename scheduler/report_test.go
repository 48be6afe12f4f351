package scheduler

import (
	"testing"
	"time"

	"github.com/orrery-io/orrery/fsm"
	"github.com/orrery-io/orrery/job"
	"github.com/orrery-io/orrery/wire"
)

func TestReports(t *testing.T) {
	t.Run("a start is recorded once", func(t *testing.T) {
		play(t, Config{}, func(b *bundle) {
			x := b.agent("x", 1)
			id := b.submit(job.Spec{})
			d := x.take()
			x.say(wire.Message{Start: &wire.Start{Job: d.Job, Fence: d.Fence, Running: 1000}})
			rev := b.is(id, job.Running).Rev
			x.say(wire.Message{Start: &wire.Start{Job: d.Job, Fence: d.Fence, Running: 1000}})
			if j := b.job(id); j.Rev != rev {
				t.Error("recorded twice")
			}
		})
	})

	t.Run("progress is recorded at once, then once a second with the newest", func(t *testing.T) {
		play(t, Config{}, func(b *bundle) {
			x := b.agent("x", 1)
			id := b.submit(job.Spec{})
			d := x.take()
			for i := range 10 {
				x.say(wire.Message{Progress: &wire.Progress{Job: d.Job, Fence: d.Fence, Percent: float64(i), Message: "m"}})
			}
			if p := b.job(id).Progress; p == nil || p.Percent != 0 {
				t.Errorf("at first: %+v", p)
			}
			rev := b.job(id).Rev
			b.pass(1100 * time.Millisecond)
			if j := b.job(id); j.Progress.Percent != 9 || j.Rev != rev+1 {
				t.Errorf("after a second: %+v, %d changes", j.Progress, j.Rev-rev)
			}
		})
	})

	t.Run("the last progress is recorded before the end", func(t *testing.T) {
		play(t, Config{}, func(b *bundle) {
			x := b.agent("x", 1)
			id := b.submit(job.Spec{})
			d := x.take()
			for _, percent := range []float64{1, 100} {
				x.say(wire.Message{Progress: &wire.Progress{Job: d.Job, Fence: d.Fence, Percent: percent}})
			}
			x.complete(d)
			if p := b.is(id, job.Completed).Progress; p == nil || p.Percent != 100 {
				t.Errorf("got %+v", p)
			}
		})
	})

	t.Run("log lines are recorded before the end, each once", func(t *testing.T) {
		play(t, Config{}, func(b *bundle) {
			x := b.agent("x", 1)
			id := b.submit(job.Spec{})
			d := x.take()
			lines := []wire.LogLine{{Seq: 1, Level: "info", Text: "one"}, {Seq: 2, Level: "info", Text: "two"}, {Seq: 3, Level: "info", Text: "three"}}
			x.say(
				wire.Message{Log: &wire.Log{Job: d.Job, Fence: d.Fence, Lines: lines[:2]}},
				wire.Message{Log: &wire.Log{Job: d.Job, Fence: d.Fence, Lines: lines}},
				wire.Message{Log: &wire.Log{Job: d.Job, Fence: d.Fence + 1, Lines: lines}},
				wire.Message{Result: &wire.Result{Job: d.Job, Fence: d.Fence, Outcome: "completed"}},
			)
			b.is(id, job.Completed)
			page, err := b.machine.JobLog(t.Context(), id, fsm.LogQuery{Limit: 100})
			if err != nil || len(page) != 3 || page[2].Text != "three" {
				t.Errorf("got %+v, %v", page, err)
			}
		})
	})
}

func TestTimeout(t *testing.T) {
	t.Run("an attempt that its agent does not end is ended by the leader after a grace", func(t *testing.T) {
		play(t, Config{}, func(b *bundle) {
			x := b.agent("x", 1)
			id := b.submit(job.Spec{Timeout: 20 * job.Second, MaxAttempts: 1})
			d := x.take()
			if d.Timeout != 20_000 {
				t.Errorf("the agent is told %d ms", d.Timeout)
			}
			x.say(wire.Message{Start: &wire.Start{Job: d.Job, Fence: d.Fence}})
			b.pass(29 * time.Second)
			b.is(id, job.Running)
			b.pass(2 * time.Second)
			if j := b.is(id, job.TimedOut); j.Error.Kind != "timeout" {
				t.Errorf("got %+v", j.Error)
			}
			if len(x.held) != 0 {
				t.Error("the agent was not told to drop it")
			}
		})
	})

	t.Run("time in the agent's own queue does not count", func(t *testing.T) {
		play(t, Config{}, func(b *bundle) {
			x := b.agent("x", 1)
			id := b.submit(job.Spec{Timeout: 20 * job.Second})
			x.take()
			x.held[0].Waiting = true
			b.pass(5 * time.Minute)
			b.is(id, job.Dispatched)
			x.held[0].Waiting = false
			b.pass(25 * time.Second)
			b.is(id, job.Running)
			b.pass(15 * time.Second)
			if at := b.job(id).Attempts[0]; at.Outcome != job.OutcomeTimedOut {
				t.Errorf("got %+v", at)
			}
		})
	})

	t.Run("without a connection the lease decides instead", func(t *testing.T) {
		play(t, Config{}, func(b *bundle) {
			x := b.agent("x", 1)
			id := b.submit(job.Spec{Timeout: job.Second, Lease: 5 * job.Minute})
			d := x.take()
			x.say(wire.Message{Start: &wire.Start{Job: d.Job, Fence: d.Fence}})
			x.drop()
			b.pass(2 * time.Minute)
			b.is(id, job.Running)
			x.release(id)
			x.hello.Outbox = []wire.Held{{Job: d.Job, Fence: d.Fence}}
			x.connect()
			x.complete(d)
			b.is(id, job.Completed)
		})
	})
}
