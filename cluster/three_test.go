package cluster

import (
	"context"
	"errors"
	"slices"
	"strconv"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/raft"
	"github.com/orrery-io/orrery/job"
)

// trio is three nodes over transports in memory. They run in a bubble of virtual time,
// so that a slow disk looks to them like no time at all.
type trio struct {
	cfg   [3]Config
	trans [3]*raft.InmemTransport
	nodes [3]*running
}

func newTrio(t *testing.T, change func(*Config)) *trio {
	t.Helper()
	t.Cleanup(func() { time.Sleep(time.Minute) }) // until raft's last goroutines have given up
	c := &trio{}
	var founders []raft.Server
	for i := range c.nodes {
		id := "n" + strconv.Itoa(i+1)
		founders = append(founders, raft.Server{Suffrage: raft.Voter, ID: raft.ServerID(id), Address: raft.ServerAddress(id)})
	}
	for i := range c.nodes {
		c.cfg[i] = Config{
			ID: string(founders[i].ID), Dir: t.TempDir(), Machine: newFake(nil), Founders: founders,
		}
		if change != nil {
			change(&c.cfg[i])
		}
		c.start(t, i)
	}
	return c
}

// start starts node i on the same folder and machine, and connects it.
func (c *trio) start(t *testing.T, i int) {
	t.Helper()
	addr, trans := raft.NewInmemTransportWithTimeout(raft.ServerAddress(c.cfg[i].ID), 200*time.Millisecond)
	c.trans[i] = trans
	c.cfg[i].Transport = trans
	for j, other := range c.trans {
		if j != i && other != nil {
			other.Disconnect(addr)
			other.Connect(addr, trans)
			trans.Connect(other.LocalAddr(), other)
		}
	}
	c.nodes[i] = start(t, c.cfg[i])
}

// cut isolates node i until heal is called.
func (c *trio) cut(i int) (heal func()) {
	for j := range c.trans {
		if j != i {
			c.trans[i].Disconnect(c.trans[j].LocalAddr())
			c.trans[j].Disconnect(c.trans[i].LocalAddr())
		}
	}
	return func() {
		for j := range c.trans {
			if j != i {
				c.trans[i].Connect(c.trans[j].LocalAddr(), c.trans[j])
				c.trans[j].Connect(c.trans[i].LocalAddr(), c.trans[i])
			}
		}
	}
}

// leader waits for a node that leads, other than those given.
func (c *trio) leader(t *testing.T, except ...int) int {
	t.Helper()
	for t.Context().Err() == nil {
		for i, n := range c.nodes {
			if n != nil && !slices.Contains(except, i) && n.IsLeader() {
				return i
			}
		}
		time.Sleep(time.Millisecond)
	}
	t.Fatal("the test ended before a node led")
	return 0
}

// record proposes to whoever leads until it is recorded, and returns that node. An
// outcome that nobody knows may leave the payload twice.
func (c *trio) record(t *testing.T, payload string, except ...int) int {
	t.Helper()
	for {
		l := c.leader(t, except...)
		_, err := c.nodes[l].Propose(t.Context(), submit(payload))
		if err == nil {
			return l
		}
		if !errors.Is(err, job.ErrNotLeader) && !errors.Is(err, job.ErrOutcomeUnknown) {
			t.Fatal(err)
		}
	}
}

// agree waits until node i has applied what node j has.
func (c *trio) agree(t *testing.T, i, j int) {
	t.Helper()
	want := c.nodes[j].machine.jobs()
	if err := c.nodes[i].machine.WaitApplied(t.Context(), c.nodes[j].adapter.lastCommand.Load()); err != nil {
		t.Fatal(err)
	}
	if got := c.nodes[i].machine.jobs(); !slices.Equal(got, want) {
		t.Errorf("node %d has %d jobs, node %d %d", i, len(got), j, len(want))
	}
}

func TestThreeNodes(t *testing.T) {
	run := func(name string, test func(t *testing.T)) {
		t.Run(name, func(t *testing.T) { synctest.Test(t, test) })
	}
	run("what the leader records is everywhere", func(t *testing.T) {
		c := newTrio(t, nil)
		var l int
		for _, p := range payloads(1, 20) {
			l = c.record(t, p)
		}
		index, err := c.nodes[l].ReadIndex(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for i, n := range c.nodes {
			if err := n.machine.WaitApplied(t.Context(), index); err != nil {
				t.Fatal(err)
			}
			c.agree(t, i, l)
			if st := n.Status(); st.Leader != c.cfg[l].ID || len(st.Servers) != 3 {
				t.Errorf("status %+v", st)
			}
			if i == l {
				continue
			}
			if _, err := n.Propose(t.Context(), submit("x")); !errors.Is(err, job.ErrNotLeader) {
				t.Errorf("a follower took a proposal: %v", err)
			}
			if _, err := n.ReadIndex(t.Context()); !errors.Is(err, job.ErrNotLeader) {
				t.Errorf("a follower gave a read index: %v", err)
			}
		}
	})

	run("a leader that is cut off doesn't know, and another goes on", func(t *testing.T) {
		c := newTrio(t, nil)
		old := c.record(t, "before")
		heal := c.cut(old)
		o := c.nodes[old].proposing(t.Context(), submit("unknown"))
		if got := <-o; !errors.Is(got.err, job.ErrOutcomeUnknown) {
			t.Errorf("the outcome is %+v", got)
		}
		next := c.record(t, "after", old)
		if _, err := c.nodes[old].ReadIndex(t.Context()); !errors.Is(err, job.ErrNotLeader) {
			t.Errorf("the old leader gave a read index: %v", err)
		}
		heal()
		c.agree(t, old, next)
		if got := c.nodes[old].machine.jobs(); slices.Contains(got, "unknown") || !slices.Contains(got, "before") || !slices.Contains(got, "after") {
			t.Errorf("jobs %s", got)
		}
	})

	run("a follower that was away longer than the log gets the database", func(t *testing.T) {
		c := newTrio(t, func(cfg *Config) { cfg.TrailingLogs, cfg.SnapshotThreshold, cfg.PinGrace = 1, 1<<40, time.Hour })
		l := c.record(t, "0")
		away := (l + 1) % 3
		c.agree(t, away, l)
		if err := c.nodes[away].stop(); err != nil {
			t.Fatal(err)
		}
		c.nodes[away] = nil
		for _, p := range payloads(1, 200) {
			l = c.record(t, p)
		}
		for i, n := range c.nodes {
			if n == nil {
				continue
			}
			c.agree(t, i, l)
			n.machine.flush()
			if err := n.snapshot(n.raft.Load()); err != nil {
				t.Fatal(err)
			}
			if st := n.Status(); st.LogFirst < 100 {
				t.Fatalf("the log of %s still starts at %d", st.ID, st.LogFirst)
			}
		}
		for _, p := range payloads(201, 210) {
			l = c.record(t, p)
		}
		c.start(t, away)
		c.agree(t, away, l)
		l = c.leader(t)
		copies := 0
		for _, n := range c.nodes {
			n.machine.mu.Lock()
			copies += n.machine.copies
			n.machine.mu.Unlock()
		}
		if copies != 1 {
			t.Errorf("%d copies were made", copies)
		}
		marker, ok := c.nodes[away].machine.Marker()
		if !ok || marker.Index < 200 {
			t.Errorf("marker %+v, %v", marker, ok)
		}
		// The log goes on behind the marker, and stays long enough at the leader.
		if st := c.nodes[away].Status(); st.LogFirst > marker.Index+1 || st.LogFirst == 0 && st.LogLast != 0 {
			t.Errorf("status %+v, marker %d", st, marker.Index)
		}
		if limit := c.nodes[l].snaps.trimmable(); limit >= marker.Index {
			t.Errorf("the leader would drop entry %d, marker %d", limit, marker.Index)
		}
		// It also starts again from there.
		if err := c.nodes[away].stop(); err != nil {
			t.Fatal(err)
		}
		c.nodes[away] = nil
		l = c.record(t, "211")
		c.start(t, away)
		c.agree(t, away, l)
	})
}

func TestTerms(t *testing.T) { synctest.Test(t, testTerms) }

func testTerms(t *testing.T) {
	var leading [3]atomic.Int32
	overlap := errors.New("a term began before the one before was over")
	c := newTrio(t, func(cfg *Config) {
		mine := &leading[cfg.ID[1]-'1']
		cfg.Lead = func(ctx context.Context, _ uint64) error {
			if mine.Add(1) > 1 {
				return overlap
			}
			<-ctx.Done()
			mine.Add(-1)
			return nil
		}
	})
	last := c.record(t, "0")
	for i := range 3 {
		if err := c.nodes[last].raft.Load().LeadershipTransfer().Error(); err != nil {
			t.Fatal(err)
		}
		next := c.record(t, strconv.Itoa(i+1), last)
		for leading[last].Load() != 0 {
			if t.Context().Err() != nil {
				t.Fatal("the test ended before Lead of the old leader did")
			}
			time.Sleep(time.Millisecond)
		}
		last = next
	}
}
