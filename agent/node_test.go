package agent

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/orrery-io/orrery/job"
	"github.com/orrery-io/orrery/wire"
)

// Times of the fake node's leases.
const (
	testLease     = 15 * time.Second
	testMargin    = 3 * time.Second
	testHeartbeat = 5 * time.Second
)

// fakeNode is a node whose side of the protocol a test plays. It lives in the
// test's bubble: nothing goes over a network.
type fakeNode struct {
	t     *testing.T
	agent *Agent
	// links gets each connection that an agent makes.
	links chan *fakeLink
	mu    sync.Mutex
	// refusal, when not nil, answers attempts to connect; tries are when they came.
	refusal error
	tries   []time.Time
	// ended gets what Run returned.
	ended chan error
	stop  context.CancelFunc
}

// fakeLink is one connection, seen from the node. It implements conn for the
// agent.
type fakeLink struct {
	t           *testing.T
	addr        string
	toAgent     chan []byte
	gone        chan struct{}
	once        sync.Once
	mu          sync.Mutex
	inbox       []wire.Message
	mute        bool // don't answer heartbeats
	heartbeats  []wire.Heartbeat
	frames      int
	leftInPeace bool
}

func (l *fakeLink) read() ([]byte, error) {
	select {
	case f := <-l.toAgent:
		return f, nil
	case <-l.gone:
		return nil, io.EOF
	}
}

func (l *fakeLink) write(frame []byte) error {
	select {
	case <-l.gone:
		return io.ErrClosedPipe
	default:
	}
	msgs, err := wire.DecodeFrame(wire.Msgpack, frame, wire.Limits{})
	if err != nil {
		l.t.Errorf("the agent sent a bad frame: %v", err)
		return err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.frames++
	for _, m := range msgs {
		if m.Heartbeat != nil {
			l.heartbeats = append(l.heartbeats, *m.Heartbeat)
			if !l.mute {
				l.sendLocked(wire.Message{Beat: &wire.Beat{Seq: m.Heartbeat.Seq}})
			}
			continue
		}
		l.inbox = append(l.inbox, m)
	}
	return nil
}

func (l *fakeLink) format() wire.Format { return wire.Msgpack }
func (l *fakeLink) leave()              { l.leftInPeace = true; l.cut() }
func (l *fakeLink) cut()                { l.once.Do(func() { close(l.gone) }) }

// send gives the agent messages in one frame.
func (l *fakeLink) send(msgs ...wire.Message) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.sendLocked(msgs...)
}

func (l *fakeLink) sendLocked(msgs ...wire.Message) {
	f, err := wire.AppendFrame(nil, wire.Msgpack, msgs)
	if err != nil {
		l.t.Errorf("encode: %v", err)
	}
	select {
	case l.toAgent <- f:
	default:
		l.t.Error("the agent does not read")
	}
}

// all waits until nothing moves any more and returns what came since the last
// call, without heartbeats.
func (l *fakeLink) all() []wire.Message {
	synctest.Wait()
	l.mu.Lock()
	defer l.mu.Unlock()
	msgs := l.inbox
	l.inbox = nil
	return msgs
}

// kinds is all, as words.
func (l *fakeLink) kinds() []string {
	var kinds []string
	for _, m := range l.all() {
		kinds = append(kinds, m.Kind())
	}
	return kinds
}

// lastHeartbeat returns the newest heartbeat.
func (l *fakeLink) lastHeartbeat() wire.Heartbeat {
	l.t.Helper()
	synctest.Wait()
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.heartbeats) == 0 {
		l.t.Fatal("no heartbeat came")
	}
	return l.heartbeats[len(l.heartbeats)-1]
}

func (l *fakeLink) silence(mute bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.mute = mute
}

// result waits for quiet and returns the only result that came, without the acks.
func (l *fakeLink) result() *wire.Result {
	l.t.Helper()
	var found *wire.Result
	for _, m := range l.all() {
		if m.Result != nil {
			if found != nil {
				l.t.Fatalf("two results came: %+v and %+v", found, m.Result)
			}
			found = m.Result
		}
	}
	if found == nil {
		l.t.Fatal("no result came")
	}
	return found
}

// welcome is what the fake node answers to a hello.
func welcome() *wire.Welcome {
	return &wire.Welcome{
		Session: "s", Node: "n1", Cluster: "c",
		Lease: testLease.Milliseconds(), Margin: testMargin.Milliseconds(), Heartbeat: testHeartbeat.Milliseconds(),
	}
}

// start runs an agent against a fake node; begin gives it its handlers. It must be
// called in a bubble.
func start(t *testing.T, cfg Config, begin func(*Agent)) *fakeNode {
	t.Helper()
	cfg.Addrs = append(cfg.Addrs, "http://one")
	if cfg.ID == "" {
		cfg.ID = "a1"
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	a, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	begin(a)
	n := &fakeNode{t: t, agent: a, links: make(chan *fakeLink, 100), ended: make(chan error, 1)}
	a.dial = n.dial
	ctx, cancel := context.WithCancel(t.Context())
	n.stop = cancel
	go func() { n.ended <- a.Run(ctx) }()
	t.Cleanup(func() {
		if err := a.Close(); err != nil {
			t.Error(err)
		}
	})
	return n
}

func (n *fakeNode) dial(_ context.Context, addr string) (conn, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.tries = append(n.tries, time.Now())
	if n.refusal != nil {
		return nil, n.refusal
	}
	l := &fakeLink{t: n.t, addr: addr, toAgent: make(chan []byte, 10_000), gone: make(chan struct{})}
	n.links <- l
	return l, nil
}

// answerWith refuses attempts to connect from now on; nil takes them again.
func (n *fakeNode) answerWith(err error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.refusal = err
}

// attempts returns when the agent tried to connect.
func (n *fakeNode) attempts() []time.Time {
	n.mu.Lock()
	defer n.mu.Unlock()
	return slices.Clone(n.tries)
}

// next waits for a connection and returns it with its hello.
func (n *fakeNode) next() (*fakeLink, *wire.Hello) {
	n.t.Helper()
	l := <-n.links
	msgs := l.all()
	if len(msgs) != 1 || msgs[0].Hello == nil {
		n.t.Fatalf("the first frame is %+v", msgs)
	}
	return l, msgs[0].Hello
}

// welcomed waits for a connection and welcomes it.
func (n *fakeNode) welcomed() *fakeLink {
	n.t.Helper()
	l, _ := n.next()
	l.send(wire.Message{Welcome: welcome()})
	synctest.Wait()
	return l
}

// wait returns what Run returned.
func (n *fakeNode) wait() error {
	n.t.Helper()
	select {
	case err := <-n.ended:
		return err
	case <-time.After(time.Hour):
		n.t.Fatal("Run does not return")
		return nil
	}
}

// dispatch makes a dispatch message; mods change it.
func dispatch(id job.ID, fence job.Fence, typ string, mods ...func(*wire.Dispatch)) wire.Message {
	d := &wire.Dispatch{Job: id, Fence: fence, Type: typ, Queue: "default", Attempt: 1, MaxAttempts: 5, CreatedAt: 1}
	for _, m := range mods {
		m(d)
	}
	return wire.Message{Dispatch: d}
}

func payload(json string) func(*wire.Dispatch) {
	return func(d *wire.Dispatch) { d.Payload = job.JSON(json) }
}

// hold is a handler that runs until the test lets it go or its context ends.
type hold struct {
	begun chan *Job[job.JSON]
	free  chan error
	// ends gets the cause of the context's end.
	ends chan error
	// deaf doesn't look at the context.
	deaf bool
}

func newHold() *hold {
	return &hold{begun: make(chan *Job[job.JSON], 100), free: make(chan error), ends: make(chan error, 100)}
}

func (h *hold) run(ctx context.Context, j *Job[job.JSON]) (string, error) {
	h.begun <- j
	done := ctx.Done()
	if h.deaf {
		done = nil
	}
	select {
	case err := <-h.free:
		return "done", err
	case <-done:
		h.ends <- context.Cause(ctx)
		return "", ctx.Err()
	}
}

// jobs returns the ids of the handlers that have begun since the last call.
func (h *hold) jobs() []job.ID {
	synctest.Wait()
	var ids []job.ID
	for {
		select {
		case j := <-h.begun:
			ids = append(ids, j.ID)
		default:
			return ids
		}
	}
}

func expect[T comparable](t *testing.T, what string, got, want T) {
	t.Helper()
	if got != want {
		t.Fatalf("%s: got %v, want %v", what, got, want)
	}
}

func expectAll[T comparable](t *testing.T, what string, got []T, want ...T) {
	t.Helper()
	if !slices.Equal(got, want) {
		t.Fatalf("%s: got %v, want %v", what, got, want)
	}
}

func expectCause(t *testing.T, h *hold, want error) {
	t.Helper()
	synctest.Wait()
	select {
	case got := <-h.ends:
		if !errors.Is(got, want) {
			t.Fatalf("the handler's context ended with %v, want %v", got, want)
		}
	default:
		t.Fatalf("the handler's context did not end; want %v", want)
	}
}
