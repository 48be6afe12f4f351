package fsm

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/orrery-io/orrery/command"
	"github.com/orrery-io/orrery/job"
)

// killed is a folder as it is when the process is killed now, with everything flushed.
func (b *bundle) killed() (dir string) {
	b.t.Helper()
	b.flush()
	dir = b.t.TempDir()
	if err := os.CopyFS(dir, os.DirFS(b.cfg.Dir)); err != nil {
		b.t.Fatal(err)
	}
	if info, err := os.Stat(b.path(dir) + "-wal"); err != nil || info.Size() == 0 {
		b.t.Fatalf("no write-ahead log was left: %v", err)
	}
	return dir
}

// path is the database of b in a copy of its folder.
func (b *bundle) path(dir string) string {
	return filepath.Join(dir, b.m.dir.name(), databaseFile)
}

func content(t *testing.T, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// TestSwappedDatabase puts another database beside the write-ahead log of a process
// that was killed.
func TestSwappedDatabase(t *testing.T) {
	b := setup(t, Config{Dir: t.TempDir()})
	for range 60 {
		b.do(submission(nil))
	}
	b.mark(60)
	received := b.copy()
	early := b.killed()
	b.close()
	older := content(t, statePath(b.cfg.Dir))
	// In place, so that the pages look alike.
	b.open()
	for id := job.ID(1); id <= 30; id++ {
		b.do(&command.Cancel{Job: id})
	}
	b.reopen()
	fits := content(t, statePath(b.cfg.Dir))
	b.do(&command.SetQueue{Queue: "q", Paused: true})
	want := b.verify()
	index := b.index
	dir := b.killed()
	log := content(t, statePath(dir)+"-wal")
	copied := content(t, b.copy())
	backup := filepath.Join(t.TempDir(), "backup.db")
	if _, err := b.m.Backup(t.Context(), backup, b.now.Time(), "test"); err != nil {
		t.Fatal(err)
	}
	other := setup(t, Config{})
	if _, err := other.m.Install(t.Context(), received, Marker{}); err != nil {
		t.Fatal(err)
	}
	other.replay(b.log[60:])
	other.close()
	b.close()

	for _, tt := range []struct {
		name      string
		file, log string
		refused   bool
	}{
		{name: "nothing was swapped", file: content(t, statePath(dir)), log: log},
		{name: "the file from when its log began", file: fits, log: log},
		{name: "an older copy of itself", file: older, log: log, refused: true},
		{name: "an older copy without a log", file: older},
		{name: "a copy from another node", file: content(t, filepath.Join(other.cfg.Dir, "gen-2", databaseFile)), log: log, refused: true},
		{name: "a backup", file: content(t, backup), log: log, refused: true},
		{name: "a backup without a log", file: content(t, backup), refused: true},
		{name: "an older log of itself", file: copied, log: content(t, statePath(early)+"-wal")},
		{name: "a log of another database", file: copied, log: logOfAnother(t), refused: true},
		{name: "another file", file: "x", log: log, refused: true},
		{name: "a log that is none", file: copied, log: "garbage, longer than the header of a write-ahead log is"},
		{name: "a log with a damaged first page", file: copied, log: log[:100] + "damaged" + log[107:]},
	} {
		t.Run(tt.name, func(t *testing.T) {
			dir := t.TempDir()
			if err := os.CopyFS(dir, os.DirFS(early)); err != nil { // with an old -shm
				t.Fatal(err)
			}
			write(t, statePath(dir), tt.file)
			write(t, statePath(dir)+"-wal", tt.log)
			if tt.refused {
				_, err := Open(t.Context(), Config{Dir: dir})
				wantCode(t, err, "database_damaged")
				if got := content(t, statePath(dir)); got != tt.file && tt.log != "" {
					t.Error("the file was changed")
				}
				return
			}
			c := setup(t, Config{Dir: dir})
			at, _ := c.m.Applied()
			c.replay(b.log[at:])
			if at, _ := c.m.Applied(); at != index {
				t.Fatalf("applied %d, want %d", at, index)
			}
			if at < index {
				if got := c.hash(index); string(got) != string(want) {
					t.Errorf("it has other rows: %x, want %x", got, want)
				}
			}
			for id := job.ID(1); id <= 60; id++ {
				if cancelled := c.job(id).State == job.Cancelled; cancelled != (id <= 30) {
					t.Fatalf("job %d is %s", id, c.job(id).State)
				}
			}
		})
	}
}

// logOfAnother is the write-ahead log of a database that is not new.
func logOfAnother(t *testing.T) string {
	t.Helper()
	b := setup(t, Config{})
	b.do(submission(nil))
	b.reopen()
	b.do(submission(nil))
	return content(t, statePath(b.killed())+"-wal")
}

// TestGenerationsAreApart looks for the write-ahead log of one generation in the next
// one, also after a kill between the steps of changing over.
func TestGenerationsAreApart(t *testing.T) {
	source := setup(t, Config{})
	for range 20 {
		source.do(submission(nil))
	}
	source.mark(20)
	fresh := func(t *testing.T) (b *bundle, received string) {
		b = setup(t, Config{Dir: t.TempDir()})
		b.replay(source.log[:10])
		return b, source.copy()
	}
	whole := func(t *testing.T, dir string, jobs uint64) {
		t.Helper()
		b := setup(t, Config{Dir: dir})
		if at, _ := b.m.Applied(); at != jobs {
			t.Fatalf("applied %d, want %d", at, jobs)
		}
		b.replay(source.log[jobs:])
		for id := job.ID(1); id <= 20; id++ {
			b.job(id)
		}
	}
	t.Run("an install that was killed before its commit", func(t *testing.T) {
		b, received := fresh(t)
		dir := b.killed()
		if _, err := (generations{folder: dir, number: 1}).adopt(received); err != nil {
			t.Fatal(err)
		}
		write(t, filepath.Join(dir, "gen-2", databaseFile+"-wal"), content(t, statePath(dir)+"-wal"))
		whole(t, dir, 10)
		if _, err := os.Stat(filepath.Join(dir, "gen-2")); err == nil {
			t.Error("the other generation is still there")
		}
	})
	t.Run("an install after one that was killed", func(t *testing.T) {
		b, received := fresh(t)
		log := content(t, statePath(b.killed())+"-wal")
		if err := os.Mkdir(filepath.Join(b.cfg.Dir, "gen-2"), 0o700); err != nil {
			t.Fatal(err)
		}
		write(t, filepath.Join(b.cfg.Dir, "gen-2", databaseFile+"-wal"), log)
		if _, err := b.m.Install(t.Context(), received, Marker{}); err != nil {
			t.Fatal(err)
		}
		whole(t, b.killed(), 20)
	})
	t.Run("an install that was killed after its commit", func(t *testing.T) {
		b, received := fresh(t)
		dir := b.killed()
		next, err := (generations{folder: dir, number: 1}).adopt(received)
		if err != nil {
			t.Fatal(err)
		}
		if err := next.commit(); err != nil {
			t.Fatal(err)
		}
		whole(t, dir, 20)
	})
	t.Run("a received file beside a log", func(t *testing.T) {
		b, received := fresh(t)
		write(t, received+"-wal", logOfAnother(t))
		_, err := b.m.Install(t.Context(), received, Marker{})
		wantCode(t, err, "database_damaged")
	})
	t.Run("set aside with its log", func(t *testing.T) {
		b, _ := fresh(t)
		dir := b.killed()
		aside, err := SetAside(dir)
		if err != nil {
			t.Fatal(err)
		}
		whole(t, dir, 0)
		whole(t, aside, 10) // it is kept whole
	})
	t.Run("reset and killed", func(t *testing.T) {
		b, _ := fresh(t)
		b.flush()
		if _, err := b.m.Reset(t.Context()); err != nil {
			t.Fatal(err)
		}
		b.replay(source.log[:5])
		whole(t, b.killed(), 5)
	})
}
