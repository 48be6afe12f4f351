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
