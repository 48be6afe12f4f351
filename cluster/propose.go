package cluster

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"time"

	"github.com/orrery-io/orrery/command"
	"github.com/orrery-io/orrery/internal/obs"
	"github.com/orrery-io/orrery/job"
)

const methodPropose = "cluster.propose"

func (n *Node) proposeHandlers() map[string]Handler {
	return map[string]Handler{methodPropose: n.answerCalls}
}

// Propose records items, in this order, and returns one result per item. Items of one
// call go into the log together unless they exceed an entry. The items belong to the
// node from now on, even after Propose has returned an error.
//
// It works on every node: one that doesn't lead forwards the call, and has applied
// what was recorded when Propose returns, unless ctx ends before. While no leader can
// take the call it waits for up to Config.LeaderWait. But a call with a context of
// Config.Lead is recorded in that term or not at all.
//
// Errors: job.ErrNotLeader, job.ErrClosed and the cause of ctx mean that nothing was
// recorded; job.ErrOutcomeUnknown that it may have been, in part or as a whole. Any
// other *job.Error refuses the whole call. A command that was refused is no error of
// Propose but of its Result.
func (n *Node) Propose(ctx context.Context, items ...command.Item) ([]command.Result, error) {
	results, err := n.proposeHere(ctx, items)
	if err == nil || !n.movable(ctx, err) {
		return results, err
	}
	if !n.enter() {
		return nil, job.ErrClosed
	}
	defer n.guests.Done()
	var all []command.Result
	for piece := range pieces(items, forwardCall) {
		results, err := n.proposeAnywhere(ctx, piece)
		switch {
		case err == nil:
			all = append(all, results...)
		case len(all) > 0:
			return nil, fmt.Errorf("%w: %w", job.ErrOutcomeUnknown, err) // a part was recorded
		default:
			return nil, err
		}
	}
	return all, nil
}

// proposeAnywhere has whoever leads record what one request to the leader can carry.
func (n *Node) proposeAnywhere(ctx context.Context, items []command.Item) (results []command.Result, err error) {
	err = n.withLeader(ctx, n.cfg.LeaderWait, func(leader string) error {
		unassign(items)
		if leader == n.cfg.ID {
			results, err = n.proposeHere(ctx, items)
			return err
		}
		var index uint64
		if index, results, err = n.forward.propose(ctx, items); err == nil {
			n.catchUp(ctx, index)
		}
		return err
	})
	return results, err
}

// forwardCall bounds what of one call goes to the leader at once, in bytes: half of
// what Peers must be able to carry, because the encoding adds to it.
const forwardCall = 4 << 20

// pieces divides items into runs of at most so many bytes. One item that is larger is
// a piece of its own.
func pieces(items []command.Item, most int) iter.Seq[[]command.Item] {
	return func(yield func([]command.Item) bool) {
		begin, size := 0, 0
		for i := range items {
			if items[i].Command == nil {
				continue // refused with its piece
			}
			n := items[i].Size()
			if i > begin && size+n > most {
				if !yield(items[begin:i]) {
					return
				}
				begin, size = i, 0
			}
			size += n
		}
		yield(items[begin:])
	}
}

// proposeHere records items when this node leads.
func (n *Node) proposeHere(ctx context.Context, items []command.Item) ([]command.Result, error) {
	pass, fill, err := n.screen(items)
	if err != nil {
		return nil, err
	}
	results, err := n.proposer.propose(ctx, pass)
	if err == nil && fill != nil {
		results = fill(results)
	}
	return results, err
}

// termKey marks the contexts of a term of leadership.
type termKey struct{}

// movable reports whether a call of which nothing was recorded here may be answered
// by another node, or by this one later.
func (n *Node) movable(ctx context.Context, err error) bool {
	return n.cfg.Peers != nil && refused(err) && ctx.Err() == nil && ctx.Value(termKey{}) == nil && !n.isClosed()
}

// refused reports whether err says that nothing was recorded because the node that was
// asked doesn't lead, is stopping, or was not reached.
func refused(err error) bool {
	e, ok := errors.AsType[*job.Error](err)
	return ok && e.Kind == job.Unavailable &&
		(e.Code == job.ErrNotLeader.Code || e.Code == job.ErrClosed.Code || e.Code == codeUnreachable)
}

// codeUnreachable is the code with which Peers say that nothing reached the other node.
const codeUnreachable = "node_unreachable"

// Bounds of the pauses between two attempts while nothing else tells that another one
// makes sense.
const (
	firstPause   = 5 * time.Millisecond
	longestPause = 250 * time.Millisecond
)

// withLeader calls try with the leader, again and again while it is refused, for up to
// wait; with zero, once at most. try is given this node's own id while it takes proposals.
func (n *Node) withLeader(ctx context.Context, wait time.Duration, try func(leader string) error) error {
	limit := time.NewTimer(wait)
	defer limit.Stop()
	pause := firstPause
	for {
		leader, changed := n.leaders.now()
		err := error(job.ErrNotLeader)
		if n.term.Load() != 0 {
			leader = n.cfg.ID
		}
		if leader != "" && (leader != n.cfg.ID || n.term.Load() != 0) {
			if err = try(leader); !refused(err) {
				return err
			}
		}
		again := time.NewTimer(pause)
		select {
		case <-changed:
			pause = firstPause
		case <-again.C:
			pause = min(2*pause, longestPause)
		case <-limit.C:
			again.Stop()
			return err
		case <-ctx.Done():
			again.Stop()
			return context.Cause(ctx)
		case <-n.over:
			again.Stop()
			return job.ErrClosed
		}
		again.Stop()
		if n.isClosed() {
			return job.ErrClosed
		}
	}
}

// catchUp waits until index is applied here. What was recorded stays recorded: it only
// makes the caller see it.
func (n *Node) catchUp(ctx context.Context, index uint64) {
	if applied, _ := n.cfg.Machine.Applied(); applied >= index {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, n.cfg.LeaderWait)
	defer cancel()
	defer context.AfterFunc(n.dead, cancel)()
	if err := n.cfg.Machine.WaitApplied(ctx, index); err != nil {
		n.log.DebugContext(ctx, "this node has not applied yet what the leader has recorded", obs.Index(index), obs.Err(err))
	}
}

// unassign takes back what Prepare has decided on a leader that could not record it.
func unassign(items []command.Item) {
	for i := range items {
		switch c := items[i].Command.(type) {
		case *command.Submit:
			c.Assign = nil
		case *command.SubmitAll:
			for j := range c.Jobs {
				c.Jobs[j].Assign = nil
			}
		}
	}
}

// sendCalls has the leader record calls.
func (n *Node) sendCalls(ctx context.Context, leader string, calls []*call) (applied uint64, verdicts []verdict, err error) {
	body, err := appendCalls(nil, calls, n.cfg.Version)
	if err != nil {
		return 0, nil, err
	}
	n.metrics.forwards.Inc()
	answer, err := n.cfg.Peers.Call(ctx, leader, methodPropose, body)
	switch {
	case err == nil:
	case ctx.Err() != nil, job.KindOf(err) == job.Internal:
		return 0, nil, job.ErrOutcomeUnknown
	case len(calls) > 1 && isOutdated(err):
		return n.sendEach(ctx, leader, calls)
	default:
		return 0, nil, err
	}
	applied, verdicts, err = decodeVerdicts(answer, len(calls))
	if err != nil {
		n.log.WarnContext(ctx, "the leader's answer can't be read", obs.Node(leader), obs.Err(err))
		return 0, nil, job.ErrOutcomeUnknown
	}
	return applied, verdicts, nil
}

// sendEach is sendCalls one by one, after a leader of an older version has refused all
// of them because of something in one.
func (n *Node) sendEach(ctx context.Context, leader string, calls []*call) (applied uint64, verdicts []verdict, _ error) {
	verdicts = make([]verdict, len(calls))
	for i := range calls {
		index, one, err := n.sendCalls(ctx, leader, calls[i:i+1])
		if err != nil {
			verdicts[i].err = asJobError(err)
			continue
		}
		applied, verdicts[i] = max(applied, index), one[0]
	}
	return applied, verdicts, nil
}

// answer gives a forwarded call what the leader says.
func (c *call) answer(applied uint64, v verdict) {
	if !c.state.CompareAndSwap(callTaken, callFinished) {
		return
	}
	switch {
	case v.err != nil:
		c.err = v.err
	case len(v.results) != len(c.items):
		c.err = job.ErrOutcomeUnknown
	default:
		c.results, c.index = v.results, 0
		for i := range v.results {
			c.index = max(c.index, v.results[i].Index)
		}
		if c.index == 0 {
			c.index = applied
		}
	}
	c.done <- struct{}{}
}

// answerCalls records what another node has forwarded, as one call.
func (n *Node) answerCalls(ctx context.Context, _ string, body []byte) ([]byte, error) {
	calls, err := decodeCalls(body, n.cfg.Version)
	if err != nil {
		return nil, unreadable(err)
	}
	if err := n.awaitTerm(ctx); err != nil {
		return nil, err
	}
	verdicts := make([]verdict, len(calls))
	fills := make([]func([]command.Result) []command.Result, len(calls))
	var items []command.Item
	for i, c := range calls {
		unassign(c)
		_, err := sizeOf(c)
		if err == nil {
			calls[i], fills[i], err = n.screen(c)
		}
		if err != nil {
			verdicts[i].err = asJobError(err)
			continue
		}
		items = append(items, calls[i]...)
	}
	results, err := n.proposer.propose(ctx, items)
	if err != nil {
		return nil, err
	}
	for i, c := range calls {
		if verdicts[i].err != nil {
			continue
		}
		verdicts[i].results, results = results[:len(c):len(c)], results[len(c):]
		if fills[i] != nil {
			verdicts[i].results = fills[i](verdicts[i].results)
		}
	}
	return appendVerdicts(nil, n.adapter.lastCommand.Load(), verdicts)
}

// codeOutdated is the code with which an older leader refuses what it doesn't know.
const codeOutdated = "leader_outdated"

func isOutdated(err error) bool {
	e, ok := errors.AsType[*job.Error](err)
	return ok && e.Code == codeOutdated
}

// unreadable is the answer to calls that decodeCalls could not read.
func unreadable(err error) error {
	const code, hint = codeOutdated, "bring all nodes to the same version"
	if e, ok := errors.AsType[*command.UnknownKindError](err); ok {
		return job.Errorf(job.Unavailable, code, "the leader does not know commands of kind %d, which version %q has written", e.Kind, e.Version).WithHint(hint)
	}
	if e, ok := errors.AsType[*outdatedError](err); ok {
		return job.Errorf(job.Unavailable, code, "the leader does not know all options of this request, which version %q has forwarded", e.version).WithHint(hint)
	}
	return job.Errorf(job.Invalid, "malformed_forward", "the forwarded calls can't be read")
}

// asJobError returns err for another node; what is no *job.Error is nothing that it
// could do something about.
func asJobError(err error) *job.Error {
	if e, ok := errors.AsType[*job.Error](err); ok {
		return e
	}
	return job.Errorf(job.Internal, "internal", "%s", err)
}

// awaitTerm waits while this node has been elected but doesn't take proposals yet,
// so that those who know it already need not come again.
func (n *Node) awaitTerm(ctx context.Context) error {
	limit := time.NewTimer(n.cfg.LeaderWait)
	defer limit.Stop()
	for {
		leader, changed := n.leaders.now()
		switch {
		case n.term.Load() != 0:
			return nil
		case leader != n.cfg.ID || n.phase.Load() != phaseServing:
			return n.refusal()
		}
		select {
		case <-changed:
		case <-limit.C:
			return job.ErrNotLeader
		case <-n.over:
			return job.ErrClosed
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}
