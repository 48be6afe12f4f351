package agentconn

import (
	"context"
	"crypto/rand"
	"errors"
	"io"
	"log/slog"
	"net"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/coder/websocket"
	"github.com/orrery-io/orrery/internal/obs"
	"github.com/orrery-io/orrery/wire"
)

// welcomeTimeout is how long an agent may be silent before it was told how often
// to send heartbeats. There may be no leader to tell it.
const welcomeTimeout = time.Minute

// session is one connection of one agent.
type session struct {
	hub    *Hub
	conn   *websocket.Conn
	net    net.Conn // under conn; only for its deadlines, and to close it hard
	format wire.Format
	remote string

	// Set by the reader when it has the hello, and fixed from then on.
	id    string
	agent string
	slots int

	wake    chan struct{} // one token; the writer has something to do
	written chan struct{} // closed when the writer has ended
	unread  chan struct{} // closed when nothing more is read

	// up is held while anything is given to the leader, so that order is kept.
	up    sync.Mutex
	hello *wire.Hello // as last announced, never changed in place; nil before
	down  bool        // Down was sent; nothing may follow
	gather
	rejects rejects

	mu       sync.Mutex
	attempts map[attempt]holding
	queue    []wire.Message
	waiting  int // messages in queue and in the writer's hands
	queued   int // bytes of those that are dispatches, roughly
	dropping bool
	welcomed bool
	beaten   uint64        // the last heartbeat that the leader has answered
	silence  time.Duration // after which the peer is taken for dead
	ending   *ending       // set once; why the session ends
}

// ending is why a session ends, and how.
type ending struct {
	// code and reason are for the log, the metrics and the leader's Down.
	code, reason string
	// status is that of the WebSocket's close.
	status websocket.StatusCode
	// last is said to the agent before the close; a message of no kind says nothing.
	last wire.Message
	// linger leaves the agent half of CloseTimeout to say what it has to say and to
	// close the connection itself.
	linger bool
	// abrupt means that nothing can be said any more.
	abrupt bool
}

// fault is an ending for a breach of the protocol.
func fault(code, reason string, status websocket.StatusCode, fatal bool) *ending {
	return &ending{code: code, reason: reason, status: status, last: wire.Message{
		Error: &wire.Error{Code: code, Message: reason, Fatal: fatal},
	}}
}

// end makes the session end. The first call counts.
func (s *session) end(e ending) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.endLocked(e)
}

func (s *session) endLocked(e ending) {
	if s.ending != nil {
		return
	}
	s.ending = &e
	if e.abrupt {
		s.queue = nil
		_ = s.net.SetDeadline(time.Unix(1, 0)) // never blocks, as Close may
	} else {
		_ = s.net.SetWriteDeadline(time.Now().Add(s.hub.cfg.CloseTimeout))
		if e.last.Kind() != "" {
			s.queue = append(s.queue, e.last)
		}
	}
	s.signal()
}

// signal wakes the writer.
func (s *session) signal() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// touch notes a sign of life.
func (s *session) touch() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ending == nil {
		_ = s.net.SetReadDeadline(time.Now().Add(s.silence))
	}
}

// read takes the hello and then frame after frame until the session ends.
func (s *session) read(ctx context.Context) {
	defer s.finish(ctx)
	for {
		msgs, e := s.readFrame(ctx)
		if e == nil && s.hello == nil && len(msgs) > 0 {
			e = s.greet(ctx, msgs[0])
			msgs = msgs[1:]
		}
		if e == nil {
			e = s.relay(msgs)
		}
		if e != nil {
			s.end(*e)
			return
		}
		if s.hello != nil {
			s.touch()
		}
	}
}

// greet opens the session with the agent's first message.
func (s *session) greet(ctx context.Context, m wire.Message) *ending {
	if m.Hello == nil {
		return fault("hello_expected", "the first message must be hello, and was "+m.Kind(), websocket.StatusPolicyViolation, true)
	}
	if e := checkHello(m.Hello); e != nil {
		return e
	}
	s.id, s.agent, s.slots = rand.Text(), m.Hello.ID, m.Hello.Slots
	s.track([]wire.Message{m})
	s.hub.register(s)
	s.up.Lock()
	s.hello = m.Hello
	s.up.Unlock()
	s.announce()
	s.hub.log.LogAttrs(ctx, slog.LevelInfo, "agent connected", s.logged()...)
	return nil
}

// announce opens the session at the leader.
func (s *session) announce() {
	s.up.Lock()
	defer s.up.Unlock()
	if s.hello == nil || s.down {
		return
	}
	hello, has := *s.hello, s.holdings()
	hello.Held, hello.Outbox = has.held, has.outbox
	s.toLeader(wire.Envelope{Up: &hello, Again: has.welcomed, Sent: has.sent, Messages: s.rejects.all()})
}

// toLeader sends an envelope; s.up is held.
func (s *session) toLeader(env wire.Envelope) {
	env.Session, env.Node, env.Agent = s.id, s.hub.cfg.Node, s.agent
	s.hub.cfg.ToLeader([]wire.Envelope{env})
}

// readFrame reads and decodes the next frame.
func (s *session) readFrame(ctx context.Context) ([]wire.Message, *ending) {
	typ, r, err := s.conn.Reader(ctx)
	if err != nil {
		return nil, s.gone(err)
	}
	if binary := typ == websocket.MessageBinary; binary != s.format.Binary() {
		want := "text"
		if s.format.Binary() {
			want = "binary"
		}
		return nil, fault("wrong_frame_type", "with "+s.format.Subprotocol()+" frames are "+want+" messages", websocket.StatusUnsupportedData, true)
	}
	buf := s.hub.buffer()
	defer s.hub.release(buf)
	if *buf, err = s.readAll(r, *buf); err != nil {
		return nil, s.gone(err)
	}
	s.hub.metrics.framesIn.Inc()
	s.hub.metrics.bytesIn.Add(float64(len(*buf)))
	msgs, err := wire.DecodeFrame(s.format, *buf, wire.Limits{Bytes: s.hub.cfg.MaxFrame})
	switch {
	case errors.Is(err, wire.ErrTooLarge):
		return nil, fault("frame_too_large", err.Error(), websocket.StatusMessageTooBig, true)
	case err != nil:
		return nil, fault("malformed_frame", err.Error(), websocket.StatusInvalidFramePayloadData, true)
	}
	s.hub.metrics.messagesIn.Add(float64(len(msgs)))
	return msgs, nil
}

// readAll reads r into b, which it may replace. It reads one byte more than
// MaxFrame at most, so that the decoder sees that there was more. On a slow line
// each part of a large frame is a sign of life.
func (s *session) readAll(r io.Reader, b []byte) ([]byte, error) {
	const part = 64 << 10
	limit := s.hub.cfg.MaxFrame
	b = b[:0]
	if cap(b) == 0 {
		b = make([]byte, 0, 4<<10)
	}
	for {
		if len(b) == cap(b) {
			b = append(b, 0)[:len(b)]
		}
		n, err := r.Read(b[len(b):min(cap(b), len(b)+part, limit+1)])
		b = b[:len(b)+n]
		if errors.Is(err, io.EOF) || len(b) > limit {
			return b, nil
		}
		if err != nil {
			return b, err
		}
		if len(b) >= part && s.hello != nil {
			s.touch()
		}
	}
}

// gone explains why nothing can be read any more.
func (s *session) gone(err error) *ending {
	switch status := websocket.CloseStatus(err); {
	case status == websocket.StatusNormalClosure || status == websocket.StatusGoingAway:
		return &ending{code: "closed", reason: "the agent closed the connection", abrupt: true}
	case status != -1:
		return &ending{code: "closed", reason: "the agent closed the connection with status " + status.String(), abrupt: true}
	case errors.Is(err, os.ErrDeadlineExceeded) && s.hello == nil:
		return fault("hello_timeout", "no hello came within "+s.hub.cfg.HelloTimeout.String(), websocket.StatusPolicyViolation, false)
	case errors.Is(err, os.ErrDeadlineExceeded):
		return fault("silent", "no heartbeat came for too long", websocket.StatusPolicyViolation, false)
	default:
		return &ending{code: "lost", reason: "the connection broke", abrupt: true}
	}
}

// finish runs when nothing more is read: it waits for the writer and ends the
// session at the leader.
func (s *session) finish(ctx context.Context) {
	close(s.unread)
	<-s.written
	_ = s.net.Close()
	_ = s.conn.CloseNow()
	s.mu.Lock()
	e := s.ending
	s.mu.Unlock()

	s.up.Lock()
	if s.hello != nil {
		s.flush()
		s.toLeader(wire.Envelope{Messages: s.rejects.all(), Down: &wire.Error{Code: e.code, Message: e.reason}, Sent: s.reached()})
	}
	s.down = true
	s.stopGathering()
	s.up.Unlock()

	s.hub.forget(s)
	s.hub.metrics.closed.WithLabelValues(e.code).Inc()
	level := slog.LevelInfo
	if e.last.Error != nil {
		level = slog.LevelWarn
	}
	s.hub.log.LogAttrs(ctx, level, "agent disconnected", s.logged(slog.String("code", e.code), obs.Reason(e.reason))...)
}

// logged are the attributes that name a session in the log.
func (s *session) logged(more ...slog.Attr) []slog.Attr {
	return slices.Concat([]slog.Attr{obs.Agent(s.agent), obs.Session(s.id), obs.Addr(s.remote)}, more)
}
