package port

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/orrery-io/orrery/cluster/keyring"
	"github.com/orrery-io/orrery/internal/obs"
)

// receive begins the handshake of a connection that another side has made.
func (p *Port) receive(c *net.TCPConn) {
	w := newWire(c)
	_ = w.SetDeadline(time.Now().Add(p.cfg.HandshakeTimeout))
	s := p.gate.enter(w)
	if s == nil {
		_ = w.Close()
		return
	}
	p.work.Go(func() {
		defer p.gate.leave(s)
		p.welcome(s)
	})
}

// welcome takes a connection from its first byte to its listener. It waits for the
// other side at most until the deadline of the connection.
func (p *Port) welcome(s *stranger) {
	conn := tls.Server(s.wire, p.tls)
	refuse := func(reason string, err error) {
		if p.gate.leave(s) {
			reason, err = reasonCrowded, nil
		}
		p.refused(reason, err, s.wire.RemoteAddr())
		_ = s.wire.Close()
	}
	// The end of the port closes the connection.
	if err := conn.HandshakeContext(context.Background()); err != nil {
		p.explain(s.wire, err)
		refuse(handshakeReason(err), err)
		return
	}
	who, err := p.cfg.Ring.Peer(conn.ConnectionState())
	if err != nil { // dropped at this very moment
		refuse(reasonKey, err)
		return
	}
	// From here on it is somebody who has the key.
	if !p.gate.know(s) {
		refuse(reasonCrowded, nil)
		return
	}
	l := p.listeners[conn.ConnectionState().NegotiatedProtocol]
	if l == nil {
		refuse(reasonProtocol, errors.New("it named no protocol"))
		return
	}
	h, err := readHello(conn)
	switch {
	case err != nil:
		refuse(helloReason(err), err)
		return
	case h.Node != who.Node:
		refuse(reasonHello, errors.New("it says to be another node than its certificate"))
		return
	}
	p.answer(s.wire, conn, l, h, who)
}

// answer says hello to a node, and hands the connection out if it may be.
func (p *Port) answer(w *wire, conn *tls.Conn, l *listener, h hello, who keyring.Peer) {
	mine := p.hello()
	var why error
	if foreign(mine.Cluster, h.Cluster) {
		mine.Refused = refusedForeign
		why = fmt.Errorf("node %s belongs to cluster %s, this one to %s", h.Node, h.Cluster, mine.Cluster)
	} else {
		mine.Refused = l.reserve()
	}
	err := writeHello(conn, mine)
	if mine.Refused != "" {
		p.refused(mine.Refused, why, w.RemoteAddr())
		linger(w)
		_ = w.Close()
		return
	}
	c := &Conn{Conn: conn, wire: w, port: p, key: who.Key, peer: Peer{Node: who.Node, Cluster: h.Cluster, Version: h.Version}}
	if err != nil || w.SetDeadline(time.Time{}) != nil || !p.remember(c) {
		l.free()
		p.refused(reasonClosed, err, w.RemoteAddr())
		_ = w.Close()
		return
	}
	p.metrics.accepted.WithLabelValues(conn.ConnectionState().NegotiatedProtocol).Inc()
	l.put(c)
}

func (p *Port) hello() hello {
	return hello{Node: p.cfg.Node, Cluster: p.cfg.Cluster(), Version: p.cfg.Version}
}

// foreign reports whether two nodes belong to two clusters. One that belongs to none
// yet may speak with all.
func foreign(a, b string) bool { return a != b && a != "" && b != "" }

// handshakeReason says why a handshake has failed, on the side that accepts.
func handshakeReason(err error) string {
	switch {
	case errors.Is(err, keyring.ErrWrongKey):
		return reasonKey
	case errors.Is(err, keyring.ErrNoCertificate), isAlert(err, "didn't provide a certificate"):
		return reasonCertificate
	case isAlert(err, "unsupported application protocols"):
		return reasonProtocol
	case isAlert(err, "remote error: tls: bad certificate"):
		return reasonKey // the other side has refused ours
	}
	return brokenReason(err, reasonNoTLS)
}

func helloReason(err error) string { return brokenReason(err, reasonHello) }

// brokenReason tells connections that have ended from those that say something wrong.
func brokenReason(err error, other string) string {
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return reasonTimeout
	}
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, net.ErrClosed) || isReset(err) {
		return reasonClosed
	}
	return other
}

// explain lets the other side read why the handshake has failed: a connection that is
// closed while there is something unread throws away what was sent last. Who speaks
// HTTP gets an answer in HTTP.
func (p *Port) explain(w *wire, err error) {
	if e, ok := errors.AsType[tls.RecordHeaderError](err); ok && e.Conn != nil && looksLikeHTTP(e.RecordHeader) {
		_, _ = io.WriteString(w, "HTTP/1.0 400 Bad Request\r\nContent-Type: text/plain; charset=utf-8\r\nConnection: close\r\n\r\n"+
			"This is the cluster port, where Orrery's nodes speak with each other. The API has another one, 7700 by default.\n")
	}
	linger(w)
}

func looksLikeHTTP(start [5]byte) bool {
	return slices.Contains([]string{"GET /", "HEAD ", "POST ", "PUT /", "PATCH", "DELET", "OPTIO", "CONNE"}, string(start[:]))
}

// Bounds of linger.
const (
	lingerTime  = time.Second
	lingerBytes = 64 << 10
)

// linger sends the end of the connection, and waits a moment for that of the other
// side.
func linger(w *wire) {
	if w.CloseWrite() != nil {
		return
	}
	_ = w.SetReadDeadline(time.Now().Add(lingerTime))
	_, _ = io.CopyN(io.Discard, w, lingerBytes)
}

// warnings keeps strangers from filling the log: one warning per reason and interval.
type warnings struct {
	mu   sync.Mutex
	last map[string]time.Time
	left map[string]int // not told since
}

const warnInterval = 10 * time.Second

// due reports whether to warn now, and how many were left out before.
func (w *warnings) due(reason string) (skipped int, ok bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.last == nil {
		w.last, w.left = map[string]time.Time{}, map[string]int{}
	}
	if at, told := w.last[reason]; told && time.Since(at) < warnInterval {
		w.left[reason]++
		return 0, false
	}
	skipped = w.left[reason]
	w.last[reason], w.left[reason] = time.Now(), 0
	return skipped, true
}

// refused counts a connection that came to nothing. What the owner of the cluster
// should know about is a warning.
func (p *Port) refused(reason string, err error, from net.Addr) {
	p.metrics.refused.WithLabelValues(reason).Inc()
	level := slog.LevelDebug
	switch reason {
	case reasonKey, reasonForeign, reasonCrowded, reasonBusy:
		level = slog.LevelWarn
	}
	if !p.log.Enabled(context.Background(), level) {
		return
	}
	attrs := []slog.Attr{obs.Addr(from.String()), obs.Reason(reason)}
	if err != nil {
		attrs = append(attrs, obs.Err(err))
	}
	if level == slog.LevelWarn {
		skipped, due := p.warnings.due(reason)
		if !due {
			return
		}
		if skipped > 0 {
			attrs = append(attrs, slog.Int("more_since", skipped))
		}
	}
	p.log.LogAttrs(context.Background(), level, "connection to the cluster port refused", attrs...)
}
