package fsm

import (
	"github.com/orrery-io/orrery/command"
	"github.com/orrery-io/orrery/job"
)

// ready makes jobs pending whose time has come.
func (a *apply) ready(c *command.Ready, r *command.Result) error {
	for _, id := range c.Jobs {
		old, err := a.find(id)
		if err != nil {
			return err
		}
		// A job may have been scheduled anew, for later, since the leader looked.
		if old == nil || !job.Allowed(old.State, job.ActReady, job.Pending) || old.ReadyAt > a.now {
			continue
		}
		j := new(*old)
		j.State = job.Pending
		a.store(old, j)
		a.emit(job.JobReady, j)
		r.Count++
	}
	return nil
}

// cancel ends a waiting job, and asks an active one to stop.
func (a *apply) cancel(c *command.Cancel, r *command.Result) error {
	old, err := a.job(c.Job)
	if err != nil {
		return err
	}
	r.Job = old.ID
	j := new(*old)
	j.CancelReason = c.Reason
	switch {
	case job.Allowed(old.State, job.ActCancel, job.Cancelled):
		j.State, j.FinishedAt = job.Cancelled, a.now
		a.store(old, j)
		a.emit(job.JobCancelled, j).Detail = detail(c.Reason)
	case job.Allowed(old.State, job.ActCancel, old.State):
		if old.CancelRequested {
			return nil // once is enough
		}
		j.CancelRequested = true
		a.store(old, j)
		a.emitAttempt(job.JobCancelRequested, j).Detail = detail(c.Reason)
	default:
		return refuse(job.Refusal(c.Job, old.State, job.ActCancel))
	}
	return nil
}

// expire ends a job that was not started by its deadline.
func (a *apply) expire(c *command.Expire, r *command.Result) error {
	old, err := a.job(c.Job)
	if err != nil {
		return err
	}
	if !job.Allowed(old.State, job.ActExpire, job.Expired) {
		return refuse(job.Refusal(c.Job, old.State, job.ActExpire))
	}
	if d := deadline(old); d == 0 || d > a.now {
		return refuse(job.Errorf(job.Conflict, "not_expired", "job %d has no deadline that has passed", c.Job))
	}
	j := new(*old)
	j.State, j.FinishedAt = job.Expired, a.now
	a.store(old, j)
	a.emit(job.JobExpired, j)
	r.Job = j.ID
	return nil
}

// retry makes an ended job run again, or one between two attempts run now.
func (a *apply) retry(c *command.Retry, r *command.Result) error {
	old, err := a.job(c.Job)
	if err != nil {
		return err
	}
	if !job.Allowed(old.State, job.ActRetry, job.Pending) {
		return refuse(job.Refusal(c.Job, old.State, job.ActRetry))
	}
	j := a.again(old)
	a.store(old, j)
	a.emit(job.JobRetried, j)
	r.Job = j.ID
	return nil
}

// again returns a version of a job that is pending now. One that had ended gets a
// full set of attempts; what it did before stays in its history.
func (a *apply) again(old *job.Job) *job.Job {
	j := new(*old)
	j.State, j.ReadyAt = job.Pending, a.now
	if !old.State.Terminal() {
		return j
	}
	j.FinishedAt = 0
	j.Failures, j.Lost = 0, 0
	j.CancelReason = ""
	if j.ExpiresAt <= a.now {
		j.ExpiresAt = 0 // else it would expire at once
	}
	return j
}

// promote makes a delayed job run now.
func (a *apply) promote(c *command.Promote, r *command.Result) error {
	old, err := a.job(c.Job)
	if err != nil {
		return err
	}
	if !job.Allowed(old.State, job.ActPromote, job.Pending) {
		return refuse(job.Refusal(c.Job, old.State, job.ActPromote))
	}
	j := new(*old)
	j.State, j.ReadyAt = job.Pending, a.now
	a.store(old, j)
	a.emit(job.JobPromoted, j)
	r.Job = j.ID
	return nil
}

// redrive takes jobs out of the dead letters.
func (a *apply) redrive(c *command.Redrive, r *command.Result) error {
	for _, id := range c.Jobs {
		old, err := a.find(id)
		if err != nil {
			return err
		}
		if old == nil || !job.Allowed(old.State, job.ActRedrive, job.Pending) {
			continue
		}
		j := a.again(old)
		if len(c.Payload) > 0 {
			j.Payload, j.PayloadBytes = c.Payload, nil
		}
		if c.Queue != "" {
			j.Queue = c.Queue
		}
		a.store(old, j)
		a.emit(job.JobRedriven, j)
		r.Count++
	}
	return nil
}

// delete removes ended jobs with all that belongs to them.
func (a *apply) delete(c *command.Delete, r *command.Result) error {
	for _, id := range c.Jobs {
		old, err := a.find(id)
		if err != nil {
			return err
		}
		if old == nil || !job.Allowed(old.State, job.ActDelete, 0) || c.OnlyDead && !old.State.DeadLetter() {
			continue
		}
		for i := range old.Attempts {
			if err := a.dropLog(id, &old.Attempts[i]); err != nil {
				return err
			}
		}
		if old.IdempotencyKey != "" {
			a.keys.remove(old.IdempotencyKey)
		}
		a.move(old, nil)
		a.jobs.remove(id)
		e := a.emit(job.JobDeleted, old)
		e.State, e.Row = 0, nil
		r.Count++
	}
	return nil
}
