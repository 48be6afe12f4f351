package fsm

import (
	"slices"

	"github.com/orrery-io/orrery/command"
	"github.com/orrery-io/orrery/job"
)

// dispatch gives a pending job to an agent.
func (a *apply) dispatch(c *command.Dispatch, r *command.Result) error {
	old, err := a.job(c.Job)
	if err != nil {
		return err
	}
	if !job.Allowed(old.State, job.ActDispatch, job.Dispatched) {
		return refuse(job.Refusal(c.Job, old.State, job.ActDispatch))
	}
	if a.queues.paused(old.Queue) {
		return refuse(job.Errorf(job.Conflict, "queue_paused", "queue %s is paused", old.Queue))
	}
	if len(old.Attempts) >= job.MaxAttemptsKept {
		if err := a.dropLog(old.ID, &old.Attempts[0]); err != nil {
			return err
		}
	}
	j := new(*old)
	a.assign(j, &c.Assign)
	a.store(old, j)
	a.emitAttempt(job.JobDispatched, j)
	r.Job, r.Dispatched = j.ID, true
	return nil
}

// assign opens an attempt on a row that is not stored yet. The log index is its
// fence.
func (a *apply) assign(j *job.Job, to *command.Assign) {
	number := j.Attempt() + 1
	kept := j.Attempts
	if len(kept) >= job.MaxAttemptsKept {
		kept = kept[1:]
		j.AttemptsDropped++
	}
	attempts := make([]job.Attempt, len(kept), len(kept)+1)
	copy(attempts, kept)
	j.Attempts = append(attempts, job.Attempt{
		Number:       number,
		Fence:        job.Fence(a.index),
		Agent:        to.Agent,
		Node:         to.Node,
		DispatchedAt: a.now,
	})
	j.State = job.Dispatched
	j.Fence = job.Fence(a.index)
	j.Agent = to.Agent
	j.StartedAt = a.now
	j.Progress = nil
}

// start records that an attempt has been running for a while.
func (a *apply) start(c *command.Start, r *command.Result) error {
	old, err := a.attempt(c.Job, c.Fence)
	if err != nil {
		return err
	}
	if !job.Allowed(old.State, job.ActStart, job.Running) {
		return refuse(job.Refusal(c.Job, old.State, job.ActStart))
	}
	j := new(*old)
	j.State = job.Running
	a.store(old, j)
	a.emitAttempt(job.JobStarted, j)
	r.Job = j.ID
	return nil
}

// progress records how far an attempt is.
func (a *apply) progress(c *command.Progress, r *command.Result) error {
	old, err := a.attempt(c.Job, c.Fence)
	if err != nil {
		return err
	}
	if !job.Allowed(old.State, job.ActReport, old.State) {
		return refuse(job.Refusal(c.Job, old.State, job.ActReport))
	}
	j := new(*old)
	p := c.Progress
	if p.At == 0 {
		p.At = a.now
	}
	j.Progress = &p
	a.store(old, j)
	a.emitAttempt(job.JobProgressed, j).Detail = detail(p.Message)
	r.Job = j.ID
	return nil
}

// actions are what the outcomes of an attempt do to its job.
var actions = [...]job.Action{
	job.OutcomeCompleted: job.ActComplete,
	job.OutcomeFailed:    job.ActFail,
	job.OutcomeTimedOut:  job.ActTimeOut,
	job.OutcomeLost:      job.ActLose,
	job.OutcomeRevoked:   job.ActRevoke,
	job.OutcomeCancelled: job.ActConfirmCancel,
}

// finish ends an attempt.
func (a *apply) finish(c *command.Finish, r *command.Result) error {
	old, err := a.attempt(c.Job, c.Fence)
	if err != nil {
		return err
	}
	if c.Outcome == 0 || int(c.Outcome) >= len(actions) {
		return refuse(job.Errorf(job.Invalid, "unknown_outcome", "an attempt cannot end with outcome %d", c.Outcome))
	}
	action, next := actions[c.Outcome], c.Next
	if old.CancelRequested && next.Waiting() {
		// The request came after the leader had decided: there is no next attempt.
		action, next = job.ActConfirmCancel, job.Cancelled
	}
	if !job.Allowed(old.State, action, next) {
		return refuse(job.Refusal(c.Job, old.State, action))
	}
	j := new(*old)
	j.Attempts = slices.Clone(old.Attempts)
	a.closeAttempt(j, c)
	j.State = next
	switch {
	case next.Waiting():
		a.waitAgain(j, c)
	default:
		j.FinishedAt = a.now
	}
	a.outcome(j, c)
	a.store(old, j)
	e := a.emitAttempt(finishEvent(c.Outcome, next), j)
	if c.Error != nil {
		e.Detail = detail(c.Error.Message)
	}
	r.Job = j.ID
	return nil
}

func (a *apply) closeAttempt(j *job.Job, c *command.Finish) {
	last := &j.Attempts[len(j.Attempts)-1]
	last.FinishedAt = a.now
	last.Outcome = c.Outcome
	last.Error = c.Error
	switch c.Outcome {
	case job.OutcomeFailed, job.OutcomeTimedOut:
		j.Failures++
	case job.OutcomeLost:
		j.Lost++
	case job.OutcomeCompleted, job.OutcomeRevoked, job.OutcomeCancelled:
	}
}

// waitAgain puts a job back. One that was revoked or lost keeps its place in the
// queue: that was not its fault.
func (a *apply) waitAgain(j *job.Job, c *command.Finish) {
	switch {
	case c.RunAt != 0:
		j.ReadyAt = c.RunAt
	case c.Outcome == job.OutcomeRevoked || c.Outcome == job.OutcomeLost:
	default:
		j.ReadyAt = a.now
	}
}

// outcome stores what the attempt gave.
func (a *apply) outcome(j *job.Job, c *command.Finish) {
	if c.Outcome == job.OutcomeCompleted {
		j.Result, j.ResultBytes, j.Error = c.Result, c.ResultBytes, nil
	} else if c.Error != nil {
		j.Error = c.Error
	}
	j.CancelRequested = false
	if j.State != job.Cancelled {
		j.CancelReason = ""
	}
}

// finishEvent is the event for an attempt that ended, by what became of its job.
func finishEvent(o job.Outcome, next job.State) job.EventType {
	switch next {
	case job.Completed:
		return job.JobCompleted
	case job.Failed:
		return job.JobFailed
	case job.TimedOut:
		return job.JobTimedOut
	case job.Cancelled:
		return job.JobCancelled
	default: // waiting again
	}
	switch o {
	case job.OutcomeLost:
		return job.JobLost
	case job.OutcomeRevoked:
		return job.JobRevoked
	default:
		return job.JobRetrying
	}
}
