package scheduler

import (
	"cmp"
	"context"
	"slices"
	"time"

	"github.com/orrery-io/orrery/command"
	"github.com/orrery-io/orrery/internal/obs"
	"github.com/orrery-io/orrery/job"
	"github.com/orrery-io/orrery/wire"
)

// agent is what the leader knows of one agent. It outlives the agent's sessions:
// as long as its lease runs, it keeps its attempts.
type agent struct {
	id string
	// row is what was last recorded or proposed of it.
	row job.Agent
	// session and node are those of the newest session.
	session string
	node    string
	since   time.Time

	// connected means that the session is up; welcomed that its row is recorded
	// and it has been told so, which comes before any dispatch.
	connected bool
	welcomed  bool
	// gone means that its absence past the lease is recorded.
	gone bool

	class *class
	// place is the index in the class's heap of agents with credit plus one.
	place int
	// turn is when it got its last job, in decisions: the longest idle of the
	// equally loaded goes first.
	turn uint64

	held []*attempt
	// freed counts the held attempts whose result has come in and is being
	// recorded: their slots are free already.
	freed int
	// reserved counts the decisions that are being recorded.
	reserved int
	// took is the moving average of how long one job occupies a slot; 0 is not
	// known yet.
	took time.Duration

	// lastBeat is when the lease was renewed, by the term's clock; beatAt by the
	// wall clock, for people.
	lastBeat time.Duration
	// listed is the mark of its newest list of what it has.
	listed uint64
	beatAt time.Time
	gauges map[string]float64
	lease  timer
}

// Prefetch: an agent whose jobs are short gets some more than it has slots, so that
// it need not wait for a round trip between two of them; as many as keep it busy
// for prefetchSpan, and none when they take longer than prefetchBelow.
const (
	prefetchBelow = 50 * time.Millisecond
	prefetchSpan  = 25 * time.Millisecond
)

// runsLong notes that a job is not short: nothing more shall wait behind it.
func (a *agent) runsLong() { a.took = max(a.took, prefetchBelow) }

// inflight is how many jobs the agent has, or is being given.
func (a *agent) inflight() int { return len(a.held) - a.freed + a.reserved }

// limit is how many jobs the agent may have at once.
func (a *agent) limit(maxPrefetch int) int {
	if a.took <= 0 || a.took >= prefetchBelow {
		return a.row.Slots
	}
	slots, depth := a.row.Slots, max(1, int(prefetchSpan/a.took))
	if maxPrefetch == 0 {
		maxPrefetch = max(64, 4*slots)
	}
	return slots + max(0, min(maxPrefetch, slots*min(depth, maxPrefetch)))
}

// less orders agents for placement: least loaded for its size first.
func (a *agent) less(b *agent) bool {
	x, y := a.inflight()*b.row.Slots, b.inflight()*a.row.Slots
	return x < y || x == y && a.turn < b.turn
}

// envelope addresses the newest session.
func (a *agent) envelope() wire.Envelope {
	return wire.Envelope{Session: a.session, Node: a.node, Agent: a.id}
}

// tookMost bounds what one long job does to the average.
const tookMost = time.Second

// ran takes into account how long a job took that had come when the agent had this
// many in all: with more than it has slots, part of the time was waiting.
func (a *agent) ran(sojourn time.Duration, inflight int) {
	took := sojourn
	if inflight > a.row.Slots {
		took = sojourn * time.Duration(a.row.Slots) / time.Duration(inflight)
	}
	took = min(max(took, time.Microsecond), tookMost)
	if a.took == 0 {
		a.took = took
		return
	}
	a.took += (took - a.took) / 8
}

// agentOf returns the agent with this id, one without a session when nothing is
// known of it: its lease starts now.
func (t *term) agentOf(id string) *agent {
	if a := t.agents[id]; a != nil {
		return a
	}
	t.turns++
	a := &agent{id: id, row: job.Agent{ID: id, Slots: 1}, lastBeat: t.now(), turn: t.turns}
	a.lease.owner = a
	t.agents[id] = a
	t.setTimer(&a.lease, a.lastBeat+t.s.cfg.Lease)
	return a
}

// update puts a where it belongs after its load or standing has changed, and wakes
// its class when it can take work.
func (t *term) update(a *agent) {
	c := a.class
	if c == nil {
		return
	}
	if a.inflight() >= a.limit(t.s.cfg.MaxPrefetch) {
		c.free.remove(a)
		return
	}
	c.free.fix(a)
	t.wake(c)
}

// enlist makes a eligible for work; withdraw ends that.
func (t *term) enlist(a *agent) {
	t.withdraw(a)
	a.class = t.classOf(&a.row)
	t.join(a.class)
	t.update(a)
}

func (t *term) withdraw(a *agent) {
	if a.class == nil {
		return
	}
	a.class.free.remove(a)
	c := a.class
	a.class = nil
	t.leave(c)
}

// up opens a session: of an agent that has just connected, or again because the
// leader has changed. The agent is welcomed as soon as its row is recorded.
func (t *term) up(env wire.Envelope, now time.Duration, fx *effects) {
	a := t.agentOf(env.Agent)
	if env.Again && a.session != "" && a.session != env.Session {
		// The node tells of a connection that the agent has left for a newer one, and
		// what it says of the agent's attempts is out of date.
		fx.down(env, replaced())
		return
	}
	replacing := a.connected && a.session != env.Session
	if replacing {
		fx.down(a.envelope(), replaced())
		t.log.Info("session replaced", obs.Agent(a.id), obs.Session(a.session))
	}
	t.withdraw(a)
	known := a.welcomed && a.session == env.Session
	was := a.row
	if a.session != env.Session {
		a.since = time.Now()
	}
	a.session, a.node, a.connected, a.welcomed, a.gone = env.Session, env.Node, true, false, false
	t.renew(a, now)
	first := a.row.FirstSeenAt
	draining := a.row.Session == env.Session && a.row.Status == job.AgentDraining
	a.row = rowOf(env)
	if draining {
		a.row.Status = job.AgentDraining // said on this connection, after its hello
	}
	a.row.FirstSeenAt, a.row.ConnectedAt = first, job.At(a.since)

	drop := t.rebind(a, env, replacing, now, fx)
	session := env.Session
	if stored := t.stored[a.id]; known && sameAgent(&was, &a.row) || stored != nil && sameAgent(stored, &a.row) {
		// The leader has changed, or a link was lost, but the agent is as it was: its
		// row stands.
		delete(t.stored, a.id)
		t.welcome(a, drop, fx)
		return
	}
	delete(t.stored, a.id)
	fx.propose(&command.SetAgent{Agent: a.row}, func(r command.Result, err error, fx *effects) {
		switch {
		case a.session != session || !a.connected:
		case err != nil:
			fx.down(a.envelope(), &wire.Error{Code: "unavailable", Message: "the registration could not be recorded; connect again"})
		case r.Err != nil:
			fx.down(a.envelope(), &wire.Error{Code: r.Err.Code, Message: r.Err.Message, Fatal: true})
		default:
			t.welcome(a, drop, fx)
		}
	})
}

// replaced is said to a connection that is not the agent's newest.
func replaced() *wire.Error {
	return &wire.Error{Code: "replaced", Message: "the agent has connected again; this connection is no longer used"}
}

// rowOf makes the agent's row from its hello.
func rowOf(env wire.Envelope) job.Agent {
	h := env.Up
	queues := h.Queues
	if len(queues) == 0 {
		queues = []string{job.DefaultQueue}
	}
	status := job.AgentReady
	if h.Draining {
		status = job.AgentDraining
	}
	return job.Agent{
		ID: env.Agent, Name: cmp.Or(h.Name, env.Agent), Group: h.Group, Labels: job.LabelsOf(h.Labels),
		Capabilities: h.Capabilities, Queues: queues, Slots: max(1, h.Slots), Version: h.Version,
		Status: status, Session: env.Session, Node: env.Node,
	}
}

// sameAgent reports whether there is nothing new to record.
func sameAgent(a, b *job.Agent) bool {
	return a.Session == b.Session && a.Node == b.Node && a.Status == b.Status && a.Name == b.Name && a.Group == b.Group &&
		a.Slots == b.Slots && a.Version == b.Version && slices.Equal(a.Labels, b.Labels) &&
		slices.Equal(a.Queues, b.Queues) && slices.Equal(a.Capabilities, b.Capabilities)
}

// welcome tells the agent that it is registered, and lets work go to it.
func (t *term) welcome(a *agent, drop []wire.Held, fx *effects) {
	cfg := &t.s.cfg
	a.welcomed = true
	fx.send(a, wire.Message{Welcome: &wire.Welcome{
		Lease: cfg.Lease.Milliseconds(), Margin: cfg.Margin.Milliseconds(), Heartbeat: cfg.Heartbeat.Milliseconds(), Drop: drop,
	}})
	now := t.now()
	for _, att := range a.held {
		switch {
		case att.unsent != nil:
			t.dispatchTo(att, att.unsent, now, fx)
		case att.strayed:
			t.resend(att, fx)
		case att.cancelled:
			t.askToStop(att, now, fx)
		}
	}
	if a.row.Status != job.AgentReady {
		return
	}
	// Not before the welcome is on its way: the other loops send for themselves.
	fx.after = append(fx.after, func(ctx context.Context) {
		t.do(ctx, func(*effects) {
			if a.connected && a.welcomed && a.row.Status == job.AgentReady && a.class == nil {
				t.enlist(a)
			}
		})
	})
}

// down notes that a session has ended. The lease goes on.
func (t *term) down(a *agent, fx *effects) {
	t.disconnect(a, fx)
	fx.propose(&command.AgentGone{ID: a.id, Session: a.session, Status: job.AgentDisconnected}, nil)
}

// bye notes that an agent has left in order. Right before it has listed what it
// still has: whatever else is open it no longer executes, so there is no lease to
// wait for.
func (t *term) bye(a *agent, fx *effects) {
	for _, att := range a.held {
		switch {
		case att.finishing, att.unsent != nil, att.mark != 0 && att.mark == a.listed:
		case att.acked:
			t.lose(att, "the agent left without finishing it", fx)
		default:
			t.revoke(att, "the agent left before it received the dispatch", fx)
		}
	}
	t.down(a, fx)
}

// disconnect stops giving work to a. What was never sent to it is taken back at
// once; for all else the lease decides, or the agent when it comes again.
func (t *term) disconnect(a *agent, fx *effects) {
	t.withdraw(a)
	a.connected, a.welcomed = false, false
	for _, att := range a.held {
		if att.unsent != nil {
			t.revoke(att, "the agent disconnected before it could be sent", fx)
		}
	}
}

// drain stops giving new work to an agent that asked for it.
func (t *term) drain(a *agent, fx *effects) {
	if a.row.Status == job.AgentDraining {
		return
	}
	t.withdraw(a)
	a.row.Status = job.AgentDraining
	fx.propose(&command.SetAgent{Agent: a.row}, nil)
}
