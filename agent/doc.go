// Package agent connects a Go program to an Orrery cluster and lets it execute
// jobs.
//
//	a, err := agent.New(agent.Config{Addrs: []string{"http://127.0.0.1:7700"}, Slots: 16})
//	if err != nil {
//		return err
//	}
//	agent.Handle(a, "email.send", func(ctx context.Context, j *agent.Job[Email]) (Receipt, error) {
//		j.Logf("sending to %s", j.Args.To)
//		return send(ctx, j.Args)
//	})
//	return a.Run(ctx) // until ctx ends, then drains
//
// # Delivery
//
// A job is executed at least once, and its outcome recorded exactly once: each
// attempt has a fence, a number that only grows, and the cluster refuses what an
// older attempt reports. A handler should therefore be able to run again. It gets
// the fence (RawJob.Fence) to guard what it writes elsewhere.
//
// The agent sends heartbeats. While they are answered, what it holds stays its
// own, also over lost connections: handlers go on, and results wait in memory
// until the cluster has acknowledged them. Without an answer for as long as the
// lease, less a margin, the contexts of the handlers end with the cause
// ErrLeaseLost, before any other agent can be given the same job.
//
// # How an attempt ends
//
// A handler that returns no error completes the job, even when its context has
// ended meanwhile. An error fails the attempt, and the job is tried again as its
// policy says; wrap it with Permanent to give up at once, or with RetryAfter to
// choose the delay; return an *Error to set its kind. After a timeout or a cancel
// request an error is recorded as that. A panic fails the attempt with its stack.
//
//	what the handler's context says      what is recorded after an error
//	nothing                              failed
//	ErrTimeout                           timed_out
//	ErrCancelled                         cancelled
//	ErrLeaseLost, ErrDropped             nothing: others decide about the job
//	ErrStopped                           nothing: the cluster sees it as lost and tries again
//
// # Ending
//
// When its context ends, Run drains: it takes nothing new, hands back what has not
// begun and gives the handlers Config.DrainTimeout. Agent.Close is for the second
// Ctrl-C: it tells the handlers to stop at once.
package agent
