package cluster

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/raft"
	"github.com/orrery-io/orrery/job"
)

// crew is a cluster of nodes with real databases, over transports in memory.
type crew struct {
	dirs     []string
	founders []raft.Server
	change   func(i int, cfg *Config)

	mu    sync.Mutex
	trans []*raft.InmemTransport
	nodes []*whole // nil: not running
}

// newCrew starts n nodes that begin a cluster, and prepares others more, in a bubble
// of virtual time.
func newCrew(t *testing.T, n, others int, change func(i int, cfg *Config)) *crew {
	t.Helper()
	t.Cleanup(func() { time.Sleep(time.Minute) }) // until raft's last goroutines have given up
	return makeCrew(t, n, others, change)
}

// makeCrew is newCrew outside a bubble of virtual time.
func makeCrew(t *testing.T, n, others int, change func(i int, cfg *Config)) *crew {
	t.Helper()
	c := &crew{change: change, trans: make([]*raft.InmemTransport, n+others), nodes: make([]*whole, n+others)}
	for i := range c.nodes {
		c.dirs = append(c.dirs, t.TempDir())
		if i < n {
			c.founders = append(c.founders, raft.Server{ID: crewID(i), Address: raft.ServerAddress(crewID(i))})
		}
	}
	for i := range n {
		c.start(t, i)
	}
	return c
}

func crewID(i int) raft.ServerID { return raft.ServerID(fmt.Sprintf("n%d", i+1)) }

// via reaches the other nodes of a crew by calling them.
type via struct {
	c    *crew
	from int
}

func (v via) Call(ctx context.Context, node, method string, body []byte) ([]byte, error) {
	for i := range v.c.nodes {
		if string(crewID(i)) != node {
			continue
		}
		n := v.c.node(i)
		if n == nil {
			break
		}
		h := n.Handlers()[method]
		if h == nil {
			return nil, fmt.Errorf("no handler for %s", method)
		}
		return h(ctx, string(crewID(v.from)), bytes.Clone(body))
	}
	return nil, job.Errorf(job.Unavailable, codeUnreachable, "node %s can't be reached", node)
}

func (c *crew) node(i int) *whole {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.nodes[i]
}

// start starts node i on its folder and connects it.
func (c *crew) start(t *testing.T, i int) {
	t.Helper()
	addr, trans := raft.NewInmemTransportWithTimeout(raft.ServerAddress(crewID(i)), 500*time.Millisecond)
	c.mu.Lock()
	c.trans[i] = trans
	for j, other := range c.trans {
		if j != i && other != nil {
			other.Disconnect(addr)
			other.Connect(addr, trans)
			trans.Connect(other.LocalAddr(), other)
		}
	}
	c.mu.Unlock()
	n := launch(t, c.dirs[i], func(cfg *Config) {
		cfg.ID, cfg.Transport, cfg.Peers = string(crewID(i)), trans, via{c, i}
		cfg.PinGrace = time.Second
		if i < len(c.founders) {
			cfg.Founders = c.founders
		}
		if c.change != nil {
			c.change(i, cfg)
		}
	})
	c.mu.Lock()
	c.nodes[i] = n
	c.mu.Unlock()
}

func (c *crew) stop(t *testing.T, i int) {
	t.Helper()
	n := c.node(i)
	c.mu.Lock()
	c.nodes[i] = nil
	c.mu.Unlock()
	if err := n.stop(); err != nil {
		t.Fatal(err)
	}
}

// cut takes node i off the network of raft, or back on.
func (c *crew) cut(i int, off bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for j, other := range c.trans {
		if j == i || other == nil {
			continue
		}
		if off {
			c.trans[i].Disconnect(other.LocalAddr())
			other.Disconnect(c.trans[i].LocalAddr())
		} else {
			c.trans[i].Connect(other.LocalAddr(), other)
			other.Connect(c.trans[i].LocalAddr(), c.trans[i])
		}
	}
}

// leader waits for the node that leads.
func (c *crew) leader(t *testing.T, except ...int) int {
	t.Helper()
	for t.Context().Err() == nil {
		for i := range c.nodes {
			if n := c.node(i); n != nil && !slices.Contains(except, i) && n.IsLeader() {
				return i
			}
		}
		time.Sleep(time.Millisecond)
	}
	t.Fatal("the test ended before a node led")
	return 0
}

// record submits a job through node i, and returns its id.
func (c *crew) record(t *testing.T, i int, payload string) job.ID {
	t.Helper()
	for t.Context().Err() == nil {
		results, err := c.node(i).Propose(t.Context(), realSubmit(payload))
		if err == nil {
			return results[0].Job
		}
		if !errors.Is(err, job.ErrNotLeader) && !errors.Is(err, job.ErrOutcomeUnknown) {
			t.Fatal(err)
		}
	}
	t.Fatal("the test ended before a job was recorded")
	return 0
}

// equal verifies all nodes that run, and returns what they have.
func (c *crew) equal(t *testing.T) Verification {
	t.Helper()
	running, first := 0, -1
	for i := range c.nodes {
		if c.node(i) != nil {
			running++
			first = max(first, i)
		}
	}
	for {
		v, err := c.node(first).Verify(t.Context())
		switch {
		case err != nil && t.Context().Err() != nil:
			t.Fatal(err)
		case err != nil:
			continue
		case !v.Equal:
			t.Fatalf("the nodes are not equal: %+v", v)
		case len(v.Hashes) >= running:
			return v
		}
		// A node that gets the database at this moment passes over the entry.
	}
}

// cutLog sets markers everywhere, so that the logs become as short as they may.
func (c *crew) cutLog(t *testing.T) {
	t.Helper()
	index, err := c.node(c.leader(t)).ReadIndex(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for i := range c.nodes {
		n := c.node(i)
		if n == nil {
			continue
		}
		if err := n.machine.WaitApplied(t.Context(), index); err != nil {
			t.Fatal(err)
		}
		if err := n.snapshot(n.raft.Load()); err != nil {
			t.Fatal(err)
		}
	}
}

// admit makes node i, which has an empty folder, a voter.
func (c *crew) admit(t *testing.T, i int) {
	t.Helper()
	if c.node(i) == nil {
		c.start(t, i)
	}
	l := c.node(c.leader(t))
	if err := l.raft.Load().AddNonvoter(crewID(i), raft.ServerAddress(crewID(i)), 0, 0).Error(); err != nil {
		t.Fatal(err)
	}
	index, err := l.ReadIndex(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := c.node(i).machine.WaitApplied(t.Context(), index); err != nil {
		t.Fatal(err)
	}
	if err := l.raft.Load().AddVoter(crewID(i), raft.ServerAddress(crewID(i)), 0, 0).Error(); err != nil {
		t.Fatal(err)
	}
}

// short makes logs short, so that a node that was away needs the database.
func short(_ int, cfg *Config) { cfg.TrailingLogs, cfg.SnapshotThreshold = 1, 1<<40 }
