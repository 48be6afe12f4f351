package gossip

import (
	"errors"
	"net"
	"strings"
	"testing"
	"time"
)

func TestNodesFindEachOther(t *testing.T) {
	t.Run("by one address", func(t *testing.T) {
		a := start(t, "n-a", setup{meta: Meta{Cluster: "c", HTTP: "http://a:7700", Version: "1", Expect: 3, Draining: true}})
		b := start(t, "n-b", setup{join: []string{a.addr()}})
		c := start(t, "n-c", setup{join: []string{b.addr()}})
		a.sees("n-b", "n-c")
		b.sees("n-a", "n-c")
		c.sees("n-a", "n-b")
		p, ok := c.Peer("n-a")
		if want := (Meta{Cluster: "c", HTTP: "http://a:7700", Version: "1", Expect: 3, Draining: true}); !ok || p.Meta != want || p.Address != a.addr() {
			t.Errorf("n-a is %+v", p)
		}
		if text := a.log.String() + b.log.String() + c.log.String(); text != "" {
			t.Errorf("an ordinary start is logged:\n%s", text)
		}
	})
	t.Run("in any order of starts", func(t *testing.T) {
		p, l := listenBoth(t, "127.0.0.1:0")
		addr := l.Addr().String()
		_, _ = p.Close(), l.Close()
		a := start(t, "n-a", setup{join: []string{addr}})
		a.logs("another node cannot be reached yet")
		start(t, "n-b", setup{listen: addr})
		a.sees("n-b")
	})
	t.Run("by the addresses of last time", func(t *testing.T) {
		a := start(t, "n-a", setup{})
		b := start(t, "n-b", setup{change: func(cfg *Config) { cfg.Known = func() []string { return []string{a.addr()} } }})
		b.sees("n-a")
	})
	t.Run("by a name", func(t *testing.T) {
		a := start(t, "n-a", setup{change: func(cfg *Config) {
			cfg.Advertise = strings.Replace(cfg.Advertise, "127.0.0.1", "localhost", 1)
		}})
		_, port, err := net.SplitHostPort(a.addr())
		if err != nil {
			t.Fatal(err)
		}
		b := start(t, "n-b", setup{join: []string{net.JoinHostPort("localhost", port)}})
		b.at("n-a", a.addr())
		if !strings.HasPrefix(a.addr(), "localhost:") {
			t.Errorf("n-a is told of as %s", a.addr())
		}
	})
	t.Run("over IPv6", func(t *testing.T) {
		l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "[::1]:0")
		if err != nil {
			t.Skip("this machine has no IPv6:", err)
		}
		_ = l.Close()
		a := start(t, "n-a", setup{listen: "[::1]:0"})
		b := start(t, "n-b", setup{listen: "[::1]:0", join: []string{a.addr()}})
		a.at("n-b", b.addr())
		b.at("n-a", a.addr())
	})
	t.Run("told by hand", func(t *testing.T) {
		a := start(t, "n-a", setup{})
		b := start(t, "n-b", setup{})
		for err := errNotRunning; errors.Is(err, errNotRunning); {
			err = a.Join(t.Context(), b.addr())
			if err != nil && !errors.Is(err, errNotRunning) {
				t.Fatal(err)
			}
		}
		b.sees("n-a")
		if err := a.Join(t.Context(), "127.0.0.1:1", "nonsense"); err == nil ||
			!strings.Contains(err.Error(), "127.0.0.1:1: ") || !strings.Contains(err.Error(), "nonsense: ") {
			t.Errorf("Join = %v", err)
		}
	})
}

func TestChanges(t *testing.T) {
	t.Run("of what a node tells spread at once", func(t *testing.T) {
		a := start(t, "n-a", setup{meta: Meta{Fresh: true}})
		b := start(t, "n-b", setup{join: []string{a.addr()}})
		b.sees("n-a")
		a.meta.Store(&Meta{Cluster: "c"})
		a.Update()
		b.await("seeing the cluster", func([]Peer) bool { p, _ := b.Peer("n-a"); return p.Cluster == "c" && !p.Fresh })
	})
	t.Run("and without being told to", func(t *testing.T) {
		a := start(t, "n-a", setup{})
		b := start(t, "n-b", setup{join: []string{a.addr()}})
		b.sees("n-a")
		a.meta.Store(&Meta{Draining: true})
		b.await("seeing it drain", func([]Peer) bool { p, _ := b.Peer("n-a"); return p.Draining })
	})
	t.Run("a node that stops says goodbye", func(t *testing.T) {
		a := start(t, "n-a", setup{})
		b := start(t, "n-b", setup{join: []string{a.addr()}})
		a.sees("n-b")
		b.stop()
		a.sees()
		if p, ok := a.Peer("n-b"); !ok || p.Alive || p.Address != b.addr() || p.Since.IsZero() {
			t.Errorf("n-b is %+v", p)
		}
	})
	t.Run("a node that dies is noticed", func(t *testing.T) {
		a := start(t, "n-a", setup{})
		b := start(t, "n-b", setup{join: []string{a.addr()}})
		a.sees("n-b")
		b.kill()
		a.sees()
	})
}

func TestAddressMayChange(t *testing.T) {
	a := start(t, "n-a", setup{})
	c := start(t, "n-c", setup{join: []string{a.addr()}})
	b := start(t, "n-b", setup{join: []string{a.addr()}})
	a.at("n-b", b.addr())
	c.at("n-b", b.addr())
	b.kill()
	// Long before anybody has given up the old address.
	again := start(t, "n-b", setup{join: []string{a.addr()}})
	a.at("n-b", again.addr())
	c.at("n-b", again.addr())
	again.sees("n-a", "n-c")
}

func TestSameAddressAfterRestart(t *testing.T) {
	a := start(t, "n-a", setup{})
	b := start(t, "n-b", setup{join: []string{a.addr()}, meta: Meta{Version: "1"}})
	a.sees("n-b")
	b.kill()
	again := start(t, "n-b", setup{listen: b.addr(), meta: Meta{Version: "2"}, join: []string{a.addr()}})
	a.await("seeing the new start", func([]Peer) bool { p, _ := a.Peer("n-b"); return p.Alive && p.Version == "2" })
	again.sees("n-a")
}

func TestTwoProcessesWithOneIdAreReported(t *testing.T) {
	a := start(t, "n-a", setup{})
	start(t, "n-b", setup{join: []string{a.addr()}})
	start(t, "n-b", setup{join: []string{a.addr()}})
	a.logs("two processes use the same node id")
}

func TestForeignCluster(t *testing.T) {
	t.Run("is not joined", func(t *testing.T) {
		a := start(t, "n-a", setup{meta: Meta{Cluster: "one"}})
		b := start(t, "n-b", setup{meta: Meta{Cluster: "two"}, join: []string{a.addr()}})
		a.logs("a node of another cluster was refused")
		b.logs("belongs to cluster one, this one to cluster two")
		a.sees()
		b.sees()
	})
	t.Run("is not let in by a new node that knows both", func(t *testing.T) {
		a := start(t, "n-a", setup{meta: Meta{Cluster: "one"}})
		b := start(t, "n-b", setup{meta: Meta{Cluster: "two"}})
		c := start(t, "n-c", setup{join: []string{a.addr(), b.addr()}})
		c.sees("n-a", "n-b")
		a.logs("its_cluster=two")
		b.logs("its_cluster=one")
		a.sees("n-c")
		b.sees("n-c")
		c.meta.Store(&Meta{Cluster: "one"})
		c.Update()
		c.sees("n-a")
		b.sees()
	})
}

func TestPacketsLost(t *testing.T) {
	a := start(t, "n-a", setup{})
	b := start(t, "n-b", setup{})
	a.udp.cut.Store(true)
	b.udp.cut.Store(true)
	for a.Join(t.Context(), b.addr()) != nil {
		if t.Context().Err() != nil {
			t.Fatal("the test is over")
		}
	}
	a.sees("n-b")
	b.sees("n-a")
	// Streams take over: the warning comes from a probe that had an answer.
	a.logs("udp packets don't get through to another node")
	a.sees("n-b")
	b.meta.Store(&Meta{Version: "2"})
	a.await("seeing the change", func([]Peer) bool { p, _ := a.Peer("n-b"); return p.Version == "2" })
}

func TestCutHealsHoweverLong(t *testing.T) {
	a := start(t, "n-a", setup{})
	b := start(t, "n-b", setup{join: []string{a.addr()}})
	a.sees("n-b")
	gb := b.cfg.Listener.(*guarded)
	ga := a.cfg.Listener.(*guarded)
	for _, cut := range []bool{true, false} {
		a.udp.cut.Store(cut)
		b.udp.cut.Store(cut)
		ga.dead.Store(cut)
		gb.dead.Store(cut)
		if cut {
			a.sees()
			b.sees()
		}
	}
	a.sees("n-b")
	b.sees("n-a")
}

func TestWrongKey(t *testing.T) {
	a := start(t, "n-a", setup{})
	b := start(t, "n-b", setup{keys: [][]byte{key('b')}, join: []string{a.addr()}})
	b.logs(errWrongKey.Error())
	a.sees()
	b.sees()
}

func TestKeyChangesWhileNodesRun(t *testing.T) {
	a := start(t, "n-a", setup{})
	b := start(t, "n-b", setup{join: []string{a.addr()}})
	a.sees("n-b")
	b.sees("n-a")
	both := []*node{a, b}
	steps := [][][]byte{
		{key('a'), key('b')}, // known
		{key('b'), key('a')}, // used
		{key('b')},           // the old one is gone
	}
	for i, keys := range steps {
		for _, n := range both {
			n.keys.Store(&keys)
		}
		b.meta.Store(&Meta{Expect: i + 1})
		b.Update()
		a.await("hearing of the change", func([]Peer) bool { p, _ := a.Peer("n-b"); return p.Alive && p.Expect == i+1 })
	}
	if a.refused()+b.refused() > 0 {
		// Both changed at the same time but for the last packets under way.
		t.Logf("%v and %v packets were refused", a.refused(), b.refused())
	}
	late := start(t, "n-c", setup{keys: [][]byte{key('a')}, join: []string{a.addr()}})
	late.logs(errWrongKey.Error())
}

func TestGarbagePacketsAreCounted(t *testing.T) {
	a := start(t, "n-a", setup{})
	b := start(t, "n-b", setup{join: []string{a.addr()}})
	a.sees("n-b")
	conn, err := (&net.Dialer{}).DialContext(t.Context(), "udp", a.addr())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	foreign, err := seal([][]byte{key('x')}, []byte("hello"))
	if err != nil {
		t.Fatal(err)
	}
	nonsense, err := seal([][]byte{key('a')}, []byte{244, 1, 2, 3})
	if err != nil {
		t.Fatal(err)
	}
	for _, packet := range [][]byte{{}, {1}, []byte("GET / HTTP/1.1\r\n\r\n"), make([]byte, 9000), foreign, nonsense, foreign[:20]} {
		if _, err := conn.Write(packet); err != nil {
			t.Fatal(err)
		}
	}
	a.await("counting them", func([]Peer) bool { return a.refused() >= 6 })
	b.meta.Store(&Meta{Version: "2"})
	b.Update()
	a.await("working on", func([]Peer) bool { p, _ := a.Peer("n-b"); return p.Version == "2" })
}

func TestStopsWhileItsNameIsUnknown(t *testing.T) {
	n := start(t, "n-a", setup{change: func(cfg *Config) { cfg.Advertise = "no-such-host.invalid:7701" }})
	n.logs("the name to advertise has no address yet")
	n.stop()
}

func TestNewRefuses(t *testing.T) {
	p, l := listenBoth(t, "127.0.0.1:0")
	t.Cleanup(func() { _, _ = p.Close(), l.Close() })
	base := Config{
		Node: "n-a", Advertise: "127.0.0.1:7701", PacketConn: p, Listener: l, Dial: nil,
		Keys: func() [][]byte { return nil }, Meta: func() Meta { return Meta{} },
	}
	base.Dial = (&node{}).dialNowhere
	tests := []struct {
		name   string
		change func(*Config)
		want   string
	}{
		{"no id", func(c *Config) { c.Node = "" }, "no id of a node"},
		{"an id that looks like a start", func(c *Config) { c.Node = "n@1" }, "no id of a node"},
		{"no port", func(c *Config) { c.Advertise = "10.0.0.1" }, "must be host:port"},
		{"an address that nobody reaches", func(c *Config) { c.Advertise = "0.0.0.0:7701" }, "--advertise"},
		{"no keys", func(c *Config) { c.Keys = nil }, "required"},
		{"addresses that don't fit", func(c *Config) {
			c.Advertise = strings.Repeat("a", 250) + ":7701"
			c.Meta = func() Meta { return Meta{HTTP: "http://" + strings.Repeat("b", 250)} }
		}, "too long"},
		{"nothing wrong", func(*Config) {}, ""},
		{"a long version", func(c *Config) { c.Meta = func() Meta { return Meta{Version: strings.Repeat("v", 600)} } }, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			cfg := base
			tt.change(&cfg)
			_, err := New(cfg)
			if got := errText(err); tt.want == "" && got != "" || !strings.Contains(got, tt.want) {
				t.Errorf("New = %q, want %q", got, tt.want)
			}
		})
	}
}

func errText(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

func TestJitterStaysNear(t *testing.T) {
	for range 1000 {
		if d := jitter(time.Second); d < 750*time.Millisecond || d > 1250*time.Millisecond {
			t.Fatal(d)
		}
	}
}
