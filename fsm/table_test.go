package fsm

import (
	"context"
	"errors"
	"sync"
	"testing"
)

type rec struct{ v int }

// disk stands in for SQLite below a table.
type disk struct {
	mu    sync.Mutex
	rows  map[int]*rec
	reads int
	gate  func() // called in the middle of a read, after it has seen its version
	err   error
}

func (d *disk) load(_ context.Context, key int) (*rec, error) {
	d.mu.Lock()
	row, err := d.rows[key], d.err
	d.reads++
	gate := d.gate
	d.mu.Unlock()
	if gate != nil {
		gate()
	}
	return row, err
}

func (d *disk) flush(t *table[int, rec]) {
	gen := t.gen
	changes := t.swap(nil)
	d.mu.Lock()
	for _, c := range changes {
		if c.row == nil {
			delete(d.rows, c.key)
		} else {
			d.rows[c.key] = c.row
		}
	}
	d.mu.Unlock()
	t.flushed(gen, changes)
}

func newTestTable(limit int) (*table[int, rec], *disk) {
	d := &disk{rows: make(map[int]*rec)}
	return newTable(func(int) uint32 { return 0 }, func(*rec) int { return 1 }, limit, d.load), d
}

func (t *table[K, V]) mustGet(tb testing.TB, key K) *V {
	tb.Helper()
	row, err := t.get(tb.Context(), key)
	if err != nil {
		tb.Fatal(err)
	}
	return row
}

func TestTable(t *testing.T) {
	t.Run("newest version wins, before, during and after a flush", func(t *testing.T) {
		tab, d := newTestTable(shards)
		tab.put(1, &rec{1})
		tab.put(1, &rec{2})
		if got := tab.mustGet(t, 1); got.v != 2 {
			t.Errorf("got %d", got.v)
		}
		gen := tab.gen
		changes := tab.swap(nil)
		if len(changes) != 1 || changes[0].row.v != 2 {
			t.Errorf("changes %+v", changes)
		}
		tab.put(1, &rec{3})
		if got := tab.mustGet(t, 1); got.v != 3 {
			t.Errorf("during the flush: %d", got.v)
		}
		d.rows[1] = changes[0].row
		tab.flushed(gen, changes)
		for i := 2; i < 100; i++ { // push it out, if it can be
			tab.fill(i, &rec{i})
		}
		if got := tab.mustGet(t, 1); got.v != 3 {
			t.Errorf("a dirty row was evicted: %d", got.v)
		}
		d.flush(tab)
		if got := d.rows[1]; got.v != 3 {
			t.Errorf("disk has %d", got.v)
		}
	})
	t.Run("the cache is bounded and reads through", func(t *testing.T) {
		tab, d := newTestTable(shards * 10) // ten, because all keys fall into one shard
		for i := range 100 {
			tab.put(i, &rec{i})
		}
		d.flush(tab)
		if n := len(tab.shards[0].ring); n != 10 || len(tab.shards[0].rows) != 10 {
			t.Errorf("%d rows in memory", n)
		}
		for i := range 100 {
			if got := tab.mustGet(t, i); got == nil || got.v != i {
				t.Fatalf("row %d is %v", i, got)
			}
		}
		if d.reads < 90 {
			t.Errorf("%d reads", d.reads)
		}
	})
	t.Run("a deleted row stays deleted", func(t *testing.T) {
		tab, d := newTestTable(shards)
		tab.put(1, &rec{1})
		d.flush(tab)
		tab.remove(1)
		if got := tab.mustGet(t, 1); got != nil {
			t.Errorf("got %v", got)
		}
		d.flush(tab)
		if got := tab.mustGet(t, 1); got != nil || len(d.rows) != 0 {
			t.Errorf("got %v, disk %v", got, d.rows)
		}
	})
	t.Run("a cold row leaves memory with its flush", func(t *testing.T) {
		tab, d := newTestTable(shards * 10)
		tab.cold = func(r *rec) bool { return r.v < 0 }
		for i := range 5 {
			tab.put(i, &rec{i - 2})
		}
		gen := tab.gen
		changes := tab.swap(nil)
		tab.put(1, &rec{-5}) // dirty again: stays
		for _, c := range changes {
			d.rows[c.key] = c.row
		}
		tab.flushed(gen, changes)
		if _, ok := tab.peek(0); ok {
			t.Error("a cold row is in memory")
		}
		for i := 1; i < 5; i++ {
			if _, ok := tab.peek(i); !ok {
				t.Errorf("row %d is not in memory", i)
			}
		}
		for i, e := range tab.shards[0].ring {
			if e.at != i {
				t.Errorf("the slot at %d says %d", i, e.at)
			}
		}
		if got := tab.mustGet(t, 0); got.v != -2 {
			t.Errorf("got %+v", got)
		}
	})
	t.Run("a slow reader doesn't bring an old version back", func(t *testing.T) {
		for _, change := range []*rec{{2}, nil} {
			tab, d := newTestTable(1)
			d.rows[1] = &rec{1}
			d.gate = func() { // while the reader holds version 1
				d.gate = nil
				tab.put(1, change)
				d.flush(tab)
				for i := 2; i < 50; i++ {
					tab.put(i, &rec{i})
				}
				d.flush(tab) // would evict row 1, if it might
			}
			got := tab.mustGet(t, 1)
			if got != change {
				t.Errorf("the reader got %v, want %v", got, change)
			}
			if got := tab.mustGet(t, 1); got != change {
				t.Errorf("the next one got %v, want %v", got, change)
			}
			d.flush(tab)
			tab.put(90, &rec{})
			d.flush(tab)
			if n := len(tab.shards[0].ring); n > 2 {
				t.Errorf("%d rows stay in memory after the reader is done", n)
			}
		}
	})
	t.Run("an error is not cached", func(t *testing.T) {
		tab, d := newTestTable(1)
		d.rows[1], d.err = &rec{1}, errors.New("disk on fire")
		if _, err := tab.get(t.Context(), 1); !errors.Is(err, d.err) {
			t.Errorf("got %v", err)
		}
		d.err = nil
		if got := tab.mustGet(t, 1); got == nil {
			t.Error("got nothing")
		}
		if tab.pins.oldest() != 1<<64-1 {
			t.Error("a pin was left")
		}
	})
	t.Run("readers and apply at once", func(t *testing.T) {
		tab, d := newTestTable(shards)
		const keys, rounds = 20, 2000
		stop := make(chan struct{})
		var wg sync.WaitGroup
		for range 3 {
			wg.Go(func() {
				last := make(map[int]int)
				for {
					select {
					case <-stop:
						return
					default:
					}
					for k := range keys {
						row, err := tab.get(t.Context(), k)
						if err != nil || row == nil {
							continue
						}
						if row.v < last[k] {
							t.Errorf("row %d went back from %d to %d", k, last[k], row.v)
							return
						}
						last[k] = row.v
					}
				}
			})
		}
		for i := 1; i <= rounds; i++ {
			tab.put(i%keys, &rec{i})
			if i%7 == 0 {
				d.flush(tab)
			}
		}
		close(stop)
		wg.Wait()
	})
}
