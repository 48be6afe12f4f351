package agentconn

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http/httptest"
	"sync"
	"testing"
	"time"

	"github.com/coder/websocket"
	"github.com/orrery-io/orrery/job"
	"github.com/orrery-io/orrery/wire"
	"github.com/prometheus/client_golang/prometheus"
)

// bundle is a running hub behind a real HTTP server, with a leader that records.
type bundle struct {
	hub    *Hub
	leader *leader
	url    string
	stop   context.CancelFunc
	done   chan struct{} // Run has returned
}

func setup(t testing.TB, change ...func(*Config)) *bundle {
	t.Helper()
	b := &bundle{leader: newLeader(), done: make(chan struct{})}
	cfg := Config{
		Node:       "n1",
		Cluster:    func() string { return "c1" },
		ToLeader:   b.leader.take,
		Nodes:      func() []string { return []string{"http://127.0.0.1:7700"} },
		Registerer: prometheus.NewRegistry(),
	}
	for _, f := range change {
		f(&cfg)
	}
	b.hub = New(cfg)
	srv := httptest.NewServer(b.hub)
	t.Cleanup(srv.Close)
	b.url = srv.URL
	ctx, cancel := context.WithCancel(context.Background()) //nolint:usetesting // it ends in the cleanup, before the server
	b.stop = cancel
	go func() {
		defer close(b.done)
		if err := b.hub.Run(ctx); err != nil {
			t.Errorf("run: %v", err)
		}
	}()
	t.Cleanup(func() {
		cancel()
		<-b.done
	})
	<-b.hub.begun
	return b
}

// leader records what it is told, and waits for it.
type leader struct {
	mu   sync.Mutex
	envs []wire.Envelope
	more chan struct{}
}

func newLeader() *leader { return &leader{more: make(chan struct{}, 1)} }

func (l *leader) take(envs []wire.Envelope) {
	l.mu.Lock()
	l.envs = append(l.envs, envs...)
	l.mu.Unlock()
	select {
	case l.more <- struct{}{}:
	default:
	}
}

// next returns the next envelope.
func (l *leader) next(t testing.TB) wire.Envelope {
	t.Helper()
	for {
		l.mu.Lock()
		if len(l.envs) > 0 {
			env := l.envs[0]
			l.envs = l.envs[1:]
			l.mu.Unlock()
			return env
		}
		l.mu.Unlock()
		select {
		case <-l.more:
		case <-time.After(20 * time.Second):
			t.Fatal("the leader was told nothing more")
		}
	}
}

// up waits for the session of a new connection.
func (l *leader) up(t testing.TB) wire.Envelope {
	t.Helper()
	env := l.next(t)
	if env.Up == nil {
		t.Fatalf("got %s, want Up", show(env))
	}
	return env
}

// ended waits for the session's Down and returns its code.
func (l *leader) ended(t testing.TB) string {
	t.Helper()
	for {
		if env := l.next(t); env.Down != nil {
			if env.Down.Message == "" {
				t.Error("Down without a reason")
			}
			return env.Down.Code
		}
	}
}

// peer is an agent that does just what a test tells it.
type peer struct {
	conn   *websocket.Conn
	format wire.Format
}

func (b *bundle) dial(t testing.TB, f wire.Format) *peer {
	t.Helper()
	conn, _, err := websocket.Dial(t.Context(), b.url, &websocket.DialOptions{Subprotocols: []string{f.Subprotocol()}})
	if err != nil {
		t.Fatal(err)
	}
	conn.SetReadLimit(wire.MaxFrame)
	t.Cleanup(func() { conn.CloseNow() })
	return &peer{conn, f}
}

// connect dials, says hello, and returns when the leader knows.
func (b *bundle) connect(t testing.TB, f wire.Format, id string) (*peer, wire.Envelope) {
	t.Helper()
	p := b.dial(t, f)
	p.send(t, wire.Message{Hello: hello(id)})
	return p, b.leader.up(t)
}

func hello(id string) *wire.Hello {
	return &wire.Hello{Protocol: 1, ID: id, Capabilities: []job.Capability{{Type: "echo"}}, Slots: 2}
}

func (p *peer) send(t testing.TB, msgs ...wire.Message) {
	t.Helper()
	b, err := wire.AppendFrame(nil, p.format, msgs)
	if err != nil {
		t.Fatal(err)
	}
	p.raw(t, p.format.Binary(), b)
}

func (p *peer) raw(t testing.TB, binary bool, b []byte) {
	t.Helper()
	typ := websocket.MessageText
	if binary {
		typ = websocket.MessageBinary
	}
	if err := p.conn.Write(t.Context(), typ, b); err != nil {
		t.Fatal(err)
	}
}

// receive returns the messages of the next frame.
func (p *peer) receive(t testing.TB) []wire.Message {
	t.Helper()
	msgs, err := p.read(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return msgs
}

func (p *peer) read(ctx context.Context) ([]wire.Message, error) {
	typ, b, err := p.conn.Read(ctx)
	if err != nil {
		return nil, err
	}
	if (typ == websocket.MessageBinary) != p.format.Binary() {
		return nil, errors.New("a frame of the wrong type")
	}
	return wire.DecodeFrame(p.format, b, wire.Limits{})
}

// refused waits for the error with which the node closes.
func (p *peer) refused(t testing.TB) (*wire.Error, websocket.StatusCode) {
	t.Helper()
	var last *wire.Error
	for {
		msgs, err := p.read(t.Context())
		if err != nil {
			return last, websocket.CloseStatus(err)
		}
		for _, m := range msgs {
			if m.Error != nil {
				last = m.Error
			}
		}
	}
}

func show(v any) string {
	b, err := json.Marshal(v)
	if err != nil {
		return fmt.Sprint(v)
	}
	return string(b)
}

func equal(t testing.TB, what string, got, want any) {
	t.Helper()
	if g, w := show(got), show(want); g != w {
		t.Errorf("%s:\n got %s\nwant %s", what, g, w)
	}
}

func formats(t *testing.T, run func(t *testing.T, f wire.Format)) {
	for _, f := range []wire.Format{wire.Msgpack, wire.JSON} {
		t.Run(f.String(), func(t *testing.T) { run(t, f) })
	}
}

// to delivers messages to the session of env.
func (b *bundle) to(env wire.Envelope, msgs ...wire.Message) {
	b.hub.Deliver([]wire.Envelope{{Session: env.Session, Node: env.Node, Agent: env.Agent, Messages: msgs}})
}
