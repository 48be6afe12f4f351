package job

import (
	"errors"
	"fmt"
)

// ErrorKind says what sort of thing went wrong, independent of any transport.
// Only httpapi/errors.go turns kinds into HTTP statuses.
type ErrorKind uint8

// The kinds. The numbers are stored in the log and never change.
const (
	// Internal is a fault of Orrery itself; its text never reaches a client.
	Internal ErrorKind = iota
	// Invalid means that the request can never succeed as it is.
	Invalid
	// NotFound means that the thing named does not exist (any more).
	NotFound
	// Conflict means that the thing is not in a state that allows this.
	Conflict
	// Mismatch means that an idempotency key came again with another body.
	Mismatch
	// TooLarge means that a stated size limit was passed.
	TooLarge
	// Unauthorized means that no valid credential was given.
	Unauthorized
	// Forbidden means that the credential or origin does not allow this.
	Forbidden
	// Unavailable means that it may succeed later: no leader, shutting down.
	Unavailable
	// Overloaded means that the node refuses work until it has caught up.
	Overloaded
	// Unknown means that the outcome is not known: it may have happened.
	Unknown
)

// Error is an error that may be shown to a client: everything in it is public.
type Error struct {
	Kind ErrorKind `json:"-" msg:"k"`
	// Code is a stable word for programs, such as "job_not_found".
	Code string `json:"code" msg:"c,omitempty"`
	// Message says what is wrong, in one sentence without a final stop.
	Message string `json:"message" msg:"m,omitempty"`
	// Hint says what to do next. It may be empty.
	Hint string `json:"hint,omitempty" msg:"h,omitempty"`
}

// Error returns the message.
func (e *Error) Error() string { return e.Message }

// Is makes errors.Is match on kind and code, so that sentinels work whatever
// their message is.
func (e *Error) Is(target error) bool {
	t, ok := target.(*Error) //nolint:errorlint // Is is called by errors.Is for each link of the chain
	return ok && t.Kind == e.Kind && t.Code == e.Code
}

// Errorf makes an error of the given kind and code.
func Errorf(kind ErrorKind, code, format string, args ...any) *Error {
	return &Error{Kind: kind, Code: code, Message: fmt.Sprintf(format, args...)}
}

// WithHint returns a copy of e that says what to do next.
func (e *Error) WithHint(format string, args ...any) *Error {
	c := *e
	c.Hint = fmt.Sprintf(format, args...)
	return &c
}

// KindOf returns the kind of err, and Internal for an error that carries none.
func KindOf(err error) ErrorKind {
	if e, ok := errors.AsType[*Error](err); ok {
		return e.Kind
	}
	return Internal
}

// Sentinels shared by several packages.
var (
	// ErrNotLeader is returned by a node that cannot decide and knows no leader
	// that can.
	ErrNotLeader = &Error{Kind: Unavailable, Code: "no_leader", Message: "the cluster has no leader at the moment", Hint: "try again in a second"}
	// ErrOutcomeUnknown is returned when leadership was lost between proposing and
	// learning the result.
	ErrOutcomeUnknown = &Error{Kind: Unknown, Code: "outcome_unknown", Message: "leadership changed while the request was being recorded; it may or may not have happened", Hint: "send it again with the same idempotency key"}
	// ErrClosed is returned by a node that is stopping.
	ErrClosed = &Error{Kind: Unavailable, Code: "shutting_down", Message: "this node is shutting down", Hint: "use another node, or try again in a few seconds"}
	// ErrStaleFence is returned when an attempt reports that is no longer the
	// current one.
	ErrStaleFence = &Error{Kind: Conflict, Code: "stale_fence", Message: "this attempt is no longer the current one; what it reports is refused"}
	// ErrJobNotFound is returned for a job that does not exist (any more).
	ErrJobNotFound = &Error{Kind: NotFound, Code: "job_not_found", Message: "there is no such job"}
	// ErrAgentNotFound is returned for an agent that was never registered.
	ErrAgentNotFound = &Error{Kind: NotFound, Code: "agent_not_found", Message: "there is no such agent"}
	// ErrScheduleNotFound is returned for a schedule that does not exist (any more).
	ErrScheduleNotFound = &Error{Kind: NotFound, Code: "schedule_not_found", Message: "there is no such schedule"}
	// ErrQueueNotFound is returned for a queue in which no job ever was.
	ErrQueueNotFound = &Error{Kind: NotFound, Code: "queue_not_found", Message: "there is no such queue"}
)
