package agent

import (
	"slices"
	"sync"
	"sync/atomic"

	"github.com/orrery-io/orrery/wire"
)

// outgoing is what the agent has to say, in three parts: control messages in
// order, results, and the attempts that have log lines or progress. One writer per
// connection takes frames out of it; whatever gathers while one is being written
// goes into the next.
//
// Control messages belong to a session and vanish with it. Results stay with the
// bench until they are acknowledged, and are handed in again for a new session.
// Log lines stay with their attempt until they were written.
type outgoing struct {
	// wake has room for one token; the writer waits for it.
	wake chan struct{}
	// logged is how many bytes of log wait in all attempts.
	logged atomic.Int64
	// link is closed when the present connection is gone; nil without one.
	link atomic.Pointer[chan struct{}]

	mu      sync.Mutex
	control []wire.Message
	results []*attempt
	talkers []*attempt
	// busy means that the writer has a frame in hand; settled are told when it has
	// not, and nothing waits.
	busy    bool
	settled []chan struct{}
}

func newOutgoing() *outgoing { return &outgoing{wake: make(chan struct{}, 1)} }

// offline reports whether there is no connection.
func (o *outgoing) offline() bool { return o.link.Load() == nil }

// gone returns a channel that is closed when the present connection is lost; nil
// when there is none.
func (o *outgoing) gone() <-chan struct{} {
	if p := o.link.Load(); p != nil {
		return *p
	}
	return nil
}

// begin opens a session with the results that were not acknowledged.
func (o *outgoing) begin(results []*attempt) {
	o.mu.Lock()
	defer o.mu.Unlock()
	link := make(chan struct{})
	o.link.Store(&link)
	o.control, o.results = nil, results
	o.nudge()
}

// again hands in all results once more.
func (o *outgoing) again(results []*attempt) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if !o.offline() {
		o.results = results
		o.nudge()
	}
}

// end closes the session.
func (o *outgoing) end() {
	o.mu.Lock()
	defer o.mu.Unlock()
	if p := o.link.Swap(nil); p != nil {
		close(*p)
	}
	o.control, o.results, o.busy = nil, nil, false
	o.checkSettled()
}

// say queues control messages. Without a connection they are forgotten.
func (o *outgoing) say(msgs ...wire.Message) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.offline() {
		return
	}
	o.control = append(o.control, msgs...)
	o.nudge()
}

// report queues the result of an attempt.
func (o *outgoing) report(at *attempt) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.offline() {
		return
	}
	o.results = append(o.results, at)
	o.nudge()
}

// touch queues an attempt that has lines or progress; its lineBuffer sees to it
// that it is there once only.
func (o *outgoing) touch(at *attempt) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.talkers = append(o.talkers, at)
	o.nudge()
}

func (o *outgoing) nudge() {
	select {
	case o.wake <- struct{}{}:
	default:
	}
}

// frame is what goes into one WebSocket message.
type frame struct {
	msgs []wire.Message
	size int
	// lines are those in msgs, to be put back when the frame can't be written.
	lines []spoken
}

type spoken struct {
	by    *attempt
	lines []wire.LogLine
}

func (f *frame) reset() {
	clear(f.msgs)
	clear(f.lines)
	f.msgs, f.lines, f.size = f.msgs[:0], f.lines[:0], 0
}

// full reports whether another n bytes belong into the next frame.
func (f *frame) full(n int) bool {
	return len(f.msgs) > 0 && (f.size+n > wire.SoftFrame || len(f.msgs) >= maxFrameMessages)
}

// maxFrameMessages is well below what a node takes.
const maxFrameMessages = 2000

func (f *frame) add(m wire.Message, size int) {
	f.msgs = append(f.msgs, m)
	f.size += size
}

// talk adds what at has to say, as far as the frame has room. It reports whether
// more is left.
func (f *frame) talk(at *attempt) (more bool) {
	if f.full(1) {
		return true
	}
	lines, report, more := at.log.take(wire.SoftFrame-f.size, &at.out.logged)
	if at.void.Load() {
		return false
	}
	if len(lines) > 0 {
		m := wire.Message{Log: &wire.Log{Job: at.id(), Fence: at.fence(), Lines: lines}}
		f.lines = append(f.lines, spoken{at, lines})
		f.add(m, m.Log.Msgsize())
	}
	if report != nil {
		f.add(wire.Message{Progress: report}, report.Msgsize())
	}
	return more
}

// next fills f and reports whether there is anything to write. The order matters:
// control messages first, so that a heartbeat never waits for logs; then results,
// each after the log of its attempt; then what running attempts say.
func (o *outgoing) next(f *frame) bool {
	f.reset()
	o.mu.Lock()
	defer o.mu.Unlock()
	n := 0
	for ; n < len(o.control) && !f.full(0); n++ {
		f.add(o.control[n], 32)
		if h := o.control[n].Heartbeat; h != nil {
			f.size += h.Msgsize()
		}
	}
	o.control = slices.Delete(o.control, 0, n)

	n = 0
	for _, at := range o.results {
		size := at.result.Msgsize()
		if f.talk(at) || f.full(size) {
			break
		}
		if !at.void.Load() {
			f.add(wire.Message{Result: at.result}, size)
		}
		n++
	}
	o.results = slices.Delete(o.results, 0, n)

	talkers := len(o.talkers)
	n = 0
	for ; n < talkers && !f.full(1); n++ {
		if at := o.talkers[n]; f.talk(at) {
			o.talkers = append(o.talkers, at) // behind the others
		}
	}
	o.talkers = slices.Delete(o.talkers, 0, n)
	if o.busy = len(f.msgs) > 0; !o.busy {
		o.checkSettled()
	}
	return o.busy
}

// unsaid puts back what was in a frame that could not be written.
func (o *outgoing) unsaid(f *frame) {
	for _, s := range slices.Backward(f.lines) {
		s.by.restore(s.lines)
	}
}

// settle returns a channel that is closed as soon as everything queued has been
// written, or the connection is gone.
func (o *outgoing) settle() <-chan struct{} {
	o.mu.Lock()
	defer o.mu.Unlock()
	ch := make(chan struct{})
	o.settled = append(o.settled, ch)
	o.checkSettled()
	return ch
}

// checkSettled has the lock.
func (o *outgoing) checkSettled() {
	if !o.offline() && (o.busy || len(o.control)+len(o.results)+len(o.talkers) > 0) {
		return
	}
	for _, ch := range o.settled {
		close(ch)
	}
	o.settled = nil
}
