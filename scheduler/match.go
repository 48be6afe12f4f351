package scheduler

import (
	"slices"
	"strings"

	"github.com/orrery-io/orrery/job"
)

// groupKey is what decides which agents may have a job.
type groupKey struct{ queue, typ string }

// group is the waiting jobs that demand the same: a queue and a type.
type group struct {
	key    groupKey
	win    window
	paused bool
	// members has one entry for every class that serves the group.
	members []*member

	// filling is set while a refill reads the database; late has what became
	// ready behind the window meanwhile, which the read may have missed.
	filling bool
	late    []entry

	// unseen counts the entries being proposed that hold submissions of this
	// group without an agent; barred is the log index up to which the feed must
	// have come before Prepare assigns anything again, so that it never overtakes
	// a submission that the window has yet to hear of.
	unseen   int
	barred   uint64
	passedBy *preparation // the newest of those entries
}

// member is a group in the eyes of a class: it has a place in the class's heap
// while the group has work and is not paused.
type member struct {
	class *class
	group *group
	// first is the group's head as it was when the place was computed; the real
	// head may be later.
	first entry
	// place is the index in the heap plus one; 0 means not in it.
	place int
}

// class is all agents that serve the same queues and types. There are few classes
// even when there are many agents.
type class struct {
	signature string
	queues    map[string]struct{}
	types     map[string]struct{}
	// size counts the connected agents; free has those with credit.
	size int
	free agentHeap
	work groupHeap
	// hot means that the class is in the term's list of those to be matched.
	hot bool
}

func (c *class) serves(k groupKey) bool {
	if _, ok := c.queues[k.queue]; !ok {
		return false
	}
	_, ok := c.types[k.typ]
	return ok
}

// signatureOf is equal for agents that serve the same. Names hold no spaces.
func signatureOf(a *job.Agent) string {
	queues := slices.Clone(a.Queues)
	slices.Sort(queues)
	types := make([]string, 0, len(a.Capabilities))
	for _, c := range a.Capabilities {
		types = append(types, c.Type)
	}
	slices.Sort(types)
	return strings.Join(slices.Compact(queues), " ") + "\n" + strings.Join(slices.Compact(types), " ")
}

// classOf returns the class of an agent, a new one if it is the first of its kind.
func (t *term) classOf(a *job.Agent) *class {
	sig := signatureOf(a)
	if c := t.classes[sig]; c != nil {
		return c
	}
	c := &class{signature: sig, queues: make(map[string]struct{}), types: make(map[string]struct{})}
	for _, q := range a.Queues {
		c.queues[q] = struct{}{}
	}
	for _, x := range a.Capabilities {
		c.types[x.Type] = struct{}{}
	}
	t.classes[sig] = c
	for q := range c.queues {
		for typ := range c.types {
			if g := t.groups[groupKey{q, typ}]; g != nil {
				t.link(g, c)
			}
		}
	}
	return c
}

// join counts one more agent in the class.
func (t *term) join(c *class) {
	if c.size++; c.size == 1 {
		for q := range c.queues {
			for typ := range c.types {
				if g := t.groups[groupKey{q, typ}]; g != nil {
					t.feedGroup(g)
				}
			}
		}
	}
}

// leave counts one agent less, and forgets the class with its last one.
func (t *term) leave(c *class) {
	if c.size--; c.size > 0 {
		return
	}
	delete(t.classes, c.signature)
	for q := range c.queues {
		for typ := range c.types {
			if g := t.groups[groupKey{q, typ}]; g != nil {
				g.members = slices.DeleteFunc(g.members, func(m *member) bool { return m.class == c })
				g.rest()
				t.tidy(g)
			}
		}
	}
}

// groupOf returns the group of a key, a new and complete one if there is none: all
// groups that have waiting jobs in the database are known from the start.
func (t *term) groupOf(k groupKey) *group {
	if g := t.groups[k]; g != nil {
		return g
	}
	g := &group{key: k, win: window{complete: true}}
	t.adopt(g)
	return g
}

func (t *term) adopt(g *group) {
	t.groups[g.key] = g
	q := t.queueOf(g.key.queue)
	g.paused = q.paused
	q.groups[g] = struct{}{}
	for _, c := range t.classes {
		if c.serves(g.key) {
			t.link(g, c)
		}
	}
}

func (t *term) link(g *group, c *class) {
	g.members = append(g.members, &member{class: c, group: g})
	t.feedGroup(g)
}

// tidy forgets a group that has nothing waiting and nobody to serve it, so that
// jobs with ever new types do not fill the memory.
func (t *term) tidy(g *group) {
	if g.win.len() > 0 || !g.win.complete || len(g.members) > 0 || g.filling || g.unseen > 0 {
		return
	}
	delete(t.groups, g.key)
	delete(t.queues[g.key.queue].groups, g)
	if q := t.queues[g.key.queue]; len(q.groups) == 0 && !q.paused {
		delete(t.queues, g.key.queue)
	}
}

// served reports whether a connected agent serves the group.
func (g *group) served() bool { return len(g.members) > 0 }

// rest gives up a large window that nobody can take anything from. So memory is
// bounded by the groups that are served, however many others there are.
func (g *group) rest() {
	if !g.served() && g.win.len() > windowIdle {
		g.win.clear()
	}
}

// queue is what the scheduler knows of one queue.
type queue struct {
	paused bool
	groups map[*group]struct{}
}

func (t *term) queueOf(name string) *queue {
	q := t.queues[name]
	if q == nil {
		q = &queue{groups: make(map[*group]struct{})}
		t.queues[name] = q
	}
	return q
}

// setPaused stops or resumes the groups of a queue.
func (t *term) setPaused(name string, paused bool) {
	q := t.queueOf(name)
	q.paused = paused
	for g := range q.groups {
		g.paused = paused
		if paused {
			for _, m := range g.members {
				m.class.work.remove(m)
			}
			continue
		}
		t.feedGroup(g)
	}
}

// feedGroup shows the group's work to its classes, and asks for more of it when
// the window runs low. It is called whenever a job is added, an agent comes, or
// the group becomes free to run.
func (t *term) feedGroup(g *group) {
	if g.paused || len(g.members) == 0 {
		return
	}
	if g.win.hungry() {
		t.refill(g)
	}
	first, ok := g.win.head()
	if !ok {
		return
	}
	for _, m := range g.members {
		m.class.work.offer(m, first)
		t.wake(m.class)
	}
}

// wake has the dispatch loop look at a class that has both work and credit.
func (t *term) wake(c *class) {
	if c.hot || len(c.work) == 0 || len(c.free) == 0 {
		return
	}
	c.hot = true
	t.hot = append(t.hot, c)
	kick(t.dispatchKick)
}

// best returns the group whose head comes first of all that the class has.
func (c *class) best() *group {
	for len(c.work) > 0 {
		m := c.work[0]
		first, ok := m.group.win.head()
		switch {
		case !ok || m.group.paused:
			c.work.remove(m)
		case first != m.first:
			m.first = first
			c.work.down(0)
		default:
			return m.group
		}
	}
	return nil
}

// decision gives a job to an agent. The agent's credit is reserved.
type decision struct {
	entry entry
	group *group
	agent *agent
}

// match makes at most limit decisions.
func (t *term) match(decisions []decision, limit int, now job.Time) []decision {
	for len(t.hot) > 0 && len(decisions) < limit {
		c := t.hot[len(t.hot)-1]
		g := c.best()
		if g == nil || len(c.free) == 0 {
			c.hot = false
			t.hot = t.hot[:len(t.hot)-1]
			continue
		}
		e, _ := g.win.pop()
		if g.win.hungry() {
			t.refill(g)
		}
		if e.expires != 0 && e.expires <= now {
			continue // the expiry loop ends it
		}
		a := t.choose(g, e.id)
		if a == nil {
			t.park(g, e)
			continue
		}
		t.reserve(a)
		decisions = append(decisions, decision{e, g, a})
	}
	return decisions
}

// choose returns the least loaded agent with credit for a job of g, nil when
// every one of them has rejected the job a moment ago.
func (t *term) choose(g *group, id job.ID) *agent {
	if len(t.avoided) > 0 {
		if av := t.avoided[id]; av != nil {
			return t.chooseOther(g, av)
		}
	}
	var best *agent
	for _, m := range g.members {
		if free := m.class.free; len(free) > 0 && (best == nil || free[0].less(best)) {
			best = free[0]
		}
	}
	return best
}

func (t *term) chooseOther(g *group, av *avoidance) *agent {
	now := t.now()
	var best *agent
	for _, m := range g.members {
		for _, a := range m.class.free {
			if av.until[a.id] <= now && (best == nil || a.less(best)) {
				best = a
			}
		}
	}
	return best
}

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
