package cluster

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/hashicorp/raft"
	"github.com/orrery-io/orrery/command"
	"github.com/orrery-io/orrery/internal/obs"
	"github.com/orrery-io/orrery/job"
)

// lead follows the leadership until ctx ends: one term at a time, each over before
// the next begins.
func (n *Node) lead(ctx context.Context, r *raft.Raft) {
	end, leads := func() {}, false
	defer func() { end() }()
	for {
		var req *restoration
		select {
		case <-ctx.Done():
			return
		case leads = <-r.LeaderCh():
		case req = <-n.restores:
		}
		// True after true means lost and won again in between.
		end()
		end = func() {}
		if req != nil {
			req.done <- n.restore(ctx, r, req)
		}
		if leads {
			end = n.startTerm(ctx, r)
		}
	}
}

// startTerm runs a term beside the caller, and returns what ends it and waits.
func (n *Node) startTerm(ctx context.Context, r *raft.Raft) (end func()) {
	ctx, cancel := context.WithCancelCause(ctx)
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := n.runTerm(ctx, r); err != nil && ctx.Err() == nil {
			n.fail(err)
		}
	}()
	return func() {
		cancel(job.ErrNotLeader)
		n.leaveTerm()
		<-done
	}
}

func (n *Node) runTerm(ctx context.Context, r *raft.Raft) error {
	if !n.barrier(ctx, r) {
		return nil
	}
	term := r.CurrentTerm()
	n.clock.atLeast(n.cfg.Machine.LastTime())
	if err := n.prepareCluster(ctx, r); err != nil {
		return err
	}
	n.metrics.terms.Inc()
	n.log.InfoContext(ctx, "this node leads", obs.Term(term))
	defer n.keepMembers(ctx, r)()
	if n.enterTerm(ctx, term) {
		err := n.cfg.Lead(context.WithValue(ctx, termKey{}, term), term)
		if err != nil && ctx.Err() == nil {
			return fmt.Errorf("lead term %d: %w", term, err)
		}
	}
	<-ctx.Done()
	n.log.InfoContext(context.WithoutCancel(ctx), "this node leads no longer", obs.Term(term))
	return nil
}

// enterTerm opens the proposer, unless the term is over already.
func (n *Node) enterTerm(ctx context.Context, term uint64) bool {
	n.term.Store(term)
	n.proposer.queue.open()
	n.leaders.touch()
	if ctx.Err() != nil {
		n.leaveTerm()
		return false
	}
	return true
}

// leaveTerm refuses proposals. Whoever ends a term cancels its context first, so that
// enterTerm cannot open the proposer behind it.
func (n *Node) leaveTerm() {
	n.term.Store(0)
	n.proposer.queue.close(job.ErrNotLeader)
	n.leaders.touch()
}

// barrier waits until everything committed in earlier terms is applied. It reports
// false when the leadership has gone.
func (n *Node) barrier(ctx context.Context, r *raft.Raft) bool {
	const pause = 10 * time.Millisecond
	for ctx.Err() == nil {
		err := r.Barrier(0).Error()
		switch {
		case err == nil:
			return ctx.Err() == nil
		case errors.Is(err, raft.ErrLeadershipTransferInProgress):
			select {
			case <-ctx.Done():
			case <-time.After(pause):
			}
		default:
			return false // LeaderCh tells what follows
		}
	}
	return false
}

// prepareCluster gives an empty cluster its schema and its id, before anything else
// is recorded. A node alone also brings an older schema to its own version; with
// others that waits until all of them know it.
func (n *Node) prepareCluster(ctx context.Context, r *raft.Raft) error {
	var items []command.Item
	empty := n.cfg.Machine.ClusterID() == ""
	single := len(r.GetConfiguration().Configuration().Servers) == 1
	if n.cfg.Machine.SchemaVersion() < n.cfg.newest && (empty || single) {
		items = append(items, command.Item{Command: &command.Migrate{To: n.cfg.newest}})
	}
	if empty {
		id, err := n.foundedAs()
		if err != nil {
			return err
		}
		items = append(items, command.Item{Command: &command.Init{ClusterID: id}})
	}
	if len(items) == 0 {
		return nil
	}
	e := command.Entry{Time: n.clock.next(), Version: n.cfg.Version, Items: items}
	data, err := e.Append(nil)
	if err != nil {
		return err
	}
	results, err := n.proposer.await(r.Apply(data, 0))
	if err != nil {
		// The next term sees what became of it.
		n.log.DebugContext(ctx, "cluster not prepared in this term", obs.Err(err))
		<-ctx.Done()
		return nil
	}
	for _, res := range results {
		if res.Err != nil {
			return fmt.Errorf("prepare the cluster: %w", res.Err)
		}
	}
	return nil
}
