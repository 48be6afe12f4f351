package fsm

import (
	"fmt"
	"strings"
	"testing"

	"github.com/orrery-io/orrery/command"
	"github.com/orrery-io/orrery/job"
)

// later are migrations that a later version could have.
func later() []migration {
	return append(
		migrations(),
		migration{version: NewestSchema + 1, sql: "CREATE TABLE two (id INTEGER PRIMARY KEY); INSERT INTO two VALUES (7);"},
		migration{version: NewestSchema + 2, sql: "ALTER TABLE two ADD COLUMN name TEXT; UPDATE two SET name = 'seven'"},
	)
}

func TestMigrationsAreInOrder(t *testing.T) {
	for i, m := range migrations() {
		if m.version != i+1 {
			t.Errorf("migration %d has version %d", i, m.version)
		}
	}
	if newest(migrations()) != NewestSchema {
		t.Errorf("NewestSchema is %d, the migrations end with %d", NewestSchema, newest(migrations()))
	}
}

func TestMigrate(t *testing.T) {
	version := func(b *bundle) (v int) {
		if err := b.m.store.lists.QueryRowContext(b.t.Context(), "PRAGMA user_version").Scan(&v); err != nil {
			b.t.Fatal(err)
		}
		return v
	}
	t.Run("an empty database begins with version 1", func(t *testing.T) {
		b := setup(t, Config{migrations: later()})
		if b.m.SchemaVersion() != 1 || version(b) != 1 {
			t.Errorf("version %d, stored %d", b.m.SchemaVersion(), version(b))
		}
	})
	t.Run("the command migrates with the rows of its entry, in one transaction", func(t *testing.T) {
		b := setup(t, Config{migrations: later()})
		first := b.do(submission(nil)).Job
		r := b.apply(submission(nil), &command.Migrate{To: NewestSchema + 2}, submission(nil))
		if r[1].Err != nil || b.m.SchemaVersion() != NewestSchema+2 {
			t.Fatalf("%+v, version %d", r, b.m.SchemaVersion())
		}
		for range 2 {
			var name string
			if err := b.m.store.lists.QueryRowContext(t.Context(), "SELECT name FROM two WHERE id = 7").Scan(&name); err != nil || name != "seven" {
				t.Errorf("got %q, %v", name, err)
			}
			if version(b) != NewestSchema+2 || b.m.SchemaVersion() != NewestSchema+2 {
				t.Errorf("version %d, stored %d", b.m.SchemaVersion(), version(b))
			}
			for id := first; id < first+3; id++ {
				b.job(id)
			}
			b.reopen()
		}
		b.do(&command.Migrate{To: NewestSchema + 1}) // backwards: nothing happens
		if b.m.SchemaVersion() != NewestSchema+2 {
			t.Errorf("version %d", b.m.SchemaVersion())
		}
		b.dispatch(first) // the statements still work
		b.reopen()
	})
	t.Run("step by step", func(t *testing.T) {
		b := setup(t, Config{migrations: later()})
		b.do(&command.Migrate{To: NewestSchema + 1})
		b.reopen()
		b.do(&command.Migrate{To: NewestSchema + 2})
		b.reopen()
		if b.m.SchemaVersion() != NewestSchema+2 {
			t.Errorf("version %d", b.m.SchemaVersion())
		}
	})
	t.Run("a program that doesn't know the version refuses the database", func(t *testing.T) {
		b := setup(t, Config{migrations: later()})
		b.do(&command.Migrate{To: NewestSchema + 2})
		b.close()
		_, err := Open(t.Context(), Config{Dir: b.cfg.Dir})
		wantCode(t, err, "schema_too_new")
		if !strings.Contains(err.Error(), fmt.Sprint("version ", NewestSchema+2)) || !strings.Contains(err.Error(), fmt.Sprint("up to ", NewestSchema)) {
			t.Errorf("got %q", err)
		}
	})
	t.Run("a migration that fails leaves the database as it was", func(t *testing.T) {
		list := append(migrations(), migration{version: NewestSchema + 1, sql: "CREATE TABLE two (id INTEGER); CREATE TABLE jobs (id INTEGER)"})
		dir := t.TempDir()
		m, err := Open(t.Context(), Config{Dir: dir, migrations: list})
		if err != nil {
			t.Fatal(err)
		}
		b := &bundle{t: t, m: m, now: 1}
		b.do(submission(nil))
		b.flush()
		e := command.Entry{Time: 5, Items: []command.Item{{Command: submission(nil)}, {Command: &command.Migrate{To: NewestSchema + 1}}}}
		data, err := e.Append(nil)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := m.Apply([]Entry{{Index: 2, Term: 1, Data: data}}); err == nil || !strings.Contains(err.Error(), fmt.Sprint("version ", NewestSchema+1)) {
			t.Errorf("apply: %v", err)
		}
		if err := m.Run(t.Context()); err == nil {
			t.Error("run went on")
		}
		if err := m.Close(); err != nil {
			t.Error(err)
		}
		b = setup(t, Config{Dir: dir, migrations: list})
		if index, _ := b.m.Applied(); index != 1 || version(b) != 1 || b.m.Stats().Jobs[job.Pending] != 1 {
			t.Errorf("applied %d, version %d, %v", index, version(b), b.m.Stats().Jobs)
		}
	})
}
