package scheduler

import (
	"context"
	"time"

	"github.com/orrery-io/orrery/wire"
)

// inboxChunk is how many envelopes are handled before the mutex is let go.
const inboxChunk = 256

// inboxLoop handles what the agents say, in the order in which it came.
func (t *term) inboxLoop(ctx context.Context) error {
	var taken []wire.Envelope
	for {
		clear(taken)
		t.inboxMu.Lock()
		taken, t.inbox = t.inbox, taken[:0]
		t.inboxMu.Unlock()
		if len(taken) == 0 {
			select {
			case <-ctx.Done():
				return nil
			case <-t.inboxKick:
				continue
			}
		}
		for rest := taken; len(rest) > 0 && ctx.Err() == nil; {
			chunk := rest[:min(len(rest), inboxChunk)]
			rest = rest[len(chunk):]
			t.do(ctx, func(fx *effects) {
				now := t.now()
				for i := range chunk {
					t.receive(&chunk[i], now, fx)
				}
			})
		}
	}
}

// receive handles one envelope.
func (t *term) receive(env *wire.Envelope, now time.Duration, fx *effects) {
	if env.Up != nil {
		t.up(*env, now, fx)
	}
	for i := range env.Messages {
		t.message(env, &env.Messages[i], now, fx)
	}
	if env.Down != nil {
		a := t.agents[env.Agent]
		if a != nil {
			t.unreached(a, env, fx)
		}
		if a != nil && a.connected && a.session == env.Session {
			t.down(a, fx)
		}
	}
}

// message handles one message of an agent. Reports about an attempt count from
// whichever of the agent's sessions they come: the fence tells whether they are
// still of interest. The rest is for the newest session.
func (t *term) message(env *wire.Envelope, m *wire.Message, now time.Duration, fx *effects) {
	switch {
	case m.Result != nil:
		t.result(*env, m.Result, now, fx)
		return
	case m.Heartbeat != nil:
		t.heartbeat(*env, m.Heartbeat, now, fx)
		return
	}
	a := t.agents[env.Agent]
	if a == nil {
		return
	}
	newest := a.connected && a.session == env.Session
	switch {
	case m.Ack != nil:
		t.ack(a, m.Ack, now)
	case m.Reject != nil:
		t.rejected(a, m.Reject, now, fx)
	case m.Start != nil:
		t.started(a, m.Start, now, fx)
	case m.Progress != nil:
		t.progressOf(a, m.Progress, now, fx)
	case m.Log != nil:
		t.logOf(a, m.Log, fx)
	case m.Drain != nil && newest:
		t.drain(a, fx)
	case m.Bye != nil && newest:
		t.bye(a, fx)
	}
}
