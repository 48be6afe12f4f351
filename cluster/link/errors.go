package link

import (
	"errors"
	"fmt"

	"github.com/orrery-io/orrery/job"
)

// Why a connection ends. Those that a peer causes are logged as warnings.
var (
	errStopped    = errors.New("the node stops")
	errSuperseded = errors.New("the node has connected again")
	errUnwanted   = errors.New("the connection is not needed any more")
	errSilent     = errors.New("nothing was heard of the node for too long")
	errViolation  = errors.New("the node broke a rule of the link")
)

// unreachable is the error of what has not left this node. cause is for the log; only
// what a *job.Error in it says is for clients.
func unreachable(node string, cause error) error {
	e := job.Errorf(job.Unavailable, "node_unreachable", "node %s cannot be reached at the moment", node).
		WithHint("try again in a second")
	if why, ok := errors.AsType[*job.Error](cause); ok {
		e.Message = fmt.Sprintf("node %s cannot be reached: %s", node, why.Message)
	}
	if cause == nil {
		return e
	}
	return fmt.Errorf("%w: %w", e, cause)
}

// unknown is the error of a request that was sent and not answered.
func unknown(node string, cause error) error {
	e := *job.ErrOutcomeUnknown
	e.Message = fmt.Sprintf("the connection to node %s was lost while a request was under way; it may or may not have happened", node)
	return fmt.Errorf("%w: %w", &e, cause)
}

// broken is the error of a stream that ended before its end.
func broken(node string, cause error) error {
	e := job.Errorf(job.Unavailable, "link_broken", "the connection to node %s was lost", node).WithHint("try again in a second")
	return fmt.Errorf("%w: %w", e, cause)
}

func tooLarge(size, limit int) error {
	return job.Errorf(job.TooLarge, "message_too_large", "a message between nodes would have %d bytes; the limit is %d", size, limit)
}

// faultOf prepares a handler's error for its way back. Errors that are none of job's
// go as internal ones; httpapi keeps their text from clients.
func faultOf(err error) *fault {
	if err == nil {
		return nil
	}
	if e, ok := errors.AsType[*job.Error](err); ok {
		return &fault{Kind: e.Kind, Code: e.Code, Message: e.Message, Hint: e.Hint}
	}
	return &fault{Kind: job.Internal, Code: "internal", Message: err.Error()}
}

// err is the reverse.
func (f *fault) err() error {
	if f == nil {
		return nil
	}
	e := &job.Error{Kind: f.Kind, Code: f.Code, Message: f.Message, Hint: f.Hint}
	if e.Kind > job.Unknown {
		e.Kind = job.Internal // of a later version
	}
	return e
}
