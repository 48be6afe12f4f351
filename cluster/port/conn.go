package port

import (
	"crypto/tls"
	"net"
	"sync/atomic"
	"time"
)

// Peer is the node on the other side of a connection.
type Peer struct {
	// Node is its id, by its certificate.
	Node string
	// Cluster is the id of its cluster when it said hello; "" when it had none.
	Cluster string
	// Version of its program.
	Version string
}

// Conn is a connection to another node, as a net.Conn.
type Conn struct {
	*tls.Conn
	wire *wire
	port *Port
	peer Peer
	key  string // the name of the key that the other side has shown
}

// Peer tells who is on the other side.
func (c *Conn) Peer() Peer { return c.peer }

// SetUserTimeout says how long the other machine may not confirm what was sent to it,
// or take no more, before the connection breaks; it is 5s at first. Not every system
// can do that.
func (c *Conn) SetUserTimeout(d time.Duration) { setUserTimeout(c.wire.TCPConn, d) }

// Close ends the connection. It may be called more than once.
func (c *Conn) Close() error {
	c.port.forget(c)
	c.wire.closing.Store(true)
	return c.Conn.Close()
}

// cut ends the connection without a word to the other side.
func (c *Conn) cut() {
	c.port.forget(c)
	_ = c.wire.Close()
}

// wire is the TCP connection below. When it is being closed, the farewell of TLS gets
// little time: the other side may have stopped reading long ago.
type wire struct {
	*net.TCPConn
	closing atomic.Bool
}

const farewell = 200 * time.Millisecond

func (w *wire) SetWriteDeadline(t time.Time) error {
	if soon := time.Now().Add(farewell); w.closing.Load() && t.After(soon) {
		t = soon
	}
	return w.TCPConn.SetWriteDeadline(t)
}

// Bounds after which a connection whose other side has vanished is given up.
const (
	keepAliveIdle     = 10 * time.Second // without traffic: a question
	keepAliveInterval = 5 * time.Second  // without an answer: the next
	keepAliveCount    = 3
	userTimeout       = 5 * time.Second // what was sent isn't confirmed, or nothing more taken
)

// newWire prepares a TCP connection: what was sent to a machine that has vanished, or
// behind a network that is cut, breaks the connection soon. Otherwise TCP would repeat
// it for minutes, with longer and longer pauses that last on when the network is back.
func newWire(c *net.TCPConn) *wire {
	_ = c.SetKeepAliveConfig(net.KeepAliveConfig{Enable: true, Idle: keepAliveIdle, Interval: keepAliveInterval, Count: keepAliveCount})
	setUserTimeout(c, userTimeout)
	return &wire{TCPConn: c}
}
