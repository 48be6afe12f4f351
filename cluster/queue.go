package cluster

import (
	"context"
	"runtime"
	"sync"
	"sync/atomic"

	"github.com/orrery-io/orrery/command"
	"github.com/orrery-io/orrery/job"
)

// The states of a call. Whoever wins the change away from callQueued or callTaken
// decides what the caller is told.
const (
	callQueued    uint32 = iota // waits; the caller may still take it back
	callTaken                   // at least one item is in an entry
	callFinished                // done has its signal
	callAbandoned               // the caller has gone; nobody reads the results
)

// call is one Propose.
type call struct {
	items []command.Item
	size  int // upper bound of the encoded items, bytes
	state atomic.Uint32
	done  chan struct{} // capacity 1, one signal per use; owned by whoever made the state callFinished

	// For a call that doesn't fit into one entry, under the queue's lock.
	next     int  // items taken so far
	left     int  // parts that are not answered yet
	recorded bool // some part is or may be in the log
	partial  []command.Result
	failed   error // of some part

	// The answer. The goroutine that finished the call writes it, the caller reads it
	// after done.
	results []command.Result
	err     error
	index   uint64 // of a forwarded call: what must be applied here to see the results
}

// reset makes a call ready for its next use.
func (c *call) reset() {
	c.items, c.size = nil, 0
	c.next, c.left, c.recorded, c.partial, c.failed = 0, 0, false, nil, nil
	c.results, c.err, c.index = nil, nil, 0
	c.state.Store(callQueued)
}

// finish gives the caller its answer, unless it has gone or has one already.
func (c *call) finish(from uint32, results []command.Result, err error) {
	if c.state.CompareAndSwap(from, callFinished) {
		c.results, c.err = results, err
		c.done <- struct{}{}
	}
}

// part is the share of a call in one entry.
type part struct {
	call    *call
	from, n int // items of the entry
	at      int // index of the first of them in the call
	whole   bool
}

// queue holds the calls that wait for the proposer, first come, first served.
type queue struct {
	maxItems, maxBytes           int // of what waits; one call is always let in
	maxEntryItems, maxEntryBytes int

	mu           sync.Mutex
	work         *sync.Cond    // the proposer waits here
	room         chan struct{} // callers wait for room here; nil while none does
	calls        []*call
	head         int    // first of calls that is waiting
	items, bytes int    // of what waits
	came         uint64 // items since the start
	inflight     int    // entries proposed and not answered
	shut         error
	ended        bool
}

// An entry is proposed as soon as none is in flight. While one is, a second follows
// when so many items wait that it is worth an fsync of its own: the disk works then
// while the machine applies.
const (
	depth       = 2
	secondItems = 256
)

func newQueue(cfg Config) *queue {
	q := &queue{
		maxItems: cfg.MaxQueuedItems, maxBytes: cfg.MaxQueuedBytes,
		maxEntryItems: cfg.MaxEntryItems, maxEntryBytes: cfg.MaxEntryBytes,
		shut: job.ErrNotLeader,
	}
	q.work = sync.NewCond(&q.mu)
	return q
}

// push waits for room and queues c. On an error c isn't queued.
func (q *queue) push(ctx context.Context, c *call) error {
	q.mu.Lock()
	for q.shut == nil && q.items > 0 && (q.items+len(c.items) > q.maxItems || q.bytes+c.size > q.maxBytes) {
		if q.room == nil {
			q.room = make(chan struct{})
		}
		room := q.room
		q.mu.Unlock()
		select {
		case <-room:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
		q.mu.Lock()
	}
	if q.shut != nil {
		err := q.shut
		q.mu.Unlock()
		return err
	}
	q.calls = append(q.calls, c)
	q.items += len(c.items)
	q.came += uint64(len(c.items))
	q.bytes += c.size
	wake := q.ready()
	q.mu.Unlock()
	if wake {
		q.work.Signal()
	}
	return nil
}

// ready reports whether the proposer has something to do.
func (q *queue) ready() bool {
	return q.ended || q.items > 0 && (q.inflight == 0 || q.inflight < depth && q.items >= secondItems)
}

// take waits for work and fills e. It returns false when the queue has ended.
func (q *queue) take(e *entry) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	for {
		for !q.ready() {
			q.work.Wait()
		}
		q.gather()
		if q.ended {
			return false
		}
		q.fill(e)
		if q.room != nil {
			close(q.room)
			q.room = nil
		}
		if len(e.items) > 0 {
			q.inflight++
			return true
		}
	}
}

// gather lets those callers come who can run at once, above all those who have just
// got an answer and will propose again: half of them would miss this entry otherwise,
// and the two halves would take turns. It doesn't wait for anybody: on an idle node it
// returns at once.
func (q *queue) gather() {
	const rounds = 8
	for range rounds {
		before := q.items
		q.mu.Unlock()
		runtime.Gosched()
		q.mu.Lock()
		if q.items == before || q.items >= q.maxEntryItems {
			return
		}
	}
}

// fill moves as many waiting items into e as one entry may hold.
func (q *queue) fill(e *entry) {
	for q.head < len(q.calls) && len(e.items) < q.maxEntryItems {
		c := q.calls[q.head]
		small := c.next == 0 && len(c.items) <= q.maxEntryItems && c.size <= q.maxEntryBytes
		if !q.fits(e, c, small) {
			return
		}
		if c.next == 0 && !c.state.CompareAndSwap(callQueued, callTaken) ||
			c.next > 0 && (c.failed != nil || c.state.Load() == callAbandoned) {
			q.drop(c)
			continue
		}
		if small {
			e.parts = append(e.parts, part{call: c, from: len(e.items), n: len(c.items), whole: true})
			e.items = append(e.items, c.items...)
			e.size += c.size
			q.items -= len(c.items)
			q.bytes -= c.size
			q.pop()
			continue
		}
		if q.fillPart(e, c); c.next < len(c.items) {
			return
		}
		q.pop()
	}
}

// fits reports whether e has room for c, or for the next item of one that is taken in
// parts. An empty entry has room for anything.
func (q *queue) fits(e *entry, c *call, small bool) bool {
	n, size := len(c.items), c.size
	if !small {
		n, size = 1, c.items[c.next].Size()
	}
	return len(e.items) == 0 || len(e.items)+n <= q.maxEntryItems && e.size+size <= q.maxEntryBytes
}

// fillPart moves the next items of a call that is too large for one entry.
func (q *queue) fillPart(e *entry, c *call) {
	p := part{call: c, from: len(e.items), at: c.next}
	for c.next < len(c.items) && len(e.items) < q.maxEntryItems {
		size := c.items[c.next].Size()
		if e.size+size > q.maxEntryBytes && len(e.items) > 0 {
			break
		}
		e.items = append(e.items, c.items[c.next])
		e.size += size
		q.items--
		q.bytes -= size
		c.size -= size
		c.next++
		p.n++
	}
	c.left++
	e.parts = append(e.parts, p)
}

// drop takes what is left of the first call out of the queue: its caller has gone, or
// one of its parts has failed.
func (q *queue) drop(c *call) {
	q.items -= len(c.items) - c.next
	q.bytes -= c.size
	c.next = len(c.items)
	q.pop()
	if c.left == 0 && c.failed != nil {
		q.conclude(c)
	}
}

func (q *queue) pop() {
	q.calls[q.head] = nil
	q.head++
	if q.head == len(q.calls) {
		q.calls, q.head = q.calls[:0], 0
	}
}

// answered takes note that an entry in flight has its answer.
func (q *queue) answered() {
	q.mu.Lock()
	q.inflight--
	wake := q.ready()
	q.mu.Unlock()
	if wake {
		q.work.Signal()
	}
}

// deliver hands a part of a call its results, or the reason why there are none.
func (q *queue) deliver(p part, results []command.Result, err error) {
	c := p.call
	if p.whole {
		if err == nil {
			results = results[p.from : p.from+p.n : p.from+p.n]
		}
		c.finish(callTaken, results, err)
		return
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	if err == nil {
		if c.partial == nil {
			c.partial = make([]command.Result, len(c.items))
		}
		copy(c.partial[p.at:], results[p.from:p.from+p.n])
	} else {
		c.failed = err
	}
	c.recorded = c.recorded || err == nil || job.KindOf(err) == job.Unknown
	if c.left--; c.left == 0 && c.next == len(c.items) {
		q.conclude(c)
	}
}

// conclude answers a call of several parts. When one of them failed, what became of
// the whole isn't known, unless nothing of it was recorded.
func (q *queue) conclude(c *call) {
	switch {
	case c.failed == nil:
		c.finish(callTaken, c.partial, nil)
	case c.recorded:
		c.finish(callTaken, nil, job.ErrOutcomeUnknown)
	default:
		c.finish(callTaken, nil, c.failed)
	}
}

// open lets calls in.
func (q *queue) open() {
	q.mu.Lock()
	defer q.mu.Unlock()
	if !q.ended {
		q.shut = nil
	}
}

// close refuses new calls with err, and those that wait: nothing of them was
// recorded. What is in flight gets its answer.
func (q *queue) close(err error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.shut = err
	for q.head < len(q.calls) {
		c := q.calls[q.head]
		q.items -= len(c.items) - c.next
		q.bytes -= c.size
		q.pop()
		if c.next == 0 {
			c.finish(callQueued, nil, err)
			continue
		}
		c.next, c.failed = len(c.items), err
		if c.left == 0 {
			q.conclude(c)
		}
	}
	if q.room != nil {
		close(q.room)
		q.room = nil
	}
}

// end closes the queue for good; the proposer returns.
func (q *queue) end(err error) {
	q.close(err)
	q.mu.Lock()
	q.ended = true
	q.mu.Unlock()
	q.work.Broadcast()
}

func (q *queue) waiting() int {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.items
}

// passage returns how many items have ever come, and how many of them wait.
func (q *queue) passage() (came, waits uint64) {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.came, uint64(q.items) //nolint:gosec // not negative
}
