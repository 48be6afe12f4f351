package fsm

import (
	"context"
	"database/sql/driver"
	"testing"
)

// TestSynchronous checks that the PRAGMA acts when it is asked for. A prepared one
// acted when it was prepared, and a flush that was to be on disk was not.
func TestSynchronous(t *testing.T) {
	s := setup(t, Config{}).m.store
	level := func() (n int64) {
		t.Helper()
		rows, err := s.raw.(driver.QueryerContext).QueryContext(context.WithoutCancel(t.Context()), "PRAGMA synchronous", nil)
		if err != nil {
			t.Fatal(err)
		}
		defer rows.Close()
		row := make([]driver.Value, 1)
		if err := rows.Next(row); err != nil {
			t.Fatal(err)
		}
		n, _ = row[0].(int64)
		return n
	}
	err := s.conn.Raw(func(any) error {
		for range 2 {
			for _, want := range []struct {
				word   string
				number int64
			}{{"FULL", 2}, {"NORMAL", 1}} {
				if err := s.synchronous(want.word); err != nil {
					return err
				}
				if got := level(); got != want.number {
					t.Errorf("synchronous is %d after it was set to %s, want %d", got, want.word, want.number)
				}
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}
