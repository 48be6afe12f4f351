package gossip

import (
	"context"
	"net"
	"sync"
	"testing"

	"github.com/orrery-io/orrery/cluster/keyring"
	"github.com/orrery-io/orrery/cluster/port"
)

// startOnPort runs a node on a real cluster port.
func startOnPort(t *testing.T, id string, ring *keyring.Ring, s setup) *node {
	t.Helper()
	p, err := port.Listen(port.Config{
		Listen: "127.0.0.1:0", Node: id, Version: "test", Ring: ring,
		Cluster: func() string { return s.meta.Cluster },
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	var running sync.WaitGroup
	running.Go(func() {
		if err := p.Run(ctx); err != nil {
			t.Errorf("port of %s: %v", id, err)
		}
	})
	t.Cleanup(func() { cancel(); running.Wait() })
	s.change = func(cfg *Config) {
		_, _ = cfg.PacketConn.Close(), cfg.Listener.Close()
		cfg.Advertise, cfg.PacketConn, cfg.Listener, cfg.Keys = p.Advertise(), p.PacketConn(), p.Listener(port.Gossip), ring.GossipKeys
		cfg.Dial = func(ctx context.Context, addr, node string) (net.Conn, error) {
			conn, err := p.Dial(ctx, port.Gossip, addr, node)
			if err != nil {
				return nil, err
			}
			return conn, nil
		}
	}
	return start(t, id, s)
}

func newRing(t *testing.T, keys ...string) *keyring.Ring {
	t.Helper()
	ring, err := keyring.New(keys...)
	if err != nil {
		t.Fatal(err)
	}
	return ring
}

func TestOverTheClusterPort(t *testing.T) {
	one, two := keyring.Generate(), keyring.Generate()
	rings := []*keyring.Ring{newRing(t, one), newRing(t, one), newRing(t, two)}
	a := startOnPort(t, "n-a", rings[0], setup{meta: Meta{Cluster: "c"}})
	b := startOnPort(t, "n-b", rings[1], setup{join: []string{a.addr()}})
	a.sees("n-b")
	b.sees("n-a")
	t.Run("a wrong key is named", func(t *testing.T) {
		c := startOnPort(t, "n-c", rings[2], setup{join: []string{a.addr()}})
		c.logs("cluster key")
		a.sees("n-b")
	})
	t.Run("a foreign cluster is named", func(t *testing.T) {
		c := startOnPort(t, "n-c", newRing(t, one), setup{meta: Meta{Cluster: "d"}, join: []string{a.addr()}})
		c.logs("belongs to another cluster (c) than this one (d)")
		a.sees("n-b")
	})
	t.Run("the key changes while they run", func(t *testing.T) {
		for i, keys := range [][]string{{one, two}, {two, one}, {two}} {
			for _, ring := range rings[:2] {
				if _, err := ring.Set(keys...); err != nil {
					t.Fatal(err)
				}
			}
			b.meta.Store(&Meta{Expect: i + 1})
			b.Update()
			a.await("hearing of the change", func([]Peer) bool { p, _ := a.Peer("n-b"); return p.Alive && p.Expect == i+1 })
		}
	})
}
