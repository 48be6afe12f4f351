package fsm

import (
	"database/sql"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/orrery-io/orrery/command"
	"github.com/orrery-io/orrery/job"
)

// someDatabase is a data folder with a job in it.
func someDatabase(t *testing.T) (dir string) {
	t.Helper()
	dir = t.TempDir()
	b := setup(t, Config{Dir: dir})
	b.do(submission(nil))
	b.close()
	return dir
}

// execFile runs SQL on a database that no machine has open.
func execFile(t *testing.T, path, query string) {
	t.Helper()
	db, err := sql.Open("sqlite", path)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	if _, err := db.ExecContext(t.Context(), query); err != nil {
		t.Fatal(err)
	}
}

func statePath(dir string) string { return filepath.Join(dir, "gen-1", databaseFile) }

func TestOpenRefuses(t *testing.T) {
	tests := []struct {
		name   string
		damage func(t *testing.T, dir string)
		code   string
	}{
		{"a file that is no database", func(t *testing.T, dir string) {
			write(t, statePath(dir), strings.Repeat("this is not a database\n", 1000))
		}, "database_damaged"},
		{"a database whose pages are damaged", func(t *testing.T, dir string) {
			b, err := os.ReadFile(statePath(dir))
			if err != nil {
				t.Fatal(err)
			}
			for i := 4096; i < len(b); i++ {
				b[i] ^= 0x5a
			}
			write(t, statePath(dir), string(b))
		}, "database_damaged"},
		{"a database that was cut short", func(t *testing.T, dir string) {
			if err := os.Truncate(statePath(dir), 8192); err != nil {
				t.Fatal(err)
			}
		}, "database_damaged"},
		{"a database of another program", func(t *testing.T, dir string) {
			execFile(t, statePath(dir), "PRAGMA application_id = 7")
		}, "database_foreign"},
		{"rows behind the marker", func(t *testing.T, dir string) {
			execFile(t, statePath(dir), "UPDATE meta SET marker_index = 50")
		}, "database_damaged"},
		{"a newer schema", func(t *testing.T, dir string) {
			execFile(t, statePath(dir), "PRAGMA user_version = 99")
		}, "schema_too_new"},
		{"a database that vanished", func(t *testing.T, dir string) {
			if err := os.Remove(statePath(dir)); err != nil {
				t.Fatal(err)
			}
		}, "database_missing"},
		{"a missing CURRENT", func(t *testing.T, dir string) {
			if err := os.Remove(filepath.Join(dir, currentFile)); err != nil {
				t.Fatal(err)
			}
		}, "current_missing"},
		{"a missing CURRENT of a later generation", func(t *testing.T, dir string) {
			if err := errors.Join(os.Remove(filepath.Join(dir, currentFile)), os.Rename(filepath.Join(dir, "gen-1"), filepath.Join(dir, "gen-4"))); err != nil {
				t.Fatal(err)
			}
		}, "current_missing"},
		{"a CURRENT with something else in it", func(t *testing.T, dir string) {
			write(t, filepath.Join(dir, currentFile), "../../etc")
		}, "current_damaged"},
		{"an empty CURRENT", func(t *testing.T, dir string) {
			write(t, filepath.Join(dir, currentFile), "")
		}, "current_damaged"},
		{"a folder in the place of the database", func(t *testing.T, dir string) {
			if err := errors.Join(os.Remove(statePath(dir)), os.Mkdir(statePath(dir), 0o700)); err != nil {
				t.Fatal(err)
			}
		}, "database_unreadable"},
		{"a file in the place of the folder", func(t *testing.T, dir string) {
			if err := os.RemoveAll(dir); err != nil {
				t.Fatal(err)
			}
			write(t, dir, "")
		}, "data_unreadable"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			dir := someDatabase(t)
			tt.damage(t, dir)
			m, err := Open(t.Context(), Config{Dir: dir})
			if err == nil {
				m.Close()
				t.Fatal("it was opened")
			}
			wantCode(t, err, tt.code)
			if text := err.Error(); !strings.Contains(text, dir) && tt.code != "schema_too_new" || strings.Contains(text, "\n") {
				t.Errorf("not a sentence with the place in it: %q", text)
			}
		})
	}
}

func write(t *testing.T, path, content string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestOpenUnreadable(t *testing.T) {
	if os.Getuid() == 0 {
		t.Skip("root may read everything")
	}
	dir := someDatabase(t)
	if err := os.Chmod(statePath(dir), 0o400); err != nil {
		t.Fatal(err)
	}
	_, err := Open(t.Context(), Config{Dir: dir})
	wantCode(t, err, "database_unreadable")
}

func TestOpenContinuesAnInterruptedFirstStart(t *testing.T) {
	dir := t.TempDir()
	b := setup(t, Config{Dir: dir})
	b.close()
	if err := os.Remove(filepath.Join(dir, currentFile)); err != nil {
		t.Fatal(err)
	}
	b.open()
	if _, err := os.Stat(filepath.Join(dir, currentFile)); err != nil {
		t.Error(err)
	}
}

// TestFullDisk stops the machine in the middle of its work, as a full disk would,
// and looks at what is left.
func TestFullDisk(t *testing.T) {
	dir := t.TempDir()
	m, err := Open(t.Context(), Config{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	b := &bundle{t: t, m: m, now: 1}
	b.do(submission(nil))
	b.flush()
	var pages int
	if err := m.store.conn.QueryRowContext(t.Context(), "PRAGMA page_count").Scan(&pages); err != nil {
		t.Fatal(err)
	}
	if _, err := m.store.conn.ExecContext(t.Context(), fmt.Sprintf("PRAGMA max_page_count = %d", pages+2)); err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- m.Run(t.Context()) }()
	big := submission(func(x *job.Spec) { x.Payload = job.JSON(`"` + strings.Repeat("x", 100_000) + `"`) })
	e := command.Entry{Time: 5, Items: []command.Item{{Command: big}}}
	data, err := e.Append(nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := m.Apply([]Entry{{Index: 2, Term: 1, Data: data}}); err != nil {
		t.Fatal(err)
	}
	err = <-done
	wantCode(t, err, "disk_full")
	if !strings.Contains(err.Error(), "free some space") {
		t.Errorf("no remedy in %q", err)
	}
	if _, again := m.Apply([]Entry{{Index: 3, Term: 1, Data: data}}); !errors.Is(again, err) {
		t.Errorf("apply went on: %v", again)
	}
	if again := m.Flush(t.Context()); !errors.Is(again, err) {
		t.Errorf("flush went on: %v", again)
	}
	if err := m.Close(); err != nil {
		t.Error(err)
	}
	b = setup(t, Config{Dir: dir})
	if index, _ := b.m.Applied(); index != 1 {
		t.Errorf("applied %d after the restart, want 1: what was not written comes again", index)
	}
	if err := quickCheck(t.Context(), b.m.store.conn, dir); err != nil {
		t.Error(err)
	}
}

func TestPathsWithOddCharacters(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "a b?c#d%20'e")
	b := setup(t, Config{Dir: dir})
	id := b.do(submission(nil)).Job
	b.reopen()
	b.job(id)
	if _, err := os.Stat(statePath(dir)); err != nil {
		t.Error(err)
	}
}

func TestApplyRefusesToDiverge(t *testing.T) {
	entry := func(t *testing.T, index, term uint64, c command.Command) Entry {
		e := command.Entry{Time: 1, Version: "v9", Items: []command.Item{{Command: c}}}
		data, err := e.Append(nil)
		if err != nil {
			t.Fatal(err)
		}
		return Entry{Index: index, Term: term, Data: data}
	}
	open := func(t *testing.T) *Machine {
		m, err := Open(t.Context(), Config{Dir: t.TempDir()})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { m.Close() })
		return m
	}
	t.Run("an unknown kind", func(t *testing.T) {
		m := open(t)
		e := entry(t, 1, 1, &command.Verify{})
		e.Data[len(e.Data)-3] = 99 // the kind: before an empty request id and an empty map
		_, err := m.Apply([]Entry{e})
		if unknown, ok := errors.AsType[*command.UnknownKindError](err); !ok || unknown.Kind != 99 || unknown.Version != "v9" {
			t.Errorf("got %v", err)
		}
		if _, again := m.Apply([]Entry{entry(t, 2, 1, &command.Verify{})}); !errors.Is(again, err) {
			t.Errorf("it went on: %v", again)
		}
		if again := m.Run(t.Context()); !errors.Is(again, err) {
			t.Errorf("run: %v", again)
		}
	})
	t.Run("a damaged entry", func(t *testing.T) {
		m := open(t)
		if _, err := m.Apply([]Entry{{Index: 1, Term: 1, Data: []byte{1, 2, 3}}}); err == nil {
			t.Error("it was applied")
		}
	})
	t.Run("a term that goes back", func(t *testing.T) {
		m := open(t)
		if _, err := m.Apply([]Entry{entry(t, 1, 5, submission(nil))}); err != nil {
			t.Fatal(err)
		}
		if _, err := m.Apply([]Entry{entry(t, 2, 4, submission(nil))}); err == nil {
			t.Error("it was applied")
		}
	})
	t.Run("a schema from the future", func(t *testing.T) {
		m := open(t)
		_, err := m.Apply([]Entry{entry(t, 1, 1, &command.Migrate{To: 99})})
		wantCode(t, err, "schema_too_new")
	})
	t.Run("an entry that was applied is passed over", func(t *testing.T) {
		m := open(t)
		e := entry(t, 3, 1, submission(nil))
		for i := range 2 {
			results, err := m.Apply([]Entry{e})
			if err != nil || len(results) != 1 || (len(results[0]) == 0) != (i == 1) {
				t.Errorf("time %d: %v, %v", i, results, err)
			}
		}
		if n := m.Stats().Jobs[job.Pending]; n != 1 {
			t.Errorf("%d jobs", n)
		}
	})
}
