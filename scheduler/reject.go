package scheduler

import (
	"time"

	"github.com/orrery-io/orrery/command"
	"github.com/orrery-io/orrery/job"
	"github.com/orrery-io/orrery/wire"
)

// How long a job is kept from an agent that has rejected it: rejectFirst, doubled
// with each rejection of the job up to rejectMost.
const (
	rejectFirst = time.Second
	rejectMost  = 30 * time.Second
)

// avoidance is which agents a job is not given to for a while, because they have
// rejected it.
type avoidance struct {
	id         job.ID
	until      map[string]time.Duration
	rejections int
	// group and entry are set while the job is parked: every agent that could take
	// it has rejected it.
	group *group
	entry entry
	timer timer
}

// rejected takes back an attempt that its agent will not execute. The handler has
// not begun, so this is safe for jobs that may be executed only once.
func (t *term) rejected(a *agent, m *wire.Reject, now time.Duration, fx *effects) {
	att := t.owns(a, m.Job, m.Fence)
	if att == nil || att.finishing {
		return
	}
	av := t.avoided[m.Job]
	if av == nil {
		av = &avoidance{id: m.Job, until: make(map[string]time.Duration)}
		av.timer.owner = av
		t.avoided[m.Job] = av
	}
	backOff := min(rejectFirst<<min(av.rejections, 10), rejectMost)
	av.rejections++
	av.until[a.id] = now + backOff
	// Kept for longer than it is heeded, so that the back-off grows.
	t.setTimer(&av.timer, now+2*rejectMost)

	reason := clip(m.Reason, maxFailureMessage)
	if reason == "" {
		reason = "the agent rejected the job"
	}
	fin := &command.Finish{
		Job: att.id, Fence: att.fence, Outcome: job.OutcomeRevoked, Next: job.Pending,
		Error: &job.Failure{Kind: "rejected", Message: reason},
	}
	if att.cancelled {
		fin.Next = job.Cancelled
	}
	t.finish(att, fin, fx, nil)
}

// park keeps a job out of its window until the first of the agents that have
// rejected it may be tried again. Another agent that comes free meanwhile does not
// get it sooner.
func (t *term) park(g *group, e entry) {
	av := t.avoided[e.id]
	now := t.now()
	earliest := now + rejectMost
	for _, at := range av.until {
		if at > now {
			earliest = min(earliest, at)
		}
	}
	av.group, av.entry = g, e
	t.setTimer(&av.timer, earliest)
}

// expire implements expirer.
func (av *avoidance) expire(t *term, now time.Duration, _ *effects) {
	if g := av.group; g != nil {
		av.group = nil
		t.setTimer(&av.timer, now+2*rejectMost)
		t.restore(g, av.entry)
		return
	}
	delete(t.avoided, av.id)
}

// unavoid forgets the rejections of a job that an agent has executed.
func (t *term) unavoid(id job.ID) {
	if av := t.avoided[id]; av != nil {
		t.timers.stop(&av.timer)
		delete(t.avoided, id)
	}
}
