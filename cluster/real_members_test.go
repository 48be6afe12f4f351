package cluster

import (
	"context"
	"errors"
	"net"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/raft"
	"github.com/orrery-io/orrery/cluster/keyring"
	"github.com/orrery-io/orrery/cluster/link"
	"github.com/orrery-io/orrery/cluster/port"
	"github.com/orrery-io/orrery/job"
)

// harbour is a cluster of nodes with real databases, ports and links on loopback. The
// addresses are known to all, as gossip would make them.
type harbour struct {
	t    *testing.T
	ring *keyring.Ring

	mu    sync.Mutex
	ports map[string]*port.Port
	ships map[string]*ship
}

// ship is one node of a harbour.
type ship struct {
	id, dir string
	*whole
	stop func() error
}

// open gives a node a new port.
func (h *harbour) open(id string) *port.Port {
	h.t.Helper()
	p, err := port.Listen(port.Config{Listen: "127.0.0.1:0", Node: id, Ring: h.ring, Log: testLog(h.t)})
	if err != nil {
		h.t.Fatal(err)
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.ports[id] = p
	return p
}

func (h *harbour) address(id string) string {
	h.mu.Lock()
	defer h.mu.Unlock()
	if p := h.ports[id]; p != nil {
		return p.Advertise()
	}
	return ""
}

func (h *harbour) others(id string) (ids []string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for other := range h.ports {
		if other != id {
			ids = append(ids, other)
		}
	}
	return ids
}

// sail starts a node on its port.
func (h *harbour) sail(id, dir string, founders []raft.Server) *ship {
	h.t.Helper()
	h.mu.Lock()
	p := h.ports[id]
	h.mu.Unlock()
	dial := func(proto string) func(context.Context, string) (net.Conn, error) {
		return func(ctx context.Context, node string) (net.Conn, error) {
			return p.Dial(ctx, proto, h.address(node), node)
		}
	}
	mesh := link.New(link.Config{
		Node: id, Dial: dial(port.Link), Listener: p.Listener(port.Link), Log: testLog(h.t),
		From: func(c net.Conn) string {
			if pc, ok := c.(*port.Conn); ok {
				return pc.Peer().Node
			}
			return ""
		},
	})
	trans := NewTransport(TransportConfig{
		Listener: p.Listener(port.Raft), Address: h.address, Log: testLog(h.t),
		Dial: func(ctx context.Context, node, addr string) (net.Conn, error) {
			return p.Dial(ctx, port.Raft, addr, node)
		},
	})
	ctx, endPort := context.WithCancel(context.WithoutCancel(h.t.Context()))
	linked, endLinks := context.WithCancel(ctx)
	var ports, links sync.WaitGroup
	ports.Go(func() {
		if err := p.Run(ctx); err != nil {
			h.t.Errorf("port of %s: %v", id, err)
		}
	})
	w := launch(h.t, dir, func(cfg *Config) {
		cfg.ID, cfg.Transport, cfg.Founders, cfg.Peers = id, trans, founders, mesh
		cfg.Address, cfg.HTTP, cfg.Receiving = p.Advertise(), "http://"+id, trans.Receiving
		cfg.Contacts = func() []string { return h.others(id) }
		cfg.HeartbeatTimeout, cfg.ElectionTimeout, cfg.LeaseTimeout = 2*time.Second, 2*time.Second, 1500*time.Millisecond
		cfg.TrailingLogs, cfg.SnapshotThreshold, cfg.Log = 1, 1<<40, testLog(h.t)
	})
	for method, f := range w.Handlers() {
		mesh.Handle(method, f)
	}
	links.Go(func() {
		if err := mesh.Run(linked); err != nil {
			h.t.Errorf("links of %s: %v", id, err)
		}
	})
	s := &ship{id: id, dir: dir, whole: w}
	s.stop = sync.OnceValue(func() error {
		err := w.stop()
		endLinks()
		links.Wait()
		err = errors.Join(err, trans.Close())
		endPort()
		ports.Wait()
		return err
	})
	h.t.Cleanup(func() {
		if err := s.stop(); err != nil {
			h.t.Errorf("%s: %v", id, err)
		}
	})
	h.mu.Lock()
	defer h.mu.Unlock()
	h.ships[id] = s
	return s
}

func (h *harbour) await(what string, is func() bool) {
	h.t.Helper()
	for limit := time.Now().Add(2 * time.Minute); !is(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(limit) {
			h.t.Fatalf("waited in vain: %s", what)
		}
	}
}

// awaitMember waits until a node is told of a member that is as it should be.
func (h *harbour) awaitMember(by *ship, id string, is func(Member) bool) {
	h.t.Helper()
	h.await("member "+id, func() bool {
		list, err := by.Members(h.t.Context())
		for _, m := range list {
			if err == nil && !m.Stale && m.ID == id && is(m) {
				return true
			}
		}
		return false
	})
}

// record records jobs at a node until they are recorded.
func (h *harbour) record(by *ship, payload string) (id job.ID) {
	h.t.Helper()
	h.await("record "+payload, func() bool {
		results, err := by.Propose(h.t.Context(), realSubmit(payload))
		if err == nil {
			id = results[0].Job
		}
		return err == nil
	})
	return id
}

// TestRealMembers lets a cluster live: a node joins that needs the whole database, one
// moves, the leader is removed.
func TestRealMembers(t *testing.T) {
	if testing.Short() {
		t.Skip("takes seconds")
	}
	ring, err := keyring.New(keyring.Generate())
	if err != nil {
		t.Fatal(err)
	}
	h := &harbour{t: t, ring: ring, ports: map[string]*port.Port{}, ships: map[string]*ship{}}
	var founders []raft.Server
	for i := range 3 {
		id := "n" + strconv.Itoa(i+1)
		founders = append(founders, raft.Server{ID: raft.ServerID(id), Address: raft.ServerAddress(h.open(id).Advertise())})
	}
	for _, f := range founders {
		h.sail(string(f.ID), t.TempDir(), founders)
	}
	n1 := h.ships["n1"]
	var last job.ID
	for i := range 100 {
		last = h.record(n1, strconv.Itoa(i))
	}
	for _, s := range h.ships {
		if err := s.machine.WaitApplied(t.Context(), n1.adapter.lastCommand.Load()); err != nil {
			t.Fatal(err)
		}
		if err := s.snapshot(s.raft.Load()); err != nil {
			t.Fatal(err)
		}
	}

	// A node joins. What it needs is in the log no more.
	h.open("n4")
	n4 := h.sail("n4", t.TempDir(), nil)
	h.awaitMember(n4, "n4", func(m Member) bool { return m.Voter && m.Alive && m.HTTP == "http://n4" })
	a, err := n1.machine.Job(t.Context(), last)
	if err != nil {
		t.Fatal(err)
	}
	if b, err := n4.machine.Job(t.Context(), last); err != nil || string(a.Payload) != string(b.Payload) {
		t.Errorf("job %d: %+v, %v", last, b, err)
	}
	if m, ok := n4.machine.Marker(); !ok || m.Index < 50 {
		t.Errorf("it has not received the database: marker %+v, %v", m, ok)
	}

	// One moves.
	n2 := h.ships["n2"]
	if !raceDetector {
		if err := n2.stop(); err != nil {
			t.Fatal(err)
		}
		before := h.address("n2")
		h.open("n2")
		n2 = h.sail("n2", n2.dir, founders)
		h.awaitMember(n4, "n2", func(m Member) bool { return m.Voter && m.Address == h.address("n2") && m.Address != before })
	}

	// The leader goes, asked at another node.
	leader, asker := h.ships[n4.Leader()], n4
	if leader == nil {
		t.Fatalf("no leader: %q", n4.Leader())
	}
	if leader == n4 {
		asker = n2
	}
	if err := asker.Remove(t.Context(), leader.id, false); err != nil {
		t.Fatal(err)
	}
	<-leader.ended
	if err := leader.stop(); !errors.Is(err, ErrRemoved) {
		t.Errorf("the removed leader ended with %v", err)
	}
	leader.stop = func() error { return nil }
	leader.whole.stop = leader.stop
	h.record(asker, "101")
	list, err := asker.Members(t.Context())
	if err != nil || len(list) != 3 {
		t.Errorf("members %+v, %v", list, err)
	}
}
