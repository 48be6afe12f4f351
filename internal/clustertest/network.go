package clustertest

import (
	"context"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/orrery-io/orrery/cluster"
)

// Network brings messages from node to node. What it does to them is told for each
// direction of each pair, and holds for messages that are sent from then on. Its
// methods may be called at any time by any goroutine.
type Network struct {
	mu       sync.Mutex
	rand     *rand.Rand
	points   map[string]*endpoint
	ways     map[way]Way
	standard Way
	mute     map[string]bool // nodes whose messages of Raft are lost
	calls    map[string]int  // delivered, by method
}

// way is one direction between two nodes.
type way struct{ from, to string }

// Way is what happens to messages in one direction. The zero Way delivers each of them
// once, at once.
type Way struct {
	// Cut loses every message. The sender isn't told.
	Cut bool
	// Delay and Jitter hold a message up for at least Delay and less than both
	// together. Messages of one stream keep their order.
	Delay, Jitter time.Duration
	// Lose and Twice are the probabilities that a message of Raft is lost, and that one
	// is delivered twice that may be.
	Lose, Twice float64
}

// endpoint is one node as the network reaches it.
type endpoint struct {
	transport *transport
	handlers  map[string]cluster.Handler
	up        context.Context //nolint:containedctx // the life of the process that the node stands for
}

// NewNetwork returns a network in which nothing happens to messages. The seed decides
// what chance decides.
func NewNetwork(seed uint64) *Network {
	return &Network{
		rand:   rand.New(rand.NewPCG(seed, 1)), //nolint:gosec // reproducible on purpose
		points: map[string]*endpoint{}, ways: map[way]Way{},
		mute: map[string]bool{}, calls: map[string]int{},
	}
}

// Set tells what happens to messages from one node to another.
func (n *Network) Set(from, to string, w Way) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.ways[way{from, to}] = w
}

// SetAll forgets what was set and tells what happens to all messages.
func (n *Network) SetAll(w Way) {
	n.mu.Lock()
	defer n.mu.Unlock()
	clear(n.ways)
	n.standard = w
}

// Heal delivers every message again, once and at once.
func (n *Network) Heal() { n.SetAll(Way{}) }

// Block cuts one direction.
func (n *Network) Block(from, to string) { n.change(from, to, func(w *Way) { w.Cut = true }) }

// Cut cuts both directions between two nodes, Mend joins them again.
func (n *Network) Cut(a, b string) {
	n.Block(a, b)
	n.Block(b, a)
}

// Mend takes back what Cut or Block has done.
func (n *Network) Mend(a, b string) {
	n.change(a, b, func(w *Way) { w.Cut = false })
	n.change(b, a, func(w *Way) { w.Cut = false })
}

// Isolate cuts a node off from all others.
func (n *Network) Isolate(id string) {
	for _, other := range n.ids() {
		if other != id {
			n.Cut(id, other)
		}
	}
}

// Rejoin takes back what Isolate has done.
func (n *Network) Rejoin(id string) {
	for _, other := range n.ids() {
		if other != id {
			n.Mend(id, other)
		}
	}
}

// CutRaft loses all messages of Raft from and to a node; its requests go on.
func (n *Network) CutRaft(id string, on bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.mute[id] = on
}

// Split cuts the nodes into groups that don't hear of each other. Nodes that are in no
// group are alone.
func (n *Network) Split(groups ...[]string) {
	group := map[string]int{}
	for i, g := range groups {
		for _, id := range g {
			group[id] = i + 1
		}
	}
	for _, a := range n.ids() {
		for _, b := range n.ids() {
			if a < b && (group[a] == 0 || group[a] != group[b]) {
				n.Cut(a, b)
			}
		}
	}
}

func (n *Network) change(from, to string, f func(*Way)) {
	n.mu.Lock()
	defer n.mu.Unlock()
	w, ok := n.ways[way{from, to}]
	if !ok {
		w = n.standard
	}
	f(&w)
	n.ways[way{from, to}] = w
}

func (n *Network) ids() []string {
	n.mu.Lock()
	defer n.mu.Unlock()
	var ids []string
	for id := range n.points {
		ids = append(ids, id)
	}
	return ids
}

// point returns a node that is up, nil when it isn't.
func (n *Network) point(id string) *endpoint {
	n.mu.Lock()
	defer n.mu.Unlock()
	if p := n.points[id]; p != nil && p.up.Err() == nil {
		return p
	}
	return nil
}

// fate is what happens to one message.
type fate struct {
	lost, twice bool
	delay       time.Duration
}

func (n *Network) fate(from, to string) fate {
	n.mu.Lock()
	defer n.mu.Unlock()
	w, ok := n.ways[way{from, to}]
	if !ok {
		w = n.standard
	}
	f := fate{lost: w.Cut, delay: w.Delay}
	if w.Lose > 0 && n.rand.Float64() < w.Lose {
		f.lost = true
	}
	if w.Twice > 0 && n.rand.Float64() < w.Twice {
		f.twice = true
	}
	if w.Jitter > 0 {
		f.delay += time.Duration(n.rand.Int64N(int64(w.Jitter)))
	}
	return f
}

// raftFate is what happens to one message of Raft.
func (n *Network) raftFate(from, to string) fate {
	f := n.fate(from, to)
	n.mu.Lock()
	defer n.mu.Unlock()
	f.lost = f.lost || n.mute[from] || n.mute[to]
	return f
}

// cut reports whether messages are lost for certain.
func (n *Network) cut(from, to string) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	w, ok := n.ways[way{from, to}]
	if !ok {
		w = n.standard
	}
	return w.Cut
}

// pause waits for d. It reports false when ctx has ended before.
func pause(ctx context.Context, d time.Duration) bool {
	if d <= 0 {
		return ctx.Err() == nil
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}
