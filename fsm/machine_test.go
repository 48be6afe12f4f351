package fsm

import (
	"testing"

	"github.com/orrery-io/orrery/command"
	"github.com/orrery-io/orrery/job"
)

func TestMachine(t *testing.T) {
	t.Run("a job goes from submission to its result, and survives a restart", func(t *testing.T) {
		b := setup(t, Config{})
		id := b.do(submission(nil)).Job
		if got := b.job(id).State; got != job.Pending {
			t.Fatalf("after submit: %s", got)
		}
		a := assign()
		b.do(&command.Dispatch{Job: id, Assign: a})
		fence := b.job(id).Fence
		if fence != job.Fence(b.index) {
			t.Errorf("fence %d, want the log index %d", fence, b.index)
		}
		b.do(&command.Start{Job: id, Fence: fence})
		b.do(&command.Finish{Job: id, Fence: fence, Outcome: job.OutcomeCompleted, Next: job.Completed, Result: job.JSON(`1`)})
		for range 2 {
			j := b.job(id)
			if j.State != job.Completed || string(j.Result) != "1" || j.Rev != 4 || len(j.Attempts) != 1 || len(j.Trail) != 4 {
				t.Errorf("got %+v", j)
			}
			q, err := b.m.Queue("default")
			if err != nil || q.Counts[job.Completed] != 1 || q.Counts[job.Pending] != 0 {
				t.Errorf("queue %+v, %v", q, err)
			}
			events, err := b.m.JobEvents(t.Context(), id)
			if err != nil || len(events) != 4 {
				t.Errorf("events %v, %v", events, err)
			}
			b.reopen()
		}
	})
}
