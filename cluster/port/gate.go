package port

import (
	"container/list"
	"net"
	"sync"
)

// gate bounds the connections of which nothing is known yet. When it is full, one goes
// for each that comes: the oldest of the host that has the most. An honest handshake
// takes milliseconds and passes; one that only waits is pushed out.
type gate struct {
	max int

	mu      sync.Mutex
	waiting *list.List // of *stranger, the oldest first
	known   map[*stranger]struct{}
	hosts   map[string]int
	closed  bool
}

// stranger is a connection whose handshake isn't done.
type stranger struct {
	wire    *wire
	host    string
	element *list.Element // nil when it has left
	evicted bool
}

func newGate(most int) *gate {
	return &gate{max: most, waiting: list.New(), known: map[*stranger]struct{}{}, hosts: map[string]int{}}
}

// enter takes a connection in, or returns nil when the gate is closed.
func (g *gate) enter(w *wire) *stranger {
	host, _, err := net.SplitHostPort(w.RemoteAddr().String())
	if err != nil {
		host = w.RemoteAddr().String()
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.closed {
		return nil
	}
	s := &stranger{wire: w, host: host}
	s.element = g.waiting.PushBack(s)
	g.hosts[host]++
	if g.waiting.Len() > g.max {
		g.evict()
	}
	return s
}

// evict closes one connection. The caller holds mu.
func (g *gate) evict() {
	most := 0
	for _, n := range g.hosts {
		most = max(most, n)
	}
	for e := g.waiting.Front(); e != nil; e = e.Next() {
		if s := e.Value.(*stranger); g.hosts[s.host] == most {
			s.evicted = true
			_ = s.wire.Close()
			g.remove(s)
			return
		}
	}
}

// remove takes s out, if it is still in. The caller holds mu.
func (g *gate) remove(s *stranger) {
	if s.element == nil {
		return
	}
	g.waiting.Remove(s.element)
	s.element = nil
	if g.hosts[s.host]--; g.hosts[s.host] == 0 {
		delete(g.hosts, s.host)
	}
}

// know takes note that s has shown to have the key: it isn't counted any more, and
// can't be pushed out. False means that it was, before.
func (g *gate) know(s *stranger) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.remove(s)
	if !s.evicted {
		g.known[s] = struct{}{}
	}
	return !s.evicted
}

// leave takes s out, and reports whether it had to go before.
func (g *gate) leave(s *stranger) (evicted bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.remove(s)
	delete(g.known, s)
	return s.evicted
}

// count is how many are in of which nothing is known.
func (g *gate) count() int {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.waiting.Len()
}

// shut closes everything that is in, and lets nobody in any more.
func (g *gate) shut() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.closed = true
	for e := g.waiting.Front(); e != nil; e = e.Next() {
		_ = e.Value.(*stranger).wire.Close()
	}
	for s := range g.known {
		_ = s.wire.Close()
	}
}
