package port

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"syscall"
	"time"

	"github.com/orrery-io/orrery/cluster/keyring"
)

// Reasons why Dial fails, as errors.Is finds them. A context that has ended is another
// one, and so is net.ErrClosed, when this port is closed.
var (
	// ErrUnreachable means that nobody answers there, or not in time.
	ErrUnreachable = errors.New("unreachable")
	// ErrWrongKey means that the two nodes have no cluster key in common.
	ErrWrongKey = keyring.ErrWrongKey
	// ErrForeignCluster means that the other node belongs to another cluster.
	ErrForeignCluster = errors.New("another cluster")
	// ErrWrongNode means that another node answers there.
	ErrWrongNode = errors.New("another node")
	// ErrProtocol means that what answers isn't the cluster port of a node, or of one
	// that doesn't speak the protocol.
	ErrProtocol = errors.New("no common protocol")
	// ErrBusy means that the other node has no room for a connection now.
	ErrBusy = errors.New("busy")
)

// DialError says why there is no connection, in a sentence.
type DialError struct {
	// Addr was dialed.
	Addr string
	// Kind is one of this package's errors, Err the cause if there is another one.
	Kind, Err error
	text      string
}

// Error implements error.
func (e *DialError) Error() string { return e.text }

// Unwrap returns the kind and the cause.
func (e *DialError) Unwrap() []error {
	if e.Err == nil {
		return []error{e.Kind}
	}
	return []error{e.Kind, e.Err}
}

func dialError(addr string, kind, cause error, format string, args ...any) error {
	return &DialError{Addr: addr, Kind: kind, Err: cause, text: fmt.Sprintf(format, args...)}
}

// Dial connects to the node at addr, to speak a protocol. wantNode is the id it must
// have; "" means that any node will do. The error is a *DialError, also when the
// deadline of ctx has passed, the cause of ctx or net.ErrClosed.
func (p *Port) Dial(ctx context.Context, proto, addr, wantNode string) (*Conn, error) {
	c, err := p.dial(ctx, proto, addr, wantNode)
	if cause := context.Cause(ctx); err != nil && cause != nil {
		if err = cause; errors.Is(cause, context.DeadlineExceeded) {
			err = dialError(addr, ErrUnreachable, cause, "%s can't be reached at %s: it took too long", nodeName(wantNode), addr)
		}
	}
	p.metrics.dials.WithLabelValues(outcome(err)).Inc()
	return c, err
}

// outcome names an error of Dial for the metrics.
func outcome(err error) string {
	switch {
	case err == nil:
		return "ok"
	case errors.Is(err, ErrUnreachable):
		return "unreachable"
	case errors.Is(err, ErrWrongKey):
		return reasonKey
	case errors.Is(err, ErrForeignCluster):
		return reasonForeign
	case errors.Is(err, ErrWrongNode):
		return "wrong_node"
	case errors.Is(err, ErrProtocol):
		return reasonProtocol
	case errors.Is(err, ErrBusy):
		return reasonBusy
	default:
		return "cancelled"
	}
}

func (p *Port) dial(ctx context.Context, proto, addr, wantNode string) (*Conn, error) {
	if p.isClosed() {
		return nil, net.ErrClosed
	}
	d := net.Dialer{Timeout: p.cfg.DialTimeout}
	raw, err := d.DialContext(ctx, "tcp", addr)
	if err != nil {
		return nil, dialError(addr, ErrUnreachable, err, "%s can't be reached at %s: %s", nodeName(wantNode), addr, cause(err))
	}
	w := newWire(raw.(*net.TCPConn))
	_ = w.SetDeadline(time.Now().Add(p.cfg.HandshakeTimeout))
	// Close works on a connection at any time; a deadline would be overwritten.
	stop := context.AfterFunc(ctx, func() { _ = w.Close() })
	c, err := p.introduce(ctx, w, proto, addr, wantNode)
	if !stop() && err == nil {
		err = context.Cause(ctx)
	}
	if err == nil && (w.SetDeadline(time.Time{}) != nil || !p.remember(c)) {
		err = net.ErrClosed
		if !p.isClosed() {
			err = dialError(addr, ErrWrongKey, nil, "the cluster key of the connection to %s was dropped at this moment", addr)
		}
	}
	if err != nil {
		_ = w.Close()
		return nil, err
	}
	return c, nil
}

func (p *Port) isClosed() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.closed
}

// introduce shakes hands and says hello.
func (p *Port) introduce(ctx context.Context, w *wire, proto, addr, wantNode string) (*Conn, error) {
	conn := tls.Client(w, p.cfg.Ring.ClientConfig(p.cfg.Node, proto))
	if err := conn.HandshakeContext(ctx); err != nil {
		return nil, p.handshakeError(addr, wantNode, err)
	}
	state := conn.ConnectionState()
	who, err := p.cfg.Ring.Peer(state)
	switch {
	case err != nil:
		return nil, p.handshakeError(addr, wantNode, err)
	case state.NegotiatedProtocol != proto:
		return nil, dialError(addr, ErrProtocol, nil, "node %s at %s doesn't speak %s; is its version older?", who.Node, addr, proto)
	case wantNode != "" && who.Node != wantNode:
		return nil, dialError(addr, ErrWrongNode, nil, "at %s is node %s, not %s", addr, who.Node, wantNode)
	}
	mine := p.hello()
	if err := writeHello(conn, mine); err != nil {
		return nil, p.handshakeError(addr, who.Node, err)
	}
	// TLS 1.3: only this tells whether the other side has accepted our certificate.
	h, err := readHello(conn)
	switch {
	case errors.Is(err, errHello), err == nil && h.Node != who.Node:
		return nil, dialError(addr, ErrProtocol, err, "node %s at %s doesn't introduce itself as it should; is its version older?", who.Node, addr)
	case err != nil:
		return nil, p.handshakeError(addr, who.Node, err)
	case h.Refused == refusedForeign, foreign(mine.Cluster, h.Cluster):
		return nil, dialError(addr, ErrForeignCluster, nil, "node %s at %s belongs to another cluster (%s) than this one (%s); a node changes over only with an empty data folder",
			who.Node, addr, h.Cluster, mine.Cluster)
	case h.Refused == refusedStopping:
		return nil, dialError(addr, ErrUnreachable, nil, "node %s at %s is stopping", who.Node, addr)
	case h.Refused != "":
		return nil, dialError(addr, ErrBusy, nil, "node %s at %s takes no more connections now (%s)", who.Node, addr, h.Refused)
	}
	return &Conn{Conn: conn, wire: w, port: p, key: who.Key, peer: Peer{Node: who.Node, Cluster: h.Cluster, Version: h.Version}}, nil
}

// handshakeError says what an error before the connection is there means.
func (p *Port) handshakeError(addr, node string, err error) error {
	_, noTLS := errors.AsType[tls.RecordHeaderError](err)
	switch {
	case errors.Is(err, keyring.ErrWrongKey), errors.Is(err, keyring.ErrNoCertificate), isAlert(err, "bad certificate"):
		return dialError(addr, ErrWrongKey, err, "%s at %s has another cluster key: all nodes need the same key file", nodeName(node), addr)
	case noTLS, isAlert(err, "first record does not look like"):
		return dialError(addr, ErrProtocol, err, "what answers at %s is not the cluster port of a node", addr)
	case isAlert(err, "no application protocol"), isAlert(err, "protocol version not supported"):
		return dialError(addr, ErrProtocol, err, "%s at %s has no protocol in common with this one; is its version older?", nodeName(node), addr)
	}
	return dialError(addr, ErrUnreachable, err, "%s at %s doesn't answer as a node would: %s", nodeName(node), addr, cause(err))
}

func nodeName(id string) string {
	if id == "" {
		return "the node"
	}
	return "node " + id
}

// cause takes the operation and the addresses out of a network error.
func cause(err error) string {
	if errors.Is(err, os.ErrDeadlineExceeded) || errors.Is(err, context.DeadlineExceeded) {
		return "it took too long"
	}
	if errors.Is(err, io.EOF) || isReset(err) {
		return "it has closed the connection"
	}
	if op, ok := errors.AsType[*net.OpError](err); ok {
		err = op.Err
	}
	if sys, ok := errors.AsType[*os.SyscallError](err); ok {
		err = sys.Err
	}
	return err.Error()
}

func isReset(err error) bool {
	return errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE)
}

// isAlert reports whether an error of crypto/tls has that text: it has no types or
// values for what goes wrong.
func isAlert(err error, text string) bool { return strings.Contains(err.Error(), text) }
