package scheduler

import (
	"slices"

	"github.com/orrery-io/orrery/job"
)

// How many waiting jobs a window holds. It is filled up to windowSize, asks for
// more when it has fallen to windowLow, and is cut back to windowSize when events
// have made it grow to windowMost.
const (
	windowSize = 4096
	windowLow  = windowSize / 2
	windowMost = 2 * windowSize
	// windowIdle is what a window holds at most while no agent serves the group.
	windowIdle = 256
)

// entry is a waiting job, as light as it can be: 32 bytes.
type entry struct {
	id      job.ID
	readyAt job.Time
	// expires is the deadline for the first start; 0 means none.
	expires  job.Time
	priority int8
}

// before is the order of a queue: higher priority first, then longer waiting.
func (e entry) before(o entry) bool {
	if e.priority != o.priority {
		return e.priority > o.priority
	}
	if e.readyAt != o.readyAt {
		return e.readyAt < o.readyAt
	}
	return e.id < o.id
}

func (e entry) compare(o entry) int {
	switch {
	case e.before(o):
		return -1
	case o.before(e):
		return 1
	default:
		return 0
	}
}

// entryOf makes the entry of a waiting job.
func entryOf(j *job.Job) entry {
	e := entry{id: j.ID, readyAt: j.ReadyAt, priority: int8(j.Priority)} //nolint:gosec // 0 to 9
	if j.ExpiresAt != 0 && !j.Begun() {
		e.expires = j.ExpiresAt
	}
	return e
}

// start is before every entry: a window that knows nothing yet.
var start = entry{priority: job.MaxPriority + 1}

// window is the front of one group's waiting jobs. It holds exactly those that are
// not behind through; or all of them, when it is complete. So a job that becomes
// ready behind through is not taken in: it is in the database, and comes with a
// refill. That bounds the memory whatever the backlog.
//
// A window is used under the term's mutex.
type window struct {
	heap []entry
	// live has the ready_at of every job in the window. An entry of the heap that
	// differs was removed, and is passed over when it comes to the top.
	live     map[job.ID]job.Time
	complete bool
	through  entry
}

// len is the number of jobs in the window.
func (w *window) len() int { return len(w.live) }

// covers reports whether e's place is in the part of the group that the window
// holds.
func (w *window) covers(e entry) bool { return w.complete || !w.through.before(e) }

// add takes e in, and reports whether its place is in the window.
func (w *window) add(e entry) bool {
	if !w.covers(e) {
		return false
	}
	w.put(e)
	if len(w.live) > windowMost {
		w.cut()
	}
	return true
}

func (w *window) put(e entry) {
	if at, ok := w.live[e.id]; ok && at == e.readyAt {
		return
	}
	if w.live == nil {
		w.live = make(map[job.ID]job.Time)
	}
	w.live[e.id] = e.readyAt
	w.heap = append(w.heap, e)
	w.up(len(w.heap) - 1)
}

// remove takes a job out, wherever it is.
func (w *window) remove(id job.ID) {
	if len(w.live) == 0 {
		return
	}
	delete(w.live, id)
	if len(w.heap) > 2*len(w.live)+64 {
		w.heap = slices.DeleteFunc(w.heap, func(e entry) bool { return !w.has(e) })
		w.heapify()
	}
}

func (w *window) has(e entry) bool {
	at, ok := w.live[e.id]
	return ok && at == e.readyAt
}

// head returns the job that comes first.
func (w *window) head() (entry, bool) {
	for len(w.heap) > 0 {
		if w.has(w.heap[0]) {
			return w.heap[0], true
		}
		w.dropHead()
	}
	return entry{}, false
}

// pop takes out the job that comes first.
func (w *window) pop() (entry, bool) {
	e, ok := w.head()
	if ok {
		delete(w.live, e.id)
		w.dropHead()
	}
	return e, ok
}

// ahead reports whether a job that came now with this priority would have to wait
// for others of its group.
func (w *window) ahead(priority int) bool {
	if !w.complete && int(w.through.priority) >= priority {
		return true
	}
	e, ok := w.head()
	return ok && int(e.priority) >= priority
}

// hungry reports whether the window should be refilled.
func (w *window) hungry() bool { return !w.complete && len(w.live) <= windowLow }

// fill takes in what the database holds behind through. The window reaches to where
// the read has come then, and is complete when that was all.
func (w *window) fill(rows []entry, reached entry, all bool) {
	for _, e := range rows {
		w.put(e)
	}
	w.complete = all
	if !all {
		w.through = reached
	}
}

// clear leaves everything to the database.
func (w *window) clear() { *w = window{through: start} }

// cut leaves the last part of the window to the database.
func (w *window) cut() {
	w.heap = slices.DeleteFunc(w.heap, func(e entry) bool { return !w.has(e) })
	slices.SortFunc(w.heap, entry.compare)
	w.heap = slices.CompactFunc(w.heap, func(a, b entry) bool { return a.id == b.id })
	for _, e := range w.heap[windowSize:] {
		delete(w.live, e.id)
	}
	w.heap = slices.Clip(w.heap[:windowSize])
	w.through, w.complete = w.heap[windowSize-1], false
}

func (w *window) dropHead() {
	last := len(w.heap) - 1
	w.heap[0] = w.heap[last]
	w.heap = w.heap[:last]
	if last > 0 {
		w.down(0)
	} else if cap(w.heap) > windowLow {
		w.heap, w.live = nil, nil
	}
}

func (w *window) heapify() {
	for i := len(w.heap)/2 - 1; i >= 0; i-- {
		w.down(i)
	}
}

func (w *window) up(i int) {
	e := w.heap[i]
	for i > 0 {
		parent := (i - 1) / 2
		if !e.before(w.heap[parent]) {
			break
		}
		w.heap[i] = w.heap[parent]
		i = parent
	}
	w.heap[i] = e
}

func (w *window) down(i int) {
	e := w.heap[i]
	for {
		child := 2*i + 1
		if child >= len(w.heap) {
			break
		}
		if r := child + 1; r < len(w.heap) && w.heap[r].before(w.heap[child]) {
			child = r
		}
		if !w.heap[child].before(e) {
			break
		}
		w.heap[i] = w.heap[child]
		i = child
	}
	w.heap[i] = e
}
