package agentconn

import (
	"cmp"
	"slices"

	"github.com/orrery-io/orrery/job"
	"github.com/orrery-io/orrery/wire"
)

// attempt names one. A fence alone doesn't: one entry of the log dispatches many
// jobs.
type attempt struct {
	job   job.ID
	fence job.Fence
}

// holding is how an agent has an attempt.
type holding uint8

const (
	holdsWaiting holding = iota + 1 // acknowledged, not begun
	holdsRunning
	holdsResult // in its outbox: sent, and not acknowledged by the leader
	holdsSent   // the dispatch was written to the socket, and nothing heard since
	holdsGone   // the agent had it, and no longer lists it
)

// maxAttempts bounds what is remembered of one agent, far above what the largest
// one has been given: its slots, as many waiting, and results on their way.
const maxAttempts = 1 << 17

// track notes what the agent's messages say about what it has; false means that it
// cannot be true.
func (s *session) track(msgs []wire.Message) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.attempts == nil {
		s.attempts = make(map[attempt]holding)
	}
	for i := range msgs {
		switch m := &msgs[i]; {
		case m.Ack != nil:
			a := attempt{m.Ack.Job, m.Ack.Fence}
			if h := s.attempts[a]; h == 0 || h == holdsSent {
				s.attempts[a] = holdsWaiting
			}
		case m.Result != nil:
			s.attempts[attempt{m.Result.Job, m.Result.Fence}] = holdsResult
		case m.Start != nil:
			a := attempt{m.Start.Job, m.Start.Fence}
			if s.attempts[a] != holdsResult {
				s.attempts[a] = holdsRunning
			}
		case m.Reject != nil:
			delete(s.attempts, attempt{m.Reject.Job, m.Reject.Fence})
		case m.Heartbeat != nil:
			for a, h := range s.attempts {
				if h == holdsWaiting || h == holdsRunning {
					s.attempts[a] = holdsGone // until the leader has drawn its conclusions
				}
			}
			s.hold(m.Heartbeat.Held)
		case m.Hello != nil:
			s.hold(m.Hello.Held)
			for _, h := range m.Hello.Outbox {
				s.attempts[attempt{h.Job, h.Fence}] = holdsResult
			}
		}
	}
	return len(s.attempts) <= maxAttempts
}

// hold notes what the agent lists; s.mu is held. It may list results too.
func (s *session) hold(list []wire.Held) {
	for _, h := range list {
		a := attempt{h.Job, h.Fence}
		switch {
		case s.attempts[a] == holdsResult:
		case h.Waiting:
			s.attempts[a] = holdsWaiting
		default:
			s.attempts[a] = holdsRunning
		}
	}
}

// release notes what the agent has no more; s.mu is held.
func (s *session) release(list ...wire.Held) {
	for _, h := range list {
		delete(s.attempts, attempt{h.Job, h.Fence})
	}
}

// holdings is what the agent has, for a leader that doesn't know.
type holdings struct {
	held, outbox []wire.Held
	// sent are dispatches that are on their way to it, or were and it does not list.
	sent []wire.Held
	// welcomed means that the agent was told that it is registered.
	welcomed bool
}

func (s *session) holdings() (all holdings) {
	s.mu.Lock()
	all.welcomed = s.welcomed
	for a, h := range s.attempts {
		x := wire.Held{Job: a.job, Fence: a.fence, Waiting: h == holdsWaiting}
		switch h {
		case holdsResult:
			all.outbox = append(all.outbox, x)
		case holdsSent, holdsGone:
			all.sent = append(all.sent, x)
		default:
			all.held = append(all.held, x)
		}
	}
	for i := range s.queue {
		if d := s.queue[i].Dispatch; d != nil && s.attempts[attempt{d.Job, d.Fence}] == 0 {
			all.sent = append(all.sent, wire.Held{Job: d.Job, Fence: d.Fence})
		}
	}
	s.mu.Unlock()
	sortHeld(all.held)
	sortHeld(all.outbox)
	sortHeld(all.sent)
	return all
}

// answered is the last heartbeat that the leader has answered.
func (s *session) answered() uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.beaten
}

// reached lists every attempt that the agent may have got and has not handed back,
// when nothing more is written to it.
func (s *session) reached() (list []wire.Held) {
	s.mu.Lock()
	for a := range s.attempts {
		list = append(list, wire.Held{Job: a.job, Fence: a.fence})
	}
	s.mu.Unlock()
	sortHeld(list)
	return list
}

func sortHeld(list []wire.Held) {
	slices.SortFunc(list, func(a, b wire.Held) int { return cmp.Or(cmp.Compare(a.Job, b.Job), cmp.Compare(a.Fence, b.Fence)) })
}
