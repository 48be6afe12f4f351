package agent

import (
	"context"
	"fmt"
	"runtime/debug"
	"sync/atomic"
	"time"

	"github.com/orrery-io/orrery/job"
	"github.com/orrery-io/orrery/wire"
)

// phase is where an attempt stands on this agent.
type phase uint8

const (
	// waiting is in the agent's own queue.
	waiting phase = iota
	// running has a handler that has not returned, whatever it was told.
	running
	// ended has a handler that returned; the result may wait for its
	// acknowledgement.
	ended
)

// attempt is one attempt that this agent holds.
type attempt struct {
	raw RawJob
	// lease is the job's own; zero means the session's.
	lease time.Duration
	bench *bench
	out   *outgoing
	ack   wire.Ack

	// What follows is the bench's.
	phase phase
	// started is when the handler was called.
	started time.Time
	// startTold is set when the cluster was told so in this session.
	startTold bool
	// leaseLost means that it was told to stop for that reason.
	leaseLost bool
	cancel    context.CancelCauseFunc
	// older is another attempt of the same job that is still here; successor waits
	// for the end of this one.
	older, successor *attempt
	// order numbers the outbox; told is when the result was last handed to a
	// connection.
	order uint64
	told  time.Time

	// result is written once, before the attempt is given to outgoing.
	result *wire.Result
	// void means that nothing more is to be told about the attempt.
	void atomic.Bool

	// ctx is that of the handler, written before it is called.
	ctx context.Context //nolint:containedctx // it is the attempt's own, and the log of the attempt has to end with it
	log lineBuffer
}

func newAttempt(d *wire.Dispatch, b *bench) *attempt {
	at := &attempt{bench: b, out: b.out, lease: milliseconds(d.Lease), ack: wire.Ack{Job: d.Job, Fence: d.Fence}}
	at.raw = newRawJob(d, at)
	return at
}

func (at *attempt) id() job.ID       { return at.raw.ID }
func (at *attempt) fence() job.Fence { return at.raw.Fence }

// execute calls the handler and sees to the end of the attempt. It doesn't return
// when the handler ends its goroutine (runtime.Goexit).
func (at *attempt) execute(h HandlerFunc) {
	if at.raw.Timeout > 0 {
		ctx, stop := context.WithTimeoutCause(at.ctx, at.raw.Timeout, ErrTimeout)
		defer stop()
		at.ctx = ctx
	}
	ctx := at.ctx
	var (
		out      any
		err      error
		returned bool
	)
	defer func() {
		if !returned {
			err = &panicError{value: "the handler ended its goroutine (runtime.Goexit)"}
			if v := recover(); v != nil {
				err = &panicError{value: v, stack: debug.Stack()}
			}
		}
		at.bench.finish(at, at.conclude(out, err, context.Cause(ctx)))
	}()
	out, err = h(ctx, &at.raw)
	returned = true
}

// conclude makes the result of what the handler returned; nil when nothing is to
// be told.
func (at *attempt) conclude(out any, err, cause error) *wire.Result {
	r := &wire.Result{Job: at.id(), Fence: at.fence()}
	if err == nil {
		// Work that was done is reported as done, also when it was told to stop
		// in the meantime: whether it still counts is for the fence to decide.
		r.Outcome = "completed"
		if err = encodeSafely(r, out); err == nil {
			return r
		}
		r.Outcome = "failed"
		r.Error = failureOf(err)
		return r
	}
	if !stopped(r, cause, err) {
		return nil
	}
	return r
}

// encodeSafely is encodeResult with the panics of the user's marshalers caught.
func encodeSafely(r *wire.Result, out any) (err error) {
	defer func() {
		if v := recover(); v != nil {
			err = &panicError{value: fmt.Sprintf("encoding the result: %v", v), stack: debug.Stack()}
		}
	}()
	return encodeResult(r, out)
}
