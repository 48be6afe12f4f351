package fsm

import (
	"context"
	"math"
	"sync"
	"sync/atomic"
)

const shards = 64

// table is the overlay over one SQLite table: the rows that SQLite does not have
// yet, and a bounded cache of those it has.
//
// One goroutine, that of apply, makes versions (put, remove). Any number of
// goroutines read. Every row carries the generation of the flush that writes its
// newest version; a row is clean, and may be evicted, once that generation is
// complete and no reader is under way that began before.
type table[K comparable, V any] struct {
	hash   func(K) uint32
	weight func(*V) int
	// cold tells rows that nobody is likely to ask for again: they leave memory with
	// the flush that writes them. Nil means none.
	cold func(*V) bool
	load func(context.Context, K) (*V, error) // nil, nil when SQLite has no such row

	limit  int // of rows per shard; 0 keeps everything
	shards [shards]shard[K, V]

	// Of the apply goroutine, and of swap, which excludes it.
	dirty []*slot[K, V]
	gen   uint64 // of the next flush
	bytes int    // of what is dirty, roughly

	complete atomic.Uint64 // newest generation that SQLite has
	pins     pins
	hits     atomic.Int64
	misses   atomic.Int64
}

type shard[K comparable, V any] struct {
	mu   sync.Mutex
	rows map[K]*slot[K, V]
	ring []*slot[K, V] // all of rows, for eviction
	hand int
}

// slot holds the newest version of a row; a nil row is a deleted one.
type slot[K comparable, V any] struct {
	key  K
	row  *V
	gen  uint64
	at   int // in the shard's ring
	used bool
}

// change is a row to be written, nil to be deleted.
type change[K comparable, V any] struct {
	key K
	row *V
}

func newTable[K comparable, V any](hash func(K) uint32, weight func(*V) int, limit int, load func(context.Context, K) (*V, error)) *table[K, V] {
	t := &table[K, V]{hash: hash, weight: weight, load: load, gen: 1}
	if limit > 0 {
		t.limit = max(1, limit/shards)
	}
	for i := range t.shards {
		t.shards[i].rows = make(map[K]*slot[K, V])
	}
	return t
}

// get returns the newest version of a row, nil when there is none. It is safe
// for concurrent use.
func (t *table[K, V]) get(ctx context.Context, key K) (*V, error) {
	if row, ok := t.peek(key); ok {
		return row, nil
	}
	if t.load == nil {
		return nil, nil
	}
	pin := t.pins.add(t.complete.Load())
	defer t.pins.drop(pin)
	row, err := t.load(ctx, key)
	if err != nil || row == nil {
		return nil, err
	}
	return t.fill(key, row), nil
}

// peek returns the version in memory, if any.
func (t *table[K, V]) peek(key K) (*V, bool) {
	s := &t.shards[t.hash(key)%shards]
	s.mu.Lock()
	e := s.rows[key]
	if e == nil {
		s.mu.Unlock()
		t.misses.Add(1)
		return nil, false
	}
	if !e.used {
		e.used = true
	}
	row := e.row
	s.mu.Unlock()
	return row, true
}

// fill puts a row that was read from SQLite into the cache, unless memory has a
// version already, and returns the newest. The caller must have held a pin since
// before it began to read.
func (t *table[K, V]) fill(key K, row *V) *V {
	s := &t.shards[t.hash(key)%shards]
	s.mu.Lock()
	defer s.mu.Unlock()
	if e := s.rows[key]; e != nil {
		return e.row
	}
	s.add(&slot[K, V]{key: key, row: row})
	if t.limit > 0 && len(s.ring) > t.limit+t.limit/8 {
		t.evict(s)
	}
	return row
}

// put makes row the newest version. Only apply calls it.
func (t *table[K, V]) put(key K, row *V) {
	s := &t.shards[t.hash(key)%shards]
	s.mu.Lock()
	e := s.rows[key]
	if e == nil {
		e = &slot[K, V]{key: key}
		s.add(e)
	}
	old, fresh := e.row, e.gen != t.gen
	e.row, e.gen = row, t.gen
	s.mu.Unlock()
	if fresh {
		t.dirty = append(t.dirty, e)
	} else if old != nil {
		t.bytes -= t.weight(old)
	}
	if row != nil {
		t.bytes += t.weight(row)
	}
}

// remove deletes a row. Only apply calls it.
func (t *table[K, V]) remove(key K) { t.put(key, nil) }

func (s *shard[K, V]) add(e *slot[K, V]) {
	s.rows[e.key] = e
	e.at = len(s.ring)
	s.ring = append(s.ring, e)
}

func (s *shard[K, V]) drop(e *slot[K, V]) {
	end := len(s.ring) - 1
	last := s.ring[end]
	s.ring[e.at], last.at = last, e.at
	s.ring[end] = nil
	s.ring = s.ring[:end]
	delete(s.rows, e.key)
}

// swap takes what is dirty for a flush and begins the next generation. The caller
// excludes apply.
func (t *table[K, V]) swap(into []change[K, V]) []change[K, V] {
	for _, e := range t.dirty {
		into = append(into, change[K, V]{e.key, e.row})
	}
	clear(t.dirty)
	t.dirty = t.dirty[:0]
	t.bytes = 0
	t.gen++
	return into
}

// flushed tells that SQLite has the changes of a swap, the newest one, and evicts
// what is cold or over the bound.
func (t *table[K, V]) flushed(gen uint64, changes []change[K, V]) {
	t.complete.Store(gen)
	safe := t.safe()
	for _, c := range changes {
		if c.row == nil || t.cold != nil && t.cold(c.row) {
			t.release(c.key, safe)
		}
	}
	if t.limit == 0 {
		return
	}
	for i := range t.shards {
		s := &t.shards[i]
		s.mu.Lock()
		if len(s.ring) > t.limit {
			t.evict(s)
		}
		s.mu.Unlock()
	}
}

// release removes a row from memory, unless it has changed again.
func (t *table[K, V]) release(key K, safe uint64) {
	s := &t.shards[t.hash(key)%shards]
	s.mu.Lock()
	if e := s.rows[key]; e != nil && e.gen <= safe {
		s.drop(e)
	}
	s.mu.Unlock()
}

// safe is the newest generation of which rows may be evicted: SQLite has them, and
// so does every reader under way.
func (t *table[K, V]) safe() uint64 { return min(t.complete.Load(), t.pins.oldest()) }

// evict removes clean rows until the shard is within its bound, those first that
// were not used since the hand last came by.
func (t *table[K, V]) evict(s *shard[K, V]) {
	safe := t.safe()
	for tries := 2 * len(s.ring); len(s.ring) > t.limit && tries > 0; tries-- {
		if s.hand >= len(s.ring) {
			s.hand = 0
		}
		e := s.ring[s.hand]
		switch {
		case e.gen > safe:
			s.hand++
		case e.used:
			e.used = false
			s.hand++
		default:
			s.drop(e)
		}
	}
}

// each calls f for every row in memory, in no order.
func (t *table[K, V]) each(f func(K, *V)) {
	for i := range t.shards {
		s := &t.shards[i]
		s.mu.Lock()
		for _, e := range s.ring {
			if e.row != nil {
				f(e.key, e.row)
			}
		}
		s.mu.Unlock()
	}
}

// pins are the readers under way, each with the generation that was complete when
// it began. What a reader may see an old version of must stay in the overlay
// until it is done, else it would put that old version into the cache.
type pins struct {
	mu     sync.Mutex
	active map[*pin]struct{}
}

type pin struct{ gen uint64 }

func (p *pins) add(gen uint64) *pin {
	x := &pin{gen}
	p.mu.Lock()
	if p.active == nil {
		p.active = make(map[*pin]struct{})
	}
	p.active[x] = struct{}{}
	p.mu.Unlock()
	return x
}

func (p *pins) drop(x *pin) {
	p.mu.Lock()
	delete(p.active, x)
	p.mu.Unlock()
}

func (p *pins) oldest() uint64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	least := uint64(math.MaxUint64)
	for x := range p.active {
		least = min(least, x.gen)
	}
	return least
}
