package scheduler

import "github.com/orrery-io/orrery/job"

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
