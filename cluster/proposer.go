package cluster

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/hashicorp/raft"
	"github.com/orrery-io/orrery/command"
	"github.com/orrery-io/orrery/internal/wallclock"
	"github.com/orrery-io/orrery/job"
)

// maxItemBytes bounds a single command. Limits that mean something to a user are set
// where the request comes in; this one protects the log.
const maxItemBytes = 64 << 20

// entry is one log entry on its way.
type entry struct {
	items  []command.Item
	parts  []part
	size   int // upper bound, bytes
	done   func([]command.Result, error)
	future raft.ApplyFuture
	began  time.Time
}

func (e *entry) reset() {
	clear(e.items)
	clear(e.parts)
	*e = entry{items: e.items[:0], parts: e.parts[:0]}
}

// proposer turns calls into log entries and results into answers.
type proposer struct {
	cfg     Config
	metrics *metrics
	clock   *clock
	queue   *queue
	apply   func(data []byte) raft.ApplyFuture
	fail    func(error)
	// committed is called after each entry that was recorded; it must not wait.
	committed func()

	calls    sync.Pool
	free     chan *entry // capacity depth+1: one being filled, the others in flight
	inflight chan *entry // capacity depth, in the order of the log
	scratch  []byte      // the proposer's encoding buffer

	mu     sync.Mutex
	flying map[*entry]struct{} // proposed and not answered
}

func newProposer(cfg Config, c *clock) *proposer {
	p := &proposer{
		cfg:      cfg,
		clock:    c,
		queue:    newQueue(cfg),
		free:     make(chan *entry, depth+1),
		inflight: make(chan *entry, depth),
		flying:   map[*entry]struct{}{},
	}
	p.calls.New = func() any { return &call{done: make(chan struct{}, 1)} }
	for range depth + 1 {
		p.free <- &entry{}
	}
	return p
}

func (p *proposer) queued() int { return p.queue.waiting() }

// propose records items and waits for their results.
func (p *proposer) propose(ctx context.Context, items []command.Item) ([]command.Result, error) {
	if len(items) == 0 {
		return nil, nil
	}
	if err := ctx.Err(); err != nil {
		return nil, context.Cause(ctx)
	}
	size, err := sizeOf(items)
	if err != nil {
		return nil, err
	}
	c := p.calls.Get().(*call) //nolint:errcheck // the pool holds nothing else
	c.items, c.size = items, size
	if err := p.queue.push(ctx, c); err != nil {
		p.recycle(c)
		return nil, err
	}
	select {
	case <-c.done:
	case <-ctx.Done():
		if c.state.CompareAndSwap(callQueued, callAbandoned) {
			return nil, context.Cause(ctx)
		}
		if c.state.CompareAndSwap(callTaken, callAbandoned) {
			return nil, fmt.Errorf("%w: %w", job.ErrOutcomeUnknown, context.Cause(ctx))
		}
		<-c.done // the answer came at the same moment
	}
	results, err := c.results, c.err
	p.recycle(c)
	return results, err
}

func (p *proposer) recycle(c *call) {
	c.reset()
	p.calls.Put(c)
}

// sizeOf checks what the decoder would refuse, because that would stop every node,
// and returns an upper bound of the encoded size.
func sizeOf(items []command.Item) (int, error) {
	size := 0
	for i := range items {
		switch {
		case items[i].Command == nil:
			return 0, fmt.Errorf("propose: item %d has no command", i)
		case len(items[i].RequestID) > command.MaxRequestID:
			return 0, job.Errorf(job.Invalid, "request_id_too_long", "a request id may have %d bytes, this one has %d",
				command.MaxRequestID, len(items[i].RequestID))
		}
		n := items[i].Size()
		if n > maxItemBytes {
			return 0, job.Errorf(job.TooLarge, "command_too_large", "the request is recorded as one piece and may have %d MiB", maxItemBytes>>20)
		}
		size += n
	}
	return size, nil
}

// run proposes until the queue has ended.
func (p *proposer) run() {
	defer close(p.inflight)
	for {
		e := <-p.free
		if !p.queue.take(e) {
			return
		}
		e.done = p.cfg.Prepare(e.items)
		p.metrics.items.Observe(float64(len(e.items)))
		data, err := p.encode(e.items)
		if err != nil {
			p.answer(e, nil, err)
			continue
		}
		p.metrics.bytes.Observe(float64(len(data)))
		e.began = time.Now()
		p.mu.Lock()
		p.flying[e] = struct{}{}
		p.mu.Unlock()
		e.future = p.apply(data)
		p.acknowledgeEarly(e)
		p.inflight <- e
	}
}

// encode returns a log entry of exactly the size needed: raft keeps it for a while.
func (p *proposer) encode(items []command.Item) ([]byte, error) {
	e := command.Entry{Time: p.clock.next(), Version: p.cfg.Version, Items: items}
	b, err := e.Append(p.scratch[:0])
	if err != nil {
		return nil, err
	}
	p.scratch = b
	if cap(b) > 4*p.cfg.MaxEntryBytes {
		p.scratch = nil
	}
	return append([]byte(nil), b...), nil
}

// complete answers entries in the order of the log until run has returned.
func (p *proposer) complete() {
	for e := range p.inflight {
		results, err := p.await(e.future)
		if err == nil && len(results) != len(e.items) {
			err = fmt.Errorf("the state machine gave %d results for %d commands", len(results), len(e.items))
			p.fail(err)
			err = job.ErrOutcomeUnknown
		}
		p.metrics.commit.Observe(time.Since(e.began).Seconds())
		p.mu.Lock()
		_, ok := p.flying[e]
		delete(p.flying, e)
		p.mu.Unlock()
		if ok {
			p.answer(e, results, err)
		}
		if err == nil && p.committed != nil {
			p.committed()
		}
	}
}

// giveUp answers everything in flight, because raft never will.
func (p *proposer) giveUp() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for e := range p.flying {
		delete(p.flying, e)
		for i := range e.parts {
			p.queue.deliver(e.parts[i], nil, job.ErrOutcomeUnknown)
		}
	}
}

// await waits for raft's answer, and says what it means for the caller.
func (p *proposer) await(f raft.ApplyFuture) ([]command.Result, error) {
	err := f.Error()
	switch {
	case err == nil:
		if results, ok := f.Response().([]command.Result); ok {
			return results, nil
		}
		return nil, job.ErrOutcomeUnknown // the machine has failed; the node is about to end
	case errors.Is(err, raft.ErrNotLeader), errors.Is(err, raft.ErrLeadershipTransferInProgress):
		return nil, job.ErrNotLeader // raft refused before writing anything
	default:
		return nil, job.ErrOutcomeUnknown
	}
}

func (p *proposer) answer(e *entry, results []command.Result, err error) {
	e.done(results, err)
	for i := range e.parts {
		p.queue.deliver(e.parts[i], results, err)
	}
	switch n := float64(len(e.items)); {
	case err == nil:
		p.metrics.ok.Add(n)
	case job.KindOf(err) == job.Unknown:
		p.metrics.unknown.Add(n)
	default:
		p.metrics.refused.Add(n)
	}
	e.reset()
	p.queue.answered()
	p.free <- e
}

// clock gives entries their time, which never goes back.
type clock struct {
	mu   sync.Mutex
	last job.Time
}

// next returns the time for the next entry.
func (c *clock) next() job.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.last = max(c.last, job.At(wallclock.Now()))
	return c.last
}

// atLeast takes note of the time of an entry that somebody else wrote.
func (c *clock) atLeast(t job.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.last = max(c.last, t)
}
