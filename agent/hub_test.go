package agent

import (
	"context"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/orrery-io/orrery/agentconn"
	"github.com/orrery-io/orrery/wire"
)

// TestHub lets an agent speak with the node's own side of the protocol; only the
// leader is played.
func TestHub(t *testing.T) {
	toLeader := make(chan wire.Envelope, 1000)
	hub := agentconn.New(agentconn.Config{Node: "n1", ToLeader: func(envs []wire.Envelope) {
		for _, e := range envs {
			toLeader <- e
		}
	}})
	ctx, cancel := context.WithCancel(context.Background()) //nolint:usetesting // ended below
	ended := make(chan error, 1)
	go func() { ended <- hub.Run(ctx) }()
	server := httptest.NewServer(hub)
	defer server.Close()

	next := func(what string, is func(*wire.Envelope) bool) wire.Envelope {
		t.Helper()
		for {
			select {
			case e := <-toLeader:
				if is(&e) {
					return e
				}
			case <-time.After(30 * time.Second):
				t.Fatalf("no %s came", what)
			}
		}
	}
	has := func(is func(*wire.Message) bool) func(*wire.Envelope) bool {
		return func(e *wire.Envelope) bool {
			for i := range e.Messages {
				if is(&e.Messages[i]) {
					return true
				}
			}
			return false
		}
	}
	isUp := func(e *wire.Envelope) bool { return e.Up != nil }
	isResult := has(func(m *wire.Message) bool { return m.Result != nil })

	h := newHold()
	run := runAgent(t, Config{Addrs: []string{server.URL}, ID: "a1", Slots: 2}, func(a *Agent) {
		Handle(a, "hold", h.run)
		t.Cleanup(func() { _ = a.Close() })
	})
	up := next("hello", isUp)
	deliver := func(msgs ...wire.Message) {
		hub.Deliver([]wire.Envelope{{Session: up.Session, Node: up.Node, Agent: up.Agent, Messages: msgs}})
	}
	deliver(wire.Message{Welcome: welcome()})
	deliver(dispatch(1, 5, "hold"), dispatch(2, 5, "hold"))
	next("ack", has(func(m *wire.Message) bool { return m.Ack != nil && m.Ack.Job == 2 }))
	(<-h.begun).Logf("hello")
	<-h.begun
	h.free <- nil
	first := next("result", isResult)

	// Another leader: it learns what there is, and hears the result again.
	hub.LeaderChanged()
	again := next("hello of the session", isUp)
	if len(again.Up.Held) != 1 || len(again.Up.Outbox) != 1 || again.Session != up.Session {
		t.Errorf("the new leader hears %+v", again.Up)
	}
	deliver(wire.Message{Welcome: welcome()})
	next("result again", isResult)
	for _, m := range first.Messages {
		if m.Result != nil {
			deliver(ack(m.Result.Job, m.Result.Fence))
		}
	}
	next("heartbeat", has(func(m *wire.Message) bool { return m.Heartbeat != nil && len(m.Heartbeat.Held) == 1 }))

	// The node goes down and says so; the agent holds on to its work.
	cancel()
	if err := <-ended; err != nil {
		t.Errorf("hub: %v", err)
	}
	down := next("end of the session", func(e *wire.Envelope) bool { return e.Down != nil })
	expect(t, "ended", down.Down.Code, "shutdown")
	expect(t, "handlers told to stop", len(h.ends), 0)
	expect(t, "Run has ended", len(run), 0)
}
