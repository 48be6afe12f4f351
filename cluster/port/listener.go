package port

import (
	"net"
	"sync"
)

// listener hands out the connections of one protocol.
type listener struct {
	addr net.Addr
	// queue holds what waits for Accept. A connection gets its place before it is told
	// that it is welcome, so there is always room.
	queue chan *Conn
	done  chan struct{}

	mu     sync.Mutex
	taken  int // places that are given away, and not yet free again
	closed bool
}

func newListener(addr net.Addr, most int) *listener {
	return &listener{addr: addr, queue: make(chan *Conn, most), done: make(chan struct{})}
}

// reserve takes a place, or says why there is none, as one of the refusals.
func (l *listener) reserve() (refused string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case l.closed:
		return refusedStopping
	case l.taken == cap(l.queue):
		return refusedBusy
	}
	l.taken++
	return ""
}

// free gives a place back.
func (l *listener) free() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.taken--
}

// put fills a place.
func (l *listener) put(c *Conn) {
	l.queue <- c
	select {
	case <-l.done:
		l.drain()
	default:
	}
}

// Accept returns the next connection, a *Conn. Its error is net.ErrClosed.
func (l *listener) Accept() (net.Conn, error) {
	select {
	case <-l.done:
		return nil, net.ErrClosed
	default:
	}
	select {
	case c := <-l.queue:
		l.free()
		return c, nil
	case <-l.done:
		return nil, net.ErrClosed
	}
}

// Close ends Accept, and closes what waits for it. It may be called more than once.
func (l *listener) Close() error {
	l.mu.Lock()
	if !l.closed {
		l.closed = true
		close(l.done)
	}
	l.mu.Unlock()
	l.drain()
	return nil
}

func (l *listener) drain() {
	for {
		select {
		case c := <-l.queue:
			_ = c.Close()
		default:
			return
		}
	}
}

// Addr is where other nodes reach this one.
func (l *listener) Addr() net.Addr { return l.addr }

// address is an advertised address: its host may be a name.
type address string

func (address) Network() string  { return "tcp" }
func (a address) String() string { return string(a) }
