package agent

import "time"

// lease is how long the agent may go on without hearing from the leader. It runs
// from the moment at which the heartbeat was sent that was answered last, because
// the leader can't have counted from an earlier one. All times are the agent's
// monotonic clock.
type lease struct {
	// length, margin and heartbeat are what the welcome said.
	length, margin, heartbeat time.Duration
	// base is when the last heartbeat that was answered was sent; the zero Time
	// before the first welcome.
	base time.Time
	// seq is that of the last heartbeat; sent are those without an answer.
	seq  uint64
	sent []beat
	last time.Time
}

type beat struct {
	seq uint64
	at  time.Time
}

// maxUnanswered bounds lease.sent. An answer to one that was forgotten renews
// nothing.
const maxUnanswered = 64

// renew begins a session: the hello, sent at the given time, was answered.
func (l *lease) renew(length, margin, heartbeat time.Duration, sent time.Time) {
	l.length, l.margin, l.heartbeat = length, margin, heartbeat
	l.sent = l.sent[:0]
	l.last = sent
	if sent.After(l.base) {
		l.base = sent
	}
}

// send numbers a heartbeat that is about to be sent.
func (l *lease) send(now time.Time) uint64 {
	l.seq++
	if len(l.sent) == maxUnanswered {
		l.sent = l.sent[:copy(l.sent, l.sent[1:])]
	}
	l.sent = append(l.sent, beat{l.seq, now})
	l.last = now
	return l.seq
}

// answered takes the answer to heartbeat seq. One that was never sent in this
// session changes nothing.
func (l *lease) answered(seq uint64) {
	for i, b := range l.sent {
		if b.seq == seq {
			if b.at.After(l.base) {
				l.base = b.at
			}
			l.sent = l.sent[:copy(l.sent, l.sent[i+1:])]
			return
		}
	}
}

// unanswered returns when the oldest heartbeat without an answer was sent.
func (l *lease) unanswered() (time.Time, bool) {
	if len(l.sent) == 0 {
		return time.Time{}, false
	}
	return l.sent[0].at, true
}

// again takes the welcome of a new leader on the same connection. It may not
// answer the heartbeats that went to the old one.
func (l *lease) again(length, margin, heartbeat time.Duration) {
	l.length, l.margin, l.heartbeat = length, margin, heartbeat
	l.sent = l.sent[:0]
}

// until returns when work must have stopped whose own lease is the given one: the
// longer of that and the session's counts.
func (l *lease) until(own time.Duration) time.Time {
	length := max(own, l.length)
	return l.base.Add(length - min(l.margin, length/2))
}

// valid reports whether work with that lease may be begun or go on.
func (l *lease) valid(own time.Duration, now time.Time) bool {
	return !l.base.IsZero() && now.Before(l.until(own))
}
