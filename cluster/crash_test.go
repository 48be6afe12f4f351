package cluster

import (
	"database/sql"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/orrery-io/orrery/fsm"
	"github.com/orrery-io/orrery/job"
)

// image copies a node's folder as it is at this moment: what is left when the process
// is killed now.
func image(t *testing.T, dir string) string {
	t.Helper()
	to := t.TempDir()
	if err := os.CopyFS(to, os.DirFS(dir)); err != nil {
		t.Error(err)
	}
	return to
}

// installSteps are the places in which a node may be killed while it takes over a
// database that it has received: before anything, with the install announced, with
// the new database in place but the old log, and with everything but the old log
// gone.
var installSteps = []string{"received", "announced", "swapped", "noted"}

func TestKilledInstall(t *testing.T) {
	for _, step := range installSteps {
		t.Run(step, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var armed atomic.Int32 // the node that is killed, counted from 1
				var left atomic.Pointer[string]
				killed := errors.New("killed")
				var c *crew
				c = newCrew(t, 3, 0, func(i int, cfg *Config) {
					short(i, cfg)
					cfg.fault = func(at string) error {
						if at != step || int(armed.Load()) != i+1 {
							return nil
						}
						armed.Store(0)
						dir := image(t, c.dirs[i])
						left.Store(&dir)
						return killed
					}
				})
				var ids []job.ID
				add := func(through, n int) {
					for range n {
						ids = append(ids, c.record(t, through, fmt.Sprint(len(ids))))
					}
				}
				add(0, 20)
				l := c.leader(t)
				away := (l + 1) % 3
				c.stop(t, away)
				add(l, 100)
				c.cutLog(t)
				add(l, 5)
				armed.Store(int32(away + 1)) //nolint:gosec // small
				c.start(t, away)
				n := c.node(away)
				n.fails = true
				<-n.ended
				if err := n.stop(); !errors.Is(err, killed) {
					t.Fatalf("it ended with %v", err)
				}
				c.dirs[away] = *left.Load()
				add(l, 5)
				c.start(t, away)
				c.equal(t)
				for _, id := range ids {
					if _, err := c.node(away).machine.Job(t.Context(), id); err != nil {
						t.Fatalf("job %d: %v", id, err)
					}
				}
				c.stop(t, away)
				c.start(t, away)
				if n := c.node(away).machine.entries.Load(); n > 10 {
					t.Errorf("%d entries were replayed", n)
				}
				c.equal(t)
			})
		})
	}
}

// TestKilledRestore kills the leader while it takes over a backup, before the others
// have heard of it.
func TestKilledRestore(t *testing.T) {
	for _, step := range append([]string{"restore"}, installSteps...) {
		t.Run(step, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var left atomic.Pointer[string]
				var c *crew
				c = newCrew(t, 3, 0, func(i int, cfg *Config) {
					short(i, cfg)
					cfg.fault = func(at string) error {
						if at == step && left.Load() == nil {
							c.cut(i, true)
							dir := image(t, c.dirs[i])
							left.Store(&dir)
						}
						return nil
					}
				})
				path, before, after := backedUp(t, c)
				l := c.leader(t)
				if err := c.node(l).Restore(t.Context(), path); !errors.Is(err, job.ErrOutcomeUnknown) {
					t.Fatalf("it says %v", err)
				}
				c.stop(t, l)
				c.dirs[l] = *left.Load()
				more := c.record(t, c.leader(t), "more") // the others go on without the backup
				c.start(t, l)
				// It may be told at once that it is wrong. Then it ends, and is right at
				// the next start.
				n := c.node(l)
				n.fails = true
				select {
				case <-n.ended:
					c.mu.Lock()
					c.nodes[l] = nil
					c.mu.Unlock()
					if err := n.stop(); err == nil {
						t.Error("it says nothing")
					}
					c.start(t, l)
				case <-time.After(time.Minute):
				}
				c.equal(t)
				for _, id := range append(append(before, after...), more) {
					if _, err := c.node(l).machine.Job(t.Context(), id); err != nil {
						t.Fatalf("job %d: %v", id, err)
					}
				}
			})
		})
	}
}

// TestLostDatabase spoils the database of one node of three in every way.
func TestLostDatabase(t *testing.T) {
	for _, tt := range []struct {
		name  string
		spoil func(t *testing.T, db string)
	}{
		{"removed", func(t *testing.T, db string) { check(t, os.RemoveAll(db)) }},
		{"the file removed", func(t *testing.T, db string) { check(t, os.Remove(filepath.Join(db, "gen-1", "state.db"))) }},
		{"overwritten", func(t *testing.T, db string) {
			check(t, os.WriteFile(filepath.Join(db, "gen-1", "state.db"), make([]byte, 100_000), 0o600))
		}},
		{"cut", func(t *testing.T, db string) { check(t, os.Truncate(filepath.Join(db, "gen-1", "state.db"), 9000)) }},
		{"empty", func(t *testing.T, db string) { check(t, os.Truncate(filepath.Join(db, "gen-1", "state.db"), 0)) }},
		{"CURRENT removed", func(t *testing.T, db string) { check(t, os.Remove(filepath.Join(db, "CURRENT"))) }},
		{"CURRENT overwritten", func(t *testing.T, db string) {
			check(t, os.WriteFile(filepath.Join(db, "CURRENT"), []byte("x"), 0o600))
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := newCrew(t, 3, 0, short)
				var ids []job.ID
				for i := range 50 {
					ids = append(ids, c.record(t, 0, fmt.Sprint(i)))
				}
				c.cutLog(t)
				l := c.leader(t)
				lost := (l + 1) % 3
				c.stop(t, lost)
				tt.spoil(t, filepath.Join(c.dirs[lost], "db"))
				ids = append(ids, c.record(t, l, "50"))
				c.start(t, lost)
				c.equal(t)
				for _, id := range ids {
					if _, err := c.node(lost).machine.Job(t.Context(), id); err != nil {
						t.Fatalf("job %d: %v", id, err)
					}
				}
				for !c.node(lost).lifted() {
					time.Sleep(time.Second)
				}
				c.stop(t, lost)
				c.start(t, lost)
				c.equal(t)
			})
		})
	}

	t.Run("a bit of a row turned, noticed by a reader", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			c := newCrew(t, 3, 0, short)
			id := c.record(t, 0, "1")
			c.cutLog(t)
			l := c.leader(t)
			lost := (l + 1) % 3
			c.stop(t, lost)
			turnBit(t, filepath.Join(c.dirs[lost], "db", "gen-1", "state.db"))
			c.start(t, lost)
			n := c.node(lost)
			_, err := n.machine.Job(t.Context(), id)
			if !fsm.Lost(err) {
				t.Fatalf("reading says %v", err)
			}
			n.fails = true
			n.Damaged(err)
			n.Damaged(err) // another reader
			if err := n.stop(); !fsm.Lost(err) {
				t.Errorf("the node ends with %v", err)
			}
			c.start(t, lost)
			c.equal(t)
			if _, err := c.node(lost).machine.Job(t.Context(), id); err != nil {
				t.Error(err)
			}
		})
	})

	t.Run("a node alone refuses, and keeps what is there", func(t *testing.T) {
		dir := t.TempDir()
		w := launch(t, dir, nil)
		w.awaitLead(t)
		if _, err := w.Propose(t.Context(), realSubmit("1")); err != nil {
			t.Fatal(err)
		}
		check(t, w.stop())
		file := filepath.Join(dir, "db", "gen-1", "state.db")
		check(t, os.WriteFile(file, make([]byte, 100_000), 0o600))
		for _, alone := range []bool{true, false} {
			m, err := OpenMachine(t.Context(), fsm.Config{Dir: filepath.Join(dir, "db")}, filepath.Join(dir, "raft"), "n1", alone)
			if err == nil {
				check(t, m.Close())
				t.Fatal("it was opened")
			}
			if !fsm.Lost(err) {
				t.Errorf("it says %v", err)
			}
			if _, err := os.Stat(file); err != nil {
				t.Error(err)
			}
		}
	})
}

// turnBit changes one bit of the first job in a database that nobody has open.
func turnBit(t *testing.T, file string) {
	t.Helper()
	db, err := sql.Open("sqlite", file)
	check(t, err)
	defer db.Close()
	var doc []byte
	check(t, db.QueryRowContext(t.Context(), "SELECT doc FROM jobs WHERE id = 1").Scan(&doc))
	doc[len(doc)/2] ^= 4
	_, err = db.ExecContext(t.Context(), "UPDATE jobs SET doc = ? WHERE id = 1", doc)
	check(t, err)
}

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
