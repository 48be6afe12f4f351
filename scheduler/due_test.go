package scheduler

import (
	"errors"
	"testing"
	"time"

	"github.com/orrery-io/orrery/command"
	"github.com/orrery-io/orrery/job"
)

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

func TestSweepsSoonerWhenMuchIsToForget(t *testing.T) {
	play(t, Config{}, func(b *bundle) {
		end := func(n int) {
			submits, cancels := make([]command.Command, n), make([]command.Command, n)
			for i := range submits {
				submits[i] = &command.Submit{Spec: normal(job.Spec{Retention: 30 * job.Second})}
			}
			for i, r := range b.record(submits...) {
				cancels[i] = &command.Cancel{Job: r.Job}
			}
			b.record(cancels...)
		}
		left := func() int64 {
			q, err := b.machine.Queue("default")
			if err != nil {
				t.Fatal(err)
			}
			return q.Counts[job.Cancelled]
		}
		end(sweepSlice)
		b.pass(35 * time.Second)
		end(10)
		b.pass(29 * time.Second)
		if n := left(); n != 10 {
			t.Errorf("after the first sweep %d are left, want the 10 whose time has not come", n)
		}
		b.pass(10 * time.Second)
		if n := left(); n != 0 {
			t.Errorf("%d are left", n)
		}
		end(10)
		b.pass(40 * time.Second)
		if n := left(); n != 10 {
			t.Errorf("%d are left: a sweep that removed little is not followed by another one so soon", n)
		}
	})
}
