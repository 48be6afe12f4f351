package scheduler

import (
	"context"
	"time"

	"github.com/orrery-io/orrery/command"
	"github.com/orrery-io/orrery/internal/obs"
	"github.com/orrery-io/orrery/job"
	"github.com/orrery-io/orrery/wire"
)

// attempt is one active job: which agent has it, and what is awaited of it. It is
// made by the dispatch in the feed and goes with the attempt's end there.
type attempt struct {
	id    job.ID
	fence job.Fence
	agent *agent
	// slot is the index in agent.held; -1 once the attempt is forgotten.
	slot int

	// What of the job decides about its next state.
	maxAttempts int
	failures    int
	lost        int
	retry       job.Retry
	timeout     time.Duration
	lease       time.Duration

	// unsent is the job while its dispatch has not been sent to anyone.
	unsent *job.Job
	// session is the one over which it was sent, or which listed it last.
	session string
	// doubt is the session at whose beginning it was not listed, while the one before
	// seemed to be open.
	doubt string
	// strayed means that the dispatch did not reach the agent's node, and is to be sent
	// again; unreached that it never reached the agent and never will.
	strayed, unreached bool
	// sentAt is when the dispatch was sent, at the latest; 0 is not known, because
	// that was in an earlier term.
	sentAt time.Duration
	// inflight is what the agent had in all, with this one, when it was sent.
	inflight int

	acked   bool
	ackedAt time.Duration
	// unlisted means that the agent has said what it has since this one was sent,
	// and did not name it.
	unlisted bool
	// mark is the list that named it last.
	mark uint64
	// waiting means that it is in the agent's own queue.
	waiting bool
	// outboxUntil is how long the result that the agent has announced is awaited.
	outboxUntil time.Duration
	// begunAt is since when the handler is known to run; 0 is not known.
	begunAt time.Duration
	// running means that the log knows, or is being told, that it runs.
	running bool

	cancelled    bool
	cancelReason string

	// finishing means that the attempt's end is being recorded; freed that its slot
	// no longer counts.
	finishing bool
	freed     bool
	// repeats are results that came while the end was being recorded. They are
	// answered with what was recorded.
	repeats []repeat

	// logSeq is the newest line of its log that was taken.
	logSeq     int64
	progress   *job.Progress
	progressed time.Duration

	// Deadlines by the term's clock; 0 is none. They are looked at together, with
	// one timer for the earliest.
	ackBy      time.Duration
	timeoutAt  time.Duration
	stopBy     time.Duration
	progressAt time.Duration
	timer      timer
}

// hold notes that an agent has a job, as the row says.
func (t *term) hold(a *agent, row *job.Job) *attempt {
	att := &attempt{
		id: row.ID, fence: row.Fence, agent: a, slot: len(a.held),
		maxAttempts: row.MaxAttempts, failures: row.Failures, lost: row.Lost, retry: row.Retry,
		timeout: row.Timeout.Duration(), lease: row.Lease.Duration(),
		running: row.State == job.Running, cancelled: row.CancelRequested, cancelReason: row.CancelReason,
	}
	att.timer.owner = att
	a.held = append(a.held, att)
	t.attempts[att.id] = att
	return att
}

// forget lets go of an attempt that the log has ended. It may be called twice.
func (t *term) forget(att *attempt) {
	if att.slot < 0 {
		return
	}
	t.timers.stop(&att.timer)
	if t.attempts[att.id] == att {
		delete(t.attempts, att.id)
	}
	a := att.agent
	last := len(a.held) - 1
	a.held[att.slot] = a.held[last]
	a.held[att.slot].slot = att.slot
	a.held[last] = nil
	a.held = a.held[:last]
	att.slot = -1
	if att.freed {
		a.freed--
	} else {
		t.update(a)
	}
	if a.gone && len(a.held) == 0 {
		t.dismiss(a)
	}
}

// free counts the attempt's slot as free from now on: the agent has sent the
// result, or the attempt is taken from it.
func (t *term) free(att *attempt) {
	if att.freed || att.slot < 0 {
		return
	}
	att.freed = true
	att.agent.freed++
	t.update(att.agent)
}

// dispatchTo sends the attempt to its agent, which is connected and welcomed.
func (t *term) dispatchTo(att *attempt, row *job.Job, now time.Duration, fx *effects) {
	a := att.agent
	att.unsent, att.session, att.sentAt, att.inflight = nil, a.session, max(now, 1), a.inflight()
	att.strayed, att.unlisted = false, false
	att.ackBy = now + t.s.cfg.AckTimeout
	t.arm(att)
	fx.send(a, wire.Message{Dispatch: &wire.Dispatch{
		Job: row.ID, Fence: row.Fence, Type: row.Type, Queue: row.Queue,
		Attempt: row.Attempt(), MaxAttempts: row.MaxAttempts, Priority: row.Priority,
		Payload: row.Payload, PayloadBytes: row.PayloadBytes, CreatedAt: int64(row.CreatedAt),
		Timeout: int64(row.Timeout), Lease: int64(row.Lease), Metadata: row.Metadata.Map(), Tags: row.Tags,
		CorrelationID: row.CorrelationID, Traceparent: row.Traceparent, Schedule: row.Schedule, Tick: int64(row.Tick),
	}})
	if att.cancelled {
		t.askToStop(att, now, fx)
	}
}

// resend sends a dispatch that was lost between this node and the agent's. The agent
// does not begin an attempt twice, should it have got it all the same.
func (t *term) resend(att *attempt, fx *effects) {
	session := att.session
	fx.after = append(fx.after, func(ctx context.Context) {
		row, err := t.s.machine.Job(ctx, att.id)
		if err != nil {
			t.log.WarnContext(ctx, "job of a lost dispatch not read", obs.JobID(att.id), obs.Err(err))
			return // without an acknowledgement it is taken back
		}
		t.do(ctx, func(fx *effects) {
			a := att.agent
			open := att.slot >= 0 && !att.finishing && !att.acked && att.strayed
			if open && a.welcomed && a.session == session && row.Fence == att.fence && row.State.Active() {
				t.dispatchTo(att, row, t.now(), fx)
			}
		})
	})
}

// acknowledge notes that the agent has the attempt.
func (t *term) acknowledge(att *attempt, now time.Duration) {
	if att.acked {
		return
	}
	att.acked, att.ackedAt, att.ackBy = true, now, 0
	t.arm(att)
}

// begin notes that the handler has been running since a moment, and from when on
// the leader steps in if the agent does not end it in time.
func (t *term) begin(att *attempt, since, now time.Duration) {
	if att.begunAt == 0 {
		att.begunAt = max(since, 1)
		if now-att.begunAt >= prefetchBelow {
			att.agent.runsLong()
			t.update(att.agent)
		}
		if att.timeout > 0 {
			att.timeoutAt = max(att.begunAt+att.timeout, now) + t.s.cfg.CancelGrace
			t.arm(att)
		}
	}
}

// arm sets the timer to the attempt's earliest deadline.
func (t *term) arm(att *attempt) {
	earliest := att.progressAt
	if att.agent.connected {
		// Without a connection nothing may be concluded but from the lease.
		for _, at := range [...]time.Duration{att.ackBy, att.timeoutAt, att.stopBy} {
			if at != 0 && (earliest == 0 || at < earliest) {
				earliest = at
			}
		}
	}
	if earliest == 0 || att.finishing || att.slot < 0 {
		t.timers.stop(&att.timer)
		return
	}
	t.setTimer(&att.timer, earliest)
}

// expire implements expirer.
func (att *attempt) expire(t *term, now time.Duration, fx *effects) {
	if att.finishing || att.slot < 0 {
		return
	}
	reached := func(at time.Duration) bool { return at != 0 && at <= now }
	if reached(att.progressAt) {
		t.recordProgress(att, now, fx)
	}
	if att.agent.connected && att.outboxUntil <= now {
		switch {
		case reached(att.stopBy):
			t.stopHard(att, fx)
		case reached(att.timeoutAt):
			t.dropFrom(att, "the attempt took longer than its timeout", fx)
			t.finish(att, t.afterFailure(att, job.OutcomeTimedOut, &job.Failure{
				Kind: "timeout", Message: "the attempt took longer than its timeout of " + job.For(att.timeout).String() + " and the agent did not end it",
			}, 0), fx, nil)
		case reached(att.ackBy) && att.unlisted:
			t.revoke(att, "the agent did not acknowledge the dispatch within "+t.s.cfg.AckTimeout.String(), fx)
		case reached(att.ackBy):
			att.ackBy = 0 // the agent's next heartbeat tells, or its lease ends
		}
	}
	t.arm(att)
}

// dropFrom tells the agent that it no longer owns the attempt.
func (t *term) dropFrom(att *attempt, reason string, fx *effects) {
	if att.unsent == nil && !att.unreached {
		fx.send(att.agent, wire.Message{Cancel: &wire.Cancel{Job: att.id, Fence: att.fence, Reason: reason, Drop: true}})
	}
}

// finish has the attempt's end recorded. answer, which may be nil, is told whether
// it was; it is not called when that will never be known.
func (t *term) finish(att *attempt, fin *command.Finish, fx *effects, answer func(accepted bool, reason string, fx *effects)) {
	att.finishing = true
	t.arm(att)
	t.free(att)
	fx.propose(fin, func(r command.Result, err error, fx *effects) {
		switch {
		case err != nil:
			// Unknown, and then the term is over; or never possible. An agent that
			// still has the result sends it again.
			att.finishing = false
		case r.Err == nil:
			t.s.metrics.outcome(fin)
			if fin.Outcome != job.OutcomeRevoked {
				t.unavoid(att.id)
			}
			t.forget(att)
		default:
			t.forget(att)
		}
		for _, again := range att.repeats {
			t.answerFromState(again, fx)
		}
		att.repeats = nil
		switch {
		case answer == nil || err != nil:
		case r.Err != nil:
			answer(false, r.Err.Message, fx)
		default:
			answer(true, "", fx)
		}
	})
}

// revoke takes back an attempt that the agent has not begun, as far as one knows.
// When it was sent, nobody can know: a job that may be executed only once has ended
// then.
func (t *term) revoke(att *attempt, why string, fx *effects) {
	if att.finishing {
		return
	}
	if att.unsent == nil && !att.unreached && att.maxAttempts == 1 {
		t.lose(att, why+"; it may have begun, and with max_attempts 1 it is not executed again", fx)
		return
	}
	t.dropFrom(att, why, fx)
	fin := &command.Finish{
		Job: att.id, Fence: att.fence, Outcome: job.OutcomeRevoked, Next: job.Pending,
		Error: &job.Failure{Kind: "revoked", Message: why},
	}
	if att.cancelled {
		fin.Next = job.Cancelled
	}
	t.finish(att, fin, fx, nil)
}

// lose ends an attempt whose agent no longer has it, or can no longer be asked. A
// lost attempt is not counted as a failure, until there are too many of them.
func (t *term) lose(att *attempt, why string, fx *effects) {
	if att.finishing {
		return
	}
	t.dropFrom(att, why, fx)
	fin := &command.Finish{
		Job: att.id, Fence: att.fence, Outcome: job.OutcomeLost, Next: job.Pending,
		Error: &job.Failure{Kind: "lost", Message: why},
	}
	switch {
	case att.cancelled:
		fin.Next = job.Cancelled
	case att.maxAttempts == 1, att.lost >= job.MaxLost:
		fin.Next = job.Failed
	}
	t.finish(att, fin, fx, nil)
}
