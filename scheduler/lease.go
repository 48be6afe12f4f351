package scheduler

import (
	"fmt"
	"time"

	"github.com/orrery-io/orrery/command"
	"github.com/orrery-io/orrery/internal/obs"
	"github.com/orrery-io/orrery/job"
	"github.com/orrery-io/orrery/wire"
)

// A lease is the time during which an agent may be silent and keep its attempts.
// It belongs to the agent, covers all that it holds, and is renewed by each
// heartbeat. The agent counts from when it sent the heartbeat, the leader from when
// it came in, and the agent stops its work a margin before: so when the lease ends
// here, the work has ended there. A job may ask for a longer lease of its own.

// renew starts the lease anew.
func (t *term) renew(a *agent, now time.Duration) {
	a.lastBeat, a.beatAt = now, time.Now()
	t.setTimer(&a.lease, now+t.s.cfg.Lease)
}

// expire implements expirer: the agent was silent for longer than its lease, or
// than the longer lease of one of its jobs.
func (a *agent) expire(t *term, now time.Duration, fx *effects) {
	if end := a.lastBeat + t.s.cfg.Lease; now < end {
		t.setTimer(&a.lease, end)
		return
	}
	if !a.gone {
		a.gone = true
		t.log.Warn("agent lost", obs.Agent(a.id), obs.Session(a.session), obs.Count(len(a.held)))
		if a.connected {
			fx.down(a.envelope(), &wire.Error{Code: "lease_expired", Message: fmt.Sprintf("nothing was heard of the agent for %s", t.s.cfg.Lease)})
			t.disconnect(a, fx)
		}
		delete(t.stored, a.id)
		fx.propose(&command.AgentGone{ID: a.id, Session: a.session, Status: job.AgentLost}, nil)
	}
	var next time.Duration
	for _, att := range a.held {
		end := a.lastBeat + max(t.s.cfg.Lease, att.lease)
		switch {
		case att.finishing:
		case end <= now:
			t.lose(att, fmt.Sprintf("nothing was heard of agent %s for %s", a.id, max(t.s.cfg.Lease, att.lease)), fx)
		case next == 0 || end < next:
			next = end
		}
	}
	if next != 0 {
		t.setTimer(&a.lease, next)
	}
	if len(a.held) == 0 {
		t.dismiss(a)
	}
}

// dismiss forgets an agent that has been gone for longer than its lease and has
// nothing any more.
func (t *term) dismiss(a *agent) {
	if t.agents[a.id] == a && !a.connected {
		t.timers.stop(&a.lease)
		t.withdraw(a)
		delete(t.agents, a.id)
	}
}

// owns returns the attempt that an agent names, nil when it is not the agent's.
func (t *term) owns(a *agent, id job.ID, fence job.Fence) *attempt {
	att := t.attempts[id]
	if att == nil || (att.fence != fence || att.agent != a) && mutant != "fence" {
		return nil
	}
	return att
}

// list compares what the agent says it has with what it should have: those that it
// names are acknowledged, those that are not its own are returned.
func (t *term) list(a *agent, held []wire.Held, now time.Duration, fx *effects) (drop []wire.Held) {
	t.marks++
	a.listed = t.marks
	for _, x := range held {
		att := t.owns(a, x.Job, x.Fence)
		if att == nil {
			drop = append(drop, x)
			continue
		}
		att.mark, att.session = t.marks, a.session
		t.acknowledge(att, now)
		att.waiting = x.Waiting
		if x.Waiting || att.finishing {
			continue
		}
		t.begin(att, now, now)
		if !att.running && now-att.begunAt >= t.s.cfg.StartAfter {
			t.recordStart(att, fx)
		}
	}
	return drop
}

// heartbeat renews the lease of everything that the agent holds.
func (t *term) heartbeat(env wire.Envelope, hb *wire.Heartbeat, now time.Duration, fx *effects) {
	a := t.agents[env.Agent]
	if a == nil || !a.connected || a.session != env.Session {
		fx.down(env, &wire.Error{Code: "unknown_session", Message: "the leader does not know this session; connect again"})
		return
	}
	t.renew(a, now)
	a.gauges = hb.Gauges
	drop := t.list(a, hb.Held, now, fx)
	settled := t.s.cfg.Heartbeat / 4
	for _, att := range a.held {
		switch {
		case att.mark == t.marks, att.finishing, att.unsent != nil, att.outboxUntil > now:
		case !att.acked && att.sentAt+settled > now:
			// The list may be older than the dispatch.
		case !att.acked && att.ackBy == 0:
			t.revoke(att, "the agent did not acknowledge the dispatch and does not have it", fx)
		case !att.acked:
			att.unlisted = true
		case att.ackedAt+settled > now:
			// The list may have been made by a node before the acknowledgement.
		default:
			t.lose(att, "the agent no longer has the attempt", fx)
		}
	}
	fx.send(a, wire.Message{Beat: &wire.Beat{Seq: hb.Seq, Drop: drop}})
}

// rebind ties what the agent has kept to its new session, and ends what it has not
// kept. replacing means that its session before seemed to be open: then either may be
// the newer, and only heartbeats tell what it has.
func (t *term) rebind(a *agent, env wire.Envelope, replacing bool, now time.Duration, fx *effects) (drop []wire.Held) {
	drop = t.list(a, env.Up.Held, now, fx)
	for _, x := range env.Up.Outbox {
		if att := t.owns(a, x.Job, x.Fence); att != nil {
			att.mark = t.marks
			att.outboxUntil = now + t.s.cfg.Lease
			t.acknowledge(att, now)
		}
	}
	sent, foreign := t.known(a, env.Sent)
	drop = append(drop, foreign...)
	for _, att := range a.held {
		switch {
		case att.mark == t.marks:
			if att.timeoutAt != 0 {
				att.timeoutAt = max(att.timeoutAt, now+t.s.cfg.CancelGrace)
			}
			t.arm(att)
		case att.finishing, att.unsent != nil:
		case att.session == a.session, att.doubt == a.session, env.Again:
			// No new connection, so the heartbeats will tell. What was sent over this
			// one, perhaps by the leader before, may also have been lost on its way to
			// the node.
			if !att.acked {
				att.strayed = att.session == a.session && !sent[att]
				t.await(att, now)
			}
			t.arm(att)
		case replacing:
			att.doubt = a.session
			if !att.acked {
				t.await(att, now)
			}
			t.arm(att)
		case att.acked:
			t.lose(att, "the agent connected again without the attempt", fx)
		default:
			t.revoke(att, "the agent connected again and never received the dispatch", fx)
		}
	}
	return drop
}

// await gives the agent its time to acknowledge a dispatch, if it does not run yet.
func (t *term) await(att *attempt, now time.Duration) {
	if att.sentAt == 0 {
		att.sentAt, att.ackBy = max(now, 1), now+t.s.cfg.AckTimeout
	}
}

// known returns the agent's attempts among those that are listed, and what of the list
// is not its own.
func (t *term) known(a *agent, list []wire.Held) (own map[*attempt]bool, foreign []wire.Held) {
	own = make(map[*attempt]bool, len(list))
	for _, x := range list {
		if att := t.owns(a, x.Job, x.Fence); att != nil {
			own[att] = true
		} else {
			foreign = append(foreign, x)
		}
	}
	return own, foreign
}

// unreached takes back what a session that has ended did not bring to the agent any
// more: its node knows.
func (t *term) unreached(a *agent, env *wire.Envelope, fx *effects) {
	reached, _ := t.known(a, env.Sent)
	for _, att := range a.held {
		if att.session == env.Session && !att.acked && att.unsent == nil && !reached[att] {
			att.unreached = true
			t.revoke(att, "the agent disconnected before the dispatch reached it", fx)
		}
	}
}
