package cluster

import (
	"context"
	"time"

	"github.com/hashicorp/raft"
	"github.com/orrery-io/orrery/internal/obs"
	"github.com/orrery-io/orrery/job"
)

// The phases of a node.
const (
	phaseServing   int32 = iota
	phaseResigning       // it hands the leadership over, and sends what comes in to the next leader
	phaseClosed          // it takes nothing any more
)

// Bounds on stopping.
const (
	// transferLimit is how long a leader tries to hand over. Then it stops anyway: the
	// others elect a leader without it.
	transferLimit = 3 * time.Second
	// guestLimit is how long calls that another node answers are waited for.
	guestLimit = 2 * time.Second
)

// enter lets a call in that another node may answer; guests.Done must follow. It
// reports false when this node takes nothing any more.
func (n *Node) enter() bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.isClosed() {
		return false
	}
	n.guests.Add(1)
	return true
}

func (n *Node) isClosed() bool { return n.phase.Load() == phaseClosed || n.dead.Err() != nil }

func (n *Node) setPhase(p int32) {
	n.mu.Lock()
	n.phase.Store(p)
	n.mu.Unlock()
	n.leaders.touch()
}

// resign leaves the cluster in order when Run ends: a leader finishes what is in
// flight and hands over, and calls that were in this node's hands get their answers
// from the next leader. led is closed when the term is over. Everything is bounded.
func (n *Node) resign(r *raft.Raft, led <-chan struct{}) {
	if n.dead.Err() == nil && r.State() == raft.Leader && len(n.otherVoters(r)) > 0 {
		n.setPhase(phaseResigning)
		limit, cancel := context.WithTimeout(n.dead, transferLimit)
		n.handOver(limit, r, led)
		cancel()
	}
	n.setPhase(phaseClosed)
	n.proposer.queue.close(job.ErrClosed)
	if n.dead.Err() != nil {
		return
	}
	gone := make(chan struct{})
	go func() { n.guests.Wait(); close(gone) }()
	limit := time.NewTimer(guestLimit)
	defer limit.Stop()
	select {
	case <-gone:
	case <-limit.C:
	case <-n.dead.Done():
	}
}

func (n *Node) otherVoters(r *raft.Raft) []string {
	others, _ := n.voters(r)
	return others
}

// handOver transfers the leadership to another voter, and waits until one leads.
func (n *Node) handOver(ctx context.Context, r *raft.Raft, led <-chan struct{}) {
	began := time.Now()
	select {
	case <-led: // the term is over, and the proposer is closed
	case <-ctx.Done():
		return
	}
	if !n.proposer.settle(ctx) {
		return
	}
	for ctx.Err() == nil && r.State() == raft.Leader {
		done := make(chan error, 1)
		future := r.LeadershipTransfer()
		go func() { done <- future.Error() }() // ends with raft at the latest
		var err error
		select {
		case err = <-done:
		case <-ctx.Done(): // it sticks; raft would take no proposals any more
			n.log.Warn("the leadership could not be handed over in time", obs.Took(time.Since(began)))
			return
		}
		if err != nil {
			n.log.Warn("the leadership could not be handed over, trying again", obs.Err(err))
			select {
			case <-time.After(firstPause):
			case <-ctx.Done():
			}
		}
	}
	for {
		leader, changed := n.leaders.now()
		if leader != "" && leader != n.cfg.ID {
			n.log.Info("the leadership was handed over", obs.Node(leader), obs.Took(time.Since(began)))
			return
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return
		}
	}
}

// settle waits until everything in flight has its answer. It reports false when ctx
// has ended before.
func (p *proposer) settle(ctx context.Context) bool {
	for {
		p.mu.Lock()
		left := len(p.flying)
		p.mu.Unlock()
		if left == 0 {
			return true
		}
		select {
		case <-time.After(time.Millisecond):
		case <-ctx.Done():
			return false
		}
	}
}
