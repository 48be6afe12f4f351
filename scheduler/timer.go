package scheduler

import "time"

// timer is one moment at which something must be looked at again. It is embedded
// in what it belongs to, so that setting it costs no allocation. The zero timer is
// not set.
type timer struct {
	at time.Duration
	// place is the index in the heap plus one; 0 means not set.
	place int
	owner expirer
}

// expirer is what a timer belongs to.
type expirer interface {
	expire(t *term, now time.Duration, fx *effects)
}

// timers is a heap of timers, the earliest first.
type timers struct {
	heap []*timer
}

// set moves tm to at, whether or not it was set before.
func (h *timers) set(tm *timer, at time.Duration) {
	if tm.place == 0 {
		tm.at = at
		h.heap = append(h.heap, tm)
		tm.place = len(h.heap)
		h.up(len(h.heap) - 1)
		return
	}
	if tm.at == at {
		return
	}
	earlier := at < tm.at
	tm.at = at
	if earlier {
		h.up(tm.place - 1)
	} else {
		h.down(tm.place - 1)
	}
}

// stop takes tm out; it does nothing when tm is not set.
func (h *timers) stop(tm *timer) {
	if tm.place == 0 {
		return
	}
	i, last := tm.place-1, len(h.heap)-1
	tm.place = 0
	if i != last {
		h.heap[i] = h.heap[last]
		h.heap[i].place = i + 1
	}
	h.heap[last] = nil
	h.heap = h.heap[:last]
	if i < last {
		h.down(i)
		h.up(i)
	}
}

// next returns the earliest moment.
func (h *timers) next() (time.Duration, bool) {
	if len(h.heap) == 0 {
		return 0, false
	}
	return h.heap[0].at, true
}

// due takes out and returns the earliest timer that is not later than now, nil
// when there is none.
func (h *timers) due(now time.Duration) *timer {
	if len(h.heap) == 0 || h.heap[0].at > now {
		return nil
	}
	tm := h.heap[0]
	h.stop(tm)
	return tm
}

func (h *timers) up(i int) {
	tm := h.heap[i]
	for i > 0 {
		parent := (i - 1) / 2
		if h.heap[parent].at <= tm.at {
			break
		}
		h.heap[i] = h.heap[parent]
		h.heap[i].place = i + 1
		i = parent
	}
	h.heap[i] = tm
	tm.place = i + 1
}

func (h *timers) down(i int) {
	tm := h.heap[i]
	for {
		child := 2*i + 1
		if child >= len(h.heap) {
			break
		}
		if r := child + 1; r < len(h.heap) && h.heap[r].at < h.heap[child].at {
			child = r
		}
		if h.heap[child].at >= tm.at {
			break
		}
		h.heap[i] = h.heap[child]
		h.heap[i].place = i + 1
		i = child
	}
	h.heap[i] = tm
	tm.place = i + 1
}
