package port

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/orrery-io/orrery/cluster/keyring"
	"github.com/prometheus/client_golang/prometheus"
)

// safety ends a test that hangs; no test waits for it otherwise.
const safety = time.Minute

// running is a port with what a test wants to know of it.
type running struct {
	*Port
	reg  *prometheus.Registry
	stop func()
}

// logText collects what is logged.
type logText struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (l *logText) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.Write(b)
}

func (l *logText) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.String()
}

func newRing(t testing.TB, keys ...string) *keyring.Ring {
	t.Helper()
	if len(keys) == 0 {
		keys = []string{keyring.Generate()}
	}
	r, err := keyring.New(keys...)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// start runs the port of node id on loopback.
func start(t testing.TB, id string, ring *keyring.Ring, change func(*Config)) *running {
	t.Helper()
	r := &running{reg: prometheus.NewRegistry()}
	cfg := Config{Listen: "127.0.0.1:0", Node: id, Version: "test", Ring: ring, Registerer: r.reg}
	if change != nil {
		change(&cfg)
	}
	var err error
	if r.Port, err = Listen(cfg); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	done := make(chan error, 1)
	go func() { done <- r.Run(ctx) }()
	r.stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("run: %v", err)
		}
	})
	t.Cleanup(r.stop)
	return r
}

// echo answers everything on one protocol.
func (r *running) echo(proto string) {
	l := r.Listener(proto)
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				_, _ = io.Copy(c, c)
			}()
		}
	}()
}

// says sends a word over a connection that echoes.
func says(c net.Conn, word string) error {
	_ = c.SetDeadline(time.Now().Add(safety))
	if _, err := io.WriteString(c, word); err != nil {
		return err
	}
	got := make([]byte, len(word))
	if _, err := io.ReadFull(c, got); err != nil {
		return err
	}
	if string(got) != word {
		return fmt.Errorf("said %q, heard %q", word, got)
	}
	return nil
}

// metric reads a counter or gauge; label is the value of its only label, or "".
func (r *running) metric(t testing.TB, name, label string) float64 {
	t.Helper()
	families, err := r.reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() != name {
			continue
		}
		for _, m := range f.GetMetric() {
			if label == "" || len(m.GetLabel()) == 1 && m.GetLabel()[0].GetValue() == label {
				return m.GetCounter().GetValue() + m.GetGauge().GetValue()
			}
		}
	}
	return 0
}

// await waits until a metric has reached a value.
func (r *running) await(t testing.TB, name, label string, least float64) {
	t.Helper()
	for end := time.Now().Add(safety); r.metric(t, name, label) < least; time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("%s{%s} is %g, want %g", name, label, r.metric(t, name, label), least)
		}
	}
}

func TestDial(t *testing.T) {
	ring := newRing(t)
	inCluster := func(cfg *Config) { cfg.Cluster = func() string { return "c1" } }
	a, b := start(t, "n1", ring, inCluster), start(t, "n2", ring, inCluster)
	for _, proto := range []string{Raft, Link, Gossip} {
		t.Run(proto, func(t *testing.T) {
			c, err := a.Dial(t.Context(), proto, b.Advertise(), "n2")
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			accepted, err := b.Listener(proto).Accept()
			if err != nil {
				t.Fatal(err)
			}
			other := accepted.(*Conn)
			if got, want := c.Peer(), (Peer{"n2", "c1", "test"}); got != want {
				t.Errorf("dialed %+v, want %+v", got, want)
			}
			if got, want := other.Peer(), (Peer{"n1", "c1", "test"}); got != want {
				t.Errorf("accepted %+v, want %+v", got, want)
			}
			if got := b.Listener(proto).Addr().String(); got != b.Advertise() {
				t.Errorf("the listener is at %s, want %s", got, b.Advertise())
			}
			go func() { _, _ = io.Copy(other, other); other.Close() }()
			if err := says(c, "hello"); err != nil {
				t.Error(err)
			}
			c.Close()
			if c.Close(); a.open() != 0 {
				t.Errorf("%d connections after close", a.open())
			}
		})
	}
	if b.Listener("nothing") != nil {
		t.Error("a listener for a protocol that doesn't exist")
	}
	if got := b.metric(t, "orrery_port_accepted_total", Raft); got != 1 {
		t.Errorf("%g accepted connections were counted", got)
	}
	if got := a.metric(t, "orrery_port_dials_total", "ok"); got != 3 {
		t.Errorf("%g dials were counted", got)
	}
	// To itself, and to whoever is there.
	a.echo(Gossip)
	c, err := a.Dial(t.Context(), Gossip, a.Addr(), "")
	if err != nil {
		t.Fatal(err)
	}
	if err := says(c, "myself"); err != nil || c.Peer().Node != "n1" {
		t.Errorf("dialing itself: %+v, %v", c.Peer(), err)
	}
}

func TestPacketConn(t *testing.T) {
	ring := newRing(t)
	a, b := start(t, "n1", ring, nil), start(t, "n2", ring, nil)
	if a.PacketConn().LocalAddr().String() != a.Addr() {
		t.Errorf("UDP is at %s, TCP at %s", a.PacketConn().LocalAddr(), a.Addr())
	}
	if _, err := a.PacketConn().WriteTo([]byte("ping"), b.PacketConn().LocalAddr()); err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, 16)
	_ = b.PacketConn().SetReadDeadline(time.Now().Add(safety))
	n, from, err := b.PacketConn().ReadFrom(buf)
	if err != nil || string(buf[:n]) != "ping" || from.String() != a.Addr() {
		t.Errorf("received %q from %v, %v", buf[:n], from, err)
	}
}

// silent accepts connections and does what answer says, nothing when it is nil.
func silent(t *testing.T, answer func(net.Conn)) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			t.Cleanup(func() { c.Close() })
			if answer != nil {
				go answer(c)
			}
		}
	}()
	return l.Addr().String()
}

func TestDial_errors(t *testing.T) {
	key, other := keyring.Generate(), keyring.Generate()
	in := func(id string) func(*Config) {
		return func(cfg *Config) { cfg.Cluster = func() string { return id } }
	}
	target := start(t, "n2", newRing(t, key), in("c1"))
	half := start(t, "n3", newRing(t, other, key), in("c1"))
	full := start(t, "n4", newRing(t, key), func(cfg *Config) { cfg.MaxWaiting = 1 })
	gone := start(t, "n5", newRing(t, key), nil)
	gone.stop()
	deaf := start(t, "n6", newRing(t, key), nil)
	deaf.Listener(Raft).Close()
	first := start(t, "n0", newRing(t, key), nil)
	if c, err := first.Dial(t.Context(), Raft, full.Addr(), ""); err != nil {
		t.Fatal(err)
	} else {
		defer c.Close()
	}
	tests := []struct {
		name, addr, proto, node string
		keys                    []string
		change                  func(*Config)
		kind                    error
		text                    string
	}{
		{name: "wrong key", addr: target.Addr(), keys: []string{other}, kind: ErrWrongKey, text: "has another cluster key"},
		{name: "only the other side refuses the key", addr: target.Addr(), keys: []string{other, key}, kind: ErrWrongKey, text: "has another cluster key"},
		{name: "only this side refuses the key", addr: half.Addr(), kind: ErrWrongKey, text: "has another cluster key"},
		{name: "foreign cluster", addr: target.Addr(), change: in("c2"), kind: ErrForeignCluster, text: "belongs to another cluster (c1) than this one (c2)"},
		{name: "wrong node", addr: target.Addr(), node: "n7", kind: ErrWrongNode, text: "is node n2, not n7"},
		{name: "unreachable", addr: gone.Addr(), node: "n5", kind: ErrUnreachable, text: "node n5 can't be reached at " + gone.Addr() + ": connection refused"},
		{name: "no such host", addr: "nowhere.invalid:7701", kind: ErrUnreachable, text: "can't be reached"},
		{name: "no address", addr: "nonsense", kind: ErrUnreachable, text: "missing port"},
		{name: "unknown protocol", addr: target.Addr(), proto: "orrery-raft/99", kind: ErrProtocol, text: "no protocol in common"},
		{name: "no room", addr: full.Addr(), kind: ErrBusy, text: "takes no more connections"},
		{name: "the protocol's listener is closed", addr: deaf.Addr(), kind: ErrUnreachable, text: "is stopping"},
		{name: "says nothing", addr: silent(t, nil), change: func(cfg *Config) { cfg.HandshakeTimeout = 20 * time.Millisecond }, kind: ErrUnreachable, text: "took too long"},
		{name: "hangs up", addr: silent(t, func(c net.Conn) { c.Close() }), kind: ErrUnreachable, text: "closed the connection"},
		{name: "speaks something else", addr: silent(t, func(c net.Conn) { _, _ = io.WriteString(c, "220 mail.example.org ESMTP\r\n") }), kind: ErrProtocol, text: "not the cluster port"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if tt.keys == nil {
				tt.keys = []string{key}
			}
			if tt.proto == "" {
				tt.proto = Raft
			}
			a := start(t, "n1", newRing(t, tt.keys...), tt.change)
			c, err := a.Dial(t.Context(), tt.proto, tt.addr, tt.node)
			if err == nil {
				c.Close()
				t.Fatal("connected")
			}
			if de, ok := errors.AsType[*DialError](err); !errors.Is(err, tt.kind) || !ok || de.Addr != tt.addr {
				t.Errorf("got %v, want one of kind %v", err, tt.kind)
			}
			if !strings.Contains(err.Error(), tt.text) {
				t.Errorf("got %q, want %q", err, tt.text)
			}
			if got := a.metric(t, "orrery_port_dials_total", outcome(err)); got != 1 {
				t.Errorf("%g dials of outcome %s", got, outcome(err))
			}
			if a.open() != 0 {
				t.Errorf("%d connections are left", a.open())
			}
		})
	}
	t.Run("cancelled", func(t *testing.T) {
		a := start(t, "n1", newRing(t, key), nil)
		stop := errors.New("enough")
		ctx, cancel := context.WithCancelCause(t.Context())
		if _, err := a.Dial(ctx, Raft, silent(t, func(net.Conn) { cancel(stop) }), ""); !errors.Is(err, stop) {
			t.Errorf("got %v", err)
		}
		a.stop()
		if _, err := a.Dial(t.Context(), Raft, target.Addr(), ""); !errors.Is(err, net.ErrClosed) {
			t.Errorf("after the end: %v", err)
		}
	})
	t.Run("the deadline has passed", func(t *testing.T) {
		a := start(t, "n1", newRing(t, key), nil)
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
		defer cancel()
		_, err := a.Dial(ctx, Raft, silent(t, nil), "n2")
		if !errors.Is(err, ErrUnreachable) || !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "node n2 can't be reached at") {
			t.Errorf("got %v", err)
		}
	})
	t.Run("no cluster yet", func(t *testing.T) {
		a := start(t, "n1", newRing(t, key), nil)
		c, err := a.Dial(t.Context(), Raft, target.Addr(), "n2")
		if err != nil {
			t.Fatal(err)
		}
		if c.Peer().Cluster != "c1" {
			t.Errorf("peer %+v", c.Peer())
		}
	})
}

// TestRotation changes the key under connections in both directions.
func TestRotation(t *testing.T) {
	old, fresh := keyring.Generate(), keyring.Generate()
	ringA, ringB := newRing(t, old), newRing(t, old)
	a, b := start(t, "n1", ringA, nil), start(t, "n2", ringB, nil)
	a.echo(Link)
	b.echo(Link)
	dial := func() (ab, ba *Conn) {
		t.Helper()
		ab, err := a.Dial(t.Context(), Link, b.Addr(), "n2")
		if err != nil {
			t.Fatal(err)
		}
		if ba, err = b.Dial(t.Context(), Link, a.Addr(), "n1"); err != nil {
			t.Fatal(err)
		}
		return ab, ba
	}
	set := func(r *keyring.Ring, keys ...string) {
		t.Helper()
		if _, err := r.Set(keys...); err != nil {
			t.Fatal(err)
		}
	}
	ab1, ba1 := dial()
	set(ringA, old, fresh)
	dial()
	set(ringB, old, fresh)
	set(ringB, fresh, old)
	dial()
	set(ringA, fresh, old)
	ab2, ba2 := dial()
	for _, c := range []*Conn{ab1, ba1, ab2, ba2} {
		if err := says(c, "during"); err != nil {
			t.Errorf("%s → %s during the rotation: %v", c.LocalAddr(), c.RemoteAddr(), err)
		}
	}
	set(ringA, fresh)
	a.await(t, "orrery_port_dropped_total", "", 2)
	for _, c := range []*Conn{ab1, ba1} {
		if err := says(c, "dropped"); err == nil {
			t.Error("a connection has outlived its key")
		}
	}
	set(ringB, fresh)
	for _, c := range []*Conn{ab2, ba2} {
		if err := says(c, "after"); err != nil {
			t.Errorf("a connection made with the new key is closed: %v", err)
		}
	}
	dial()
}

func TestShutdown(t *testing.T) {
	ring := newRing(t)
	a, b := start(t, "n1", ring, nil), start(t, "n2", ring, nil)
	b.echo(Link)
	kept, err := a.Dial(t.Context(), Link, b.Addr(), "n2")
	if err != nil {
		t.Fatal(err)
	}
	waiting, err := a.Dial(t.Context(), Raft, b.Addr(), "n2") // nobody accepts it
	if err != nil {
		t.Fatal(err)
	}
	half, err := net.Dial("tcp", b.Addr())
	if err != nil {
		t.Fatal(err)
	}
	b.await(t, "orrery_port_handshakes", "", 1)
	b.stop()
	for _, c := range []net.Conn{kept, waiting, half} {
		_ = c.SetReadDeadline(time.Now().Add(safety))
		if _, err := c.Read(make([]byte, 1)); err == nil || brokenReason(err, "open") != reasonClosed {
			t.Errorf("a connection survives its port: %v", err)
		}
	}
	if _, err := b.Listener(Raft).Accept(); !errors.Is(err, net.ErrClosed) {
		t.Errorf("accept: %v", err)
	}
	if _, err := b.PacketConn().WriteTo([]byte("x"), a.PacketConn().LocalAddr()); !errors.Is(err, net.ErrClosed) {
		t.Errorf("UDP: %v", err)
	}
	b.Close()
	again := start(t, "n2", ring, func(cfg *Config) { cfg.Listen = b.Addr() })
	if again.Addr() != b.Addr() {
		t.Errorf("listening at %s again, want %s", again.Addr(), b.Addr())
	}
}

func TestListen_errors(t *testing.T) {
	ring := newRing(t)
	taken := start(t, "n1", ring, nil)
	for name, cfg := range map[string]Config{
		"taken":               {Listen: taken.Addr(), Node: "n2", Ring: ring},
		"no port":             {Listen: "127.0.0.1", Node: "n2", Ring: ring},
		"not an address here": {Listen: "192.0.2.1:0", Node: "n2", Ring: ring},
		"no listen":           {Node: "n2", Ring: ring},
		"no node":             {Listen: "127.0.0.1:0", Ring: ring},
		"no ring":             {Listen: "127.0.0.1:0", Node: "n2"},
		"advertises nothing":  {Listen: "127.0.0.1:0", Advertise: "0.0.0.0", Node: "n2", Ring: ring},
	} {
		t.Run(name, func(t *testing.T) {
			if p, err := Listen(cfg); err == nil {
				p.Close()
				t.Error("it listens")
			}
		})
	}
}

func TestAdvertised(t *testing.T) {
	bound := &net.TCPAddr{Port: 4321}
	tests := []struct{ name, listen, advertise, want string }{
		{"address", "10.0.0.1:7701", "", "10.0.0.1:4321"},
		{"name", "node1.example.org:7701", "", "node1.example.org:4321"},
		{"IPv6", "[2001:db8::1]:7701", "", "[2001:db8::1]:4321"},
		{"given", ":7701", "node1.example.org:99", "node1.example.org:99"},
		{"given without port", ":7701", "10.1.2.3", "10.1.2.3:4321"},
		{"given with port 0", ":0", "10.1.2.3:0", "10.1.2.3:4321"},
		{"given as IPv6", ":7701", "2001:db8::1", "[2001:db8::1]:4321"},
		{"given as IPv6 in brackets", ":7701", "[2001:db8::1]", "[2001:db8::1]:4321"},
		{"given as IPv6 with port", ":7701", "[2001:db8::1]:99", "[2001:db8::1]:99"},
		{"given wildcard", ":7701", "0.0.0.0:7701", ""},
		{"given without host", ":7701", ":7701", ""},
		{"given nonsense", ":7701", "a:b:c", ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, err := advertised(tt.listen, tt.advertise, bound)
			if got != tt.want || (err == nil) != (tt.want != "") {
				t.Errorf("got %q, %v; want %q", got, err, tt.want)
			}
		})
	}
	for _, all := range []string{":7701", "0.0.0.0:7701", "[::]:7701"} {
		got, err := advertised(all, "", bound)
		if host, _, _ := net.SplitHostPort(got); err == nil && !net.ParseIP(host).IsPrivate() {
			t.Errorf("%s gives %q", all, got)
		}
		if err != nil && !strings.Contains(err.Error(), "--advertise") {
			t.Errorf("%s: %v", all, err)
		}
	}
}
