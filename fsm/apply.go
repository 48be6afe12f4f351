package fsm

import (
	"context"
	"errors"
	"fmt"

	"github.com/orrery-io/orrery/command"
	"github.com/orrery-io/orrery/job"
)

// apply is one log entry being applied to the state.
type apply struct {
	*state
	index  uint64
	now    job.Time // the leader's, from the entry
	events []job.Event
	freed  []string // schedules with a queued tick that have no open job any more
	verify bool     // somebody wants the hash of the state after the entry
	batch  *batch   // the events, once the entry is complete
}

// refusal is an error that becomes the result of a command: a precondition was
// not met, nothing was stored. Every other error stops the process.
type refusal struct{ why *job.Error }

// Error implements error.
func (r refusal) Error() string { return r.why.Message }

func refuse(why *job.Error) error { return refusal{why} }

// run applies all items, in order.
func (a *apply) run(items []command.Item) ([]command.Result, error) {
	results := make([]command.Result, len(items))
	for i := range items {
		if err := a.item(&items[i], &results[i]); err != nil {
			return nil, fmt.Errorf("apply entry %d, item %d: %w", a.index, i, err)
		}
		if items[i].Command.Kind() == command.KindVerify {
			a.verify = true
		}
	}
	return results, nil
}

// item applies one command, or gives the first answer to a request id again.
func (a *apply) item(it *command.Item, r *command.Result) error {
	if it.RequestID != "" && mutant != "request" {
		if first, ok := a.requests.find(it.RequestID); ok {
			*r = first
			return nil
		}
	}
	r.Index = a.index
	err := a.command(it.Command, r)
	a.fireQueued()
	if err != nil {
		no, ok := errors.AsType[refusal](err)
		if !ok {
			return err
		}
		*r = command.Result{Index: a.index, Err: no.why}
	}
	if it.RequestID != "" {
		a.requests.add(a.index, it.RequestID, *r)
	}
	return nil
}

// command hands a command to the function that applies it. That function returns
// a refusal before it has changed anything, or changes everything.
func (a *apply) command(c command.Command, r *command.Result) error {
	switch c := c.(type) {
	case *command.Submit:
		return a.submit(c, r)
	case *command.SubmitAll:
		return a.submitAll(c, r)
	case *command.Ready:
		return a.ready(c, r)
	case *command.Dispatch:
		return a.dispatch(c, r)
	case *command.Start:
		return a.start(c, r)
	case *command.Progress:
		return a.progress(c, r)
	case *command.AppendLog:
		return a.appendLog(c, r)
	case *command.Finish:
		return a.finish(c, r)
	case *command.Cancel:
		return a.cancel(c, r)
	case *command.Expire:
		return a.expire(c, r)
	case *command.Retry:
		return a.retry(c, r)
	case *command.Promote:
		return a.promote(c, r)
	case *command.Redrive:
		return a.redrive(c, r)
	case *command.Delete:
		return a.delete(c, r)
	case *command.SetQueue:
		return a.setQueue(c)
	case *command.SetAgent:
		return a.setAgent(c)
	case *command.AgentGone:
		return a.agentGone(c)
	case *command.ForgetAgents:
		return a.forgetAgents(c, r)
	case *command.Init:
		return a.initialize(c)
	case *command.Migrate:
		return a.migrateSchema(c)
	case *command.TrimFeed:
		return a.trimFeed(c)
	case *command.SetSchedule:
		return a.setSchedule(c, r)
	case *command.PauseSchedule:
		return a.pauseSchedule(c)
	case *command.DeleteSchedule:
		return a.deleteSchedule(c)
	case *command.Tick:
		return a.tick(c, r)
	case *command.RunSchedule:
		return a.runSchedule(c, r)
	case *command.Verify:
		return nil // begun when the entry is complete
	default:
		return fmt.Errorf("command %T (kind %d) is not known to the state machine of this version", c, c.Kind())
	}
}

// job reads a job; the error is a refusal when there is none.
func (a *apply) job(id job.ID) (*job.Job, error) {
	j, err := a.find(id)
	if err == nil && j == nil {
		err = refuse(job.ErrJobNotFound)
	}
	return j, err
}

// find reads a job, nil when there is none.
func (a *apply) find(id job.ID) (*job.Job, error) {
	return a.jobs.get(context.Background(), id)
}

// attempt reads a job that fence is the current attempt of; the error is a refusal
// when it is not.
func (a *apply) attempt(id job.ID, fence job.Fence) (*job.Job, error) {
	j, err := a.job(id)
	if err == nil && (j.Fence != fence && mutant != "fence" || !j.State.Active()) {
		err = refuse(job.ErrStaleFence)
	}
	return j, err
}

// store makes next the newest version of the job that was old.
func (a *apply) store(old, next *job.Job) {
	next.Rev = old.Rev + 1
	next.Trail = trail(old.Trail, a.index)
	if old.State != next.State || old.Queue != next.Queue {
		a.move(old, next)
		a.openJobs(old, next)
	}
	a.jobs.put(next.ID, next)
}

// emit appends an event about a job to the feed.
func (a *apply) emit(t job.EventType, j *job.Job) *job.Event {
	a.events = append(a.events, job.Event{
		ID:      job.EventID{Index: a.index, N: uint32(len(a.events))}, //nolint:gosec // bounded by the entry
		Time:    a.now,
		Type:    t,
		Job:     j.ID,
		JobType: j.Type,
		Queue:   j.Queue,
		State:   j.State,
		Row:     j,
	})
	return &a.events[len(a.events)-1]
}

// emitAttempt appends an event about the newest attempt of a job.
func (a *apply) emitAttempt(t job.EventType, j *job.Job) *job.Event {
	e := a.emit(t, j)
	e.Fence, e.Attempt, e.Agent = j.Fence, j.Attempt(), j.Agent
	return e
}

// most of a sentence that goes into an event; the row has all of it.
const detailBytes = 256

// detail shortens a text for an event, at a rune's boundary.
func detail(s string) string {
	if len(s) <= detailBytes {
		return s
	}
	n := detailBytes
	for n > detailBytes-4 && s[n]&0xc0 == 0x80 {
		n--
	}
	return s[:n] + "…"
}
