package scheduler

import (
	"context"

	"github.com/orrery-io/orrery/command"
	"github.com/orrery-io/orrery/wire"
)

// effects collects what follows from a change of the matching state: envelopes to
// send and commands to propose. Handlers fill it under the mutex, and it is carried
// out after the mutex was released.
type effects struct {
	envelopes []wire.Envelope
	// place has the newest envelope with messages of each session.
	place   map[string]int
	records []record
	// after is run without the mutex: what needs the database.
	after []func(ctx context.Context)
}

// do runs f under the mutex, and then carries out what follows from it.
func (t *term) do(ctx context.Context, f func(fx *effects)) {
	var fx effects
	t.mu.Lock()
	f(&fx)
	t.outbox = append(t.outbox, fx.envelopes...)
	sends := !t.sending && len(t.outbox) > 0
	t.sending = t.sending || sends
	t.mu.Unlock()
	if sends {
		t.send()
	}
	t.records.push(fx.records)
	for _, f := range fx.after {
		f(ctx)
	}
}

// send sends what is in the outbox until it is empty. One goroutine does so at a time,
// also for others, so that envelopes leave in the order in which they were decided: an
// agent that was told to drop an attempt before it was told that its result is recorded
// would never know that.
func (t *term) send() {
	for {
		t.mu.Lock()
		envelopes := t.outbox
		t.outbox = nil
		t.sending = len(envelopes) > 0
		t.mu.Unlock()
		if len(envelopes) == 0 {
			return
		}
		t.s.cfg.Send(envelopes)
	}
}

// send gives a message to the newest session of a. Without one it is dropped.
func (fx *effects) send(a *agent, m wire.Message) {
	if a.connected {
		fx.sendTo(wire.Envelope{Session: a.session, Node: a.node, Agent: a.id}, m)
	}
}

// sendTo gives a message to the session that to names.
func (fx *effects) sendTo(to wire.Envelope, m wire.Message) {
	if n := len(fx.envelopes); n > 0 && fx.envelopes[n-1].Session == to.Session && fx.envelopes[n-1].Down == nil {
		fx.envelopes[n-1].Messages = append(fx.envelopes[n-1].Messages, m)
		return
	}
	if i, ok := fx.place[to.Session]; ok {
		fx.envelopes[i].Messages = append(fx.envelopes[i].Messages, m)
		return
	}
	if fx.place == nil {
		fx.place = make(map[string]int)
	}
	fx.place[to.Session] = len(fx.envelopes)
	fx.envelopes = append(fx.envelopes, wire.Envelope{
		Session: to.Session, Node: to.Node, Agent: to.Agent, Messages: []wire.Message{m},
	})
}

// down has the node close a session, telling the agent why.
func (fx *effects) down(to wire.Envelope, why *wire.Error) {
	delete(fx.place, to.Session)
	fx.envelopes = append(fx.envelopes, wire.Envelope{Session: to.Session, Node: to.Node, Agent: to.Agent, Down: why})
}

// propose has c recorded. done, which may be nil, is told the outcome under the
// mutex.
func (fx *effects) propose(c command.Command, done func(r command.Result, err error, fx *effects)) {
	fx.records = append(fx.records, record{command.Item{Command: c}, done})
}

// kick wakes the one who waits on c, a channel of capacity 1: more kicks before it
// has woken are one.
func kick(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}
