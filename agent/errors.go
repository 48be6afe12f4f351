package agent

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/orrery-io/orrery/wire"
)

// Why an attempt was told to stop: what context.Cause of a handler's context
// wraps. Compare with errors.Is.
var (
	// ErrCancelled means that somebody asked for the job to be cancelled.
	ErrCancelled = errors.New("the job was cancelled")
	// ErrTimeout means that the attempt took longer than the job's timeout.
	ErrTimeout = errors.New("the attempt took longer than its timeout")
	// ErrLeaseLost means that the agent had no contact with the cluster for so long
	// that another agent may get the job. What the handler returns hardly matters
	// then; what it does may collide with another attempt.
	ErrLeaseLost = errors.New("the agent lost contact with the cluster for longer than its lease")
	// ErrDropped means that the cluster has given the job away or ended it.
	ErrDropped = errors.New("the job no longer belongs to this agent")
	// ErrStopped means that the agent is ending and has waited long enough.
	ErrStopped = errors.New("the agent is stopping")
)

// stopCause is one of the errors above with what the cluster said about it.
type stopCause struct {
	why    error
	reason string
}

func (s *stopCause) Error() string {
	if s.reason == "" {
		return s.why.Error()
	}
	return s.why.Error() + ": " + s.reason
}

func (s *stopCause) Unwrap() error { return s.why }

// Error is a failure with details. A handler returns it (or an error that wraps
// it) to say more than a message.
type Error struct {
	// Kind groups failures, such as "smtp" or "exit". Empty means "error".
	Kind string
	// Message is what people read.
	Message string
	// ExitCode is that of a process, when there was one.
	ExitCode *int
	// Err is the cause; it may be nil. It is not sent.
	Err error
}

// Error returns the message, or what Err says when there is none.
func (e *Error) Error() string {
	if e.Message == "" && e.Err != nil {
		return e.Err.Error()
	}
	return cmp.Or(e.Message, e.Kind, "failed")
}

// Unwrap returns Err.
func (e *Error) Unwrap() error { return e.Err }

type permanentError struct{ error }

func (p *permanentError) Unwrap() error { return p.error }

// Permanent marks err so that the job is not tried again. Nil stays nil.
func Permanent(err error) error {
	if err == nil {
		return nil
	}
	return &permanentError{err}
}

type retryAfterError struct {
	error
	delay time.Duration
}

func (r *retryAfterError) Unwrap() error { return r.error }

// RetryAfter marks err so that the next attempt, if there is one left, comes after
// d instead of what the job's policy says. A negative d counts as zero. Nil stays
// nil.
func RetryAfter(err error, d time.Duration) error {
	if err == nil {
		return nil
	}
	return &retryAfterError{err, max(d, 0)}
}

// panicError is a handler's panic.
type panicError struct {
	value any
	stack []byte
}

func (p *panicError) Error() string { return fmt.Sprint(p.value) }

// RefusedError is returned by Run when a node says that connecting again cannot
// help.
type RefusedError struct {
	// Addr is the node's address.
	Addr string
	// Code is a word for programs, such as "unauthorized".
	Code string
	// Message is the node's sentence.
	Message string
}

// Error tells who refused and why.
func (e *RefusedError) Error() string {
	return fmt.Sprintf("agent: %s refuses the agent: %s (%s)", e.Addr, e.Message, e.Code)
}

// Bounds on what a failure carries, in bytes.
const (
	maxKind    = 100
	maxMessage = 8 << 10
	maxStack   = 32 << 10
)

// failureOf tells err to the cluster.
func failureOf(err error) *wire.Failure {
	f := &wire.Failure{Kind: "error", Message: clip(err.Error(), maxMessage)}
	if e, ok := errors.AsType[*Error](err); ok {
		f.Kind = cmp.Or(clip(strings.TrimSpace(e.Kind), maxKind), f.Kind)
		f.ExitCode = e.ExitCode
	}
	if p, ok := errors.AsType[*panicError](err); ok {
		f.Kind = "panic"
		f.Stack = clip(string(p.stack), maxStack)
	}
	if _, ok := errors.AsType[*permanentError](err); ok {
		f.Permanent = true
	}
	if r, ok := errors.AsType[*retryAfterError](err); ok {
		// Rounded up, and never zero, which would mean the job's own policy.
		f.RetryAfter = max(1, int64((r.delay+time.Millisecond-1)/time.Millisecond))
	}
	return f
}

// stopped fills in how an attempt ended whose handler returned err after it was
// told to stop, and reports whether there is anything to tell the cluster.
//
// Of an attempt that was lost, dropped, or cut short by the end of the agent
// nothing is told: it vanishes from the next heartbeat, and the cluster counts it
// as lost, which does not use up one of the job's attempts.
func stopped(r *wire.Result, cause, err error) bool {
	switch {
	case errors.Is(cause, ErrTimeout):
		r.Outcome = "timed_out"
		r.Error = failureOf(err)
		r.Error.Kind = "timeout"
		if !errors.Is(err, context.DeadlineExceeded) && !errors.Is(err, ErrTimeout) {
			r.Error.Message = clip(ErrTimeout.Error()+": "+r.Error.Message, maxMessage)
		} else {
			r.Error.Message = ErrTimeout.Error()
		}
	case errors.Is(cause, ErrCancelled):
		r.Outcome = "cancelled"
		r.Error = failureOf(err)
		r.Error.Kind = "cancelled"
		r.Error.Message = clip(cause.Error(), maxMessage)
		r.Error.Permanent, r.Error.RetryAfter = false, 0
	case errors.Is(cause, ErrLeaseLost), errors.Is(cause, ErrDropped), errors.Is(cause, ErrStopped):
		return false
	default:
		r.Outcome = "failed"
		r.Error = failureOf(err)
	}
	return true
}

// clip makes s valid UTF-8 of at most n bytes, saying what was cut.
func clip(s string, n int) string {
	s = strings.ToValidUTF8(s, "\uFFFD")
	if len(s) <= n {
		return s
	}
	cut := fmt.Sprintf("… (%d bytes in all)", len(s))
	keep := max(0, n-len(cut))
	return strings.ToValidUTF8(s[:keep], "") + cut
}
