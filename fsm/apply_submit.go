package fsm

import (
	"bytes"
	"context"
	"fmt"

	"github.com/orrery-io/orrery/command"
	"github.com/orrery-io/orrery/job"
)

// submit records a job, or finds the one that its idempotency key stands for.
func (a *apply) submit(c *command.Submit, r *command.Result) error {
	first, err := a.existing(c)
	if err != nil {
		return err
	}
	if first != 0 {
		r.Job, r.Existing = first, true
		return nil
	}
	r.Job, r.Dispatched = a.add(c)
	return nil
}

// submitAll records all jobs or none.
func (a *apply) submitAll(c *command.SubmitAll, r *command.Result) error {
	if len(c.Jobs) == 0 {
		return nil // an empty list would become none when it is read back
	}
	ids := make([]job.ID, len(c.Jobs))
	var keys map[string]int // first job of this command with the key; only looked up
	for i := range c.Jobs {
		s := &c.Jobs[i]
		first, err := a.existing(s)
		if err != nil {
			return inBatch(i, err)
		}
		ids[i] = first
		if s.Spec.IdempotencyKey == "" {
			continue
		}
		if keys == nil {
			keys = make(map[string]int)
		}
		k, again := keys[s.Spec.IdempotencyKey]
		if !again {
			keys[s.Spec.IdempotencyKey] = i
		} else if !bytes.Equal(c.Jobs[k].BodyHash, s.BodyHash) {
			return inBatch(i, refuse(errKeyReused(s.Spec.IdempotencyKey)))
		}
	}
	found := 0
	for i := range c.Jobs {
		s := &c.Jobs[i]
		if k, again := keys[s.Spec.IdempotencyKey]; again && k < i && s.Spec.IdempotencyKey != "" {
			ids[i] = ids[k]
		}
		if ids[i] != 0 {
			found++
			continue
		}
		ids[i], _ = a.add(s)
	}
	r.Jobs, r.Existing, r.Count = ids, found == len(ids) && found > 0, len(ids)-found
	return nil
}

// inBatch says which job of a batch was refused.
func inBatch(i int, err error) error {
	no, ok := err.(refusal) //nolint:errorlint // made by the callee, never wrapped
	if !ok {
		return err
	}
	why := *no.why
	why.Message = fmt.Sprintf("job %d of the batch: %s", i, why.Message)
	return refuse(&why)
}

// existing returns the job that a submission's idempotency key already stands
// for, 0 when there is none. The same key with another body is refused.
func (a *apply) existing(c *command.Submit) (job.ID, error) {
	key := c.Spec.IdempotencyKey
	if key == "" {
		return 0, nil
	}
	row, err := a.keys.get(context.Background(), key)
	if err != nil || row == nil {
		return 0, err
	}
	if !bytes.Equal(row.Hash, c.BodyHash) {
		return 0, refuse(errKeyReused(key))
	}
	return row.Job, nil
}

func errKeyReused(key string) *job.Error {
	return job.Errorf(job.Mismatch, "idempotency_key_reused",
		"the idempotency key %q was used before with a different body", key).
		WithHint("use a new key for a new job, or send exactly the same body again")
}

// add makes the row of a new job. With an assignment it is dispatched at once,
// unless it has to wait or its queue is paused.
func (a *apply) add(c *command.Submit) (id job.ID, dispatched bool) {
	j := a.newJob(c.Spec)
	if j.IdempotencyKey != "" {
		a.keys.put(j.IdempotencyKey, &keyRow{Job: j.ID, Hash: c.BodyHash})
	}
	a.emit(job.JobSubmitted, j)
	if c.Assign != nil && j.State == job.Pending && !a.queues.paused(j.Queue) {
		a.assign(j, c.Assign)
		j.Rev++
		dispatched = true
	}
	a.move(nil, j)
	a.jobs.put(j.ID, j)
	if dispatched {
		a.emitAttempt(job.JobDispatched, j)
	}
	return j.ID, dispatched
}

// newJob makes a row that is not stored yet.
func (a *apply) newJob(spec job.Spec) *job.Job {
	a.lastID++
	j := &job.Job{
		ID:        a.lastID,
		Spec:      spec,
		State:     job.Pending,
		Rev:       1,
		CreatedAt: a.now,
		ReadyAt:   a.now,
		Trail:     trail(nil, a.index),
	}
	if j.RunAt > a.now {
		j.State, j.ReadyAt = job.Scheduled, j.RunAt
	}
	return j
}
