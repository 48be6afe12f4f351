package cluster

import (
	"context"
	"fmt"
	"runtime"
	"sync"
	"time"

	"github.com/orrery-io/orrery/command"
	"github.com/orrery-io/orrery/job"
)

// Bounds of what a node forwards to the leader. What Propose gives is never
// cut: when it is larger than a request it gets a request of its own.
const (
	forwardDepth = 4 // requests on their way to one leader
	forwardItems = 1000
	forwardBytes = 512 << 10
	// lastAnswers is how long requests to a node that leads no longer may still be
	// answered: it answers what it had recorded before it hands over.
	lastAnswers = 2 * time.Second
	// successorAnswers is the same from when another node leads: who hands over has
	// answered by then, and who was stopped or cut off will not.
	successorAnswers = 500 * time.Millisecond
)

// forwarder gathers the calls of all clients of this node into few requests to the
// leader. A request leaves at once when none is on its way; while some are, what comes
// in waits and leaves together.
type forwarder struct {
	send               func(ctx context.Context, leader string, calls []*call) (applied uint64, verdicts []verdict, err error)
	maxItems, maxBytes int // of what waits; one call is always let in
	calls              sync.Pool
	senders            sync.WaitGroup
	ctx                context.Context //nolint:containedctx // of every request; end ends it
	stop               context.CancelCauseFunc

	mu           sync.Mutex
	waiting      []*call
	items, bytes int           // of what waits
	room         chan struct{} // callers wait for room here; nil while none does
	lane         *lane         // nil while no other node leads
	former       *lane         // the one before
	ended        bool
}

// lane is what is on its way to one leader.
type lane struct {
	leader string
	busy   int             // requests
	ctx    context.Context //nolint:containedctx // the life of the lane: it ends a while after the leadership
	end    context.CancelCauseFunc
}

func newForwarder(cfg Config) *forwarder {
	f := &forwarder{maxItems: cfg.MaxQueuedItems, maxBytes: cfg.MaxQueuedBytes}
	f.ctx, f.stop = context.WithCancelCause(context.Background())
	f.calls.New = func() any { return &call{done: make(chan struct{}, 1)} }
	return f
}

// propose has the leader record items, and returns the index that holds the results.
// Errors are those of Node.Propose.
func (f *forwarder) propose(ctx context.Context, items []command.Item) (index uint64, _ []command.Result, _ error) {
	size, err := sizeOf(items)
	if err != nil {
		return 0, nil, err
	}
	c := f.calls.Get().(*call) //nolint:errcheck // the pool holds nothing else
	c.items, c.size = items, size
	if err := f.push(ctx, c); err != nil {
		f.recycle(c)
		return 0, nil, err
	}
	select {
	case <-c.done:
	case <-ctx.Done():
		if c.state.CompareAndSwap(callQueued, callAbandoned) {
			return 0, nil, context.Cause(ctx)
		}
		if c.state.CompareAndSwap(callTaken, callAbandoned) {
			return 0, nil, fmt.Errorf("%w: %w", job.ErrOutcomeUnknown, context.Cause(ctx))
		}
		<-c.done // the answer came at the same moment
	}
	index, results, err := c.index, c.results, c.err
	f.recycle(c)
	return index, results, err
}

func (f *forwarder) recycle(c *call) {
	c.reset()
	f.calls.Put(c)
}

// push waits for room and queues c. On an error c isn't queued.
func (f *forwarder) push(ctx context.Context, c *call) error {
	f.mu.Lock()
	for f.lane != nil && !f.ended && f.items > 0 && (f.items+len(c.items) > f.maxItems || f.bytes+c.size > f.maxBytes) {
		if f.room == nil {
			f.room = make(chan struct{})
		}
		room := f.room
		f.mu.Unlock()
		select {
		case <-room:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
		f.mu.Lock()
	}
	defer f.mu.Unlock()
	switch {
	case f.ended:
		return job.ErrClosed
	case f.lane == nil:
		return job.ErrNotLeader
	}
	f.waiting = append(f.waiting, c)
	f.items += len(c.items)
	f.bytes += c.size
	f.start()
	return nil
}

// start begins a request when one more is allowed. The caller holds mu.
func (f *forwarder) start() {
	if l := f.lane; l != nil && len(f.waiting) > 0 && l.busy < forwardDepth {
		l.busy++
		f.senders.Go(func() { f.run(l) })
	}
}

// run sends what waits, request after request, until nothing does.
func (f *forwarder) run(l *lane) {
	for {
		batch := f.take(l)
		if len(batch) == 0 {
			return
		}
		applied, verdicts, err := f.send(l.ctx, l.leader, batch)
		for i, c := range batch {
			if err != nil {
				c.finish(callTaken, nil, err)
				continue
			}
			c.answer(applied, verdicts[i])
		}
	}
}

// take removes as much as one request may hold. When there is nothing left for this
// lane it returns nothing, and the lane has one request less.
func (f *forwarder) take(l *lane) []*call {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.gather()
	var batch []*call
	items, size := 0, 0
	for len(f.waiting) > 0 && f.lane == l {
		c := f.waiting[0]
		if len(batch) > 0 && (items+len(c.items) > forwardItems || size+c.size > forwardBytes) {
			break
		}
		f.waiting[0] = nil
		f.waiting = f.waiting[1:]
		f.items -= len(c.items)
		f.bytes -= c.size
		if !c.state.CompareAndSwap(callQueued, callTaken) {
			continue // the caller has gone
		}
		batch = append(batch, c)
		items += len(c.items)
		size += c.size
	}
	f.makeRoom()
	if len(batch) == 0 {
		l.busy--
	}
	return batch
}

// gather lets those callers come who can run at once; see queue.gather.
func (f *forwarder) gather() {
	const rounds = 4
	for range rounds {
		before := f.items
		f.mu.Unlock()
		runtime.Gosched()
		f.mu.Lock()
		if f.items == before || f.items >= forwardItems {
			return
		}
	}
}

func (f *forwarder) makeRoom() {
	if f.room != nil {
		close(f.room)
		f.room = nil
	}
}

// leaderIs sends what waits to another leader from now on; "" stands for none, and
// what waits is refused then: nothing of it was recorded.
func (f *forwarder) leaderIs(id string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if old := f.lane; old != nil {
		// What is on its way gets its answer, unless that node hangs.
		time.AfterFunc(lastAnswers, func() { old.end(job.ErrOutcomeUnknown) })
		f.former = old
	}
	f.lane = nil
	if id != "" && f.former != nil && f.former.leader != id {
		f.hurry()
	}
	if id != "" && !f.ended {
		f.lane = &lane{leader: id}
		f.lane.ctx, f.lane.end = context.WithCancelCause(f.ctx)
		for range forwardDepth {
			f.start()
		}
		return
	}
	f.refuse(job.ErrNotLeader)
}

// thisLeads is called when this node leads.
func (f *forwarder) thisLeads() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.hurry()
}

// hurry ends soon what is on its way to the leader before. The caller holds mu.
func (f *forwarder) hurry() {
	if old := f.former; old != nil {
		time.AfterFunc(successorAnswers, func() { old.end(job.ErrOutcomeUnknown) })
		f.former = nil
	}
}

// refuse answers everything that waits. The caller holds mu.
func (f *forwarder) refuse(err error) {
	for _, c := range f.waiting {
		c.finish(callQueued, nil, err)
	}
	f.waiting, f.items, f.bytes = nil, 0, 0
	f.makeRoom()
}

// end refuses everything from now on, breaks off what is on its way, and waits for it.
func (f *forwarder) end() {
	f.mu.Lock()
	f.ended = true
	f.refuse(job.ErrClosed)
	f.mu.Unlock()
	f.stop(job.ErrOutcomeUnknown)
	f.senders.Wait()
}
