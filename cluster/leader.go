package cluster

import (
	"context"
	"sync"
	"time"

	"github.com/hashicorp/raft"
)

// leadership is who leads, as far as this node knows, and who wants to hear of it.
type leadership struct {
	mu      sync.Mutex
	id      string        // of the leader; "" while none is known
	since   time.Time     // when id became that
	changed chan struct{} // closed at the next change
	hooks   []func(id string)
}

func newLeadership() *leadership { return &leadership{since: time.Now(), changed: make(chan struct{})} }

// now returns the leader and what is closed when that, or the state of its term, may
// have changed.
func (l *leadership) now() (id string, changed <-chan struct{}) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.id, l.changed
}

// unknown is for how long no leader has been known; false while one is.
func (l *leadership) unknown() (time.Duration, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return time.Since(l.since), l.id == ""
}

// set takes note of the leader. It reports whether it is another one than before.
func (l *leadership) set(id string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.id == id {
		return false
	}
	l.id, l.since = id, time.Now()
	l.wake()
	return true
}

// touch wakes whoever waits for a leader: this node has begun or ended a term.
func (l *leadership) touch() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.wake()
}

func (l *leadership) wake() {
	close(l.changed)
	l.changed = make(chan struct{})
}

func (l *leadership) listeners() []func(string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.hooks
}

// Leader is the id of the node that leads as far as this one knows, "" for none. It
// may be this node a moment before it takes proposals.
func (n *Node) Leader() string {
	id, _ := n.leaders.now()
	return id
}

// OnLeader has f called whenever another leader is known, with "" when none is, in
// order and by one goroutine; a leader that was followed at once by another may be
// left out. f must not wait. It is called before Run.
func (n *Node) OnLeader(f func(id string)) {
	n.leaders.mu.Lock()
	defer n.leaders.mu.Unlock()
	n.leaders.hooks = append(n.leaders.hooks, f)
}

// watchLeader keeps n.leaders up to date until ctx ends.
func (n *Node) watchLeader(ctx context.Context, r *raft.Raft) {
	// One waiting observation suffices: what counts is read after it.
	seen := make(chan raft.Observation, 1)
	o := raft.NewObserver(seen, false, func(o *raft.Observation) bool {
		switch o.Data.(type) {
		case raft.LeaderObservation, raft.RaftState:
			return true
		}
		return false
	})
	r.RegisterObserver(o)
	defer r.DeregisterObserver(o)
	for {
		_, id := r.LeaderWithID()
		if n.leaders.set(string(id)) {
			other := string(id)
			if other == n.cfg.ID || n.cfg.Peers == nil {
				other = ""
			}
			n.forward.leaderIs(other)
			if string(id) == n.cfg.ID {
				n.forward.thisLeads()
			}
			for _, f := range n.leaders.listeners() {
				f(string(id))
			}
		}
		select {
		case <-ctx.Done():
			return
		case <-seen:
		}
	}
}
