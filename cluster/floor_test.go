package cluster

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/raft"
	"github.com/orrery-io/orrery/job"
)

// stopNode stops node i.
func (c *trio) stopNode(t *testing.T, i int) {
	t.Helper()
	if err := c.nodes[i].stop(); err != nil {
		t.Fatal(err)
	}
	c.nodes[i] = nil
}

// diverged makes three nodes of which the first two leaders' entries are on a and c
// only: b was cut off before they were recorded. All are stopped then.
func diverged(t *testing.T, change func(*Config)) (c *trio, a, b, away int) {
	t.Helper()
	c = newTrio(t, change)
	away = c.record(t, "first")
	a, b = (away+1)%3, (away+2)%3
	c.agree(t, b, away)
	c.cut(b)
	for _, p := range payloads(1, 20) {
		if got := c.record(t, p, b); got != away {
			t.Fatalf("the leader changed from %d to %d", away, got)
		}
	}
	c.agree(t, a, away)
	for i := range c.nodes {
		c.stopNode(t, i)
	}
	return c, a, b, away
}

// nobody lets time pass in which nobody may lead.
func (c *trio) nobody(t *testing.T, d time.Duration) {
	t.Helper()
	for range d / (10 * time.Millisecond) {
		time.Sleep(10 * time.Millisecond)
		for _, n := range c.nodes {
			if n != nil && n.raft.Load() != nil && n.raft.Load().State() == raft.Leader {
				t.Fatalf("%s was elected", n.cfg.ID)
			}
		}
	}
}

func TestVoteFloor(t *testing.T) {
	run := func(name string, test func(t *testing.T)) {
		t.Run(name, func(t *testing.T) { synctest.Test(t, test) })
	}

	run("two of three, one with its database lost, elect nobody who lacks what was acknowledged", func(t *testing.T) {
		c, a, b, away := diverged(t, nil)
		c.cfg[a].Machine = newFake(nil) // the database is lost
		edit(t, c.cfg[a].Dir, func(s *logStore) {
			if err := s.bolt.SetUint64(keyMarker, 5); err != nil { // there was one
				t.Fatal(err)
			}
		})
		c.start(t, a)
		c.start(t, b)
		c.nobody(t, time.Minute)
		if c.nodes[a].lifted() {
			t.Error("the floor is gone, although nothing came")
		}
		if st := c.nodes[a].Status(); !st.Refetching {
			t.Errorf("its status does not say so: %+v", st)
		}
		c.start(t, away)
		l := c.record(t, "last")
		c.agree(t, a, l)
		c.agree(t, b, l)
		for i, n := range c.nodes {
			if got := n.machine.jobs(); !slices.Equal(got, append(append([]string{"first"}, payloads(1, 20)...), "last")) {
				t.Errorf("node %d has %s", i, got)
			}
		}
		for !c.nodes[a].lifted() {
			time.Sleep(time.Second)
		}
		// It counts again as any other.
		c.stopNode(t, away)
		c.record(t, "more")
	})

	run("it is not elected itself before it has what it had", func(t *testing.T) {
		// The others know of a as much as b does: only a and c had the entries.
		c, a, b, away := diverged(t, nil)
		c.cfg[a].Machine = newFake(nil)
		edit(t, c.cfg[a].Dir, func(s *logStore) {
			if err := s.bolt.SetUint64(keyMarker, 5); err != nil {
				t.Fatal(err)
			}
			never := binary.BigEndian.AppendUint64(nil, 1<<20)
			if err := s.bolt.Set(keyFloor, append(never, never...)); err != nil {
				t.Fatal(err)
			}
		})
		c.start(t, a)
		c.start(t, b)
		c.start(t, away)
		l := c.record(t, "x")
		for i := range c.nodes {
			c.agree(t, i, l)
		}
		// a has everything in its log; only the floor is in the way.
		err := c.nodes[l].raft.Load().LeadershipTransferToServer(raft.ServerID(c.cfg[a].ID), raft.ServerAddress(c.cfg[a].ID)).Error()
		if err == nil {
			t.Error("the leadership was given to it")
		}
		l = c.leader(t)
		other := 3 - a - l
		c.stopNode(t, l)
		c.stopNode(t, other)
		c.nobody(t, time.Minute)
		c.start(t, l)
		c.nobody(t, time.Minute) // no vote from a, and none for it
		c.start(t, other)
		c.record(t, "y")
	})

	run("killed at every step of giving up its database", func(t *testing.T) {
		steps := []string{"floor", "aside", "log", string(keyInstalled), string(keyMarker), string(keyDiscard)}
		c, a, b, away := diverged(t, nil)
		var want position
		edit(t, c.cfg[a].Dir, func(s *logStore) {
			if err := s.load(); err != nil {
				t.Fatal(err)
			}
			want = s.end()
			if err := s.bolt.SetUint64(keyMarker, 5); err != nil {
				t.Fatal(err)
			}
		})
		disk := &fakeDisk{}
		disk.state.Applied, disk.state.Term = 2, 1 // an old one was put in place
		disk.state.Jobs = []string{"wrong"}
		killed := errors.New("killed")
		for _, at := range steps {
			cfg := c.cfg[a]
			cfg.Machine, cfg.Log = newFake(disk), testLog(t)
			cfg.fault = func(step string) error {
				if step == at {
					return killed
				}
				return nil
			}
			n, err := New(cfg)
			if err != nil {
				t.Fatalf("before %q: %v", at, err)
			}
			if err := n.Run(t.Context()); !errors.Is(err, killed) && at != string(keyDiscard) {
				t.Fatalf("at %q: %v", at, err)
			}
			edit(t, c.cfg[a].Dir, func(s *logStore) {
				if floor, err := s.floor(); err != nil || floor != want {
					t.Errorf("after %q the floor is %v, %v; want %v", at, floor, err, want)
				}
			})
			if at == string(keyMarker) {
				break // what follows is an ordinary start
			}
		}
		c.cfg[a].Machine = newFake(disk)
		c.start(t, a)
		c.start(t, b)
		c.nobody(t, 10*time.Second)
		c.start(t, away)
		l := c.record(t, "last")
		c.agree(t, a, l)
		if got := c.nodes[a].machine.jobs(); len(got) != 22 || slices.Contains(got, "wrong") {
			t.Errorf("it has %s", got)
		}
	})

	run("damage that shows while it runs is mended at the next start", func(t *testing.T) {
		c := newTrio(t, nil)
		l := c.record(t, "1")
		a := (l + 1) % 3
		c.agree(t, a, l)
		m := c.nodes[a].machine
		m.mu.Lock()
		m.fail = job.Errorf(job.Unavailable, "database_damaged", "a page is wrong")
		m.mu.Unlock()
		c.record(t, "2")
		<-c.nodes[a].over
		if err := c.nodes[a].stop(); err == nil {
			t.Error("it says nothing")
		}
		c.nodes[a] = nil
		disk := &fakeDisk{}
		disk.state = m.disk.state.clone() // as far as it can be read
		c.cfg[a].Machine = newFake(disk)
		c.start(t, a)
		c.agree(t, a, c.record(t, "3"))
	})

	run("a node that has lost its log is refused", func(t *testing.T) {
		c, a, _, _ := diverged(t, nil)
		for _, m := range []Machine{c.cfg[a].Machine, newFake(nil)} {
			cfg := c.cfg[a]
			cfg.Dir, cfg.Machine, cfg.Member = t.TempDir(), m, true
			n, err := New(cfg)
			if err == nil {
				n.Close()
				t.Fatal("it started")
			}
			if !strings.Contains(err.Error(), "log") || !strings.Contains(err.Error(), "new id") {
				t.Errorf("it says %q", err)
			}
		}
	})
}

func TestContradicts(t *testing.T) {
	entries := func(term uint64, indexes ...uint64) (logs []*raft.Log) {
		for _, i := range indexes {
			logs = append(logs, &raft.Log{Index: i, Term: term})
		}
		return logs
	}
	m := position{term: 3, index: 10}
	for i, tt := range []struct {
		req  raft.AppendEntriesRequest
		want bool
	}{
		{raft.AppendEntriesRequest{}, false}, // a heartbeat
		{raft.AppendEntriesRequest{PrevLogEntry: 10, PrevLogTerm: 3, Entries: entries(4, 11)}, false},
		{raft.AppendEntriesRequest{PrevLogEntry: 10, PrevLogTerm: 4}, true},
		{raft.AppendEntriesRequest{PrevLogEntry: 8, PrevLogTerm: 3, Entries: entries(3, 9, 10, 11)}, false},
		{raft.AppendEntriesRequest{PrevLogEntry: 8, PrevLogTerm: 3, Entries: entries(4, 9, 10, 11)}, true},
		{raft.AppendEntriesRequest{PrevLogEntry: 7, PrevLogTerm: 3, Entries: entries(4, 8, 9)}, false},
		{raft.AppendEntriesRequest{PrevLogEntry: 11, PrevLogTerm: 4, Entries: entries(4, 12)}, false},
	} {
		t.Run(fmt.Sprint(i), func(t *testing.T) {
			if got := contradicts(&tt.req, m); got != tt.want {
				t.Errorf("it says %v", got)
			}
			if contradicts(&tt.req, position{}) {
				t.Error("nothing is contradicted")
			}
		})
	}
}
