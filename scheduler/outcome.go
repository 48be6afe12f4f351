package scheduler

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"github.com/orrery-io/orrery/command"
	"github.com/orrery-io/orrery/internal/obs"
	"github.com/orrery-io/orrery/job"
	"github.com/orrery-io/orrery/wire"
)

// Bounds on what is recorded of a failure, in bytes.
const (
	maxFailureKind    = 100
	maxFailureMessage = 8 << 10
	maxFailureStack   = 64 << 10
)

// repeat is a result that cannot be recorded, or not yet, and the session that
// sent it.
type repeat struct {
	from wire.Envelope
	res  *wire.Result
}

// result takes the end of an attempt from its agent, decides what becomes of the
// job, and has both recorded. The agent is told when they are.
func (t *term) result(env wire.Envelope, res *wire.Result, now time.Duration, fx *effects) {
	from := wire.Envelope{Session: env.Session, Node: env.Node, Agent: env.Agent}
	a := t.agents[env.Agent]
	var att *attempt
	if a != nil {
		att = t.owns(a, res.Job, res.Fence)
	}
	switch {
	case att == nil:
		t.answerFromState(repeat{from, res}, fx)
		return
	case att.finishing:
		att.repeats = append(att.repeats, repeat{from, res})
		return
	}
	if att.sentAt > 0 && !att.freed {
		a.ran(now-att.sentAt, att.inflight)
	}
	if att.progress != nil {
		t.recordProgress(att, now, fx)
	}
	t.finish(att, t.decide(att, res), fx, func(accepted bool, reason string, fx *effects) {
		if !accepted {
			t.s.metrics.refusedResults.Inc()
		}
		fx.sendTo(from, wire.Message{ResultAck: &wire.ResultAck{Job: res.Job, Fence: res.Fence, Accepted: accepted, Reason: reason}})
	})
}

// decide turns an agent's result into what is recorded.
func (t *term) decide(att *attempt, res *wire.Result) *command.Finish {
	failure, retryAfter := failureOf(res.Error)
	switch res.Outcome {
	case job.OutcomeCompleted.String():
		return &command.Finish{
			Job: att.id, Fence: att.fence, Outcome: job.OutcomeCompleted, Next: job.Completed,
			Result: res.Result, ResultBytes: res.ResultBytes,
		}
	case job.OutcomeTimedOut.String():
		if failure == nil {
			failure = &job.Failure{Kind: "timeout", Message: "the attempt took longer than its timeout"}
		}
		return t.afterFailure(att, job.OutcomeTimedOut, failure, retryAfter)
	case job.OutcomeCancelled.String():
		if failure == nil {
			failure = &job.Failure{Kind: "cancelled", Message: "the attempt was cancelled"}
		}
	case job.OutcomeFailed.String():
		if failure == nil {
			failure = &job.Failure{Kind: "error", Message: "the attempt failed without saying why"}
		}
	default:
		failure = &job.Failure{Kind: "protocol", Message: fmt.Sprintf("the agent reported the outcome %q, which does not exist", clip(res.Outcome, maxFailureKind))}
	}
	// An agent that stopped without having been asked to has failed.
	return t.afterFailure(att, job.OutcomeFailed, failure, retryAfter)
}

// afterFailure decides what follows an attempt that failed or timed out: the next
// one, after a delay that the job's policy or the handler asks for, or the job's end.
func (t *term) afterFailure(att *attempt, outcome job.Outcome, failure *job.Failure, retryAfter job.Duration) *command.Finish {
	fin := &command.Finish{Job: att.id, Fence: att.fence, Outcome: outcome, Error: failure}
	if att.cancelled {
		return endCancelled(fin)
	}
	if failure.Permanent || att.failures+1 >= att.maxAttempts {
		fin.Next = job.Failed
		if outcome == job.OutcomeTimedOut {
			fin.Next = job.TimedOut
		}
		return fin
	}
	delay := retryAfter
	if delay <= 0 {
		delay = t.jittered(att.retry.Delay(att.failures+1), att.retry.NoJitter)
	}
	fin.Next = job.Pending
	if delay > 0 {
		fin.Next, fin.RunAt = job.Scheduled, job.At(time.Now()).Add(delay)
	}
	return fin
}

// endCancelled turns the end of an attempt into the end of a job that was asked to
// stop.
func endCancelled(fin *command.Finish) *command.Finish {
	c := *fin
	c.Next, c.RunAt = job.Cancelled, 0
	switch fin.Outcome {
	case job.OutcomeLost, job.OutcomeRevoked:
	default:
		c.Outcome = job.OutcomeCancelled
	}
	return &c
}

// jittered spreads d over ±25 %, so that what failed together does not come again
// together.
func (t *term) jittered(d job.Duration, exact bool) job.Duration {
	if exact || d <= 0 {
		return d
	}
	return max(1, job.Duration(float64(d)*(0.75+0.5*rand.Float64()))) //nolint:gosec // not a secret
}

// failureOf converts and bounds what the agent says of a failure.
func failureOf(f *wire.Failure) (*job.Failure, job.Duration) {
	if f == nil {
		return nil, 0
	}
	kind := clip(f.Kind, maxFailureKind)
	if kind == "" {
		kind = "error"
	}
	return &job.Failure{
		Kind: kind, Message: clip(f.Message, maxFailureMessage), Stack: clip(f.Stack, maxFailureStack),
		ExitCode: f.ExitCode, Permanent: f.Permanent,
	}, min(max(0, job.Duration(f.RetryAfter)), job.MaxDuration)
}

// clip shortens s to at most n bytes of valid text.
func clip(s string, n int) string {
	if len(s) > n {
		s = s[:n]
	}
	return strings.ToValidUTF8(s, "")
}

// answerFromState answers a result of an attempt that has ended, by what is
// recorded: it is accepted when it is just this that was recorded before.
func (t *term) answerFromState(again repeat, fx *effects) {
	fx.after = append(fx.after, func(ctx context.Context) {
		accepted, reason, err := t.recorded(ctx, again)
		if err != nil {
			t.log.WarnContext(ctx, "result not answered", obs.JobID(again.res.Job), obs.Fence(again.res.Fence), obs.Err(err))
			return
		}
		if !accepted {
			t.s.metrics.refusedResults.Inc()
		}
		t.do(ctx, func(fx *effects) {
			fx.sendTo(again.from, wire.Message{ResultAck: &wire.ResultAck{
				Job: again.res.Job, Fence: again.res.Fence, Accepted: accepted, Reason: reason,
			}})
		})
	})
}

// errOpen means that an attempt has not ended, so there is nothing to answer yet.
var errOpen = errors.New("the attempt has not ended")

func (t *term) recorded(ctx context.Context, again repeat) (accepted bool, reason string, err error) {
	row, err := t.s.machine.Job(ctx, again.res.Job)
	switch {
	case errors.Is(err, job.ErrJobNotFound):
		return false, job.ErrJobNotFound.Message, nil
	case err != nil:
		return false, "", err
	}
	i := slices.IndexFunc(row.Attempts, func(x job.Attempt) bool { return x.Fence == again.res.Fence })
	if i < 0 || row.Attempts[i].Agent != again.from.Agent {
		return false, job.ErrStaleFence.Message, nil
	}
	said := again.res.Outcome
	switch was := row.Attempts[i].Outcome; {
	case was == 0:
		return false, "", errOpen
	case was.String() == said,
		was == job.OutcomeCancelled && said != job.OutcomeCompleted.String(),
		was == job.OutcomeFailed && said == job.OutcomeCancelled.String():
		return true, "", nil
	default:
		return false, fmt.Sprintf("%s: it is recorded as %s", job.ErrStaleFence.Message, was), nil
	}
}
