package cluster

import (
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/orrery-io/orrery/fsm"
	"github.com/orrery-io/orrery/job"
)

// recoverNode recovers what is in dir.
func recoverNode(t *testing.T, dir, id string, fault func(string) error) (Recovery, error) {
	t.Helper()
	m, err := fsm.Open(t.Context(), fsm.Config{Dir: filepath.Join(dir, "db")})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := m.Close(); err != nil {
			t.Error(err)
		}
	}()
	return Recover(t.Context(), Config{ID: id, Dir: filepath.Join(dir, "raft"), Machine: m, fault: fault})
}

func TestRecover(t *testing.T) {
	run := func(name string, test func(t *testing.T)) {
		t.Run(name, func(t *testing.T) { synctest.Test(t, test) })
	}
	for _, step := range []string{"", "apply", "term", "entries"} {
		run("a node goes on alone, and others join it; interrupted "+step, func(t *testing.T) {
			c := newCrew(t, 3, 0, short)
			var ids []job.ID
			for i := range 50 {
				ids = append(ids, c.record(t, 0, fmt.Sprint(i)))
			}
			c.cutLog(t)
			for i := range 5 {
				ids = append(ids, c.record(t, 0, fmt.Sprint(50+i)))
			}
			c.equal(t)
			old := c.node(0).Status().ClusterID
			for i := range c.nodes {
				c.stop(t, i)
			}
			if step != "" {
				killed := errors.New("killed")
				_, err := recoverNode(t, c.dirs[1], "n2", func(at string) error {
					if at == step {
						return killed
					}
					return nil
				})
				if !errors.Is(err, killed) {
					t.Fatal(err)
				}
			}
			rec, err := recoverNode(t, c.dirs[1], "n2", nil)
			if err != nil {
				t.Fatal(err)
			}
			if rec.Former != old || rec.ClusterID == old || rec.ClusterID == "" || rec.Last == 0 || rec.Time == 0 {
				t.Errorf("%+v", rec)
			}
			if step == "" && len(rec.Gone) != 2 {
				t.Errorf("%+v", rec.Gone)
			}
			c.founders = nil
			c.dirs[0], c.dirs[2] = t.TempDir(), t.TempDir()
			c.start(t, 1)
			c.node(1).awaitLead(t)
			if st := c.node(1).Status(); st.ClusterID != rec.ClusterID || len(st.Servers) != 1 {
				t.Errorf("%+v", st)
			}
			if got := c.node(1).machine.entries.Load(); got != 0 {
				t.Errorf("%d entries were replayed", got)
			}
			ids = append(ids, c.record(t, 1, "55"))
			c.admit(t, 0)
			c.admit(t, 2)
			ids = append(ids, c.record(t, 0, "56"))
			c.equal(t)
			for k, id := range ids {
				for i := range c.nodes {
					j, err := c.node(i).machine.Job(t.Context(), id)
					if err != nil || string(j.Payload) != fmt.Sprint(k) {
						t.Fatalf("node %d, job %d: %+v, %v", i, id, j, err)
					}
				}
			}
			// It takes part again as any other.
			c.stop(t, 1)
			c.record(t, 0, "57")
			c.start(t, 1)
			c.equal(t)
		})
	}

	run("a node that has less than it had is refused", func(t *testing.T) {
		c := newCrew(t, 3, 0, short)
		c.record(t, 0, "1")
		c.cutLog(t)
		for i := range c.nodes {
			c.stop(t, i)
		}
		if _, err := fsm.SetAside(filepath.Join(c.dirs[0], "db")); err != nil {
			t.Fatal(err)
		}
		for range 2 {
			if _, err := recoverNode(t, c.dirs[0], "n1", nil); err == nil || !strings.Contains(err.Error(), "use another node of the cluster, or a backup") {
				t.Errorf("it says %v", err)
			}
			c.start(t, 0) // begins to wait for the others
			for c.node(0).raft.Load() == nil {
				synctest.Wait()
			}
			c.stop(t, 0)
		}
		if _, err := recoverNode(t, t.TempDir(), "n9", nil); err == nil {
			t.Error("an empty folder was recovered")
		}
	})

	run("a node of several doesn't start without the way to the others", func(t *testing.T) {
		c := newCrew(t, 3, 0, nil)
		c.record(t, 0, "1")
		c.equal(t)
		c.stop(t, 0)
		m, err := fsm.Open(t.Context(), fsm.Config{Dir: filepath.Join(c.dirs[0], "db")})
		if err != nil {
			t.Fatal(err)
		}
		defer m.Close()
		n, err := New(Config{ID: "n1", Dir: filepath.Join(c.dirs[0], "raft"), Machine: m})
		if err == nil {
			n.Close()
			t.Fatal("it started")
		}
		for _, want := range []string{"n2, n3", "--cluster", "recover"} {
			if !strings.Contains(err.Error(), want) {
				t.Errorf("%q doesn't say %q", err, want)
			}
		}
	})
}
