package builtin

import (
	"cmp"
	"context"
	"time"

	"github.com/orrery-io/orrery/agent"
	"github.com/orrery-io/orrery/job"
)

// Register gives a the handlers echo, sleep and fail.
func Register(a *agent.Agent) {
	agent.Handle(a, "echo", echo)
	agent.Handle(a, "sleep", sleep)
	agent.Handle(a, "fail", fail)
}

// echo returns the payload as it came: JSON as JSON, bytes as bytes.
func echo(_ context.Context, j *agent.Job[[]byte]) (any, error) {
	if len(j.PayloadBytes) > 0 {
		return j.PayloadBytes, nil
	}
	return j.Payload, nil
}

// slept is the result of sleep.
type slept struct {
	Slept job.Duration `json:"slept"`
}

// sleep waits for as long as {"for":"2s"} says, tells how far it is, and stops at
// once when it is told to.
func sleep(ctx context.Context, j *agent.Job[job.JSON]) (slept, error) {
	var p struct {
		For *job.Duration `json:"for"`
	}
	if len(j.PayloadBytes) > 0 {
		return slept{}, badPayload("is raw bytes; it must be an object such as {\"for\":\"2s\"}")
	}
	if err := decode(j.Args, &p, "for"); err != nil {
		return slept{}, err
	}
	if p.For == nil {
		return slept{}, badPayload("must say for how long, as in {\"for\":\"2s\"}")
	}
	length := p.For.Duration()
	began := time.Now()
	done := time.NewTimer(length)
	defer done.Stop()
	tick := time.NewTicker(max(length/100, 100*time.Millisecond))
	defer tick.Stop()
	for {
		select {
		case <-done.C:
			j.Progress(100, "slept "+p.For.String())
			return slept{*p.For}, nil
		case <-tick.C:
			j.Progress(100*float64(time.Since(began))/float64(length), "sleeping")
		case <-ctx.Done():
			return slept{}, context.Cause(ctx)
		}
	}
}

// failed is the result of fail, when it no longer fails.
type failed struct {
	Attempt int `json:"attempt"`
}

// fail fails as {"message","kind","permanent","times"} says: the first so many
// attempts, or every one when times is absent.
func fail(_ context.Context, j *agent.Job[job.JSON]) (failed, error) {
	var p struct {
		Message   string `json:"message"`
		Kind      string `json:"kind"`
		Permanent bool   `json:"permanent"`
		Times     *int   `json:"times"`
	}
	if len(j.PayloadBytes) > 0 {
		return failed{}, badPayload("is raw bytes; it must be an object")
	}
	if err := decode(j.Args, &p, "message", "kind", "permanent", "times"); err != nil {
		return failed{}, err
	}
	if p.Times != nil && *p.Times < 0 {
		return failed{}, badPayload("has %d as \"times\", which must not be negative", *p.Times)
	}
	if p.Times != nil && j.Attempt > *p.Times {
		return failed{j.Attempt}, nil
	}
	err := error(&agent.Error{Kind: p.Kind, Message: cmp.Or(p.Message, "failed as the payload asks")})
	if p.Permanent {
		err = agent.Permanent(err)
	}
	return failed{}, err
}
