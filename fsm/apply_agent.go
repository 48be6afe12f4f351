package fsm

import (
	"context"
	"reflect"

	"github.com/orrery-io/orrery/command"
	"github.com/orrery-io/orrery/job"
)

// setQueue pauses or resumes a queue.
func (a *apply) setQueue(c *command.SetQueue) error {
	q := a.queues.of(c.Queue)
	old := q.info.Load()
	next := job.Queue{Name: c.Queue, Paused: c.Paused}
	if c.Paused {
		next.Reason, next.PausedAt = c.Reason, a.now
		if old.Paused {
			next.PausedAt = old.PausedAt
		}
	}
	q.info.Store(&next)
	if old.Paused == next.Paused {
		return nil
	}
	t := job.QueueResumed
	if c.Paused {
		t = job.QueuePaused
	}
	a.events = append(a.events, job.Event{
		ID:     job.EventID{Index: a.index, N: uint32(len(a.events))}, //nolint:gosec // bounded by the entry
		Time:   a.now,
		Type:   t,
		Queue:  c.Queue,
		Detail: detail(c.Reason),
	})
	return nil
}

// setAgent records an agent's row.
func (a *apply) setAgent(c *command.SetAgent) error {
	old, err := a.agents.get(context.Background(), c.Agent.ID)
	if err != nil {
		return err
	}
	next := c.Agent
	next.SessionIndex = a.index
	t := job.AgentConnected
	if old != nil {
		if old.Session == next.Session {
			next.SessionIndex = old.SessionIndex
		}
		next.FirstSeenAt = old.FirstSeenAt
		if old.Session == next.Session && old.Status != job.AgentDisconnected && old.Status != job.AgentLost {
			t = job.AgentChanged
		}
		if reflect.DeepEqual(*old, next) {
			return nil
		}
	}
	if next.FirstSeenAt == 0 {
		next.FirstSeenAt = a.now
	}
	a.agents.put(next.ID, &next)
	a.emitAgent(t, &next)
	return nil
}

// agentGone records that a session ended, unless there is a newer one.
func (a *apply) agentGone(c *command.AgentGone) error {
	old, err := a.agents.get(context.Background(), c.ID)
	if err != nil {
		return err
	}
	if old == nil || old.Session != c.Session || old.Status == c.Status {
		return nil
	}
	next := *old
	next.Status = c.Status
	if next.DisconnectedAt < next.ConnectedAt || next.DisconnectedAt == 0 {
		next.DisconnectedAt = a.now
	}
	a.agents.put(next.ID, &next)
	a.emitAgent(job.AgentGone, &next)
	return nil
}

// forgetAgents removes the rows of agents that are gone.
func (a *apply) forgetAgents(c *command.ForgetAgents, r *command.Result) error {
	for _, id := range c.IDs {
		old, err := a.agents.get(context.Background(), id)
		if err != nil {
			return err
		}
		if old == nil || old.Status != job.AgentDisconnected && old.Status != job.AgentLost {
			continue
		}
		a.agents.remove(id)
		r.Count++
	}
	return nil
}

func (a *apply) emitAgent(t job.EventType, row *job.Agent) {
	a.events = append(a.events, job.Event{
		ID:       job.EventID{Index: a.index, N: uint32(len(a.events))}, //nolint:gosec // bounded by the entry
		Time:     a.now,
		Type:     t,
		Agent:    row.ID,
		Detail:   row.Status.String(),
		AgentRow: row,
	})
}
