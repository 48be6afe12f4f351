package cluster

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/hashicorp/raft"
)

// destination is whom to connect to. Raft's transport keeps idle connections by
// address, so it gets all of this as an address.
type destination struct {
	node, addr string
	serial     uint64 // of the database to send; zero for anything else
}

func (d destination) encode() raft.ServerAddress {
	return raft.ServerAddress(strings.Join([]string{d.node, d.addr, strconv.FormatUint(d.serial, 10)}, "\x00"))
}

func decodeDestination(addr raft.ServerAddress) (destination, error) {
	parts := strings.Split(string(addr), "\x00")
	if len(parts) != 3 {
		return destination{}, fmt.Errorf("%q is no address", addr)
	}
	serial, err := strconv.ParseUint(parts[2], 10, 64)
	return destination{node: parts[0], addr: parts[1], serial: serial}, err
}

// A connection begins with what it is for: one of these bytes, and the size in eight
// more, most significant first, when it is a database.
const (
	forRequests = 'r'
	forDatabase = 'd'
)

// stream makes connections for raft.
type stream struct{ t *Transport }

// Addr implements net.Listener.
func (s stream) Addr() net.Addr { return s.t.cfg.Listener.Addr() }

// Close implements net.Listener.
func (s stream) Close() error { return s.t.cfg.Listener.Close() }

// Accept implements net.Listener.
func (s stream) Accept() (net.Conn, error) {
	c, err := s.t.cfg.Listener.Accept()
	if errors.Is(err, net.ErrClosed) {
		<-s.t.life.Done() // raft would ask again and again
	}
	if err != nil {
		return nil, err
	}
	a := &accepted{Conn: c, t: s.t}
	return a, s.t.keep(a)
}

// Dial implements raft.StreamLayer.
func (s stream) Dial(address raft.ServerAddress, timeout time.Duration) (net.Conn, error) {
	to, err := decodeDestination(address)
	if err != nil {
		return nil, err
	}
	timeout = min(timeout, s.t.cfg.DialTimeout)
	ctx, cancel := context.WithTimeout(s.t.life, timeout)
	defer cancel()
	c, err := s.t.cfg.Dial(ctx, to.node, to.addr)
	if err != nil {
		return nil, &unreached{err}
	}
	purpose := []byte{forRequests}
	d := &dialed{Conn: c, t: s.t, to: to}
	if to.serial != 0 {
		s.t.mu.Lock()
		d.sent = s.t.sending[to.serial]
		s.t.mu.Unlock()
		if d.sent == nil {
			return nil, errors.Join(errInterrupted, c.Close())
		}
		// Its disk may be slow.
		if u, ok := c.(interface{ SetUserTimeout(d time.Duration) }); ok {
			u.SetUserTimeout(s.t.cfg.SendStall)
		}
		purpose = binary.BigEndian.AppendUint64([]byte{forDatabase}, uint64(d.sent.size)) //nolint:gosec // a size
	}
	_ = c.SetWriteDeadline(time.Now().Add(timeout))
	if _, err := c.Write(purpose); err != nil {
		return nil, errors.Join(err, c.Close())
	}
	_ = c.SetWriteDeadline(time.Time{})
	if err := s.t.keep(d); err != nil {
		return nil, err
	}
	if d.sent != nil && !d.sent.on(d) {
		return nil, errors.Join(errInterrupted, d.Close())
	}
	return d, nil
}

// unreached says that there is no connection.
type unreached struct{ error }

// Unwrap returns why.
func (u *unreached) Unwrap() error { return u.error }

// keep remembers a connection until it is closed.
func (t *Transport) keep(c closer) error {
	t.mu.Lock()
	if t.life.Err() == nil {
		t.conns[c] = struct{}{}
		t.mu.Unlock()
		return nil
	}
	t.mu.Unlock()
	return errors.Join(net.ErrClosed, c.Close())
}

func (t *Transport) drop(c closer) {
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.conns, c)
}

// dialed is a connection that this node made.
type dialed struct {
	net.Conn
	t    *Transport
	to   destination
	sent *progress // of the database that is sent; nil for requests

	answering bool // all is sent, and the answer is waited for
}

// Close implements net.Conn.
func (d *dialed) Close() error {
	d.t.drop(d)
	return d.Conn.Close()
}

// SetDeadline implements net.Conn. Raft limits the whole of a database; here, each part
// of it has its limit.
func (d *dialed) SetDeadline(at time.Time) error {
	if d.sent != nil {
		return nil
	}
	return d.Conn.SetDeadline(at)
}

// sendPart is how much must get through within SendStall.
const sendPart = 16 << 10

// Write implements net.Conn.
func (d *dialed) Write(b []byte) (n int, err error) {
	if d.sent == nil {
		return d.Conn.Write(b)
	}
	for len(b) > 0 && err == nil {
		part := b[:min(len(b), sendPart)]
		b = b[len(part):]
		_ = d.Conn.SetWriteDeadline(time.Now().Add(d.t.cfg.SendStall))
		var m int
		m, err = d.Conn.Write(part)
		n += m
		d.sent.move(m)
	}
	if errors.Is(err, os.ErrDeadlineExceeded) {
		err = fmt.Errorf("node %s takes nothing more of the database since %s: %w", d.to.node, d.t.cfg.SendStall, err)
	}
	return n, err
}

// Read implements net.Conn.
func (d *dialed) Read(b []byte) (int, error) {
	if d.sent == nil {
		return d.Conn.Read(b)
	}
	if !d.answering {
		d.answering = true
		_ = d.Conn.SetReadDeadline(time.Now().Add(answerLimit(d.sent.size)))
	}
	return d.Conn.Read(b)
}

// answerLimit is how long the other node may take to install a database that it has:
// even a slow disk syncs and checks more than 8 MiB in a second.
func answerLimit(size int64) time.Duration {
	return time.Minute + time.Duration(size/(8<<20))*time.Second
}

// accepted is a connection that another node made.
type accepted struct {
	net.Conn
	t *Transport

	known bool      // what it is for
	got   *progress // of the database that is received; nil for requests
	once  sync.Once
}

// Close implements net.Conn.
func (a *accepted) Close() error {
	a.once.Do(func() {
		a.t.drop(a)
		a.t.mu.Lock()
		defer a.t.mu.Unlock()
		for p, c := range a.t.receiving {
			if c == a {
				delete(a.t.receiving, p)
			}
		}
	})
	return a.Conn.Close()
}

// Read implements net.Conn. It is called by one goroutine at a time.
func (a *accepted) Read(b []byte) (int, error) {
	if !a.known {
		if err := a.learn(); err != nil {
			return 0, plainEnd(err)
		}
		a.known = true
	}
	if a.got == nil {
		n, err := a.Conn.Read(b)
		return n, plainEnd(err)
	}
	// While raft waits here for more of the database, this node can't vote.
	_ = a.Conn.SetReadDeadline(time.Now().Add(a.t.cfg.ReceiveStall))
	n, err := a.Conn.Read(b)
	a.got.move(n)
	if err == nil {
		return n, nil
	}
	_ = a.Close() // raft reads on after an error
	if errors.Is(err, os.ErrDeadlineExceeded) && !a.got.complete() {
		err = fmt.Errorf("the rest of the database did not come within %s, %s of %s are here: %w",
			a.t.cfg.ReceiveStall, size(a.got.bytes()), size(a.got.size), err)
	}
	return n, a.got.because(err)
}

// learn reads what the connection is for.
func (a *accepted) learn() error {
	var first [1]byte
	if _, err := io.ReadFull(a.Conn, first[:]); err != nil {
		return err
	}
	switch first[0] {
	case forRequests:
		return nil
	case forDatabase:
	default:
		return fmt.Errorf("a connection for raft begins with byte %d; is the other node's version another one?", first[0])
	}
	var length [8]byte
	if _, err := io.ReadFull(a.Conn, length[:]); err != nil {
		return err
	}
	n := int64(binary.BigEndian.Uint64(length[:])) //nolint:gosec // checked
	if n < 0 {
		return errors.New("a database of negative size")
	}
	p := newProgress(a.t, "", n)
	if !p.on(a) {
		return errInterrupted
	}
	a.t.mu.Lock()
	defer a.t.mu.Unlock()
	if a.t.interrupted || a.t.life.Err() != nil {
		return errInterrupted
	}
	a.t.receiving[p] = a
	a.got = p
	return nil
}

// Write implements net.Conn: it answers.
func (a *accepted) Write(b []byte) (int, error) {
	if a.got != nil {
		_ = a.Conn.SetWriteDeadline(time.Now().Add(a.t.cfg.Timeout))
	}
	return a.Conn.Write(b)
}

// plainEnd makes the end of a connection what raft doesn't complain about: nodes come
// and go.
func plainEnd(err error) error {
	if err != nil && isGone(err) {
		return io.EOF
	}
	return err
}
