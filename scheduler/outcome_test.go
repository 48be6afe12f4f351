package scheduler

import (
	"testing"
	"time"

	"github.com/orrery-io/orrery/command"
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
