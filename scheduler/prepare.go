package scheduler

import (
	"github.com/orrery-io/orrery/command"
	"github.com/orrery-io/orrery/job"
)

// nothing is what Prepare returns when it has not changed anything.
func nothing([]command.Result, error) {}

// preparation is what Prepare did to one entry.
type preparation struct {
	t        *term
	assigned []assigned
	// passed are the groups of which a submission was not assigned.
	passed []*group
}

type assigned struct {
	item  int
	agent *agent
}

// Prepare is called by the proposer for an entry that is about to be encoded. It
// assigns an agent to submissions that are ready at once, when one is free and
// nothing of their group waits ahead of them: then the job is submitted and
// dispatched by the same entry. The function that it returns must be called once
// with the entry's outcome; it gives back what was reserved for assignments that
// were not carried out.
func (s *Scheduler) Prepare(items []command.Item) func([]command.Result, error) {
	t := s.term.Load()
	if t == nil || !t.loaded.Load() {
		return nothing
	}
	var p *preparation
	locked := false
	now := job.Time(0)
	for i := range items {
		sub, ok := items[i].Command.(*command.Submit)
		if !ok {
			continue
		}
		sub.Assign = nil
		if sub.Spec.RunAt != 0 {
			if now == 0 {
				now = t.wall()
			}
			if sub.Spec.RunAt > now {
				continue
			}
		}
		if !locked {
			locked = true
			t.mu.Lock()
			defer t.mu.Unlock()
			p = &preparation{t: t}
		}
		p.consider(i, sub)
	}
	if p == nil || len(p.assigned) == 0 && len(p.passed) == 0 {
		return nothing
	}
	return p.done
}

// consider assigns an agent to a submission if it may have one now.
func (p *preparation) consider(item int, sub *command.Submit) {
	t := p.t
	g := t.groups[groupKey{sub.Spec.Queue, sub.Spec.Type}]
	if g == nil {
		if g = t.serveable(groupKey{sub.Spec.Queue, sub.Spec.Type}); g == nil {
			return
		}
	}
	if !g.served() {
		return
	}
	if !g.paused && g.unseen == 0 && g.barred <= t.seen && !g.win.ahead(sub.Spec.Priority) {
		if a := t.choose(g, 0); a != nil {
			t.reserve(a)
			assign := a.assign()
			sub.Assign = &assign
			p.assigned = append(p.assigned, assigned{item, a})
			return
		}
	}
	if g.passedBy != p {
		g.passedBy = p
		g.unseen++
		p.passed = append(p.passed, g)
	}
}

// serveable returns a new group for the key if any class serves it.
func (t *term) serveable(k groupKey) *group {
	for _, c := range t.classes {
		if c.serves(k) {
			return t.groupOf(k)
		}
	}
	return nil
}

// done settles the reservations.
func (p *preparation) done(results []command.Result, err error) {
	t := p.t
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, x := range p.assigned {
		if err != nil || x.item >= len(results) || !results[x.item].Dispatched {
			t.release(x.agent)
		}
	}
	for _, g := range p.passed {
		g.unseen--
		if g.passedBy == p {
			g.passedBy = nil
		}
		if err == nil && len(results) > 0 {
			g.barred = max(g.barred, results[0].Index)
		}
		t.tidy(g)
	}
}
