package builtin

import (
	"context"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/coder/websocket"

	"github.com/orrery-io/orrery/agent"
	"github.com/orrery-io/orrery/job"
	"github.com/orrery-io/orrery/wire"
)

// node gives jobs to an agent over a real connection and passes on what it says.
type node struct {
	t       *testing.T
	toAgent chan wire.Message
	said    chan wire.Message
	next    job.ID
}

// setup runs an agent with the built-in handlers.
func setup(t *testing.T) *node {
	t.Helper()
	n := &node{t: t, toAgent: make(chan wire.Message, 100), said: make(chan wire.Message, 10_000)}
	server := httptest.NewServer(n)
	t.Cleanup(server.Close)
	a, err := agent.New(agent.Config{Addrs: []string{server.URL}, Slots: 4, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	Register(a)
	RegisterExec(a, ExecConfig{Grace: 300 * time.Millisecond})
	ended := make(chan error, 1)
	go func() { ended <- a.Run(t.Context()) }()
	t.Cleanup(func() {
		_ = a.Close()
		if err := <-ended; err != nil {
			t.Errorf("Run: %v", err)
		}
	})
	if m := <-n.said; m.Hello == nil {
		t.Fatalf("the first message is %+v", m)
	}
	return n
}

func (n *node) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	ws, err := websocket.Accept(w, r, &websocket.AcceptOptions{Subprotocols: wire.Subprotocols()})
	if err != nil {
		return
	}
	defer ws.CloseNow()
	ws.SetReadLimit(wire.MaxFrame)
	ctx, cancel := context.WithCancel(r.Context())
	defer cancel()
	go func() {
		for {
			select {
			case <-ctx.Done():
				return
			case m := <-n.toAgent:
				b, _ := wire.AppendFrame(nil, wire.Msgpack, []wire.Message{m})
				_ = ws.Write(context.Background(), websocket.MessageBinary, b) //nolint:usetesting // must not end with the test
			}
		}
	}()
	for {
		_, b, err := ws.Read(ctx)
		if err != nil {
			return
		}
		msgs, err := wire.DecodeFrame(wire.Msgpack, b, wire.Limits{})
		if err != nil {
			n.t.Error(err)
		}
		for _, m := range msgs {
			switch {
			case m.Hello != nil:
				n.toAgent <- wire.Message{Welcome: &wire.Welcome{Session: "s", Lease: 60_000, Margin: 1000, Heartbeat: 20_000}}
			case m.Result != nil:
				n.toAgent <- wire.Message{ResultAck: &wire.ResultAck{Job: m.Result.Job, Fence: m.Result.Fence, Accepted: true}}
			}
			n.said <- m
		}
	}
}

// submit gives the agent a job.
func (n *node) submit(typ, payload string, mods ...func(*wire.Dispatch)) job.ID {
	n.next++
	d := &wire.Dispatch{Job: n.next, Fence: 5, Type: typ, Queue: "default", Attempt: 1, MaxAttempts: 5, Payload: job.JSON(payload)}
	for _, m := range mods {
		m(d)
	}
	n.toAgent <- wire.Message{Dispatch: d}
	return n.next
}

// outcome is what became of a job.
type outcome struct {
	*wire.Result
	lines    []wire.LogLine
	progress []wire.Progress
}

// wait collects what the agent says until the result comes. Seen, when not nil, is
// called for each message.
func (n *node) wait(seen func(wire.Message)) outcome {
	n.t.Helper()
	var o outcome
	for {
		select {
		case m := <-n.said:
			switch {
			case m.Log != nil:
				o.lines = append(o.lines, m.Log.Lines...)
			case m.Progress != nil:
				o.progress = append(o.progress, *m.Progress)
			case m.Result != nil:
				o.Result = m.Result
			}
			if seen != nil {
				seen(m)
			}
			if o.Result != nil {
				return o
			}
		case <-time.After(30 * time.Second):
			n.t.Fatal("no result came")
		}
	}
}

// run is submit and wait.
func (n *node) run(typ, payload string, mods ...func(*wire.Dispatch)) outcome {
	n.t.Helper()
	n.submit(typ, payload, mods...)
	return n.wait(nil)
}

func (n *node) cancel(id job.ID) {
	n.toAgent <- wire.Message{Cancel: &wire.Cancel{Job: id, Fence: 5, Reason: "enough"}}
}
