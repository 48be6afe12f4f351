package fsm

import (
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/orrery-io/orrery/job"
)

// queueTable holds all queues, with their counters. Apply is the only one who
// changes it; anybody may read.
type queueTable struct {
	mu     sync.RWMutex // guards the map, not what it points to
	byName map[string]*queueRow
	last   *queueRow // most commands are for the same queue as the one before

	dirty []*queueRow
	gen   uint64
}

type queueRow struct {
	name   string
	info   atomic.Pointer[job.Queue]
	counts [10]atomic.Int64
	gen    uint64 // of the flush that writes it
}

func newQueueTable() *queueTable {
	return &queueTable{byName: make(map[string]*queueRow), gen: 1}
}

// of returns a queue for a change, and makes it when it is new. Only apply calls
// it.
func (t *queueTable) of(name string) *queueRow {
	q := t.last
	if q == nil || q.name != name {
		if q = t.byName[name]; q == nil {
			q = t.add(QueueInfo{Queue: job.Queue{Name: name}})
		}
		t.last = q
	}
	if q.gen != t.gen {
		q.gen = t.gen
		t.dirty = append(t.dirty, q)
	}
	return q
}

// paused reports whether a queue is. Only apply calls it.
func (t *queueTable) paused(name string) bool {
	q := t.byName[name]
	return q != nil && q.info.Load().Paused
}

func (t *queueTable) add(x QueueInfo) *queueRow {
	q := &queueRow{name: x.Name}
	q.info.Store(&x.Queue)
	for i, n := range x.Counts {
		q.counts[i].Store(n)
	}
	t.mu.Lock()
	t.byName[x.Name] = q
	t.mu.Unlock()
	return q
}

func (q *queueRow) row() QueueInfo {
	x := QueueInfo{Queue: *q.info.Load()}
	for i := range x.Counts {
		x.Counts[i] = q.counts[i].Load()
	}
	return x
}

// swap takes what is dirty for a flush. The caller excludes apply.
func (t *queueTable) swap(into []QueueInfo) []QueueInfo {
	for _, q := range t.dirty {
		into = append(into, q.row())
	}
	clear(t.dirty)
	t.dirty = t.dirty[:0]
	t.gen++
	return into
}

func (t *queueTable) get(name string) (QueueInfo, bool) {
	t.mu.RLock()
	q := t.byName[name]
	t.mu.RUnlock()
	if q == nil {
		return QueueInfo{}, false
	}
	return q.row(), true
}

// all returns every queue, sorted by name.
func (t *queueTable) all() []QueueInfo {
	t.mu.RLock()
	list := make([]QueueInfo, 0, len(t.byName))
	for _, q := range t.byName {
		list = append(list, q.row())
	}
	t.mu.RUnlock()
	slices.SortFunc(list, func(a, b QueueInfo) int { return strings.Compare(a.Name, b.Name) })
	return list
}

// Queues returns every queue with its counters, sorted by name.
func (m *Machine) Queues() []QueueInfo {
	m.gate.RLock()
	defer m.gate.RUnlock()
	return m.state.queues.all()
}

// Queue returns one queue, or job.ErrQueueNotFound.
func (m *Machine) Queue(name string) (QueueInfo, error) {
	m.gate.RLock()
	defer m.gate.RUnlock()
	q, ok := m.state.queues.get(name)
	if !ok {
		return QueueInfo{}, job.ErrQueueNotFound
	}
	return q, nil
}
