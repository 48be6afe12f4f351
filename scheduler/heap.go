package scheduler

// agentHeap has the agents with credit, the least loaded first.
type agentHeap []*agent

// fix puts a into its place, whether or not it was in the heap.
func (h *agentHeap) fix(a *agent) {
	if a.place == 0 {
		*h = append(*h, a)
		a.place = len(*h)
		h.up(a.place - 1)
		return
	}
	h.up(a.place - 1)
	h.down(a.place - 1)
}

func (h *agentHeap) remove(a *agent) {
	if a.place == 0 {
		return
	}
	s := *h
	i, last := a.place-1, len(s)-1
	a.place = 0
	moved := s[last]
	s[last] = nil
	*h = s[:last]
	if i < last {
		s[i] = moved
		moved.place = i + 1
		h.fix(moved)
	}
}

func (h agentHeap) up(i int) {
	a := h[i]
	for i > 0 {
		parent := (i - 1) / 2
		if !a.less(h[parent]) {
			break
		}
		h[i] = h[parent]
		h[i].place = i + 1
		i = parent
	}
	h[i] = a
	a.place = i + 1
}

func (h agentHeap) down(i int) {
	a := h[i]
	for {
		child := 2*i + 1
		if child >= len(h) {
			break
		}
		if r := child + 1; r < len(h) && h[r].less(h[child]) {
			child = r
		}
		if !h[child].less(a) {
			break
		}
		h[i] = h[child]
		h[i].place = i + 1
		i = child
	}
	h[i] = a
	a.place = i + 1
}

// groupHeap has the groups with work, the one whose head comes first in front.
// Places are exact when a head has become earlier (offer) and lag when it has
// become later: class.best puts that right for the group in front.
type groupHeap []*member

// offer puts m into the heap, or forward in it when its head has become earlier.
func (h *groupHeap) offer(m *member, first entry) {
	if m.place == 0 {
		m.first = first
		*h = append(*h, m)
		m.place = len(*h)
		h.up(m.place - 1)
		return
	}
	if first.before(m.first) {
		m.first = first
		h.up(m.place - 1)
	}
}

func (h *groupHeap) remove(m *member) {
	if m.place == 0 {
		return
	}
	s := *h
	i, last := m.place-1, len(s)-1
	m.place = 0
	moved := s[last]
	s[last] = nil
	*h = s[:last]
	if i < last {
		s[i] = moved
		moved.place = i + 1
		h.up(i)
		h.down(moved.place - 1)
	}
}

func (h groupHeap) up(i int) {
	m := h[i]
	for i > 0 {
		parent := (i - 1) / 2
		if !m.first.before(h[parent].first) {
			break
		}
		h[i] = h[parent]
		h[i].place = i + 1
		i = parent
	}
	h[i] = m
	m.place = i + 1
}

func (h groupHeap) down(i int) {
	m := h[i]
	for {
		child := 2*i + 1
		if child >= len(h) {
			break
		}
		if r := child + 1; r < len(h) && h[r].first.before(h[child].first) {
			child = r
		}
		if !h[child].first.before(m.first) {
			break
		}
		h[i] = h[child]
		h[i].place = i + 1
		i = child
	}
	h[i] = m
	m.place = i + 1
}
