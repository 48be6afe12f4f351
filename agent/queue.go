package agent

import (
	"slices"

	"github.com/orrery-io/orrery/job"
)

// queue is the agent's own queue: dispatches in the order in which they came. The
// zero value is empty.
type queue struct {
	items []*attempt
	// head is where the first one is; what is before it was taken.
	head int
}

func (q *queue) empty() bool { return q.head == len(q.items) }

func (q *queue) push(at *attempt) { q.items = append(q.items, at) }

func (q *queue) pushFront(at *attempt) {
	if q.head > 0 {
		q.head--
		q.items[q.head] = at
		return
	}
	q.items = slices.Insert(q.items, 0, at)
}

// take removes the first attempt that may begin; nil when there is none.
func (q *queue) take(may func(*attempt) bool) *attempt {
	for i := q.head; i < len(q.items); i++ {
		if at := q.items[i]; may(at) {
			q.cut(i)
			return at
		}
	}
	return nil
}

func (q *queue) has(at *attempt) bool { return slices.Contains(q.items[q.head:], at) }

// remove takes one out, if it is there.
func (q *queue) remove(at *attempt) {
	if i := slices.Index(q.items[q.head:], at); i >= 0 {
		q.cut(q.head + i)
	}
}

func (q *queue) cut(i int) {
	if i != q.head {
		q.items = slices.Delete(q.items, i, i+1)
		return
	}
	q.items[i] = nil
	q.head++
	switch {
	case q.head == len(q.items):
		q.items, q.head = q.items[:0], 0
	case q.head >= 1024 && q.head > len(q.items)/2:
		n := copy(q.items, q.items[q.head:])
		clear(q.items[n:])
		q.items, q.head = q.items[:n], 0
	}
}

// recent remembers the attempts that were forgotten last, so that a dispatch that
// comes twice doesn't run twice. The zero value is empty.
type recent struct {
	set  map[attemptKey]struct{}
	ring []attemptKey
	next int
}

type attemptKey struct {
	id    job.ID
	fence job.Fence
}

// maxRecent is how many are remembered.
const maxRecent = 4096

func (r *recent) has(id job.ID, fence job.Fence) bool {
	_, ok := r.set[attemptKey{id, fence}]
	return ok
}

func (r *recent) add(id job.ID, fence job.Fence) {
	k := attemptKey{id, fence}
	if _, ok := r.set[k]; ok {
		return
	}
	if r.set == nil {
		r.set = make(map[attemptKey]struct{})
	}
	if len(r.ring) < maxRecent {
		r.ring = append(r.ring, k)
	} else {
		delete(r.set, r.ring[r.next])
		r.ring[r.next] = k
		r.next = (r.next + 1) % maxRecent
	}
	r.set[k] = struct{}{}
}
