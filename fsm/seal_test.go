package fsm

import (
	"database/sql"
	"testing"

	"github.com/orrery-io/orrery/command"
	"github.com/orrery-io/orrery/job"
)

// turnBit changes one bit in the middle of the first document of a table.
func turnBit(t *testing.T, path, table string) {
	t.Helper()
	db, err := sql.Open("sqlite", path)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	var doc []byte
	if err := db.QueryRowContext(t.Context(), "SELECT doc FROM "+table+" LIMIT 1").Scan(&doc); err != nil {
		t.Fatal(err)
	}
	was := string(doc)
	doc[len(doc)/2] ^= 4
	if _, err := db.ExecContext(t.Context(), "UPDATE "+table+" SET doc = ? WHERE doc = ?", doc, []byte(was)); err != nil {
		t.Fatal(err)
	}
}

func TestSeal(t *testing.T) {
	t.Run("a bit that was turned in a job is noticed when it is read", func(t *testing.T) {
		dir := someDatabase(t)
		turnBit(t, statePath(dir), "jobs")
		var told []error
		b := setup(t, Config{Dir: dir, OnDamage: func(err error) { told = append(told, err) }})
		if _, err := b.m.Job(t.Context(), 1); !Lost(err) {
			t.Errorf("reading the job says %v", err)
		}
		if _, _, err := b.m.Jobs(t.Context(), JobFilter{}, 0, 10); !Lost(err) {
			t.Errorf("listing jobs says %v", err)
		}
		if len(told) != 2 || !Lost(told[0]) {
			t.Errorf("told of %v", told)
		}
	})
	t.Run("and when the rows of all nodes are compared", func(t *testing.T) {
		dir := someDatabase(t)
		turnBit(t, statePath(dir), "jobs")
		var told []error
		b := setup(t, Config{Dir: dir, OnDamage: func(err error) { told = append(told, err) }})
		b.index, _ = b.m.Applied()
		if _, err := b.m.Hash(t.Context(), b.do(&command.Verify{}).Index); !Lost(err) {
			t.Errorf("the hash says %v", err)
		}
		if len(told) != 1 || !Lost(told[0]) {
			t.Errorf("told of %v", told)
		}
	})
	t.Run("and one in an event", func(t *testing.T) {
		dir := someDatabase(t)
		turnBit(t, statePath(dir), "feed")
		b := setup(t, Config{Dir: dir})
		s := b.m.Subscribe(job.EventID{})
		if _, err := s.Next(t.Context()); !Lost(err) {
			t.Errorf("the feed says %v", err)
		}
	})
	t.Run("one in what is resident is noticed at the start", func(t *testing.T) {
		dir := someDatabase(t)
		turnBit(t, statePath(dir), "queues")
		m, err := Open(t.Context(), Config{Dir: dir})
		if err == nil {
			_ = m.Close()
		}
		if !Lost(err) {
			t.Errorf("opening says %v", err)
		}
	})
}

func FuzzUnseal(f *testing.F) {
	f.Add([]byte("a document"), 3, byte(1))
	f.Fuzz(func(t *testing.T, doc []byte, at int, flip byte) {
		sealed := seal(append([]byte(nil), doc...))
		if got, err := unseal(sealed); err != nil || string(got) != string(doc) {
			t.Fatalf("got %q, %v", got, err)
		}
		if flip == 0 {
			return
		}
		sealed[uint(at)%uint(len(sealed))] ^= flip
		if _, err := unseal(sealed); err == nil {
			t.Fatal("a byte that was changed passes")
		}
		_, _ = unseal(doc) // anything may come, and must not panic
	})
}
