package scheduler

import (
	"maps"

	"github.com/orrery-io/orrery/job"
)

// AgentLoad is how busy an agent is, as the leader knows at this moment. It is not
// recorded anywhere.
type AgentLoad struct {
	Connected bool     `json:"connected"`
	Session   string   `json:"session,omitempty"`
	Node      string   `json:"node,omitempty"`
	Since     job.Time `json:"since,omitempty,omitzero"`
	// Held is what the agent has; Waiting how much of it is in the agent's own
	// queue, by its last heartbeat.
	Held    int `json:"held"`
	Waiting int `json:"waiting"`
	// Credit is how much more it would be given now.
	Credit        int                `json:"credit"`
	LastHeartbeat job.Time           `json:"last_heartbeat,omitempty,omitzero"`
	Gauges        map[string]float64 `json:"gauges,omitempty"`
}

// leading returns the term in which this node takes the decisions, nil when it
// does not.
func (s *Scheduler) leading() *term {
	if t := s.term.Load(); t != nil && t.loaded.Load() {
		return t
	}
	return nil
}

// AgentLoad returns the load of an agent; false when this node does not lead, or
// the agent has been gone for longer than its lease.
func (s *Scheduler) AgentLoad(id string) (AgentLoad, bool) {
	t := s.leading()
	if t == nil {
		return AgentLoad{}, false
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	a := t.agents[id]
	if a == nil {
		return AgentLoad{}, false
	}
	return t.loadOf(a), true
}

// AgentLoads returns the load of all agents, by id; false when this node does not
// lead.
func (s *Scheduler) AgentLoads() (map[string]AgentLoad, bool) {
	t := s.leading()
	if t == nil {
		return nil, false
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	all := make(map[string]AgentLoad, len(t.agents))
	for id, a := range t.agents {
		all[id] = t.loadOf(a)
	}
	return all, true
}

func (t *term) loadOf(a *agent) AgentLoad {
	l := AgentLoad{
		Connected: a.connected, Session: a.session, Node: a.node, Since: job.At(a.since),
		Held: len(a.held) - a.freed, LastHeartbeat: job.At(a.beatAt), Gauges: maps.Clone(a.gauges),
	}
	if a.class != nil {
		l.Credit = max(0, a.limit(t.s.cfg.MaxPrefetch)-a.inflight())
	}
	for _, att := range a.held {
		if att.waiting && !att.finishing {
			l.Waiting++
		}
	}
	return l
}
