package clustertest

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hashicorp/raft"
	"github.com/orrery-io/orrery/cluster"
	"github.com/orrery-io/orrery/command"
	"github.com/orrery-io/orrery/fsm"
	"github.com/orrery-io/orrery/job"
)

// Config describes a cluster under test.
type Config struct {
	// Nodes is how many there are; zero means 3.
	Nodes int
	// Seed decides what the network does by chance.
	Seed uint64
	// Real gives each node a state machine of package fsm, on disk. Such nodes live in
	// real time.
	Real bool
	// Change may change the configuration of node i each time before it starts.
	Change func(i int, cfg *cluster.Config)
	// Prepare may call methods of a node each time before it runs.
	Prepare func(n *Node)
	// Log gets what the nodes log; nil shows it when the test fails.
	Log *slog.Logger
}

// Cluster is several nodes that know each other.
type Cluster struct {
	Net   *Network
	Nodes []*Node

	t        testing.TB
	cfg      Config
	founders []raft.Server
}

// Node is one of them. Node.Node is nil while it is stopped; a goroutine that doesn't
// start and stop nodes itself uses Up.
type Node struct {
	*cluster.Node
	ID string
	// Memory is its machine unless Config.Real is set, Disk when it is.
	Memory *Machine
	Disk   *fsm.Machine

	c     *Cluster
	up    atomic.Pointer[cluster.Node]
	inUse atomic.Pointer[Machine] // Memory
	dir   string
	disk  *disk
	ended chan struct{} // Run of the node has returned
	err   error         // of Run
	stop  context.CancelFunc
	kill  context.CancelFunc
	clean func() error
}

// Start founds a cluster. It is stopped when the test ends; a node that has ended with
// an error fails the test, unless somebody has asked for the error before.
func Start(t testing.TB, cfg Config) *Cluster {
	t.Helper()
	if cfg.Nodes == 0 {
		cfg.Nodes = 3
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelInfo}))
	}
	c := &Cluster{t: t, cfg: cfg, Net: NewNetwork(cfg.Seed)}
	for i := range cfg.Nodes {
		n := &Node{ID: "n" + strconv.Itoa(i+1), c: c, dir: t.TempDir(), disk: &disk{}}
		c.Nodes = append(c.Nodes, n)
		c.founders = append(c.founders, raft.Server{ID: raft.ServerID(n.ID), Address: raft.ServerAddress(n.ID)})
	}
	for i := range c.Nodes {
		c.Start(i)
	}
	t.Cleanup(func() {
		var all sync.WaitGroup
		for _, n := range c.Nodes {
			if n.Node == nil {
				continue
			}
			all.Go(func() {
				if err := n.Stop(); err != nil {
					t.Errorf("node %s: %v", n.ID, err)
				}
			})
		}
		all.Wait()
	})
	return c
}

// Start starts node i, on what its last life has left.
func (c *Cluster) Start(i int) {
	c.t.Helper()
	n := c.Nodes[i]
	life, kill := context.WithCancel(context.WithoutCancel(c.t.Context()))
	p := &endpoint{up: life}
	p.transport = &transport{net: c.Net, id: n.ID, incoming: make(chan raft.RPC, 16), ctx: life}
	cfg := cluster.Config{
		ID: n.ID, Dir: filepath.Join(n.dir, "raft"), Version: "test", Log: c.cfg.Log,
		Transport: p.transport, Founders: c.founders, Address: n.ID,
		Peers: &peers{net: c.Net, id: n.ID, up: life},
	}
	n.clean = func() error { return nil }
	if c.cfg.Real {
		n.openReal(life, &cfg)
	} else {
		n.Memory = newMachine(n.disk)
		n.inUse.Store(n.Memory)
		cfg.Machine = n.Memory
	}
	if c.cfg.Change != nil {
		c.cfg.Change(i, &cfg)
	}
	node, err := cluster.New(cfg)
	if err != nil {
		kill()
		c.t.Fatal(errors.Join(err, n.clean()))
	}
	p.handlers = node.Handlers()
	c.Net.mu.Lock()
	c.Net.points[n.ID] = p
	c.Net.mu.Unlock()
	run, stop := context.WithCancel(life)
	n.Node, n.ended, n.stop, n.kill = node, make(chan struct{}), stop, kill
	if c.cfg.Prepare != nil {
		c.cfg.Prepare(n)
	}
	n.up.Store(node)
	go func() {
		defer close(n.ended)
		n.err = node.Run(run)
		kill() // nothing reaches a node that has ended
	}()
}

// openReal opens a machine of package fsm.
func (n *Node) openReal(life context.Context, cfg *cluster.Config) {
	m, err := fsm.Open(life, fsm.Config{Dir: filepath.Join(n.dir, "db"), Log: cfg.Log})
	if err != nil {
		n.c.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(life))
	done := make(chan error, 1)
	go func() { done <- m.Run(ctx) }()
	n.Disk, cfg.Machine = m, m
	n.clean = func() error {
		cancel()
		return errors.Join(<-done, m.Close())
	}
}

// Stop stops a node in order, and returns what its Run returned. It may be called
// again.
func (n *Node) Stop() error {
	if n.Node == nil {
		return nil
	}
	n.stop()
	return n.Wait()
}

// Wait waits until a node has ended by itself, and returns what its Run returned.
func (n *Node) Wait() error {
	<-n.ended
	n.Node = nil
	n.up.Store(nil)
	return errors.Join(n.err, n.clean())
}

// Crash ends a node as far as the others can see: nothing leaves it any more, not even
// the leadership. What its machine has not written is lost with it.
func (n *Node) Crash() {
	n.kill()
	n.stop()
	_ = n.Wait() // whatever it says, it is dead
}

// Up is the node while it is up, nil while it isn't.
func (n *Node) Up() *cluster.Node { return n.up.Load() }

// memory is Memory for goroutines that don't start and stop nodes.
func (n *Node) memory() *Machine { return n.inUse.Load() }

// leading returns a node that leads now, nil when none does.
func (c *Cluster) leading() *Node {
	for _, n := range c.Nodes {
		if n.Node != nil && n.IsLeader() {
			return n
		}
	}
	return nil
}

// Index is the place of a node in Cluster.Nodes.
func (c *Cluster) Index(n *Node) int { return slices.Index(c.Nodes, n) }

// await calls f until it is true.
func (c *Cluster) await(what string, f func() bool) {
	c.t.Helper()
	for !f() {
		if c.t.Context().Err() != nil {
			c.t.Fatalf("the test ended before %s", what)
		}
		time.Sleep(2 * time.Millisecond)
	}
}

// Leader waits for a node that leads, other than those given.
func (c *Cluster) Leader(except ...*Node) (leader *Node) {
	c.t.Helper()
	c.await("a node led", func() bool {
		for _, n := range c.Nodes {
			if n.Node != nil && !slices.Contains(except, n) && n.IsLeader() {
				leader = n
			}
		}
		return leader != nil
	})
	return leader
}

// Followers waits until all running nodes know one leader, and returns the others.
func (c *Cluster) Followers() (followers []*Node) {
	c.t.Helper()
	leader := c.Leader()
	c.await("all nodes knew the leader", func() bool {
		followers = followers[:0]
		for _, n := range c.Nodes {
			switch {
			case n.Node == nil || n == leader:
			case n.Node.Leader() != leader.ID:
				return false
			default:
				followers = append(followers, n)
			}
		}
		return true
	})
	return followers
}

// Calls is how many requests of a method were delivered to any node.
func (c *Cluster) Calls(method string) int {
	c.Net.mu.Lock()
	defer c.Net.mu.Unlock()
	return c.Net.calls[method]
}

// Submit is a command that makes a job with a payload. The request id may be empty.
func Submit(payload, requestID string) command.Item {
	return command.Item{RequestID: requestID, Command: &command.Submit{
		Spec: job.Spec{Type: "noop", Queue: "default", Payload: job.JSON(payload), Priority: 4, MaxAttempts: 5},
	}}
}

// Record proposes items on a node, again and again while nothing of them was recorded.
func (c *Cluster) Record(n *Node, items ...command.Item) []command.Result {
	c.t.Helper()
	for {
		results, err := n.Propose(c.t.Context(), items...)
		if err == nil {
			return results
		}
		if job.KindOf(err) != job.Unavailable {
			c.t.Fatalf("propose on %s: %v", n.ID, err)
		}
	}
}

// Agree waits until all running nodes have applied the same, and compares what they
// have.
func (c *Cluster) Agree() {
	c.t.Helper()
	hashes := map[string]string{}
	results := c.Record(c.Leader(), command.Item{Command: &command.Verify{}})
	index := results[0].Index
	for _, n := range c.Nodes {
		if n.Node == nil {
			continue
		}
		m := n.machine()
		if err := m.WaitApplied(c.t.Context(), index); err != nil {
			c.t.Fatalf("node %s doesn't come to entry %d: %v", n.ID, index, err)
		}
		if n.Memory != nil {
			hashes[n.Memory.Sum()] += " " + n.ID
			continue
		}
		hash, err := n.Disk.Hash(c.t.Context(), index)
		if err != nil {
			c.t.Fatalf("hash of node %s: %v", n.ID, err)
		}
		hashes[hex.EncodeToString(hash)] += " " + n.ID
	}
	if len(hashes) > 1 {
		c.t.Errorf("the nodes differ: %s", fmt.Sprint(hashes))
	}
}

func (n *Node) machine() cluster.Machine {
	if n.Memory != nil {
		return n.Memory
	}
	return n.Disk
}
