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
	// heirLimit is how long the other nodes may take to say whether they could lead.
	heirLimit = 500 * time.Millisecond
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
	if n.dead.Err() == nil && n.cfg.Peers != nil && r.State() == raft.Leader {
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
	pause := firstPause
	for ctx.Err() == nil && r.State() == raft.Leader {
		heir, ok := n.heir(ctx, r)
		if !ok {
			n.log.Warn("there is no other node that could lead")
			return
		}
		done := make(chan error, 1)
		future := r.LeadershipTransferToServer(heir.ID, heir.Address)
		go func() { done <- future.Error() }() // ends with raft at the latest
		var err error
		select {
		case err = <-done:
		case <-ctx.Done(): // it sticks; raft would take no proposals any more
			n.log.Warn("the leadership could not be handed over in time", obs.Took(time.Since(began)))
			return
		}
		if err != nil {
			if pause == firstPause {
				n.log.Warn("the leadership could not be handed over, trying again", obs.Node(string(heir.ID)), obs.Err(err))
			}
			select {
			case <-time.After(pause):
			case <-ctx.Done():
			}
			pause = min(2*pause, longestPause)
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

// heir is the voter with the longest log among those that answer; raft itself would
// also choose one that is dead.
func (n *Node) heir(ctx context.Context, r *raft.Raft) (heir raft.Server, ok bool) {
	ctx, cancel := context.WithTimeout(ctx, heirLimit)
	defer cancel()
	type answer struct {
		server raft.Server
		last   uint64
		err    error
	}
	answers := make(chan answer)
	asked := 0
	for _, s := range r.GetConfiguration().Configuration().Servers {
		if s.Suffrage != raft.Voter || s.ID == raft.ServerID(n.cfg.ID) {
			continue
		}
		asked++
		go func() {
			_, last, err := n.askTerm(ctx, string(s.ID))
			answers <- answer{s, last, err}
		}()
	}
	var longest uint64
	for range asked {
		a := <-answers
		if a.err == nil && (!ok || a.last > longest) {
			heir, longest, ok = a.server, a.last, true
		}
	}
	return heir, ok
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
