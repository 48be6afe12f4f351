package gossip

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// patience bounds every wait. It is far longer than anything takes.
const patience = time.Minute

// node is a Gossip over real sockets of the loopback interface.
type node struct {
	*Gossip
	t    *testing.T
	meta atomic.Pointer[Meta]
	keys atomic.Pointer[[][]byte]
	log  *lines
	udp  *cutPackets
	stop func()

	registry *prometheus.Registry

	mu      sync.Mutex
	changed chan struct{} // closed at the next change
}

// key returns a key made of one letter.
func key(letter byte) []byte { return bytes.Repeat([]byte{letter}, 32) }

// setup is what differs between the nodes of a test.
type setup struct {
	listen string // "127.0.0.1:0" by default
	meta   Meta
	keys   [][]byte
	join   []string
	change func(*Config)
}

// listenBoth takes the same port for packets and streams.
func listenBoth(t *testing.T, addr string) (net.PacketConn, net.Listener) {
	t.Helper()
	for range 20 {
		l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		p, err := (&net.ListenConfig{}).ListenPacket(t.Context(), "udp", l.Addr().String())
		if err == nil {
			return p, l
		}
		_ = l.Close()
	}
	t.Fatal("no port is free for both")
	return nil, nil
}

// start runs a node until the test ends.
func start(t *testing.T, id string, s setup) *node {
	t.Helper()
	if s.listen == "" {
		s.listen = "127.0.0.1:0"
	}
	if s.keys == nil {
		s.keys = [][]byte{key('a')}
	}
	p, l := listenBoth(t, s.listen)
	n := &node{t: t, registry: prometheus.NewRegistry(), log: &lines{}, udp: &cutPackets{PacketConn: p}, changed: make(chan struct{})}
	n.meta.Store(&s.meta)
	n.keys.Store(&s.keys)
	keys := func() [][]byte { return *n.keys.Load() }
	cfg := Config{
		Node: id, Advertise: l.Addr().String(), PacketConn: n.udp, Listener: &guarded{Listener: l, keys: keys},
		Dial: func(ctx context.Context, addr, _ string) (net.Conn, error) { return dial(ctx, addr, keys()[0]) },
		Keys: keys, Meta: func() Meta { return *n.meta.Load() }, Join: s.join,
		ProbeInterval: 50 * time.Millisecond, Retry: 20 * time.Millisecond, LeaveTimeout: patience,
		Log:        slog.New(slog.NewTextHandler(n.log, &slog.HandlerOptions{Level: slog.LevelInfo})),
		Registerer: n.registry,
	}
	if s.change != nil {
		s.change(&cfg)
	}
	g, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	n.Gossip = g
	g.OnChange(func() {
		n.mu.Lock()
		defer n.mu.Unlock()
		close(n.changed)
		n.changed = make(chan struct{})
	})
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	done := make(chan error, 1)
	go func() { done <- g.Run(ctx) }()
	n.stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run of %s: %v", id, err)
		}
	})
	t.Cleanup(n.stop)
	return n
}

// kill ends the node without a goodbye.
func (n *node) kill() {
	n.t.Helper()
	n.udp.cut.Store(true)
	_ = n.cfg.Listener.Close()
	_ = n.cfg.PacketConn.Close()
	n.cfg.Listener.(*guarded).dead.Store(true)
}

// addr is where the node listens.
func (n *node) addr() string { return n.cfg.Advertise }

// await waits until what the node knows of others satisfies ok.
func (n *node) await(what string, ok func([]Peer) bool) {
	n.t.Helper()
	limit := time.After(patience)
	for {
		n.mu.Lock()
		changed := n.changed
		n.mu.Unlock()
		if ok(n.Peers()) {
			return
		}
		select {
		case <-changed:
		case <-time.After(50 * time.Millisecond): // who is alone is no change
		case <-limit:
			n.t.Fatalf("%s: still not %s; it knows %+v\n%s", n.cfg.Node, what, n.Peers(), n.log)
		}
	}
}

// sees waits until exactly the nodes with these ids live.
func (n *node) sees(ids ...string) {
	n.t.Helper()
	slices.Sort(ids)
	n.await("seeing "+strings.Join(ids, ","), func(peers []Peer) bool { return slices.Equal(living(peers), ids) })
}

func living(peers []Peer) []string {
	var ids []string
	for _, p := range peers {
		if p.Alive {
			ids = append(ids, p.Node)
		}
	}
	return ids
}

// at waits until the node id is known to live at addr.
func (n *node) at(id, addr string) {
	n.t.Helper()
	n.await("seeing "+id+" at "+addr, func([]Peer) bool {
		p, _ := n.Peer(id)
		return p.Alive && p.Address == addr
	})
}

// logs waits until a line of the log has the text.
func (n *node) logs(text string) {
	n.t.Helper()
	n.await("logging "+text, func([]Peer) bool { return strings.Contains(n.log.String(), text) })
}

// refused is the number of packets that did not open.
func (n *node) refused() float64 { return n.counted("orrery_gossip_packets_refused_total") }

// counted is the value of a counter.
func (n *node) counted(name string) float64 {
	n.t.Helper()
	families, err := n.registry.Gather()
	if err != nil {
		n.t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() == name {
			return f.GetMetric()[0].GetCounter().GetValue()
		}
	}
	n.t.Fatalf("there is no counter %s", name)
	return 0
}

// lines is a log in memory.
type lines struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (l *lines) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.Write(b)
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.String()
}

// cutPackets loses what is sent while it is cut.
type cutPackets struct {
	net.PacketConn
	cut atomic.Bool
}

func (c *cutPackets) WriteTo(b []byte, to net.Addr) (int, error) {
	if c.cut.Load() {
		return len(b), nil
	}
	return c.PacketConn.WriteTo(b, to)
}

// guarded stands for the cluster port: a stream begins with the key.
type guarded struct {
	net.Listener
	keys func() [][]byte
	dead atomic.Bool
}

func (g *guarded) Accept() (net.Conn, error) {
	for {
		conn, err := g.Listener.Accept()
		if err != nil {
			return nil, err
		}
		got := make([]byte, 32)
		_ = conn.SetDeadline(time.Now().Add(patience))
		if _, err := io.ReadFull(conn, got); err == nil && !g.dead.Load() &&
			slices.ContainsFunc(g.keys(), func(k []byte) bool { return bytes.Equal(k, got) }) {
			if _, err := conn.Write([]byte{1}); err == nil {
				_ = conn.SetDeadline(time.Time{})
				return conn, nil
			}
		}
		_ = conn.Close()
	}
}

var errWrongKey = errors.New("it has another cluster key")

func dial(ctx context.Context, addr string, key []byte) (net.Conn, error) {
	conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", addr)
	if err != nil {
		return nil, err
	}
	if limit, ok := ctx.Deadline(); ok {
		_ = conn.SetDeadline(limit)
	}
	_, err = conn.Write(key)
	if err == nil {
		_, err = io.ReadFull(conn, make([]byte, 1))
	}
	if err != nil {
		_ = conn.Close()
		return nil, errWrongKey
	}
	_ = conn.SetDeadline(time.Time{})
	return conn, nil
}
