package fsm

import (
	"context"
	"math"
	"slices"
	"sort"
	"sync"

	"github.com/orrery-io/orrery/job"
)

// The bounds of the ring. Rows can be large, so it is bounded by bytes too.
const (
	ringEvents = 16_384
	ringBytes  = 32 << 20
	// nextEvents is how many events Next gives at most, but for one whole entry.
	nextEvents = 4096
)

// endOf is after all events of an entry.
func endOf(index uint64) job.EventID { return job.EventID{Index: index, N: math.MaxUint32} }

// ring holds the newest batches of the feed. It has every batch after base;
// older ones are in SQLite. What is not flushed yet is never dropped.
type ring struct {
	mu      sync.RWMutex
	batches []*batch // oldest first, from head on
	head    int
	base    uint64
	last    job.EventID
	events  int
	bytes   int
	arrival signal
}

// add appends a batch and drops old ones that SQLite has.
func (r *ring) add(x *batch, flushed uint64) {
	r.mu.Lock()
	r.batches = append(r.batches, x)
	r.events += len(x.events)
	r.bytes += x.bytes
	r.last = x.events[len(x.events)-1].ID
	for r.head < len(r.batches)-1 && (r.events > ringEvents || r.bytes > ringBytes) && r.batches[r.head].index <= flushed {
		old := r.batches[r.head]
		r.batches[r.head] = nil
		r.head++
		r.events -= len(old.events)
		r.bytes -= old.bytes
		r.base = old.index
	}
	if r.head > 1024 && r.head > len(r.batches)/2 {
		n := copy(r.batches, r.batches[r.head:])
		clear(r.batches[n:])
		r.batches, r.head = r.batches[:n], 0
	}
	r.mu.Unlock()
	r.arrival.broadcast()
}

// reset empties the ring: everything up to base is in SQLite.
func (r *ring) reset(base uint64) {
	r.mu.Lock()
	r.batches, r.head, r.events, r.bytes = nil, 0, 0, 0
	r.base, r.last = base, endOf(base)
	r.mu.Unlock()
	r.arrival.broadcast()
}

// after returns events that follow the cursor, whole entries but perhaps the
// first, up to nextEvents. ok is false when the ring no longer reaches back to the
// cursor; base is where it begins.
func (r *ring) after(cursor job.EventID) (events []job.Event, base uint64, ok bool) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	if cursor.Index < r.base || cursor.Index == r.base && cursor.N < math.MaxUint32 && r.base > 0 {
		return nil, r.base, false
	}
	live := r.batches[r.head:]
	i := sort.Search(len(live), func(i int) bool { return live[i].index >= cursor.Index })
	if i < len(live) && len(following(live[i], cursor)) == 0 {
		i++ // the cursor is at its end
	}
	if i == len(live) {
		return nil, r.base, true
	}
	events = following(live[i], cursor)
	if i == len(live)-1 || len(events) >= nextEvents {
		return events, r.base, true // shared with other subscriptions, and never changed
	}
	events = slices.Clone(events)
	for i++; i < len(live) && len(events) < nextEvents; i++ {
		events = append(events, live[i].events...)
	}
	return events, r.base, true
}

// at returns the batch of an entry, nil when the ring does not have it.
func (r *ring) at(index uint64) *batch {
	r.mu.RLock()
	defer r.mu.RUnlock()
	live := r.batches[r.head:]
	i := sort.Search(len(live), func(i int) bool { return live[i].index >= index })
	if i == len(live) || live[i].index != index {
		return nil
	}
	return live[i]
}

// following are the events of a batch after the cursor.
func following(x *batch, cursor job.EventID) []job.Event {
	switch {
	case x.index > cursor.Index:
		return x.events
	case x.index < cursor.Index || uint64(cursor.N)+1 >= uint64(len(x.events)):
		return nil
	default:
		return x.events[cursor.N+1:]
	}
}

// Subscription reads the feed from a place on. It costs nothing between calls:
// it is a cursor over the ring, and over SQLite when it is slower than the ring.
// One goroutine uses it.
type Subscription struct {
	m      *Machine
	cursor job.EventID
}

// Subscribe returns a subscription to all events after the given one. The zero
// EventID asks for everything since the beginning of the cluster; FirstEvent for
// everything that is kept; LastEvent for what happens from now on.
func (m *Machine) Subscribe(after job.EventID) *Subscription {
	return &Subscription{m: m, cursor: after}
}

// Cursor is the id after which Next goes on.
func (s *Subscription) Cursor() job.EventID { return s.cursor }

// Next blocks until there is an event and returns at least one: in order, without
// gap or repeat, those of one log entry never divided between two calls (but when
// the subscription began inside one). The slice may be shared and must not be
// changed.
//
// It returns a *job.Error with code "events_trimmed" when events after the cursor
// are no longer kept, ctx's error when that ends first, and that of the machine
// when it has come to its end.
func (s *Subscription) Next(ctx context.Context) ([]job.Event, error) {
	for {
		if err := ctx.Err(); err != nil {
			return nil, context.Cause(ctx)
		}
		arrival := s.m.ring.arrival.wait()
		if trimmed := s.m.trimmed.Load(); trimmed > 0 && s.cursor.Less(endOf(trimmed)) {
			return nil, errTrimmed(s.cursor, trimmed)
		}
		events, base, ok := s.m.ring.after(s.cursor)
		if !ok {
			var err error
			if events, err = s.m.storedEvents(ctx, s.cursor, base); err != nil {
				return nil, err
			}
			if len(events) == 0 {
				s.cursor = endOf(base) // nothing happened in between
				continue
			}
		}
		if len(events) > 0 {
			s.cursor = events[len(events)-1].ID
			return events, nil
		}
		if err := s.m.failed(); err != nil {
			return nil, err
		}
		select {
		case <-ctx.Done():
		case <-arrival:
		}
	}
}

func errTrimmed(after job.EventID, trimmed uint64) error {
	return job.Errorf(job.NotFound, "events_trimmed", "the events after %s are no longer kept", after).
		WithHint("begin again after event %d", trimmed)
}

// FirstEvent is the place before the oldest event that is kept.
func (m *Machine) FirstEvent() job.EventID {
	if t := m.trimmed.Load(); t > 0 {
		return endOf(t)
	}
	return job.EventID{}
}

// LastEvent is the newest event, or after a start the place behind everything
// that was there. Whoever subscribes to it gets what happens from now on.
func (m *Machine) LastEvent() job.EventID {
	m.ring.mu.RLock()
	defer m.ring.mu.RUnlock()
	return m.ring.last
}

// signal wakes everybody who waits. The zero signal is ready.
type signal struct {
	mu sync.Mutex
	ch chan struct{}
}

// wait returns a channel that the next broadcast closes.
func (s *signal) wait() <-chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ch == nil {
		s.ch = make(chan struct{})
	}
	return s.ch
}

func (s *signal) broadcast() {
	s.mu.Lock()
	if s.ch != nil {
		close(s.ch)
		s.ch = nil
	}
	s.mu.Unlock()
}
