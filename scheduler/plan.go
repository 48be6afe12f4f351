package scheduler

import (
	"container/heap"
	"sync"
	"time"

	"github.com/orrery-io/orrery/cron"
	"github.com/orrery-io/orrery/job"
)

// plan is when a schedule is to be looked at next. What it plans is in its row.
type plan struct {
	name string
	// due is wall time; 0 means at once, noMoment never.
	due job.Time
	// place is the index in the heap plus one; 0 means that a tick loop has the plan.
	place int
	// again means that the schedule was changed while a tick loop had the plan.
	again bool
	gone  bool

	// rule is that of revision rev; nil before it was needed.
	rule *cron.Rule
	rev  uint64
}

// noMoment is later than every time.
const noMoment = job.Time(1<<63 - 1)

// plans are the schedules of a term, the one that is due first in front. They go by
// the wall clock, because what is planned does; so they are no timers of the term.
type plans struct {
	mu     sync.Mutex
	byName map[string]*plan
	heap   planHeap
	kick   chan struct{} // capacity 1
}

func newPlans() plans {
	return plans{byName: make(map[string]*plan), kick: make(chan struct{}, 1)}
}

// load takes in a row that the term begins with. The first moment to look at it is
// known without its rule, which is expensive to make.
func (p *plans) load(row *job.Schedule) {
	x := &plan{name: row.Name, due: rowDue(row)}
	p.byName[x.name] = x
	p.heap = append(p.heap, x)
	x.place = len(p.heap)
}

// init puts what was loaded in order.
func (p *plans) init() { heap.Init(&p.heap) }

// rowDue is when a schedule is to be looked at, as far as its row tells.
func rowDue(row *job.Schedule) job.Time {
	switch {
	case row.Paused && row.PausedUntil == 0:
		return noMoment
	case row.Paused:
		return row.PausedUntil
	case row.PausedThrough > row.Cursor && row.Next != 0 && row.Next <= row.PausedThrough:
		return 0
	case row.Next == 0:
		return noMoment
	default:
		return fireAt(row, row.Next)
	}
}

// fireAt is when a planned time fires.
func fireAt(row *job.Schedule, planned job.Time) job.Time {
	if row.Jitter == 0 {
		return planned
	}
	return planned.Add(job.For(cron.Jitter(row.Name, planned.Time(), row.Jitter.Duration())))
}

// look has a schedule looked at now, because it was made or changed.
func (p *plans) look(name string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	x := p.byName[name]
	switch {
	case x == nil:
		x = &plan{name: name}
		p.byName[name] = x
		heap.Push(&p.heap, x)
	case x.place == 0:
		x.again = true
	default:
		x.due = 0
		heap.Fix(&p.heap, x.place-1)
	}
	kick(p.kick)
}

// take hands out up to limit plans that are due. When there are none, wait is how
// long until the first one is.
func (p *plans) take(into []*plan, now job.Time, limit int) (due []*plan, wait time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	due = into[:0]
	for len(p.heap) > 0 && p.heap[0].due <= now && len(due) < limit {
		due = append(due, heap.Pop(&p.heap).(*plan))
	}
	switch {
	case len(due) > 0:
		kick(p.kick) // the other loop may take what is left, and what comes meanwhile
		return due, 0
	case len(p.heap) == 0 || p.heap[0].due == noMoment:
		return due, never
	}
	return due, p.heap[0].due.Sub(now).Duration()
}

// give puts plans back, each with the moment to look at it next.
func (p *plans) give(back []*plan) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, x := range back {
		switch {
		case x.again:
			x.again, x.gone, x.due = false, false, 0
		case x.gone:
			delete(p.byName, x.name)
			continue
		}
		heap.Push(&p.heap, x)
	}
}

// count is how many schedules there are.
func (p *plans) count() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.byName)
}

// planHeap implements heap.Interface.
type planHeap []*plan

func (h planHeap) Len() int           { return len(h) }
func (h planHeap) Less(i, j int) bool { return h[i].due < h[j].due }

func (h planHeap) Swap(i, j int) {
	h[i], h[j] = h[j], h[i]
	h[i].place, h[j].place = i+1, j+1
}

// Push implements heap.Interface.
func (h *planHeap) Push(x any) {
	p := x.(*plan)
	*h = append(*h, p)
	p.place = len(*h)
}

// Pop implements heap.Interface.
func (h *planHeap) Pop() any {
	s := *h
	p := s[len(s)-1]
	s[len(s)-1] = nil
	*h = s[:len(s)-1]
	p.place = 0
	return p
}
