package agent

import (
	"cmp"
	"context"
	"time"

	"github.com/orrery-io/orrery/wire"
)

const (
	// startAfter is how long an attempt runs before the cluster is told.
	startAfter = time.Second
	// handBackAfter is for how long no handler has begun when what waits for a free
	// slot is handed back. The cluster sends more than there are slots while jobs
	// are short; when they turn out to be long, another agent may be idle.
	handBackAfter = 2 * time.Second
	// tickEvery is how often running work is looked after.
	tickEvery = 100 * time.Millisecond
	// restTicks is for how many ticks without work the keeper goes on before it
	// sleeps until the next heartbeat.
	restTicks = 20
	// hurryPace is the least time between heartbeats that are sent early.
	hurryPace = 200 * time.Millisecond
	// idleWait is how long the keeper sleeps when there is nothing at all to do.
	idleWait = time.Hour
)

// keep looks after everything that has to do with time until ctx ends: heartbeats,
// leases, start messages, the pace of progress, results without an answer. It is
// one goroutine with one timer for all attempts.
func (a *Agent) keep(ctx context.Context) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-a.stirred:
		case <-timer.C:
		}
		t := a.bench.tick()
		if t.heartbeat {
			var gauges map[string]float64
			if a.cfg.Gauges != nil {
				gauges = a.cfg.Gauges()
			}
			a.bench.heartbeat(gauges)
		}
		if t.silent {
			a.dropLink("the node does not answer heartbeats")
		}
		timer.Reset(t.wait)
	}
}

// todo is what a tick found.
type todo struct {
	heartbeat bool
	// silent means that the node seems to be gone.
	silent bool
	// wait is how long nothing has to be done, if nothing happens.
	wait time.Duration
}

// tick does what is due for each attempt, and says what else is.
func (b *bench) tick() todo {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.asleep = false
	now := b.now()
	b.all(func(at *attempt) {
		switch at.phase {
		case running:
			b.watch(at, now)
		case ended:
			// The answer may have been lost with a leader. The fence sees to it that
			// a result counts once.
			if b.linked && now.Sub(at.told) > max(2*b.lease.heartbeat, time.Second) {
				at.told = now
				b.out.report(at)
			}
		case waiting:
		}
	})
	if b.linked && !b.queue.empty() {
		b.fill()
		if b.running >= b.slots && now.Sub(b.begun) >= handBackAfter && b.lease.valid(0, now) {
			b.handBack("every slot has been taken for long", func(at *attempt) bool { return b.queue.has(at) })
		}
	}
	if len(b.held) > 0 {
		b.rest = 0
	} else {
		b.rest++
	}
	return b.plan(now)
}

// watch looks after an attempt that runs.
func (b *bench) watch(at *attempt, now time.Time) {
	if !at.leaseLost && !b.lease.valid(at.lease, now) {
		at.leaseLost = true
		at.cancel(&stopCause{why: ErrLeaseLost})
		b.log.Warn("lease lost; the attempt is told to stop", "job_id", int64(at.id()), "fence", uint64(at.fence()))
	}
	if ran := now.Sub(at.started); b.linked && !at.startTold && ran >= startAfter && !at.void.Load() {
		at.startTold = true
		b.out.say(wire.Message{Start: &wire.Start{Job: at.id(), Fence: at.fence(), Running: ran.Milliseconds()}})
	}
	at.remind()
}

// plan decides about the heartbeat and the next tick.
func (b *bench) plan(now time.Time) todo {
	t := todo{wait: idleWait}
	if b.linked {
		pace := b.lease.heartbeat
		t.wait = pace
		since := now.Sub(b.lease.last)
		t.heartbeat = since >= pace || b.hurry && since >= hurryPace
		if !t.heartbeat {
			t.wait = pace - since
		}
		if sent, ok := b.lease.unanswered(); ok {
			t.silent = now.Sub(sent) >= max(b.lease.heartbeat, time.Second)
		}
	}
	if b.rest < restTicks || b.hurry {
		t.wait = min(t.wait, tickEvery, max(b.lease.margin/4, 10*time.Millisecond))
	} else {
		b.asleep = true
	}
	return t
}

// heartbeat sends one.
func (b *bench) heartbeat(gauges map[string]float64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if !b.linked {
		return
	}
	b.hurry = false
	// The time is taken before the message is on its way, so the lease can only be
	// thought shorter than it is. Results without an acknowledgement are listed:
	// they are not lost.
	seq := b.lease.send(b.now())
	held, outbox := b.holdings()
	b.out.say(wire.Message{Heartbeat: &wire.Heartbeat{Seq: seq, Held: append(held, outbox...), Gauges: gauges}})
}

// answer takes the leader's answer to a heartbeat.
func (b *bench) answer(beat *wire.Beat) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.drop(beat.Drop) // before anything of it can begin
	if now := b.now(); !b.lease.valid(0, now) {
		b.begun = now // nothing could begin until now, however many slots were free
	}
	b.lease.answered(beat.Seq)
	b.fill()
}

// welcome begins a session whose hello was sent at the given time.
func (b *bench) welcome(w *wire.Welcome, sent time.Time) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.drop(w.Drop)
	length, margin, heartbeat := leaseOf(w)
	b.lease.renew(length, margin, heartbeat, sent)
	b.linked, b.hurry = true, false
	b.out.begin(b.retell())
	if b.draining {
		b.out.say(wire.Message{Drain: &wire.Drain{}})
	}
	b.fill()
	b.stir()
}

// welcomeAgain takes the welcome of a new leader on the same connection: what the
// old one was told it may not know.
func (b *bench) welcomeAgain(w *wire.Welcome) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.drop(w.Drop)
	b.lease.again(leaseOf(w))
	b.out.again(b.retell())
	b.fill()
	b.rush()
}

// leaseOf reads the times of a welcome. A heartbeat of no length would never end.
func leaseOf(w *wire.Welcome) (length, margin, heartbeat time.Duration) {
	length, margin = milliseconds(w.Lease), milliseconds(w.Margin)
	return length, margin, cmp.Or(milliseconds(w.Heartbeat), max(length/3, tickEvery))
}

// retell prepares what a leader has to be told that may not know: it returns the
// outbox in order, and has the starts told again.
func (b *bench) retell() (outbox []*attempt) {
	now := b.now()
	b.all(func(at *attempt) {
		at.startTold = false
		if at.phase == ended && !at.void.Load() {
			at.told = now
			outbox = append(outbox, at)
		}
	})
	sortOutbox(outbox)
	return outbox
}

// unlink ends the session. Handlers go on until their lease ends.
func (b *bench) unlink() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.linked = false
	b.out.end()
	b.changed()
	b.stir()
}

// drain takes nothing new, and hands back what has not begun.
func (b *bench) drain(reason string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.draining {
		return
	}
	b.draining = true
	b.out.say(wire.Message{Drain: &wire.Drain{Reason: reason}})
	b.handBack("the agent is draining", func(*attempt) bool { return true })
	b.changed()
}

// handBack rejects those of the attempts that have not begun.
func (b *bench) handBack(reason string, which func(*attempt) bool) {
	var back []*attempt
	b.all(func(at *attempt) {
		if at.phase == waiting && which(at) {
			back = append(back, at)
		}
	})
	for _, at := range back {
		b.reject(at.id(), at.fence(), reason)
		b.void(at)
	}
}

// abort tells every handler to stop, and begins nothing any more.
func (b *bench) abort() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.closed = true
	b.all(func(at *attempt) {
		if at.phase == running {
			at.cancel(&stopCause{why: ErrStopped})
		}
	})
}

// left counts what is still held, for the last words.
func (b *bench) left() (runs, results int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.running, b.outbox
}
