package link

import (
	"cmp"
	"context"
	"log/slog"
	"net"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Config is what a Mesh is made of. Node, and at least one of Dial and Listener, are
// needed; zero sizes and durations mean the defaults.
type Config struct {
	// Node is this node's id.
	Node string
	// Dial connects to the mesh of another node, and has made sure that it is that
	// node. Nil means that no node can be reached.
	Dial func(ctx context.Context, node string) (net.Conn, error)
	// Listener accepts the connections of other nodes. Run closes it. Nil means none.
	Listener net.Listener
	// From returns the id of the node at the other end of an accepted connection, ""
	// when it is not known: then the connection is refused.
	From func(net.Conn) string
	// Log gets what the mesh has to tell; nil means nowhere.
	Log *slog.Logger
	// Registerer gets the metrics; nil means none.
	Registerer prometheus.Registerer

	// MaxMessage bounds the body of one message in bytes; 8 MiB by default. It must be
	// the same on all nodes.
	MaxMessage int
	// QueueBytes bounds what waits to be written to one node; 64 MiB by default.
	QueueBytes int
	// MaxRequests bounds the requests and streams of one other node that are under way
	// here, MaxRequestBytes the bytes of their bodies; 16,384 and 128 MiB by default.
	MaxRequests, MaxRequestBytes int
	// StreamWindow is how many bytes of a stream are on their way to a reader that has
	// not taken them; 256 KiB by default. One item may pass it.
	StreamWindow int
	// Beat is how often each side of a connection says something at least; 1 s by
	// default. Silence is after how long without a word the other side is taken for
	// dead; three times Beat by default.
	Beat, Silence time.Duration
	// DialTimeout bounds one attempt to connect; 5 s by default.
	DialTimeout time.Duration
	// MinBackoff and MaxBackoff bound the pause between two attempts to connect; 50 ms
	// and 2 s by default.
	MinBackoff, MaxBackoff time.Duration
	// IdleTimeout is how long a connection that Connect did not ask for stays open
	// without a call or stream; 1 min by default.
	IdleTimeout time.Duration
}

func (c Config) withDefaults() Config {
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	if c.From == nil {
		c.From = func(net.Conn) string { return "" }
	}
	c.MaxMessage = cmp.Or(c.MaxMessage, 8<<20)
	c.QueueBytes = cmp.Or(c.QueueBytes, 64<<20)
	c.MaxRequests = cmp.Or(c.MaxRequests, 16<<10)
	c.MaxRequestBytes = cmp.Or(c.MaxRequestBytes, 128<<20)
	c.StreamWindow = cmp.Or(c.StreamWindow, 256<<10)
	c.Beat = cmp.Or(c.Beat, time.Second)
	c.Silence = cmp.Or(c.Silence, 3*c.Beat)
	c.DialTimeout = cmp.Or(c.DialTimeout, 5*time.Second)
	c.MinBackoff = cmp.Or(c.MinBackoff, 50*time.Millisecond)
	c.MaxBackoff = cmp.Or(c.MaxBackoff, 2*time.Second)
	c.IdleTimeout = cmp.Or(c.IdleTimeout, time.Minute)
	return c
}
