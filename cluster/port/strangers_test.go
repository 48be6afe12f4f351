package port

import (
	"bytes"
	"crypto/tls"
	"encoding/binary"
	"io"
	"log/slog"
	"net"
	"os"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/orrery-io/orrery/cluster/keyring"
)

// raw connects to a port without saying anything.
func raw(t testing.TB, addr string) net.Conn {
	t.Helper()
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	_ = c.SetDeadline(time.Now().Add(safety))
	return c
}

// secure shakes hands as node n9.
func secure(t *testing.T, addr string, ring *keyring.Ring, change func(*tls.Config)) *tls.Conn {
	t.Helper()
	cfg := ring.ClientConfig("n9", Raft)
	if change != nil {
		change(cfg)
	}
	c := tls.Client(raw(t, addr), cfg)
	_ = c.Handshake() // the other side may refuse it only afterwards
	return c
}

func frame(body string) []byte {
	return append(binary.BigEndian.AppendUint16(nil, uint16(len(body))), body...)
}

// TestStrangers sends what doesn't belong to the real port.
func TestStrangers(t *testing.T) {
	key := keyring.Generate()
	ring, wrong := newRing(t, key), newRing(t)
	// recorded is the first message of an honest handshake.
	recorded := record(t, ring)
	type side struct {
		t    *testing.T
		addr string
	}
	send := func(b []byte) func(side) net.Conn {
		return func(s side) net.Conn {
			c := raw(s.t, s.addr)
			_, _ = c.Write(b)
			return c
		}
	}
	greet := func(b []byte) func(side) net.Conn {
		return func(s side) net.Conn {
			c := secure(s.t, s.addr, ring, nil)
			_, _ = c.Write(b)
			return c
		}
	}
	shake := func(ring *keyring.Ring, change func(*tls.Config)) func(side) net.Conn {
		return func(s side) net.Conn { return secure(s.t, s.addr, ring, change) }
	}
	tests := []struct {
		name   string
		do     func(side) net.Conn
		reason string
		hears  string // part of what comes back
	}{
		{"garbage", send(bytes.Repeat([]byte{0xde, 0xad, 0xbe, 0xef}, 4096)), reasonNoTLS, ""},
		{"zeros", send(make([]byte, 64)), reasonNoTLS, ""},
		{"an HTTP request", send([]byte("GET / HTTP/1.1\r\nHost: x\r\n\r\n")), reasonNoTLS, "This is the cluster port"},
		{"a large HTTP request", send([]byte("POST /v1/jobs HTTP/1.1\r\nHost: x\r\n\r\n" + strings.Repeat("x", 200<<10))), reasonNoTLS, ""},
		{"SSH", send([]byte("SSH-2.0-OpenSSH_9.9\r\n")), reasonNoTLS, ""},
		{"a TLS record that is too long", send([]byte{22, 3, 1, 0xff, 0xff, 1}), reasonNoTLS, ""},
		{"a broken client hello", send(append(recorded[:len(recorded)/2:len(recorded)/2], bytes.Repeat([]byte{0xff}, len(recorded)-len(recorded)/2)...)), reasonNoTLS, ""},
		{"wrong key", shake(wrong, func(c *tls.Config) { c.VerifyConnection = nil }), reasonKey, ""},
		{"wrong key, and it refuses ours", shake(wrong, nil), reasonKey, ""},
		{"no client certificate", shake(ring, func(c *tls.Config) { c.GetClientCertificate = nil }), reasonCertificate, ""},
		{"unknown protocol", shake(ring, func(c *tls.Config) { c.NextProtos = []string{"h2", "http/1.1"} }), reasonProtocol, ""},
		{"no protocol", shake(ring, func(c *tls.Config) { c.NextProtos = nil }), reasonProtocol, ""},
		{"TLS 1.2", shake(ring, func(c *tls.Config) { c.MinVersion, c.MaxVersion = tls.VersionTLS12, tls.VersionTLS12 }), reasonNoTLS, ""},
		{"an oversized hello", greet(append([]byte{0xff, 0xff}, make([]byte, 1<<16)...)), reasonHello, ""},
		{"a hello that is no JSON", greet(frame("hello")), reasonHello, ""},
		{"a hello without a node", greet(frame("{}")), reasonHello, ""},
		{"a hello with a long name", greet(frame(`{"node":"n9","version":"` + strings.Repeat("x", 300) + `"}`)), reasonHello, ""},
		{"a hello with control characters", greet(frame(`{"node":"n9","version":"\u001b[2J"}`)), reasonHello, ""},
		{"a hello of somebody else", greet(frame(`{"node":"n1"}`)), reasonHello, ""},
		{"a foreign cluster", greet(frame(`{"node":"n9","cluster":"c2"}`)), reasonForeign, `"refused":"foreign_cluster"`},
		{"gone at once", func(s side) net.Conn { c := raw(s.t, s.addr); c.Close(); return c }, reasonClosed, ""},
		{"gone in the middle of the handshake", func(s side) net.Conn {
			c := send(recorded[:len(recorded)-5])(s)
			c.(*net.TCPConn).CloseWrite()
			return c
		}, reasonClosed, ""},
		{"gone after the first message", func(s side) net.Conn {
			c := send(recorded)(s)
			_, _ = c.Read(make([]byte, 1))
			c.Close()
			return c
		}, reasonClosed, ""},
		{"gone before its hello", func(s side) net.Conn { c := secure(s.t, s.addr, ring, nil); c.Close(); return c }, reasonClosed, ""},
		{"gone in the middle of its hello", func(s side) net.Conn {
			c := greet(frame(`{"node":"n9"}`)[:5])(s)
			c.Close()
			return c
		}, reasonClosed, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			b := start(t, "n2", ring, func(cfg *Config) {
				cfg.Cluster = func() string { return "c1" }
				cfg.HandshakeTimeout = safety
			})
			c := tt.do(side{t, b.Addr()})
			heard, _ := io.ReadAll(c)
			if !strings.Contains(string(heard), tt.hears) {
				t.Errorf("heard %q, want %q", heard, tt.hears)
			}
			c.Close()
			b.await(t, "orrery_port_refused_total", tt.reason, 1)
			total := 0.0
			for _, r := range reasons {
				total += b.metric(t, "orrery_port_refused_total", r)
			}
			if total != 1 {
				t.Errorf("%g connections were counted as refused", total)
			}
			for _, proto := range []string{Raft, Link, Gossip} {
				if n := len(b.listeners[proto].queue); n != 0 {
					t.Errorf("%d connections came through to %s", n, proto)
				}
			}
			// The port is as good as before.
			b.echo(Raft)
			a := start(t, "n1", ring, nil)
			honest, err := a.Dial(t.Context(), Raft, b.Addr(), "n2")
			if err != nil {
				t.Fatal(err)
			}
			if err := says(honest, "still here"); err != nil {
				t.Error(err)
			}
		})
	}
}

// record returns the first message of a handshake with a node.
func record(t *testing.T, ring *keyring.Ring) []byte {
	t.Helper()
	c, s := net.Pipe()
	go func() { _ = tls.Client(c, ring.ClientConfig("n9", Raft)).Handshake() }()
	defer s.Close()
	head := make([]byte, 5)
	if _, err := io.ReadFull(s, head); err != nil {
		t.Fatal(err)
	}
	body := make([]byte, binary.BigEndian.Uint16(head[3:]))
	if _, err := io.ReadFull(s, body); err != nil {
		t.Fatal(err)
	}
	return append(head, body...)
}

// TestTimeout lets connections wait at every step until their time is over.
func TestTimeout(t *testing.T) {
	ring := newRing(t)
	recorded := record(t, ring)
	for name, do := range map[string]func(t *testing.T, addr string) net.Conn{
		"says nothing": func(t *testing.T, addr string) net.Conn { return raw(t, addr) },
		"stops in the middle": func(t *testing.T, addr string) net.Conn {
			c := raw(t, addr)
			_, _ = c.Write(recorded[:20])
			return c
		},
		"says no hello": func(t *testing.T, addr string) net.Conn { return secure(t, addr, ring, nil) },
	} {
		t.Run(name, func(t *testing.T) {
			b := start(t, "n2", ring, func(cfg *Config) { cfg.HandshakeTimeout = 100 * time.Millisecond })
			c := do(t, b.Addr())
			_, _ = io.ReadAll(c) // until the port closes it
			c.Close()
			b.await(t, "orrery_port_refused_total", reasonTimeout, 1)
		})
	}
}

// TestFlood opens thousands of connections that say nothing, and keeps them as long as
// it can. Honest nodes come through meanwhile.
func TestFlood(t *testing.T) {
	const flood, most = 4000, 64
	ring := newRing(t)
	log := &logText{}
	b := start(t, "n2", ring, func(cfg *Config) {
		cfg.MaxHandshakes, cfg.HandshakeTimeout = most, safety
		cfg.Log = slog.New(slog.NewTextHandler(log, nil))
	})
	b.echo(Raft)
	a := start(t, "n1", ring, nil)
	before, err := a.Dial(t.Context(), Raft, b.Addr(), "n2")
	if err != nil {
		t.Fatal(err)
	}
	recorded := record(t, ring)

	var attackers sync.WaitGroup
	half := make(chan struct{})
	for i := range 8 {
		attackers.Go(func() {
			var mine []net.Conn
			defer func() {
				for _, c := range mine {
					c.Close()
				}
			}()
			for n := range flood / 8 {
				c, err := net.Dial("tcp", b.Addr())
				if err != nil {
					t.Error(err)
					return
				}
				mine = append(mine, c)
				if n%2 == 0 {
					_, _ = c.Write(recorded) // costs the port an answer
				}
				if i == 0 && n == flood/16 {
					close(half)
				}
				// What the port has closed isn't ours to hold.
				if len(mine) > most {
					mine[0].Close()
					mine = mine[1:]
				}
			}
		})
	}
	<-half
	tries := 0
	for end := time.Now().Add(safety); ; tries++ {
		c, err := a.Dial(t.Context(), Raft, b.Addr(), "n2")
		if err == nil {
			err = says(c, "meanwhile")
			c.Close()
		}
		if err == nil {
			break
		}
		if time.Now().After(end) {
			t.Fatalf("an honest node came not through in %d tries: %v", tries, err)
		}
	}
	attackers.Wait()
	b.await(t, "orrery_port_refused_total", reasonCrowded, 1)
	if n := b.gate.count(); n > most {
		t.Errorf("%d handshakes are under way, at most %d are allowed", n, most)
	}
	if err := says(before, "still here"); err != nil {
		t.Errorf("a connection from before: %v", err)
	}
	c, err := a.Dial(t.Context(), Raft, b.Addr(), "n2")
	if err != nil {
		t.Fatal(err)
	}
	if err := says(c, "afterwards"); err != nil {
		t.Error(err)
	}
	if n := strings.Count(log.String(), "\n"); n > 100 {
		t.Errorf("the flood left %d lines in the log", n)
	}
	t.Logf("%d dials before one came through", tries)
}

// TestFlood_bounds holds more connections than the port allows, and counts what the
// port holds itself.
func TestFlood_bounds(t *testing.T) {
	const flood, most = 3000, 64
	ring := newRing(t)
	b := start(t, "n2", ring, func(cfg *Config) { cfg.MaxHandshakes, cfg.HandshakeTimeout = most, safety })
	goroutines, files := runtime.NumGoroutine(), descriptors()
	for range flood {
		raw(t, b.Addr())
	}
	// All but those that may stay were pushed out.
	b.await(t, "orrery_port_refused_total", reasonCrowded, flood-most)
	if n := b.gate.count(); n > most {
		t.Errorf("%d handshakes are under way, at most %d are allowed", n, most)
	}
	for end := time.Now().Add(safety); runtime.NumGoroutine() > goroutines+most+8; time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("%d goroutines more than before", runtime.NumGoroutine()-goroutines)
		}
	}
	// This process holds the flood's own ends as well.
	if n := descriptors() - files; files > 0 && n > flood+most+8 {
		t.Errorf("%d descriptors more than before, of which %d are the flood's own", n, flood)
	}
}

// descriptors is how many this process has open, 0 when the system doesn't tell.
func descriptors() int {
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		return 0
	}
	return len(entries)
}

// TestGate shows that a flood from one host pushes out its own connections only.
func TestGate(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	g := newGate(4)
	enter := func(host string) *stranger {
		c := raw(t, l.Addr().String())
		s := g.enter(newWire(c.(*net.TCPConn)))
		g.mu.Lock()
		defer g.mu.Unlock()
		if s != nil && s.element != nil { // as if it came from there
			g.hosts[s.host]--
			s.host = host
			g.hosts[host]++
		}
		return s
	}
	quiet := enter("quiet")
	var loud []*stranger
	for range 50 {
		loud = append(loud, enter("loud"))
	}
	if quiet.evicted || g.count() != 4 {
		t.Errorf("quiet evicted: %v, %d are in", quiet.evicted, g.count())
	}
	for i, s := range loud {
		if evicted := g.leave(s); evicted != (i < 47) {
			t.Errorf("connection %d of the loud host: evicted %v", i, evicted)
		}
	}
	for range 2 { // the second time, it has left already
		if g.leave(quiet) || g.count() != 0 {
			t.Error("the quiet one was evicted, or counts on")
		}
	}
	g.shut()
	if g.enter(newWire(raw(t, l.Addr().String()).(*net.TCPConn))) != nil {
		t.Error("a closed gate lets somebody in")
	}
}
