package scheduler

import (
	"time"

	"github.com/orrery-io/orrery/command"
	"github.com/orrery-io/orrery/job"
	"github.com/orrery-io/orrery/wire"
)

// cancelRequested acts on the request to end an active job: the agent is asked to
// stop it. While it has no connection its lease runs, or it comes again.
func (t *term) cancelRequested(id job.ID, fence job.Fence, reason string, now time.Duration, fx *effects) {
	att := t.attempts[id]
	if att == nil || att.fence != fence || att.finishing {
		return
	}
	att.cancelled, att.cancelReason = true, reason
	switch {
	case att.unsent != nil:
		t.revoke(att, "the job was cancelled before it could be sent", fx)
	case att.agent.connected && att.agent.welcomed:
		t.askToStop(att, now, fx)
	}
}

// askToStop tells the agent to stop an attempt, and by when it must have ended.
func (t *term) askToStop(att *attempt, now time.Duration, fx *effects) {
	if att.finishing {
		return
	}
	cfg := &t.s.cfg
	att.stopBy = now + cfg.CancelGrace + cfg.Margin
	t.arm(att)
	fx.send(att.agent, wire.Message{Cancel: &wire.Cancel{
		Job: att.id, Fence: att.fence, Reason: att.cancelReason, Grace: cfg.CancelGrace.Milliseconds(),
	}})
}

// stopHard ends an attempt that has not ended within its grace.
func (t *term) stopHard(att *attempt, fx *effects) {
	const why = "the attempt did not end within its grace after it was cancelled"
	t.dropFrom(att, why, fx)
	t.finish(att, &command.Finish{
		Job: att.id, Fence: att.fence, Outcome: job.OutcomeCancelled, Next: job.Cancelled,
		Error: &job.Failure{Kind: "cancelled", Message: why},
	}, fx, nil)
}
