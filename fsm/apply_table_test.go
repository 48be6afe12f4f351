package fsm

import (
	"errors"
	"fmt"
	"testing"

	"github.com/orrery-io/orrery/command"
	"github.com/orrery-io/orrery/job"
)

// in takes a new job to a state, through commands only.
func (b *bundle) in(s job.State) *job.Job {
	b.t.Helper()
	spec := submission(func(x *job.Spec) {
		switch s {
		case job.Scheduled:
			x.RunAt = b.now.Add(job.Hour)
		case job.Expired:
			x.ExpiresAt = b.now + 2
		default:
		}
	})
	id := b.do(spec).Job
	end := func(o job.Outcome) {
		b.do(&command.Dispatch{Job: id, Assign: assign()})
		b.do(&command.Finish{Job: id, Fence: b.job(id).Fence, Outcome: o, Next: s})
	}
	switch s {
	case job.Scheduled, job.Pending:
	case job.Dispatched:
		b.do(&command.Dispatch{Job: id, Assign: assign()})
	case job.Running:
		b.do(&command.Dispatch{Job: id, Assign: assign()})
		b.do(&command.Start{Job: id, Fence: b.job(id).Fence})
	case job.Completed:
		end(job.OutcomeCompleted)
	case job.Failed:
		end(job.OutcomeFailed)
	case job.TimedOut:
		end(job.OutcomeTimedOut)
	case job.Cancelled:
		b.do(&command.Cancel{Job: id})
	case job.Expired:
		b.apply(&command.Verify{})
		b.do(&command.Expire{Job: id})
	}
	j := b.job(id)
	if j.State != s {
		b.t.Fatalf("job is %s, want %s", j.State, s)
	}
	return j
}

// attemptNot is what an action that needs the current attempt is refused with when
// there is none: the fence is looked at before the state.
var attemptActions = map[job.Action]job.Outcome{
	job.ActComplete:      job.OutcomeCompleted,
	job.ActFail:          job.OutcomeFailed,
	job.ActTimeOut:       job.OutcomeTimedOut,
	job.ActLose:          job.OutcomeLost,
	job.ActRevoke:        job.OutcomeRevoked,
	job.ActConfirmCancel: job.OutcomeCancelled,
}

// act makes the command for an action that shall end in next.
func act(b *bundle, a job.Action, j *job.Job, next job.State) command.Command {
	if o, ok := attemptActions[a]; ok {
		return &command.Finish{Job: j.ID, Fence: j.Fence, Outcome: o, Next: next, RunAt: b.now}
	}
	switch a {
	case job.ActReady:
		b.now = max(b.now, j.ReadyAt) // it is passed over before its time
		return &command.Ready{Jobs: []job.ID{j.ID}}
	case job.ActDispatch:
		return &command.Dispatch{Job: j.ID, Assign: assign()}
	case job.ActStart:
		return &command.Start{Job: j.ID, Fence: j.Fence}
	case job.ActReport:
		return &command.Progress{Job: j.ID, Fence: j.Fence, Progress: job.Progress{Percent: 50}}
	case job.ActCancel:
		return &command.Cancel{Job: j.ID}
	case job.ActExpire:
		return &command.Expire{Job: j.ID}
	case job.ActRetry:
		return &command.Retry{Job: j.ID}
	case job.ActPromote:
		return &command.Promote{Job: j.ID}
	case job.ActRedrive:
		return &command.Redrive{Jobs: []job.ID{j.ID}}
	case job.ActDelete:
		return &command.Delete{Jobs: []job.ID{j.ID}}
	default:
		b.t.Fatalf("no command for action %v", a)
		return nil
	}
}

// TestStateTable walks every pair of state and action, with every next state that
// a command can name, and compares what the state machine does with the table.
func TestStateTable(t *testing.T) {
	b := setup(t, Config{})
	walked := 0
	for _, s := range job.States {
		for _, a := range job.Actions {
			nexts := []job.State{0}
			if _, ok := attemptActions[a]; ok {
				nexts = job.States
			}
			for _, next := range nexts {
				walked++
				name := fmt.Sprintf("%s is %s", s, a)
				if next != 0 {
					name += " to " + next.String()
				}
				t.Run(name, func(t *testing.T) {
					b.t = t
					b.step(s, a, next)
				})
			}
		}
	}
	b.t = t
	if want := len(job.States) * (len(job.Actions) - len(attemptActions) + len(attemptActions)*len(job.States)); walked != want {
		t.Errorf("walked %d pairs, want %d", walked, want)
	}
}

func (b *bundle) step(s job.State, a job.Action, next job.State) {
	b.t.Helper()
	j := b.in(s)
	if a == job.ActExpire && s.Waiting() {
		j = b.waitingWithDeadline(s)
	}
	r := b.apply(act(b, a, j, next))[0]
	allowed := job.Accepts(s, a)
	if next != 0 {
		allowed = job.Allowed(s, a, next)
	}
	after, err := b.m.Job(b.t.Context(), j.ID)
	if !allowed {
		if errors.Is(err, job.ErrJobNotFound) || after.State != s || after.Rev != j.Rev {
			b.t.Errorf("a refused action changed the job: %+v, %v", after, err)
		}
		many := a == job.ActReady || a == job.ActRedrive || a == job.ActDelete
		switch {
		case many && r.Count != 0:
			b.t.Errorf("counted %d jobs", r.Count)
		case !many && r.Err == nil:
			b.t.Error("was not refused")
		case !many && r.Err.Kind != job.Conflict:
			b.t.Errorf("refused with %v", r.Err)
		}
		return
	}
	if r.Err != nil {
		b.t.Fatalf("refused: %v", r.Err)
	}
	if a == job.ActDelete {
		if !errors.Is(err, job.ErrJobNotFound) {
			b.t.Errorf("the job is still there: %v", err)
		}
		return
	}
	if after.Rev != j.Rev+1 {
		b.t.Errorf("revision %d after %d", after.Rev, j.Rev)
	}
	if !job.Allowed(s, a, after.State) || next != 0 && after.State != next {
		b.t.Errorf("ended up %s", after.State)
	}
	if after.State.Terminal() != (after.FinishedAt != 0) {
		b.t.Errorf("is %s with finished_at %q", after.State, after.FinishedAt)
	}
}

// waitingWithDeadline is a waiting job whose deadline for the first start has
// passed.
func (b *bundle) waitingWithDeadline(s job.State) *job.Job {
	id := b.do(submission(func(x *job.Spec) {
		x.ExpiresAt = b.now + 2
		if s == job.Scheduled {
			x.RunAt = b.now.Add(job.Hour)
		}
	})).Job
	b.now += 10
	return b.job(id)
}
