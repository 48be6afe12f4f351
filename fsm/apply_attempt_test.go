package fsm

import (
	"strings"
	"testing"

	"github.com/orrery-io/orrery/command"
	"github.com/orrery-io/orrery/job"
)

// finish ends the current attempt of a job.
func (b *bundle) finish(id job.ID, o job.Outcome, next job.State, change func(*command.Finish)) {
	b.t.Helper()
	c := &command.Finish{Job: id, Fence: b.job(id).Fence, Outcome: o, Next: next}
	if change != nil {
		change(c)
	}
	b.do(c)
}

func (b *bundle) dispatch(id job.ID) job.Fence {
	b.t.Helper()
	b.do(&command.Dispatch{Job: id, Assign: assign()})
	return b.job(id).Fence
}

// lastEvent is the newest event about a job.
func (b *bundle) lastEvent(id job.ID) job.Event {
	b.t.Helper()
	events, err := b.m.JobEvents(b.t.Context(), id)
	if err != nil || len(events) == 0 {
		b.t.Fatalf("events %v, %v", events, err)
	}
	return events[len(events)-1]
}

func TestFence(t *testing.T) {
	b := setup(t, Config{})
	id := b.do(submission(nil)).Job
	old := b.dispatch(id)
	b.finish(id, job.OutcomeLost, job.Pending, nil)
	if j := b.job(id); j.Fence != old {
		t.Errorf("the fence is %d after the attempt's end, want %d", j.Fence, old)
	}
	commands := func(f job.Fence) []command.Command {
		return []command.Command{
			&command.Start{Job: id, Fence: f},
			&command.Progress{Job: id, Fence: f},
			&command.AppendLog{Job: id, Fence: f, Lines: []job.LogLine{{Seq: 1, Text: "x"}}},
			&command.Finish{Job: id, Fence: f, Outcome: job.OutcomeCompleted, Next: job.Completed},
		}
	}
	for _, c := range commands(old) {
		b.refused(c, "stale_fence") // the attempt has ended
	}
	now := b.dispatch(id)
	if now <= old {
		t.Errorf("fence %d after %d", now, old)
	}
	for _, c := range commands(old) {
		b.refused(c, "stale_fence") // there is a newer one
	}
	b.refused(&command.Finish{Job: 99, Fence: now, Outcome: job.OutcomeCompleted, Next: job.Completed}, "job_not_found")
	b.finish(id, job.OutcomeCompleted, job.Completed, nil)
	b.refused(&command.Finish{Job: id, Fence: now, Outcome: job.OutcomeCompleted, Next: job.Completed}, "stale_fence")
}

func TestFinish(t *testing.T) {
	failure := &job.Failure{Kind: "error", Message: "no route to host"}
	t.Run("a failure is counted and retried later", func(t *testing.T) {
		b := setup(t, Config{})
		id := b.do(submission(nil)).Job
		b.dispatch(id)
		at := b.now.Add(job.Minute)
		b.finish(id, job.OutcomeFailed, job.Scheduled, func(c *command.Finish) { c.RunAt, c.Error = at, failure })
		j := b.job(id)
		if j.State != job.Scheduled || j.ReadyAt != at || j.Failures != 1 || j.Lost != 0 || j.Error.Kind != "error" || j.FinishedAt != 0 {
			t.Errorf("got %+v", j)
		}
		a := j.Attempts[0]
		if a.Outcome != job.OutcomeFailed || a.FinishedAt != b.now || a.Error.Message != failure.Message || a.Number != 1 {
			t.Errorf("attempt %+v", a)
		}
		if e := b.lastEvent(id); e.Type != job.JobRetrying || e.Detail != failure.Message || e.Attempt != 1 || e.Agent != "agent-1" {
			t.Errorf("event %+v", e)
		}
	})
	t.Run("lost is counted apart and keeps the place in the queue", func(t *testing.T) {
		b := setup(t, Config{})
		id := b.do(submission(nil)).Job
		ready := b.job(id).ReadyAt
		b.dispatch(id)
		b.finish(id, job.OutcomeLost, job.Pending, nil)
		if j := b.job(id); j.Lost != 1 || j.Failures != 0 || j.ReadyAt != ready {
			t.Errorf("got %+v", j)
		}
		if e := b.lastEvent(id); e.Type != job.JobLost {
			t.Errorf("event %v", e.Type)
		}
	})
	t.Run("revoked counts for nothing", func(t *testing.T) {
		b := setup(t, Config{})
		id := b.do(submission(nil)).Job
		b.dispatch(id)
		b.finish(id, job.OutcomeRevoked, job.Pending, nil)
		if j := b.job(id); j.Lost != 0 || j.Failures != 0 || j.Begun() {
			t.Errorf("got %+v", j)
		}
		if e := b.lastEvent(id); e.Type != job.JobRevoked {
			t.Errorf("event %v", e.Type)
		}
	})
	t.Run("a result after failures clears the error", func(t *testing.T) {
		b := setup(t, Config{})
		id := b.do(submission(nil)).Job
		b.dispatch(id)
		b.do(&command.Progress{Job: id, Fence: b.job(id).Fence, Progress: job.Progress{Percent: 10}})
		b.finish(id, job.OutcomeFailed, job.Pending, func(c *command.Finish) { c.Error = failure })
		b.dispatch(id)
		if j := b.job(id); j.Progress != nil {
			t.Error("the progress of the attempt before was kept")
		}
		b.finish(id, job.OutcomeCompleted, job.Completed, func(c *command.Finish) { c.ResultBytes = []byte{1} })
		if j := b.job(id); j.Error != nil || len(j.ResultBytes) != 1 || j.Failures != 1 || j.Attempt() != 2 {
			t.Errorf("got %+v", j)
		}
	})
	t.Run("a cancel that came after the leader's decision wins", func(t *testing.T) {
		b := setup(t, Config{})
		id := b.do(submission(nil)).Job
		b.dispatch(id)
		b.do(&command.Cancel{Job: id, Reason: "not needed"})
		b.finish(id, job.OutcomeFailed, job.Scheduled, func(c *command.Finish) { c.RunAt = b.now + 1000 })
		j := b.job(id)
		if j.State != job.Cancelled || j.CancelRequested || j.CancelReason != "not needed" || j.Attempts[0].Outcome != job.OutcomeFailed {
			t.Errorf("got %+v", j)
		}
		if e := b.lastEvent(id); e.Type != job.JobCancelled {
			t.Errorf("event %v", e.Type)
		}
	})
	t.Run("a result wins over a cancel", func(t *testing.T) {
		b := setup(t, Config{})
		id := b.do(submission(nil)).Job
		b.dispatch(id)
		b.do(&command.Cancel{Job: id, Reason: "late"})
		b.finish(id, job.OutcomeCompleted, job.Completed, nil)
		if j := b.job(id); j.State != job.Completed || j.CancelRequested || j.CancelReason != "" {
			t.Errorf("got %+v", j)
		}
	})
	t.Run("an unknown outcome is refused", func(t *testing.T) {
		b := setup(t, Config{})
		id := b.do(submission(nil)).Job
		f := b.dispatch(id)
		for _, o := range []job.Outcome{0, 7, 255} {
			b.refused(&command.Finish{Job: id, Fence: f, Outcome: o, Next: job.Completed}, "unknown_outcome")
		}
	})
	t.Run("a long message is shortened in the event only", func(t *testing.T) {
		b := setup(t, Config{})
		id := b.do(submission(nil)).Job
		b.dispatch(id)
		long := strings.Repeat("é", 400)
		b.finish(id, job.OutcomeFailed, job.Failed, func(c *command.Finish) { c.Error = &job.Failure{Kind: "error", Message: long} })
		if d := b.lastEvent(id).Detail; len(d) > detailBytes+3 || !strings.HasPrefix(long, strings.TrimSuffix(d, "…")) {
			t.Errorf("detail of %d bytes", len(d))
		}
		if b.job(id).Error.Message != long {
			t.Error("the row's message was shortened")
		}
	})
}

func TestAttemptsAreBounded(t *testing.T) {
	b := setup(t, Config{})
	id := b.do(submission(nil)).Job
	const more = 5
	for i := range job.MaxAttemptsKept + more {
		f := b.dispatch(id)
		if i == 0 {
			b.do(&command.AppendLog{Job: id, Fence: f, Lines: []job.LogLine{{Seq: 1, Text: "first"}}})
		}
		b.finish(id, job.OutcomeRevoked, job.Pending, nil)
	}
	j := b.job(id)
	if len(j.Attempts) != job.MaxAttemptsKept || j.AttemptsDropped != more || j.Attempt() != job.MaxAttemptsKept+more || j.Attempts[0].Number != more+1 {
		t.Errorf("kept %d, dropped %d, newest %d", len(j.Attempts), j.AttemptsDropped, j.Attempt())
	}
	if len(j.Trail) != job.MaxTrail {
		t.Errorf("trail of %d", len(j.Trail))
	}
	b.flush()
	var n int
	if err := b.m.store.lists.QueryRowContext(t.Context(), "SELECT (SELECT count(*) FROM log_heads) + (SELECT count(*) FROM log_chunks)").Scan(&n); err != nil || n != 0 {
		t.Errorf("the log of a dropped attempt was kept: %d rows, %v", n, err)
	}
}
