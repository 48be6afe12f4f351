package agentconn

import (
	"fmt"
	"math"
	"strings"

	"github.com/coder/websocket"
	"github.com/orrery-io/orrery/job"
	"github.com/orrery-io/orrery/wire"
)

// Bounds on what an agent may send; what is longer is cut, and says so.
const (
	maxLine    = 64 << 10
	maxMessage = 8 << 10
	maxStack   = 32 << 10
	maxReason  = 1 << 10
	maxKind    = 100
	maxGauges  = 64
	maxSteps   = 1 << 31
)

// Kinds of failure that a node makes of a result that breaks a rule.
const (
	resultTooLarge = "result_too_large"
	resultInvalid  = "result_invalid"
)

// check makes the agent's messages such that the leader can take them. It returns
// how many are good, and how to end when not all are.
func (s *session) check(msgs []wire.Message) (int, *ending) {
	for i := range msgs {
		if e := s.checkOne(&msgs[i]); e != nil {
			return i, e
		}
		if msgs[i].Bye != nil {
			return i + 1, &ending{code: "bye", reason: "the agent said goodbye", status: websocket.StatusNormalClosure}
		}
	}
	return len(msgs), nil
}

func (s *session) checkOne(m *wire.Message) *ending {
	var id job.ID
	var fence job.Fence
	switch {
	case m.Result != nil:
		id, fence = m.Result.Job, m.Result.Fence
		if broken := boundResult(m.Result); broken != "" {
			s.hub.metrics.resultChanged.WithLabelValues(broken).Inc()
		}
	case m.Ack != nil:
		id, fence = m.Ack.Job, m.Ack.Fence
	case m.Start != nil:
		id, fence = m.Start.Job, m.Start.Fence
		m.Start.Running = max(m.Start.Running, 0)
	case m.Reject != nil:
		id, fence = m.Reject.Job, m.Reject.Fence
		m.Reject.Reason = bound(m.Reject.Reason, maxReason)
	case m.Log != nil:
		id, fence = m.Log.Job, m.Log.Fence
		boundLines(m.Log.Lines)
	case m.Progress != nil:
		id, fence = m.Progress.Job, m.Progress.Fence
		boundProgress(m.Progress)
	case m.Heartbeat != nil:
		boundGauges(m.Heartbeat)
		if !areAttempts(m.Heartbeat.Held) {
			return fault("invalid_message", "heartbeat.held must name a job and a fence in each entry", websocket.StatusPolicyViolation, true)
		}
		return nil
	case m.Drain != nil:
		m.Drain.Reason = bound(m.Drain.Reason, maxReason)
		s.drain()
		return nil
	case m.Bye != nil:
		m.Bye.Reason = bound(m.Bye.Reason, maxReason)
		return nil
	default:
		return fault("unexpected_message", "an agent does not send "+m.Kind()+" here", websocket.StatusPolicyViolation, true)
	}
	if !isAttempt(id, fence) {
		return fault("invalid_message", m.Kind()+" must name a job and a fence", websocket.StatusPolicyViolation, true)
	}
	return nil
}

// drain remembers that the agent wants nothing new, for the next leader.
func (s *session) drain() {
	s.up.Lock()
	defer s.up.Unlock()
	hello := *s.hello
	hello.Draining = true
	s.hello = &hello
}

// boundResult turns a result that cannot be recorded into a failure and returns
// the rule that it broke, "" for a good one.
func boundResult(r *wire.Result) string {
	switch r.Outcome {
	case job.OutcomeCompleted.String():
		r.Error = nil
	case job.OutcomeFailed.String(), job.OutcomeTimedOut.String(), job.OutcomeCancelled.String():
	default:
		fail(r, resultInvalid, "the agent reported the outcome %q, which is none of completed, failed, timed_out, cancelled", cut(r.Outcome, maxKind))
		return resultInvalid
	}
	switch size := len(r.Result) + len(r.ResultBytes); {
	case size > job.MaxPayload:
		fail(r, resultTooLarge, "the result is %d bytes; the limit is %d", size, job.MaxPayload)
		return resultTooLarge
	case len(r.Result) > 0 && len(r.ResultBytes) > 0:
		fail(r, resultInvalid, "the agent gave both result and result_bytes")
		return resultInvalid
	case len(r.Result) > 0 && !r.Result.Valid():
		fail(r, resultInvalid, "the result is not JSON in UTF-8")
		return resultInvalid
	case r.Result.Depth() > job.MaxDepth:
		fail(r, resultInvalid, "the result is nested more than %d levels deep", job.MaxDepth)
		return resultInvalid
	}
	if r.Error == nil && r.Outcome == job.OutcomeFailed.String() {
		r.Error = &wire.Failure{Kind: "error", Message: "the agent gave no reason"}
	}
	if f := r.Error; f != nil {
		if f.Kind == "" {
			f.Kind = "error"
		}
		f.Kind = bound(f.Kind, maxKind)
		f.Message = bound(f.Message, maxMessage)
		f.Stack = bound(f.Stack, maxStack)
		f.RetryAfter = min(max(f.RetryAfter, 0), int64(job.MaxDuration))
	}
	return ""
}

// fail makes r a failure that is not retried: the same would come again.
func fail(r *wire.Result, kind, format string, args ...any) {
	r.Outcome = job.OutcomeFailed.String()
	r.Result, r.ResultBytes = nil, nil
	r.Error = &wire.Failure{Kind: kind, Message: fmt.Sprintf(format, args...), Permanent: true}
}

func boundLines(lines []wire.LogLine) {
	for i := range lines {
		l := &lines[i]
		l.Text = bound(l.Text, maxLine)
		switch l.Level {
		case "debug", "info", "warn", "error", "stdout", "stderr":
		default:
			l.Level = "info"
		}
	}
}

func boundProgress(p *wire.Progress) {
	if math.IsNaN(p.Percent) {
		p.Percent = 0
	}
	p.Percent = min(max(p.Percent, 0), 100)
	p.Step = min(max(p.Step, 0), maxSteps)
	p.Steps = min(max(p.Steps, 0), maxSteps)
	p.Message = bound(p.Message, maxReason)
}

// boundGauges leaves out what is not a number, and everything when there are too
// many: which ones to keep, nobody could tell.
func boundGauges(h *wire.Heartbeat) {
	if len(h.Gauges) > maxGauges {
		h.Gauges = nil
	}
	for k, v := range h.Gauges {
		if job.CheckName(k) != "" || math.IsNaN(v) || math.IsInf(v, 0) {
			delete(h.Gauges, k)
		}
	}
}

// bound returns s as valid UTF-8 of about n bytes at most, and says when it was
// cut.
func bound(s string, n int) string {
	over := len(s) - n
	if over > 0 {
		s = s[:n]
	}
	s = strings.ToValidUTF8(s, "\uFFFD")
	if over > 0 {
		s += fmt.Sprintf("… [%d bytes cut]", over)
	}
	return s
}
