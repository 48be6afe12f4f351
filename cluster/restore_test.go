package cluster

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"

	"github.com/orrery-io/orrery/command"
	"github.com/orrery-io/orrery/job"
)

// backedUp records jobs in a cluster, backs it up, and records more. It returns the
// ids of both.
func backedUp(t *testing.T, c *crew) (path string, before, after []job.ID) {
	t.Helper()
	for i := range 30 {
		before = append(before, c.record(t, 0, fmt.Sprint(i)))
	}
	l := c.node(c.leader(t))
	if _, err := l.Propose(t.Context(), command.Item{Command: &command.Dispatch{Job: before[0], Assign: command.Assign{Agent: "a", Session: "s", Node: "n1"}}}); err != nil {
		t.Fatal(err)
	}
	path = filepath.Join(t.TempDir(), "backup.db")
	if size, err := c.node(0).Backup(t.Context(), path); err != nil || size == 0 {
		t.Fatal(size, err)
	}
	for i := range 10 {
		after = append(after, c.record(t, 0, fmt.Sprint(100+i)))
	}
	return path, before, after
}

// restored checks what every node that runs has after a restore.
func (c *crew) restored(t *testing.T, before, after []job.ID) {
	t.Helper()
	c.equal(t)
	for i := range c.nodes {
		n := c.node(i)
		if n == nil {
			continue
		}
		for k, id := range before {
			j, err := n.machine.Job(t.Context(), id)
			if err != nil || string(j.Payload) != fmt.Sprint(k) {
				t.Fatalf("node %d, job %d: %+v, %v", i, id, j, err)
			}
		}
		for _, id := range after {
			if _, err := n.machine.Job(t.Context(), id); !errors.Is(err, job.ErrJobNotFound) {
				t.Fatalf("node %d still has job %d: %v", i, id, err)
			}
		}
	}
}

func TestRestore(t *testing.T) {
	run := func(name string, test func(t *testing.T)) {
		t.Run(name, func(t *testing.T) { synctest.Test(t, test) })
	}
	for _, through := range []string{"leader", "follower"} {
		run("into the running cluster through the "+through, func(t *testing.T) {
			c := newCrew(t, 3, 1, short)
			path, before, after := backedUp(t, c)
			l := c.leader(t)
			away := (l + 1) % 3
			if through == "follower" {
				c.stop(t, away) // one that is away all the time
			}
			at := c.node(l)
			if through == "follower" {
				at = c.node((l + 2) % 3)
			}
			id := c.node(l).Status().ClusterID
			for len(c.node(l).leads) > 0 {
				<-c.node(l).leads
			}
			if err := at.Restore(t.Context(), path); err != nil {
				t.Fatal(err)
			}
			c.node(l).awaitLead(t) // the term began anew
			next := c.record(t, l, "1000")
			if last := after[len(after)-1]; next <= last {
				t.Errorf("job %d got the id of another: %d", last, next)
			}
			if c.node(away) == nil {
				c.start(t, away)
			}
			c.restored(t, before, after)
			if got := at.Status().ClusterID; got != id {
				t.Errorf("the id is %q, was %q", got, id)
			}
			c.admit(t, 3) // it gets the database
			c.restored(t, before, after)
			// They also start again.
			for i := range c.nodes {
				c.stop(t, i)
			}
			for i := range c.nodes {
				c.start(t, i)
			}
			c.record(t, 0, "1001")
			c.restored(t, before, after)
			for i := range c.nodes {
				if st := c.node(i).Status(); st.LogFirst > st.Snapshot+1 {
					t.Errorf("node %d: %+v", i, st)
				}
			}
		})
	}

	run("twice, one right after the other", func(t *testing.T) {
		c := newCrew(t, 3, 0, short)
		path, before, after := backedUp(t, c)
		for i := range 2 {
			l := c.leader(t)
			// The others get a copy of what is restored now, not of before.
			ctx, cancel := context.WithTimeout(t.Context(), c.node(l).cfg.PinGrace/2)
			if err := c.node(l).Restore(ctx, path); err != nil {
				t.Fatalf("%d: %v", i, err)
			}
			cancel()
			after = append(after, c.record(t, l, fmt.Sprint(2000+i)))
		}
		c.equal(t)
		if _, err := c.node(0).machine.Job(t.Context(), after[len(after)-2]); !errors.Is(err, job.ErrJobNotFound) {
			t.Errorf("a job from before the second restore: %v", err)
		}
		c.restored(t, before, after[:len(after)-1])
	})

	run("into a new, empty cluster", func(t *testing.T) {
		old := newCrew(t, 1, 0, nil)
		path, before, _ := backedUp(t, old)
		c := newCrew(t, 3, 1, short)
		l := c.leader(t)
		if err := c.node(l).Restore(t.Context(), path); err != nil {
			t.Fatal(err)
		}
		if c.node(l).Status().ClusterID == old.node(0).Status().ClusterID {
			t.Error("two clusters have the same id")
		}
		c.restored(t, before, nil)
		j, err := c.node(l).machine.Job(t.Context(), before[0])
		if err != nil {
			t.Fatal(err)
		}
		// The next fence of a job is higher than its last one.
		fence := j.Fence
		if _, err := c.node(l).Propose(t.Context(),
			command.Item{Command: &command.Finish{Job: j.ID, Fence: fence, Outcome: job.OutcomeLost, Next: job.Pending}},
			command.Item{Command: &command.Dispatch{Job: j.ID, Assign: command.Assign{Agent: "b", Session: "s", Node: "n1"}}}); err != nil {
			t.Fatal(err)
		}
		if j, err = c.node(l).machine.Job(t.Context(), j.ID); err != nil || j.Fence <= fence {
			t.Errorf("the fence was %d and is %d, %v", fence, j.Fence, err)
		}
		c.admit(t, 3)
		c.restored(t, before, nil)
	})

	run("on a node alone", func(t *testing.T) {
		dir := t.TempDir()
		w := launch(t, dir, nil)
		c := &crew{nodes: []*whole{w}}
		w.awaitLead(t)
		path, before, after := backedUp(t, c)
		if err := w.Restore(t.Context(), path); err != nil {
			t.Fatal(err)
		}
		w.awaitLead(t)
		c.record(t, 0, "x")
		c.restored(t, before, after)
		if err := w.stop(); err != nil {
			t.Fatal(err)
		}
		w = launch(t, dir, nil)
		c.nodes[0] = w
		w.awaitLead(t)
		c.restored(t, before, after)
		if got := w.machine.entries.Load(); got != 1 { // that of equal
			t.Errorf("%d entries were replayed", got-1)
		}
	})

	run("what is no backup changes nothing", func(t *testing.T) {
		c := newCrew(t, 3, 0, nil)
		path, before, after := backedUp(t, c)
		content, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		bad := filepath.Join(t.TempDir(), "bad")
		for _, b := range [][]byte{nil, []byte("hello hello hello hello"), content[:len(content)/2]} {
			if err := os.WriteFile(bad, b, 0o600); err != nil {
				t.Fatal(err)
			}
			for i := range c.nodes {
				if err := c.node(i).Restore(t.Context(), bad); job.KindOf(err) != job.Invalid {
					t.Errorf("node %d: %v", i, err)
				}
			}
		}
		for _, id := range append(before, after...) {
			if _, err := c.node(0).machine.Job(t.Context(), id); err != nil {
				t.Error(err)
			}
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if err := c.node(0).Restore(ctx, path); err == nil {
			t.Error("restored although it was cancelled")
		}
		c.equal(t)
	})

	run("a backup that reached no other node is given up", func(t *testing.T) {
		var c *crew
		c = newCrew(t, 3, 0, func(i int, cfg *Config) {
			cfg.fault = func(step string) error {
				if step == "restore" {
					c.cut(i, true) // it doesn't know yet
				}
				return nil
			}
		})
		path, before, after := backedUp(t, c)
		l := c.leader(t)
		if err := c.node(l).Restore(t.Context(), path); !errors.Is(err, job.ErrOutcomeUnknown) {
			t.Fatalf("it says %v", err)
		}
		if _, err := c.node(l).machine.Job(t.Context(), after[0]); err == nil {
			t.Fatal("nothing was restored")
		}
		next := c.leader(t, l)
		more := c.record(t, next, "more")
		c.cut(l, false)
		old := c.node(l)
		old.fails = true
		<-old.ended
		if err := old.stop(); err == nil {
			t.Error("it says nothing")
		}
		c.start(t, l)
		c.equal(t)
		for _, id := range append(append(before, after...), more) {
			if _, err := c.node(l).machine.Job(t.Context(), id); err != nil {
				t.Errorf("job %d: %v", id, err)
			}
		}
		for !c.node(l).lifted() {
			time.Sleep(time.Second)
		}
	})
}
