package link

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/orrery-io/orrery/job"
)

// network connects meshes in memory. What dial returns can be changed by a test.
type network struct {
	mu    sync.Mutex
	nodes map[string]*pipeListener
	// wrap, when set, is given each new connection's two ends.
	wrap func(from, to string, dialing, accepting net.Conn) (net.Conn, net.Conn)
	// cut lists the nodes that nobody reaches.
	cut   map[string]bool
	dials int
}

// named is a connection that knows who is at the other end.
type named struct {
	net.Conn

	peer string
}

func peerOf(c net.Conn) string {
	if n, ok := c.(*named); ok {
		return n.peer
	}
	return ""
}

// pipeListener is a net.Listener in memory.
type pipeListener struct {
	conns chan net.Conn
	once  sync.Once
	done  chan struct{}
}

func newPipeListener() *pipeListener {
	return &pipeListener{conns: make(chan net.Conn), done: make(chan struct{})}
}

func (l *pipeListener) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.done:
		return nil, net.ErrClosed
	}
}

func (l *pipeListener) Close() error   { l.once.Do(func() { close(l.done) }); return nil }
func (l *pipeListener) Addr() net.Addr { return &net.UnixAddr{Name: "pipe"} }

func (n *network) listen(node string) *pipeListener {
	l := newPipeListener()
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.nodes == nil {
		n.nodes = make(map[string]*pipeListener)
	}
	n.nodes[node] = l
	return l
}

func (n *network) dial(from string) func(context.Context, string) (net.Conn, error) {
	return func(ctx context.Context, to string) (net.Conn, error) {
		n.mu.Lock()
		n.dials++
		l, cut, wrap := n.nodes[to], n.cut[to], n.wrap
		n.mu.Unlock()
		if l == nil || cut {
			return nil, errors.New("nobody there")
		}
		a, b := net.Pipe()
		if wrap != nil {
			a, b = wrap(from, to, a, b)
		}
		select {
		case l.conns <- &named{b, from}:
			return &named{a, to}, nil
		case <-l.done:
			return nil, errors.New("nobody there")
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
}

// mesh makes a mesh in the network; setup may change its configuration.
func (n *network) mesh(node string, setup ...func(*Config)) *Mesh {
	cfg := Config{Node: node, Dial: n.dial(node), Listener: n.listen(node), From: peerOf}
	for _, f := range setup {
		f(&cfg)
	}
	return New(cfg)
}

// run runs a mesh until the test, or the bubble, ends. stop ends it before.
func run(t *testing.T, m *Mesh) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	done := make(chan error, 1)
	go func() { done <- m.Run(ctx) }()
	stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run of %s: %v", m.cfg.Node, err)
		}
	})
	t.Cleanup(stop)
	return stop
}

// pair is two meshes, of which b has the usual handlers.
func pair(t *testing.T, setup ...func(*Config)) (n *network, a, b *Mesh) {
	t.Helper()
	n = new(network)
	a, b = n.mesh("a", setup...), n.mesh("b", setup...)
	b.Handle("echo", func(_ context.Context, from string, body []byte) ([]byte, error) {
		return fmt.Appendf(nil, "%s:%s", from, body), nil
	})
	return n, a, b
}

func wantCode(t *testing.T, err error, kind job.ErrorKind, code string) {
	t.Helper()
	e, ok := errors.AsType[*job.Error](err)
	if !ok || e.Kind != kind || e.Code != code {
		t.Fatalf("got the error %v, want one of kind %d with the code %s", err, kind, code)
	}
}

func TestCall(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, a, b := pair(t)
		refusal := &job.Error{Kind: job.Conflict, Code: "wrong_state", Message: "no", Hint: "do otherwise"}
		b.Handle("refuse", func(context.Context, string, []byte) ([]byte, error) {
			return nil, fmt.Errorf("deep inside: %w", refusal)
		})
		b.Handle("fail", func(context.Context, string, []byte) ([]byte, error) { return nil, errors.New("the disk is wet") })
		b.Handle("panic", func(context.Context, string, []byte) ([]byte, error) { panic("oh") })
		b.Handle("large", func(context.Context, string, []byte) ([]byte, error) { return make([]byte, 9<<20), nil })
		a.Handle("self", func(_ context.Context, from string, body []byte) ([]byte, error) { return append(body, from...), nil })
		run(t, a)
		run(t, b)
		ctx := t.Context()

		for range 3 {
			if got, err := a.Call(ctx, "b", "echo", []byte("hello")); err != nil || string(got) != "a:hello" {
				t.Fatalf("got %q, %v", got, err)
			}
		}
		if got, err := a.Call(ctx, "b", "echo", nil); err != nil || string(got) != "a:" {
			t.Fatalf("got %q, %v for an empty body", got, err)
		}
		_, err := a.Call(ctx, "b", "refuse", nil)
		if e, ok := errors.AsType[*job.Error](err); !ok || *e != *refusal {
			t.Fatalf("got %#v, want the handler's own error", err)
		}
		_, err = a.Call(ctx, "b", "fail", nil)
		wantCode(t, err, job.Internal, "internal")
		_, err = a.Call(ctx, "b", "panic", nil)
		wantCode(t, err, job.Internal, "panic")
		_, err = a.Call(ctx, "b", "large", nil)
		wantCode(t, err, job.TooLarge, "message_too_large")
		_, err = a.Call(ctx, "b", "what", nil)
		wantCode(t, err, job.Invalid, "unknown_method")
		_, err = a.Call(ctx, "b", "echo", make([]byte, 9<<20))
		wantCode(t, err, job.TooLarge, "message_too_large")
		if got, err := a.Call(ctx, "b", "echo", make([]byte, 8<<20-2)); err != nil || len(got) != 8<<20 {
			t.Fatalf("got %d bytes, %v for the largest message", len(got), err)
		}
		_, err = a.Call(ctx, "nobody", "echo", nil)
		wantCode(t, err, job.Unavailable, "node_unreachable")

		if got, err := a.Call(ctx, "a", "self", []byte("by ")); err != nil || string(got) != "by a" {
			t.Fatalf("got %q, %v from itself", got, err)
		}
		_, err = a.Call(ctx, "a", "what", nil)
		wantCode(t, err, job.Invalid, "unknown_method")
	})
}

// TestCalls_many makes thousands of calls at once over real sockets.
func TestCalls_many(t *testing.T) {
	t.Parallel()
	a, b := tcpPair(t, nil)
	b.Handle("echo", func(_ context.Context, _ string, body []byte) ([]byte, error) { return body, nil })
	run(t, a)
	run(t, b)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	var wg sync.WaitGroup
	for i := range 5000 {
		wg.Go(func() {
			for k := range 4 {
				want := fmt.Sprintf("%d.%d", i, k)
				if got, err := a.Call(ctx, "b", "echo", []byte(want)); err != nil || string(got) != want {
					t.Errorf("got %q, %v, want %q", got, err, want)
					return
				}
			}
		})
	}
	wg.Wait()
}

// tcpPair is two meshes over loopback sockets.
func tcpPair(tb testing.TB, setup func(*Config)) (a, b *Mesh) {
	tb.Helper()
	l, err := (&net.ListenConfig{}).Listen(tb.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = l.Close() })
	dial := func(ctx context.Context, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "tcp", l.Addr().String())
	}
	ca := Config{Node: "a", Dial: dial, Beat: 10 * time.Second}
	cb := Config{Node: "b", Listener: l, From: func(net.Conn) string { return "a" }, Beat: 10 * time.Second}
	if setup != nil {
		setup(&ca)
		setup(&cb)
	}
	return New(ca), New(cb)
}

func TestSend(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, a, b := pair(t)
		var got []string
		b.HandleSend("note", func(from string, body []byte) {
			if string(body) == "panic" {
				panic("oh")
			}
			got = append(got, from+":"+string(body))
		})
		a.HandleSend("note", func(from string, _ []byte) { got = append(got, "self:"+from) })
		if a.Send("b", "note", []byte("early")) {
			t.Error("a message was queued before there was a connection")
		}
		run(t, a)
		run(t, b)
		synctest.Wait()
		if a.Connected("b") {
			t.Error("a Send alone keeps a connection")
		}
		a.Connect("b")
		synctest.Wait()
		var want []string
		for i := range 5000 {
			if !a.Send("b", "note", fmt.Append(nil, i)) {
				t.Fatal("a message was dropped")
			}
			want = append(want, fmt.Sprintf("a:%d", i))
			if i == 1000 && !a.Send("b", "note", []byte("panic")) {
				t.Fatal("a message was dropped")
			}
		}
		// On the same connection, so what comes back was read after all of them.
		if _, err := a.Call(t.Context(), "b", "echo", nil); err != nil {
			t.Fatal(err)
		}
		if fmt.Sprint(got) != fmt.Sprint(want) {
			t.Fatalf("got %d messages, not the %d that were sent, in order", len(got), len(want))
		}
		if !a.Send("a", "note", nil) || got[len(got)-1] != "self:a" {
			t.Error("a message to itself did not arrive")
		}
		if a.Send("b", "note", make([]byte, 9<<20)) {
			t.Error("a message that is too large was taken")
		}
	})
}

// TestBatches lets no write through for a while: what was queued meanwhile goes in
// few frames.
func TestBatches(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n, a, b := pair(t)
		held := &valve{}
		n.wrap = func(_, _ string, x, y net.Conn) (net.Conn, net.Conn) { return held.on(x), y }
		count := 0
		b.HandleSend("note", func(string, []byte) { count++ })
		run(t, a)
		run(t, b)
		a.Connect("b")
		synctest.Wait()
		held.shut()
		before := valueOf(t, a.metrics.framesOut)
		for range 10000 {
			if !a.Send("b", "note", make([]byte, 100)) {
				t.Fatal("a message was dropped")
			}
		}
		held.open()
		synctest.Wait()
		if count != 10000 {
			t.Fatalf("%d of 10000 messages arrived", count)
		}
		// 164 bytes each in a queue, 128 KiB in a frame; and the first went alone.
		if frames := valueOf(t, a.metrics.framesOut) - before; frames > 14 {
			t.Errorf("they took %v frames", frames)
		}
	})
}

// TestQueueFull fills the queue to a node that does not read.
func TestQueueFull(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n, a, b := pair(t, func(c *Config) { c.QueueBytes = 10_000; c.Beat = time.Hour })
		held := &valve{}
		n.wrap = func(_, _ string, x, y net.Conn) (net.Conn, net.Conn) { return held.on(x), y }
		count := 0
		b.HandleSend("note", func(string, []byte) { count++ })
		run(t, a)
		run(t, b)
		a.Connect("b")
		synctest.Wait()
		held.shut()
		sent := 0
		for a.Send("b", "note", make([]byte, 100)) {
			if sent++; sent > 1000 {
				t.Fatal("the queue has no bound")
			}
			synctest.Wait() // the first is in the writer's hands
		}
		// A call waits for room, and gives up without having left this node.
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		_, err := a.Call(ctx, "b", "echo", nil)
		wantCode(t, err, job.Unavailable, "node_unreachable")
		if !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("%v does not say why", err)
		}
		// One with more patience gets through.
		answered := make(chan error)
		go func() { _, err := a.Call(t.Context(), "b", "echo", nil); answered <- err }()
		synctest.Wait()
		held.open()
		if err := <-answered; err != nil {
			t.Fatal(err)
		}
		if count != sent {
			t.Errorf("%d messages arrived, %d were queued", count, sent)
		}
	})
}

// valve holds up the writes of connections.
type valve struct {
	mu   sync.Mutex
	gate chan struct{}
}

func (v *valve) shut() {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.gate = make(chan struct{})
}

func (v *valve) open() {
	v.mu.Lock()
	defer v.mu.Unlock()
	close(v.gate)
	v.gate = nil
}

func (v *valve) on(c net.Conn) net.Conn {
	return &valved{Conn: c, valve: v, closed: make(chan struct{})}
}

type valved struct {
	net.Conn

	valve  *valve
	once   sync.Once
	closed chan struct{}
}

func (c *valved) Write(p []byte) (int, error) {
	c.valve.mu.Lock()
	gate := c.valve.gate
	c.valve.mu.Unlock()
	if gate != nil {
		select {
		case <-gate:
		case <-c.closed:
			return 0, net.ErrClosed
		}
	}
	return c.Conn.Write(p)
}

func (c *valved) Close() error {
	c.once.Do(func() { close(c.closed) })
	return c.Conn.Close()
}
