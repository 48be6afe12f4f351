package cluster

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/orrery-io/orrery/command"
	"github.com/orrery-io/orrery/fsm"
	"github.com/orrery-io/orrery/job"
)

// TestSwappedDatabase puts another database in the place of that of a node which was
// killed, with its write-ahead log still beside it and without. A node of several is
// right afterwards; one that is alone refuses to start.
func TestSwappedDatabase(t *testing.T) {
	for _, nodes := range []int{1, 3} {
		for _, swap := range []string{"an older copy of itself", "a copy of another node", "a backup"} {
			for _, log := range []string{"beside the old log", "without a log"} {
				if nodes == 1 && swap == "a copy of another node" {
					continue
				}
				t.Run(fmt.Sprintf("%d nodes/%s/%s", nodes, swap, log), func(t *testing.T) {
					synctest.Test(t, func(t *testing.T) { testSwapped(t, nodes, swap, log == "beside the old log") })
				})
			}
		}
	}
}

func testSwapped(t *testing.T, nodes int, swap string, log bool) {
	c := newCrew(t, nodes, 0, nil)
	var ids []job.ID
	for i := range 60 {
		ids = append(ids, c.record(t, 0, fmt.Sprint(i)))
	}
	l := c.leader(t)
	i := (l + nodes - 1) % nodes // a follower, if there is one
	file := func(dir string) string { return filepath.Join(dir, "db", "gen-1", "state.db") }
	c.stop(t, i)
	older, err := os.ReadFile(file(c.dirs[i]))
	check(t, err)
	c.start(t, i)
	for _, id := range ids[:30] { // what is there changes in place
		_, err := c.node(i).Propose(t.Context(), command.Item{Command: &command.Cancel{Job: id}})
		check(t, err)
	}
	c.stop(t, i) // the write-ahead log begins anew
	c.start(t, i)
	ids = append(ids, c.record(t, i, "60"))
	check(t, c.node(i).machine.Flush(t.Context()))
	backup := filepath.Join(t.TempDir(), "backup.db")
	_, err = c.node(i).Backup(t.Context(), backup)
	check(t, err)
	dir := image(t, c.dirs[i])
	c.stop(t, i)
	c.dirs[i] = dir
	if info, err := os.Stat(file(dir) + "-wal"); err != nil || info.Size() == 0 {
		t.Fatalf("there is no log beside it: %v", err)
	}
	switch swap {
	case "an older copy of itself":
		check(t, os.WriteFile(file(dir), older, 0o600))
	case "a copy of another node":
		other := (i + 1) % nodes
		c.stop(t, other)
		b, err := os.ReadFile(file(c.dirs[other]))
		check(t, err)
		check(t, os.WriteFile(file(dir), b, 0o600))
		c.start(t, other)
	case "a backup":
		b, err := os.ReadFile(backup)
		check(t, err)
		check(t, os.WriteFile(file(dir), b, 0o600))
	}
	if !log {
		check(t, os.Remove(file(dir)+"-wal"))
	}
	if nodes == 1 {
		if err := refusal(t, dir); err == nil || !strings.Contains(err.Error(), "put ") {
			t.Errorf("it says %v", err)
		}
		return
	}
	c.start(t, i)
	ids = append(ids, c.record(t, i, "61"))
	c.equal(t)
	for k, id := range ids {
		j, err := c.node(i).machine.Job(t.Context(), id)
		check(t, err)
		if (j.State == job.Cancelled) != (k < 30) {
			t.Fatalf("job %d is %s", id, j.State)
		}
	}
}

// refusal is what a node alone says to the folder when it starts.
func refusal(t *testing.T, dir string) error {
	t.Helper()
	m, err := OpenMachine(t.Context(), fsm.Config{Dir: filepath.Join(dir, "db")}, filepath.Join(dir, "raft"), "n1", true)
	if err != nil {
		return err
	}
	defer m.Close()
	n, err := New(Config{ID: "n1", Dir: filepath.Join(dir, "raft"), Machine: m})
	if err == nil {
		n.Close()
	}
	return err
}
