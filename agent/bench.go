package agent

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/orrery-io/orrery/job"
	"github.com/orrery-io/orrery/wire"
)

// bench is where the work lies: every attempt that the agent holds, from the
// dispatch to the acknowledgement of the result. It bounds what runs at once by
// the slots and keeps the rest in the order in which it came.
//
// There is a goroutine per running attempt; it goes on with the next one that
// waits, so a busy agent starts none.
type bench struct {
	handlers map[string]HandlerFunc
	slots    int
	out      *outgoing
	// base is what the contexts of handlers come from. It has no end.
	base context.Context //nolint:containedctx // handlers outlive the calls that start them
	// now is a monotonic clock that counts suspensions of the machine too.
	now func() time.Time
	// stir wakes the keeper. It doesn't block.
	stir func()
	// hooks are told of results.
	hooks Hooks
	log   *slog.Logger

	mu sync.Mutex
	// held is the newest attempt of each job; older ones hang on it.
	held    map[job.ID]*attempt
	queue   queue
	running int
	// begun is when a handler was last called.
	begun time.Time
	// outbox counts ended attempts whose results are not acknowledged.
	outbox int
	order  uint64
	lease  lease
	recent recent
	// linked is between a welcome and the loss of that connection.
	linked bool
	// draining takes nothing new; closed begins nothing any more.
	draining, closed bool
	// hurry asks for a heartbeat before its time; asleep is the keeper's word that
	// it has to be woken for new work.
	hurry, asleep bool
	// rest counts ticks without work.
	rest    int
	waiters []awaited
}

// accept takes a dispatch. One that is here already is acknowledged again and
// otherwise ignored.
func (b *bench) accept(d *wire.Dispatch) {
	b.mu.Lock()
	defer b.mu.Unlock()
	ack := wire.Message{Ack: &wire.Ack{Job: d.Job, Fence: d.Fence}}
	newest := b.held[d.Job]
	switch {
	case b.find(d.Job, d.Fence) != nil, b.recent.has(d.Job, d.Fence):
		b.out.say(ack)
		return
	case newest != nil && newest.fence() > d.Fence:
		return // overtaken by a newer attempt
	case b.draining || b.closed:
		b.reject(d.Job, d.Fence, "the agent is draining")
		return
	case b.handlers[d.Type] == nil:
		b.reject(d.Job, d.Fence, fmt.Sprintf("the agent has no handler for the type %q", d.Type))
		return
	}
	at := newAttempt(d, b)
	// The cluster has given up on every older attempt. One whose handler still
	// runs has to end first: a job is never executed twice at the same time.
	var ahead *attempt
	for old := newest; old != nil; {
		next := old.older
		switch old.phase {
		case running:
			ahead = old
			b.void(old)
		case waiting:
			b.void(old)
		case ended:
		}
		old = next
	}
	at.older = b.held[d.Job]
	b.held[d.Job] = at
	b.out.say(wire.Message{Ack: &at.ack})
	if ahead != nil {
		ahead.successor = at
		return
	}
	b.queue.push(at)
	b.fill()
}

// fill begins what can be begun.
func (b *bench) fill() {
	for b.running < b.slots {
		at := b.begin()
		if at == nil {
			return
		}
		go b.work(at)
	}
}

// begin takes the next attempt out of the queue; nil when there is none that may
// begin. Work whose lease is not known to be good stays there until a beat says
// what is still ours: after a pause of the process or a loss of the connection
// that comes first.
func (b *bench) begin() *attempt {
	if b.closed || b.queue.empty() {
		return nil
	}
	now := b.now()
	at := b.queue.take(func(at *attempt) bool { return b.lease.valid(at.lease, now) })
	if at == nil {
		b.rush()
		return nil
	}
	at.phase, at.started = running, now
	at.ctx, at.cancel = context.WithCancelCause(b.base)
	b.begun = now
	b.running++
	if b.asleep {
		b.asleep = false
		b.stir()
	}
	return at
}

// rush asks for a heartbeat before its time.
func (b *bench) rush() {
	if !b.hurry {
		b.hurry = true
		b.stir()
	}
}

// work executes at, and then whatever waits.
func (b *bench) work(at *attempt) {
	next := func() *attempt {
		b.mu.Lock()
		defer b.mu.Unlock()
		if b.running >= b.slots {
			return nil
		}
		return b.begin()
	}
	defer func() {
		if at == nil {
			return
		}
		// The handler ended this goroutine.
		if at = next(); at != nil {
			go b.work(at)
		}
	}()
	for at != nil {
		at.execute(b.handlers[at.raw.Type])
		at = next()
	}
}

// finish ends an attempt. A nil result means that there is nothing to tell.
func (b *bench) finish(at *attempt, result *wire.Result) {
	at.log.shut(at, false)
	at.cancel(nil)
	b.mu.Lock()
	defer b.mu.Unlock()
	b.running--
	next := at.successor
	at.successor = nil
	b.conclude(at, result)
	if next != nil {
		b.queue.pushFront(next)
		b.fill()
	}
}

// conclude puts the result into the outbox. Without one the attempt is forgotten;
// what its handler logged is still sent, unless the attempt was dropped.
func (b *bench) conclude(at *attempt, result *wire.Result) {
	at.phase = ended
	switch {
	case at.void.Load():
		b.void(at)
	case result == nil:
		b.forget(at)
		b.rush() // to tell that it is gone
	default:
		b.order++
		at.result, at.order, at.told = result, b.order, b.now()
		b.outbox++
		b.out.report(at)
	}
	b.changed()
}

// acknowledge forgets a result that was recorded or refused.
func (b *bench) acknowledge(ack *wire.ResultAck) {
	if at := b.settle(ack); at != nil && b.hooks.Recorded != nil {
		b.hooks.Recorded(&at.raw, ack.Accepted)
	}
}

// settle returns the attempt that was forgotten; nil when it was not here.
func (b *bench) settle(ack *wire.ResultAck) *attempt {
	b.mu.Lock()
	defer b.mu.Unlock()
	at := b.find(ack.Job, ack.Fence)
	if at == nil || at.phase != ended {
		return nil
	}
	if !ack.Accepted {
		b.log.Info("result refused", "job_id", int64(ack.Job), "fence", uint64(ack.Fence), "reason", ack.Reason)
	}
	b.forget(at)
	b.changed()
	return at
}

// stopOne carries out a cancel.
func (b *bench) stopOne(c *wire.Cancel) {
	b.mu.Lock()
	defer b.mu.Unlock()
	at := b.find(c.Job, c.Fence)
	switch {
	case at == nil:
	case c.Drop:
		b.void(at)
		b.changed()
	case at.phase == running:
		at.cancel(&stopCause{why: ErrCancelled, reason: c.Reason})
	case at.phase == waiting:
		b.unqueue(at)
		r := &wire.Result{Job: c.Job, Fence: c.Fence}
		cause := &stopCause{why: ErrCancelled, reason: c.Reason}
		stopped(r, cause, cause)
		b.conclude(at, r)
	}
}

// drop stops attempts that are no longer ours.
func (b *bench) drop(held []wire.Held) {
	for _, h := range held {
		if at := b.find(h.Job, h.Fence); at != nil {
			b.void(at)
		}
	}
	b.changed()
}

// void makes the agent say nothing more about an attempt, stops its handler if it
// runs, and forgets it if it doesn't.
func (b *bench) void(at *attempt) {
	at.void.Store(true)
	switch at.phase {
	case running:
		at.cancel(&stopCause{why: ErrDropped})
		return
	case waiting:
		b.unqueue(at)
	case ended:
		at.log.shut(at, true)
		if at.result != nil && b.hooks.Dropped != nil {
			b.hooks.Dropped(&at.raw)
		}
	}
	b.forget(at)
}

// unqueue takes a waiting attempt out of the queue, or from behind the one that
// has to end before it.
func (b *bench) unqueue(at *attempt) {
	b.queue.remove(at)
	for old := at.older; old != nil; old = old.older {
		if old.successor == at {
			old.successor = nil
		}
	}
}

// forget takes an attempt out of held.
func (b *bench) forget(at *attempt) {
	if at.result != nil {
		b.outbox--
	}
	at.phase = ended
	b.recent.add(at.id(), at.fence())
	newest := b.held[at.id()]
	if newest == at {
		if at.older == nil {
			delete(b.held, at.id())
		} else {
			b.held[at.id()] = at.older
		}
		return
	}
	for n := newest; n != nil; n = n.older {
		if n.older == at {
			n.older = at.older
			return
		}
	}
}

// find returns the attempt, nil when it is not here.
func (b *bench) find(id job.ID, fence job.Fence) *attempt {
	for at := b.held[id]; at != nil; at = at.older {
		if at.fence() == fence {
			return at
		}
	}
	return nil
}

// all calls f for every attempt.
func (b *bench) all(f func(*attempt)) {
	for _, newest := range b.held {
		for at := newest; at != nil; at = at.older {
			f(at)
		}
	}
}

// holdings lists what the agent has: what waits and runs, and the outbox in the
// order of its results. What was dropped is not ours, even if its handler has not
// returned yet; what lost its lease is, because nobody else should have it before.
func (b *bench) holdings() (held, outbox []wire.Held) {
	var done []*attempt
	b.all(func(at *attempt) {
		switch {
		case at.void.Load():
		case at.phase == ended:
			done = append(done, at)
		default:
			held = append(held, wire.Held{Job: at.id(), Fence: at.fence(), Waiting: at.phase == waiting})
		}
	})
	sortOutbox(done)
	for _, at := range done {
		outbox = append(outbox, wire.Held{Job: at.id(), Fence: at.fence()})
	}
	return held, outbox
}

func sortOutbox(done []*attempt) {
	slices.SortFunc(done, func(x, y *attempt) int {
		if x.order < y.order {
			return -1
		}
		return 1
	})
}

// reject hands a dispatch back.
func (b *bench) reject(id job.ID, fence job.Fence, reason string) {
	b.out.say(wire.Message{Reject: &wire.Reject{Job: id, Fence: fence, Reason: reason}})
}

// idle returns a channel that is closed as soon as no handler runs.
func (b *bench) idle() <-chan struct{} {
	return b.when(func() bool { return b.running == 0 })
}

// empty returns a channel that is closed as soon as nothing is held.
func (b *bench) empty() <-chan struct{} {
	return b.when(func() bool { return len(b.held) == 0 })
}

// delivered returns a channel that is closed as soon as every result has been
// acknowledged, or there is no connection.
func (b *bench) delivered() <-chan struct{} {
	return b.when(func() bool { return b.outbox == 0 || !b.linked })
}

// awaited is a condition that somebody waits for.
type awaited struct {
	holds func() bool
	done  chan struct{}
}

func (b *bench) when(holds func() bool) <-chan struct{} {
	b.mu.Lock()
	defer b.mu.Unlock()
	w := awaited{holds, make(chan struct{})}
	b.waiters = append(b.waiters, w)
	b.changed()
	return w.done
}

// changed tells those whose condition holds.
func (b *bench) changed() {
	if len(b.waiters) == 0 {
		return
	}
	b.waiters = slices.DeleteFunc(b.waiters, func(w awaited) bool {
		if !w.holds() {
			return false
		}
		close(w.done)
		return true
	})
}
