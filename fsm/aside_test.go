package fsm

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/orrery-io/orrery/command"
)

func TestSetAside(t *testing.T) {
	t.Run("a damaged database is kept, and an empty one takes its place", func(t *testing.T) {
		dir := someDatabase(t)
		file := filepath.Join(dir, "gen-1", databaseFile)
		write(t, file, strings.Repeat("damaged ", 1000))
		_, err := Open(t.Context(), Config{Dir: dir})
		if !Lost(err) {
			t.Fatalf("Open says %v", err)
		}
		path, err := SetAside(dir)
		if err != nil {
			t.Fatal(err)
		}
		if b, err := os.ReadFile(filepath.Join(path, "gen-1", databaseFile)); err != nil || !strings.HasPrefix(string(b), "damaged") {
			t.Errorf("it was not kept: %.20q, %v", b, err)
		}
		b := setup(t, Config{Dir: dir})
		if index, _ := b.m.Applied(); index != 0 {
			t.Errorf("applied %d", index)
		}
		b.do(submission(nil))
		b.reopen()
		b.job(1)
	})
	t.Run("nothing is nothing", func(t *testing.T) {
		for _, dir := range []string{t.TempDir(), filepath.Join(t.TempDir(), "none")} {
			if path, err := SetAside(dir); path != "" || err != nil {
				t.Errorf("moved to %q, %v", path, err)
			}
		}
	})
	t.Run("interrupted at every step", func(t *testing.T) {
		for _, moved := range [][]string{{}, {"CURRENT"}, {"CURRENT", "gen-1"}} {
			dir := someDatabase(t)
			if err := os.Mkdir(filepath.Join(dir, "aside-1"), 0o700); err != nil {
				t.Fatal(err)
			}
			for _, name := range moved {
				if err := os.Rename(filepath.Join(dir, name), filepath.Join(dir, "aside-1", name)); err != nil {
					t.Fatal(err)
				}
			}
			if m, err := Open(t.Context(), Config{Dir: dir}); err == nil {
				if index, _ := m.Applied(); index == 0 && len(moved) == 1 {
					t.Error("a database without its CURRENT was taken for an empty one")
				}
				if err := m.Close(); err != nil {
					t.Error(err)
				}
			} else if !Lost(err) {
				t.Errorf("after %q: %v", moved, err)
			}
			if _, err := SetAside(dir); err != nil {
				t.Fatal(err)
			}
			b := setup(t, Config{Dir: dir})
			if index, _ := b.m.Applied(); index != 0 {
				t.Errorf("after %q: applied %d", moved, index)
			}
		}
	})
}

func TestReset(t *testing.T) {
	b := setup(t, Config{})
	b.do(submission(nil))
	b.mark(1)
	aside, err := b.m.Reset(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(aside, "gen-1", databaseFile)); err != nil {
		t.Error(err)
	}
	if _, err := b.m.Job(t.Context(), 1); err == nil {
		t.Error("the job is still there")
	}
	if _, ok := b.m.Marker(); ok {
		t.Error("the marker is still there")
	}
	for range 2 {
		b.index, b.log = 0, nil
		b.replay(nil)
		if index, _ := b.m.Applied(); index != 0 {
			t.Errorf("applied %d", index)
		}
		b.reopen()
	}
	b.do(submission(nil))
	b.flush()
	b.reopen()
	b.job(1)
}

func TestTimeNeverGoesBack(t *testing.T) {
	b := setup(t, Config{})
	first := b.now + 1
	id := b.do(submission(nil)).Job
	b.now -= 1000 // another leader's clock
	again := b.do(submission(nil)).Job
	if got := b.job(again).CreatedAt; got != first || b.m.LastTime() != first {
		t.Errorf("job %d was made at %d, job %d before it at %d", again, got, id, first)
	}
	b.now += 5000
	b.do(&command.SetQueue{Queue: "q"})
	if got := b.m.LastTime(); got != b.now || got <= first {
		t.Errorf("the time is %v", got)
	}
}
