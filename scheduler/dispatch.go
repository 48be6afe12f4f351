package scheduler

import (
	"context"

	"github.com/orrery-io/orrery/command"
	"github.com/orrery-io/orrery/internal/obs"
	"github.com/orrery-io/orrery/internal/wallclock"
	"github.com/orrery-io/orrery/job"
)

// maxDecisions bounds one proposal of the dispatch loop.
const maxDecisions = 1000

// dispatchLoop decides all that can be decided and proposes it at once, again as
// soon as the proposal before has returned. Two of them run: while one waits for its
// entry to be recorded, the other takes what can be decided since, for the entry
// that the proposer gathers meanwhile.
func (t *term) dispatchLoop(ctx context.Context) error {
	var (
		decisions []decision
		items     = make([]command.Item, 0, maxDecisions)
	)
	for {
		t.mu.Lock()
		clear(decisions)
		decisions = t.match(decisions[:0], maxDecisions, t.wall())
		items = items[:0]
		commands := make([]command.Dispatch, len(decisions))
		for i, d := range decisions {
			commands[i] = command.Dispatch{Job: d.entry.id, Assign: d.agent.assign()}
			items = append(items, command.Item{Command: &commands[i]})
		}
		t.mu.Unlock()
		if len(items) == 0 {
			select {
			case <-ctx.Done():
				return nil
			case <-t.dispatchKick:
				continue
			}
		}
		results, err := t.s.cfg.Propose(ctx, items...)
		if ctx.Err() != nil {
			return nil //nolint:nilerr // the term is over
		}
		t.dispatchesSettled(ctx, decisions, results, err)
		if err != nil {
			t.log.WarnContext(ctx, "dispatches not recorded", obs.Count(len(items)), obs.Err(err))
			if !sleep(ctx, pause) {
				return nil
			}
		}
	}
}

// assign names the agent in a dispatch.
func (a *agent) assign() command.Assign {
	return command.Assign{Agent: a.id, Session: a.session, Node: a.node}
}

// dispatchesSettled gives back the credit of the decisions that were not carried
// out. Those that were hold theirs until the feed tells of them.
func (t *term) dispatchesSettled(ctx context.Context, decisions []decision, results []command.Result, err error) {
	t.do(ctx, func(*effects) {
		for i, d := range decisions {
			switch {
			case err != nil:
				t.release(d.agent)
				t.restore(d.group, d.entry)
			case results[i].Err == nil:
			case results[i].Err.Code == "queue_paused":
				t.release(d.agent)
				t.restore(d.group, d.entry)
			default:
				// It is no longer pending, or not there: the window was behind.
				t.s.metrics.refusedDispatches.Inc()
				t.release(d.agent)
			}
		}
	})
}

// reserve takes one of the agent's credits for a decision that is to be recorded.
func (t *term) reserve(a *agent) {
	a.reserved++
	t.turns++
	a.turn = t.turns
	t.update(a)
}

// release gives back a reservation.
func (t *term) release(a *agent) {
	if a.reserved > 0 {
		a.reserved--
		t.update(a)
	}
}

// wall is the wall clock in the words of the log.
func (t *term) wall() job.Time { return job.At(wallclock.Now()) }
