package scheduler

import (
	"errors"
	"testing"
	"time"

	"github.com/orrery-io/orrery/command"
	"github.com/orrery-io/orrery/fsm"
	"github.com/orrery-io/orrery/job"
	"github.com/orrery-io/orrery/wire"
)

func TestRetry(t *testing.T) {
	boom := &wire.Failure{Kind: "error", Message: "boom"}

	t.Run("a failed attempt is followed by another after the policy's delay, give or take a quarter", func(t *testing.T) {
		play(t, Config{}, func(b *bundle) {
			x := b.agent("x", 1)
			id := b.submit(job.Spec{Retry: job.Retry{Initial: 8 * job.Second}})
			began := job.At(time.Now())
			x.result(x.take(), "failed", boom)
			j := b.is(id, job.Scheduled)
			if d := j.ReadyAt.Sub(began); d < 6*job.Second || d > 10*job.Second {
				t.Errorf("the delay is %s", d)
			}
			b.pass(5 * time.Second)
			b.is(id, job.Scheduled)
			b.pass(6 * time.Second)
			b.is(id, job.Dispatched)
			if d := x.take(); d.Attempt != 2 {
				t.Errorf("got attempt %d", d.Attempt)
			}
		})
	})

	t.Run("without jitter the delay is exact", func(t *testing.T) {
		play(t, Config{}, func(b *bundle) {
			x := b.agent("x", 1)
			id := b.submit(job.Spec{Retry: job.Retry{Initial: 8 * job.Second, NoJitter: true}})
			began := job.At(time.Now())
			x.result(x.take(), "failed", boom)
			if d := b.is(id, job.Scheduled).ReadyAt.Sub(began); d != 8*job.Second {
				t.Errorf("the delay is %s", d)
			}
			b.pass(8*time.Second - time.Millisecond)
			b.is(id, job.Scheduled)
			b.pass(time.Millisecond)
			b.is(id, job.Dispatched)
		})
	})

	t.Run("a delay of zero is no delay", func(t *testing.T) {
		play(t, Config{}, func(b *bundle) {
			x := b.agent("x", 1)
			id := b.submit(job.Spec{Retry: job.Retry{Backoff: job.List, Delays: []job.Duration{0}}})
			x.result(x.take(), "failed", boom)
			if j := b.is(id, job.Dispatched); len(j.Attempts) != 2 {
				t.Errorf("got %d attempts", len(j.Attempts))
			}
		})
	})

	t.Run("the handler's own delay wins", func(t *testing.T) {
		play(t, Config{}, func(b *bundle) {
			x := b.agent("x", 1)
			id := b.submit(job.Spec{})
			began := job.At(time.Now())
			x.result(x.take(), "failed", &wire.Failure{Kind: "busy", RetryAfter: 60_000})
			if d := b.is(id, job.Scheduled).ReadyAt.Sub(began); d != job.Minute {
				t.Errorf("the delay is %s", d)
			}
		})
	})

	t.Run("after the last attempt the job is dead", func(t *testing.T) {
		play(t, Config{}, func(b *bundle) {
			x := b.agent("x", 1)
			id := b.submit(job.Spec{MaxAttempts: 3, Retry: job.Retry{Backoff: job.List, Delays: []job.Duration{0}}})
			for range 2 {
				x.result(x.take(), "failed", boom)
			}
			x.result(x.take(), "failed", boom)
			if j := b.is(id, job.Failed); j.Failures != 3 || j.Error.Message != "boom" {
				t.Errorf("got %d failures, %+v", j.Failures, j.Error)
			}
		})
	})

	t.Run("a permanent failure is the last", func(t *testing.T) {
		play(t, Config{}, func(b *bundle) {
			x := b.agent("x", 1)
			id := b.submit(job.Spec{})
			x.result(x.take(), "failed", &wire.Failure{Kind: "error", Message: "no such user", Permanent: true})
			b.is(id, job.Failed)
		})
	})

	t.Run("an attempt that timed out is retried, and the last one is told apart", func(t *testing.T) {
		play(t, Config{}, func(b *bundle) {
			x := b.agent("x", 1)
			id := b.submit(job.Spec{MaxAttempts: 2, Retry: job.Retry{Backoff: job.List, Delays: []job.Duration{0}}})
			x.result(x.take(), "timed_out", nil)
			if at := b.is(id, job.Dispatched).Attempts[0]; at.Outcome != job.OutcomeTimedOut || at.Error.Kind != "timeout" {
				t.Errorf("got %+v", at)
			}
			x.result(x.take(), "timed_out", nil)
			b.is(id, job.TimedOut)
		})
	})

	t.Run("an attempt that stopped unasked, or says nonsense, has failed", func(t *testing.T) {
		for _, outcome := range []string{"cancelled", "lost", "", "nonsense"} {
			play(t, Config{}, func(b *bundle) {
				x := b.agent("x", 1)
				id := b.submit(job.Spec{MaxAttempts: 1})
				x.result(x.take(), outcome, nil)
				if j := b.is(id, job.Failed); j.Error == nil || j.Error.Kind == "" {
					t.Errorf("%q: got %+v", outcome, j.Error)
				}
			})
		}
	})
}

func TestResult(t *testing.T) {
	t.Run("a repeated result is accepted again and changes nothing", func(t *testing.T) {
		play(t, Config{}, func(b *bundle) {
			x := b.agent("x", 1)
			id := b.submit(job.Spec{})
			d := x.take()
			x.complete(d)
			rev := b.is(id, job.Completed).Rev
			x.complete(d)
			if j := b.is(id, job.Completed); j.Rev != rev {
				t.Error("the job has changed")
			}
		})
	})

	t.Run("another outcome for the same attempt is refused", func(t *testing.T) {
		play(t, Config{}, func(b *bundle) {
			x := b.agent("x", 1)
			b.submit(job.Spec{})
			d := x.take()
			x.complete(d)
			if a := x.result(d, "failed", nil); a == nil || a.Accepted || a.Reason == "" {
				t.Errorf("answered with %+v", a)
			}
		})
	})

	t.Run("one for a job that is not there is refused", func(t *testing.T) {
		play(t, Config{}, func(b *bundle) {
			x := b.agent("x", 1)
			if a := x.result(&wire.Dispatch{Job: 999, Fence: 1}, "completed", nil); a == nil || a.Accepted {
				t.Errorf("answered with %+v", a)
			}
		})
	})

	t.Run("one from an agent that does not have the job is refused", func(t *testing.T) {
		play(t, Config{}, func(b *bundle) {
			x := b.agent("x", 1)
			id := b.submit(job.Spec{})
			d := x.take()
			y := b.agent("y", 1)
			if a := y.result(d, "completed", nil); a == nil || a.Accepted {
				t.Errorf("answered with %+v", a)
			}
			b.is(id, job.Dispatched)
		})
	})

	t.Run("when it is not known whether it was recorded it is not answered, and taken when it comes again", func(t *testing.T) {
		play(t, Config{}, func(b *bundle) {
			x := b.agent("x", 1)
			id := b.submit(job.Spec{})
			d := x.take()
			b.refusing(func([]command.Item) error { return job.ErrOutcomeUnknown })
			if a := x.result(d, "completed", nil); a != nil {
				t.Errorf("answered with %+v", a)
			}
			b.refusing(nil)
			x.complete(d)
			b.is(id, job.Completed)
		})
	})

	t.Run("while the log refuses for the moment it waits", func(t *testing.T) {
		play(t, Config{}, func(b *bundle) {
			x := b.agent("x", 1)
			id := b.submit(job.Spec{})
			d := x.take()
			b.refusing(func([]command.Item) error { return job.ErrNotLeader })
			if a := x.result(d, "completed", nil); a != nil {
				t.Errorf("answered with %+v", a)
			}
			b.refusing(nil)
			b.pass(time.Second)
			b.is(id, job.Completed)
		})
	})

	t.Run("one in the outbox is answered by the next leader", func(t *testing.T) {
		play(t, Config{}, func(b *bundle) {
			x := b.agent("x", 1)
			id := b.submit(job.Spec{})
			d := x.take()
			x.complete(d)
			b.leadAgain()
			x.hello.Outbox = []wire.Held{{Job: id, Fence: d.Fence}}
			x.up()
			x.complete(d)
		})
	})
}

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

func TestDue(t *testing.T) {
	t.Run("a delayed job starts when its time has come", func(t *testing.T) {
		play(t, Config{}, func(b *bundle) {
			b.agent("x", 10)
			later := b.submit(job.Spec{RunAt: job.At(time.Now().Add(10 * time.Second))})
			sooner := b.submit(job.Spec{RunAt: job.At(time.Now().Add(5 * time.Second))})
			b.pass(5*time.Second - time.Millisecond)
			b.is(sooner, job.Scheduled)
			b.pass(time.Millisecond)
			b.is(sooner, job.Dispatched)
			b.is(later, job.Scheduled)
			b.pass(5 * time.Second)
			b.is(later, job.Dispatched)
		})
	})

	t.Run("many that are due at once all become ready", func(t *testing.T) {
		play(t, Config{}, func(b *bundle) {
			at := job.At(time.Now().Add(time.Second))
			batch := make([]command.Command, 600)
			for range 20 {
				for i := range batch {
					batch[i] = &command.Submit{Spec: normal(job.Spec{RunAt: at})}
				}
				b.record(batch...)
			}
			b.pass(2 * time.Second)
			if q, err := b.machine.Queue("default"); err != nil || q.Counts[job.Pending] != 12_000 {
				t.Errorf("got %v, %v", q.Counts, err)
			}
		})
	})

	t.Run("a job that nobody started in time expires", func(t *testing.T) {
		play(t, Config{}, func(b *bundle) {
			id := b.submit(job.Spec{ExpiresAt: job.At(time.Now().Add(10 * time.Second))})
			b.pass(9 * time.Second)
			b.is(id, job.Pending)
			b.pass(time.Second)
			b.is(id, job.Expired)
		})
	})

	t.Run("a delayed job expires too", func(t *testing.T) {
		play(t, Config{}, func(b *bundle) {
			b.record(&command.SetQueue{Queue: "default", Paused: true})
			id := b.submit(job.Spec{RunAt: job.At(time.Now().Add(5 * time.Second)), ExpiresAt: job.At(time.Now().Add(10 * time.Second))})
			b.pass(10 * time.Second)
			b.is(id, job.Expired)
		})
	})

	t.Run("one that was started once does not expire between two attempts", func(t *testing.T) {
		play(t, Config{}, func(b *bundle) {
			x := b.agent("x", 1)
			id := b.submit(job.Spec{
				ExpiresAt: job.At(time.Now().Add(10 * time.Second)), Retry: job.Retry{Initial: job.Minute, NoJitter: true},
			})
			x.result(x.take(), "failed", nil)
			b.pass(30 * time.Second)
			b.is(id, job.Scheduled)
			b.pass(31 * time.Second)
			b.is(id, job.Dispatched)
		})
	})
}

func TestRetention(t *testing.T) {
	play(t, Config{Retention: map[job.State]time.Duration{job.Completed: time.Hour}}, func(b *bundle) {
		x := b.agent("x", 10)
		end := func(spec job.Spec, outcome string) job.ID {
			id := b.submit(spec)
			d := x.take()
			x.result(d, outcome, nil)
			return id
		}
		short := end(job.Spec{Retention: job.Minute}, "completed")
		long := end(job.Spec{}, "completed")
		failed := end(job.Spec{MaxAttempts: 1}, "failed")
		exists := func(id job.ID) bool {
			_, err := b.machine.Job(t.Context(), id)
			if err != nil && !errors.Is(err, job.ErrJobNotFound) {
				t.Fatal(err)
			}
			return err == nil
		}
		b.pass(5 * time.Minute)
		if exists(short) || !exists(long) || !exists(failed) {
			t.Error("after five minutes only the first should be gone")
		}
		b.pass(time.Hour)
		if exists(long) || !exists(failed) {
			t.Error("after an hour only the failed one should be left")
		}
	})
}
