package link

import (
	"context"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/orrery-io/orrery/internal/obs"
)

// peer is another node as far as this one connects to it.
type peer struct {
	node string
	// live is the connection; nil, or one that has ended, means that there is none.
	live atomic.Pointer[conn]
	// kick has room for one token; it ends a pause.
	kick chan struct{}

	mu     sync.Mutex
	wanted bool
	// gone is set by Disconnect.
	gone bool
	// waiting counts the calls that wait for a connection.
	waiting int
	// tried is closed and replaced when an attempt has ended; err is how the last did.
	tried chan struct{}
	err   error
}

// hurry ends the pause before the next attempt, if there is one.
func (p *peer) hurry() {
	select {
	case p.kick <- struct{}{}:
	default:
	}
}

// needed reports whether there should be a connection.
func (p *peer) needed() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return !p.gone && (p.wanted || p.waiting > 0)
}

// settled tells those who wait how an attempt ended.
func (p *peer) settled(err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.err = err
	close(p.tried)
	p.tried = make(chan struct{})
}

// conn returns the connection if it is open.
func (p *peer) conn() *conn {
	c := p.live.Load()
	if c == nil {
		return nil
	}
	select {
	case <-c.ended:
		return nil
	default:
		return c
	}
}

// find returns the peer of a node, nil when there is none.
func (m *Mesh) find(node string) *peer {
	m.mu.RLock()
	defer m.mu.RUnlock()
	return m.peers[node]
}

// peer returns that of a node, a new one when there is none.
func (m *Mesh) peer(node string) *peer {
	if p := m.find(node); p != nil {
		return p
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if p := m.peers[node]; p != nil {
		return p
	}
	p := &peer{node: node, kick: make(chan struct{}, 1), tried: make(chan struct{})}
	m.peers[node] = p
	if m.spawn != nil {
		m.spawn(p)
	}
	return p
}

// Connect keeps a connection to a node from now on: it is made, and made again
// whenever it has ended, until Disconnect. To itself a node needs none.
func (m *Mesh) Connect(node string) {
	if node == m.cfg.Node {
		return
	}
	p := m.peer(node)
	p.mu.Lock()
	p.wanted = true
	p.mu.Unlock()
	p.hurry()
}

// Disconnect ends the connection to a node and forgets it. What is under way is
// answered as when a connection breaks.
func (m *Mesh) Disconnect(node string) {
	m.mu.Lock()
	p := m.peers[node]
	delete(m.peers, node)
	m.mu.Unlock()
	if p == nil {
		return
	}
	p.mu.Lock()
	p.wanted, p.gone = false, true
	p.mu.Unlock()
	p.hurry()
	if c := p.live.Load(); c != nil {
		c.fail(errUnwanted)
	}
}

// Connected reports whether there is a connection to a node at the moment that this
// one made. To itself a node always has one.
func (m *Mesh) Connected(node string) bool {
	if node == m.cfg.Node {
		return true
	}
	p := m.find(node)
	return p != nil && p.conn() != nil
}

// await returns an open connection to a node. When there is none it waits for the next
// attempt to make one.
func (m *Mesh) await(ctx context.Context, node string) (*conn, error) {
	p := m.peer(node)
	if c := p.conn(); c != nil {
		return c, nil
	}
	p.mu.Lock()
	if p.gone {
		p.mu.Unlock()
		return nil, unreachable(node, errUnwanted)
	}
	p.waiting++
	tried := p.tried
	p.mu.Unlock()
	defer func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.waiting--
	}()
	for {
		// The attempt may have ended before it was known that this one waits.
		if c := p.conn(); c != nil {
			return c, nil
		}
		p.hurry()
		select {
		case <-tried:
		case <-m.stopped:
			return nil, unreachable(node, errStopped)
		case <-ctx.Done():
			return nil, unreachable(node, context.Cause(ctx))
		}
		p.mu.Lock()
		err := p.err
		tried = p.tried
		p.mu.Unlock()
		if err != nil {
			return nil, unreachable(node, err)
		}
	}
}

// keep makes connections to a peer while they are needed, one after the other, until
// ctx ends or the peer is forgotten.
func (m *Mesh) keep(ctx context.Context, p *peer) {
	b := backoff{min: m.cfg.MinBackoff, max: m.cfg.MaxBackoff}
	epochs := newEpochs()
	for {
		for !p.needed() {
			if p.forgotten() {
				p.settled(errUnwanted)
				return
			}
			select {
			case <-ctx.Done():
				return
			case <-p.kick:
			}
		}
		began := time.Now()
		m.connect(ctx, p, epochs.next())
		if ctx.Err() != nil {
			return
		}
		if time.Since(began) > m.cfg.Silence+m.cfg.DialTimeout {
			b.reset() // it was good for a while: at once again
			continue
		}
		if !b.pause(ctx, p) {
			return
		}
	}
}

// connect makes one attempt, and stays with the connection until it has ended.
func (m *Mesh) connect(ctx context.Context, p *peer, e epoch) {
	c, err := m.dial(ctx, p.node, e)
	if err != nil {
		m.metrics.dials.WithLabelValues("failed").Inc()
		m.log.DebugContext(ctx, "node not reached", obs.Node(p.node), obs.Err(err))
		p.settled(err)
		return
	}
	m.metrics.dials.WithLabelValues("connected").Inc()
	m.metrics.connsOut.Inc()
	defer m.metrics.connsOut.Dec()
	c.wanted = p.needed
	p.live.Store(c)
	if p.forgotten() {
		c.fail(errUnwanted)
	}
	p.settled(nil)
	m.log.InfoContext(ctx, "link made", obs.Node(p.node), obs.Addr(addrOf(c.net)))
	for _, f := range m.onUp {
		_ = m.contain("OnUp", func() error { f(p.node); return nil })
	}
	why := c.run(ctx)
	p.live.Store(nil)
	for _, f := range m.onDown {
		_ = m.contain("OnDown", func() error { f(p.node); return nil })
	}
	m.logEnd(ctx, c, why)
}

// forgotten reports whether Disconnect was called.
func (p *peer) forgotten() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.gone
}

// backoff is the pause between attempts: decorrelated jitter.
type backoff struct {
	min, max, last time.Duration
}

func (b *backoff) reset() { b.last = 0 }

// pause waits, but not longer than the least pause when somebody is in a hurry. It
// reports false when ctx has ended.
func (b *backoff) pause(ctx context.Context, p *peer) bool {
	b.last = min(b.max, b.min+rand.N(max(3*b.last, b.min)))
	least := time.NewTimer(b.min)
	defer least.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-least.C:
	}
	rest := time.NewTimer(b.last - b.min)
	defer rest.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-p.kick:
	case <-rest.C:
	}
	return true
}
