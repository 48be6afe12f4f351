package client

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
)

// errDone ends a stream of which its reader wants no more.
var errDone = errors.New("done")

// follow reads a stream of server-sent events and takes an interrupted one up
// again with Last-Event-ID, until each reports that it wants no more (errDone), or
// a cause remains that does not pass. A stream that cannot even be begun is an
// error at once.
func (c *Client) follow(ctx context.Context, r request, each func(sseEvent) (more bool, err error)) error {
	patience := newPatience()
	lastID, begun := "", false
	for {
		answered, events, err := c.followOnce(ctx, r, &lastID, each)
		begun = begun || answered
		switch {
		case ctx.Err() != nil, !begun, !passing(err):
			return err
		case events > 0:
			patience = newPatience()
		}
		if !patience.retry(ctx, err) {
			return err
		}
	}
}

// followOnce reads one connection's worth of a stream. It reports whether the node
// had answered, and how many events came. The error is never nil.
func (c *Client) followOnce(ctx context.Context, r request, lastID *string, each func(sseEvent) (bool, error)) (answered bool, n int, err error) {
	r.header = http.Header{"Accept": {"text/event-stream"}}
	if *lastID != "" {
		r.header.Set("Last-Event-Id", *lastID)
	}
	resp, err := c.do(ctx, r)
	if err != nil {
		return false, 0, err
	}
	defer resp.Body.Close()
	events := newSSEReader(resp.Body)
	events.id = *lastID
	// An id may come alone, to say how far a filter has looked.
	defer func() { *lastID = events.id }()
	for {
		ev, err := events.Next()
		switch {
		case errors.Is(err, errEventTooLong):
			return true, n, badStream(err)
		case err != nil && ctx.Err() != nil:
			return true, n, context.Cause(ctx)
		case errors.Is(err, io.EOF):
			return true, n, &Error{Code: CodeNoAnswer, Detail: base(resp) + " ended the stream"}
		case err != nil:
			return true, n, unanswered(base(resp), err)
		}
		n++
		more, err := each(ev)
		switch {
		case err != nil:
			return true, n, err
		case !more:
			return true, n, errDone
		}
	}
}

func badStream(err error) error {
	return &Error{Code: CodeBadAnswer, cause: err, Detail: fmt.Sprintf("the stream cannot be read: %v", err)}
}
