package gossip

import (
	"cmp"
	"maps"
	"net"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/hashicorp/memberlist"
)

// Peer is another node.
type Peer struct {
	// Node is its id, Address its cluster port.
	Node, Address string
	Meta
	// Alive is false when it has left or doesn't answer any longer; Since is when that
	// was seen to change. Both are hints.
	Alive bool
	Since time.Time
}

// nameSeparator stands between a node's id and the time of its start.
const nameSeparator = "@"

// startName is what memberlist calls one start of a node.
func startName(node string, at time.Time) string {
	return node + nameSeparator + strconv.FormatInt(at.UnixNano(), 36)
}

// splitName undoes startName. A name without a time is from time zero.
func splitName(name string) (node string, at int64) {
	node, text, _ := strings.Cut(name, nameSeparator)
	at, _ = strconv.ParseInt(text, 36, 64) // a foreign name: zero
	return node, at
}

// Bounds on the memory of nodes that are gone.
const (
	rememberFor  = 24 * time.Hour
	rememberMost = 256
)

// registry is everybody seen, by the name of the start.
type registry struct {
	mu     sync.Mutex
	starts map[string]*sighting
}

// sighting is one start of a node.
type sighting struct {
	peer     Peer
	at       int64
	reported bool // as a conflict
}

// put takes in what memberlist says of a start.
func (r *registry) put(n *memberlist.Node, alive bool) {
	c, err := decodeCard(n.Meta)
	if err != nil {
		return // NotifyAlive has refused it
	}
	address := cmp.Or(c.Address, net.JoinHostPort(n.Addr.String(), strconv.Itoa(int(n.Port))))
	r.mu.Lock()
	defer r.mu.Unlock()
	s := r.starts[n.Name]
	if s == nil {
		s = &sighting{}
		s.peer.Node, s.at = splitName(n.Name)
		r.starts[n.Name] = s
	}
	if s.peer.Alive != alive || s.peer.Since.IsZero() {
		s.peer.Alive, s.peer.Since = alive, time.Now()
	}
	s.peer.Address, s.peer.Meta = address, c.Meta
}

// drop forgets a start. It reports whether it was known.
func (r *registry) drop(name string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	_, known := r.starts[name]
	delete(r.starts, name)
	return known
}

// forget drops what is gone for long.
func (r *registry) forget() {
	r.mu.Lock()
	defer r.mu.Unlock()
	gone := slices.SortedFunc(maps.Keys(r.starts), func(a, b string) int {
		return r.starts[b].peer.Since.Compare(r.starts[a].peer.Since)
	})
	gone = slices.DeleteFunc(gone, func(name string) bool { return r.starts[name].peer.Alive })
	for i, name := range gone {
		if i >= rememberMost || time.Since(r.starts[name].peer.Since) > rememberFor {
			delete(r.starts, name)
		}
	}
}

// peers returns the nodes other than self in the order of their ids, each as its
// newest start that lives says, or its newest one. Those that belong to a cluster
// other than the given one are left out.
func (r *registry) peers(self, cluster string) []Peer {
	r.mu.Lock()
	defer r.mu.Unlock()
	best := make(map[string]*sighting)
	for _, s := range r.starts {
		if s.peer.Node == self || foreign(cluster, s.peer.Cluster) {
			continue
		}
		if b := best[s.peer.Node]; b == nil || s.counts(b) {
			best[s.peer.Node] = s
		}
	}
	list := make([]Peer, 0, len(best))
	for _, s := range best {
		list = append(list, s.peer)
	}
	slices.SortFunc(list, func(a, b Peer) int { return strings.Compare(a.Node, b.Node) })
	return list
}

// counts reports whether s says more about a node than t.
func (s *sighting) counts(t *sighting) bool {
	if s.peer.Alive != t.peer.Alive {
		return s.peer.Alive
	}
	return s.at > t.at
}

// conflict is a node id that two processes use.
type conflict struct{ node, a, b string }

// conflicts returns each pair of starts of one node that have both answered for
// longer than patience, once.
func (r *registry) conflicts(patience time.Duration) []conflict {
	r.mu.Lock()
	defer r.mu.Unlock()
	living := make(map[string][]*sighting)
	for _, s := range r.starts {
		if s.peer.Alive && time.Since(s.peer.Since) > patience {
			living[s.peer.Node] = append(living[s.peer.Node], s)
		}
	}
	var found []conflict
	for node, starts := range living {
		if len(starts) < 2 {
			continue
		}
		slices.SortFunc(starts, func(a, b *sighting) int { return cmp.Compare(a.at, b.at) })
		if last := starts[len(starts)-1]; !last.reported {
			last.reported = true
			found = append(found, conflict{node: node, a: starts[0].peer.Address, b: last.peer.Address})
		}
	}
	return found
}

// foreign reports whether a node of cluster b is a stranger to one of cluster a. New
// nodes belong to none yet.
func foreign(a, b string) bool { return a != "" && b != "" && a != b }
