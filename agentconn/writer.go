package agentconn

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"strings"
	"time"

	"github.com/coder/websocket"
	"github.com/orrery-io/orrery/internal/obs"
	"github.com/orrery-io/orrery/wire"
)

// deliver queues messages of the leader for the agent. It does not block: what
// passes the bounds ends the session, or, of dispatches, is dropped.
func (s *session) deliver(msgs []wire.Message) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ending != nil {
		return
	}
	for _, m := range msgs {
		switch {
		case m.Welcome != nil:
			s.welcomed = true
			m.Welcome = s.welcome(*m.Welcome)
			s.release(m.Welcome.Drop...)
		case m.Beat != nil:
			s.beaten = max(s.beaten, m.Beat.Seq)
			s.release(m.Beat.Drop...)
		case m.ResultAck != nil:
			s.release(wire.Held{Job: m.ResultAck.Job, Fence: m.ResultAck.Fence})
		case m.Cancel != nil && m.Cancel.Drop:
			s.release(wire.Held{Job: m.Cancel.Job, Fence: m.Cancel.Fence})
		case m.Nodes != nil && !s.welcomed:
			continue // the welcome has them
		case m.Dispatch != nil && !s.welcomed:
			// The welcome was lost, and the agent takes nothing before it. Both come
			// again when the session is announced again.
			continue
		case m.Dispatch != nil:
			size := m.Msgsize()
			if s.queued > 0 && s.queued+size > s.hub.cfg.QueueBytes {
				s.drop()
				continue
			}
			s.queued += size
		}
		s.queue = append(s.queue, m)
		s.waiting++
	}
	if s.waiting > s.hub.cfg.QueueMessages+2*s.slots {
		s.endLocked(ending{code: "slow_agent", reason: "the agent does not read fast enough", abrupt: true})
	}
	s.signal()
}

// welcome fills in what only this node knows, and takes note of the heartbeat.
func (s *session) welcome(w wire.Welcome) *wire.Welcome {
	w.Session, w.Node, w.Cluster, w.Nodes = s.id, s.hub.cfg.Node, s.hub.cfg.Cluster(), s.hub.cfg.Nodes()
	if w.Heartbeat > 0 {
		s.silence = time.Duration(s.hub.cfg.Silence) * time.Duration(w.Heartbeat) * time.Millisecond
		_ = s.net.SetReadDeadline(time.Now().Add(s.silence))
	}
	return &w
}

// drop counts a dispatch that found no room, and logs the first of a row.
func (s *session) drop() {
	s.hub.metrics.dispatchDropped.Inc()
	if !s.dropping {
		s.dropping = true
		s.hub.log.Warn("dispatches dropped: the agent's queue is full", obs.Agent(s.agent), obs.Session(s.id))
	}
}

// take returns what is to be written now, and how to end after that, if so. What it
// returned the last time has been written.
func (s *session) take() ([]wire.Message, *ending) {
	s.mu.Lock()
	defer s.mu.Unlock()
	msgs := s.queue
	s.queue, s.waiting, s.queued, s.dropping = nil, len(msgs), 0, false
	for i := range msgs {
		if d := msgs[i].Dispatch; d != nil {
			s.queued += msgs[i].Msgsize()
			if a := (attempt{d.Job, d.Fence}); s.attempts[a] == 0 {
				s.attempts[a] = holdsSent
			}
		}
	}
	return msgs, s.ending
}

// armWrite gives the next write its time.
func (s *session) armWrite() {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.ending == nil:
		_ = s.net.SetWriteDeadline(time.Now().Add(s.hub.cfg.WriteTimeout))
	case !s.ending.abrupt:
		_ = s.net.SetWriteDeadline(time.Now().Add(s.hub.cfg.CloseTimeout))
	}
}

// write sends what is queued until the session ends.
func (s *session) write(ctx context.Context) {
	defer close(s.written)
	for range s.wake {
		for {
			msgs, e := s.take()
			if len(msgs) == 0 && e == nil {
				break
			}
			if s.writeOut(ctx, msgs, e) {
				return
			}
		}
	}
}

// writeOut writes msgs, then ends the session when e says so; true means that
// nothing more is to be written.
func (s *session) writeOut(ctx context.Context, msgs []wire.Message, e *ending) bool {
	if e != nil && e.abrupt {
		return true
	}
	if err := s.writeAll(ctx, msgs); err != nil {
		code, reason := "lost", "the connection broke"
		if errors.Is(err, os.ErrDeadlineExceeded) {
			code, reason = "slow_agent", "the agent does not read fast enough"
		}
		s.end(ending{code: code, reason: reason, abrupt: true})
		_ = s.net.SetDeadline(time.Unix(1, 0)) // also when it was ending already
		return true
	}
	if e == nil {
		return false
	}
	if e.linger {
		select {
		case <-s.unread:
		case <-time.After(s.hub.cfg.CloseTimeout / 2):
		}
	}
	s.close(e)
	return true
}

// close is the orderly end: both sides say that they close, within CloseTimeout.
func (s *session) close(e *ending) {
	_ = s.net.SetDeadline(time.Now().Add(s.hub.cfg.CloseTimeout))
	_ = s.conn.Close(e.status, cut(e.reason, 120))
	_ = s.net.SetDeadline(time.Unix(1, 0))
}

// writeAll writes msgs in as few frames as are reasonable.
func (s *session) writeAll(ctx context.Context, msgs []wire.Message) error {
	if len(msgs) == 0 {
		return nil
	}
	buf := s.hub.buffer()
	defer s.hub.release(buf)
	for len(msgs) > 0 {
		n := wire.Batch(msgs)
		if err := s.writeFrame(ctx, buf, msgs[:n]); err != nil {
			return err
		}
		msgs = msgs[n:]
	}
	return nil
}

// writeFrame writes msgs as one frame. A message that cannot be encoded is logged
// and left out.
func (s *session) writeFrame(ctx context.Context, buf *[]byte, msgs []wire.Message) (err error) {
	if *buf, err = wire.AppendFrame((*buf)[:0], s.format, msgs); err != nil {
		if len(msgs) == 1 {
			s.hub.log.ErrorContext(ctx, "message left out", obs.Agent(s.agent), slog.String("kind", msgs[0].Kind()), obs.Err(err))
			return nil
		}
		for i := range msgs {
			if err := s.writeFrame(ctx, buf, msgs[i:i+1]); err != nil {
				return err
			}
		}
		return nil
	}
	typ := websocket.MessageText
	if s.format.Binary() {
		typ = websocket.MessageBinary
	}
	s.armWrite()
	if err := s.conn.Write(ctx, typ, *buf); err != nil {
		return err
	}
	s.hub.metrics.framesOut.Inc()
	s.hub.metrics.messagesOut.Add(float64(len(msgs)))
	s.hub.metrics.bytesOut.Add(float64(len(*buf)))
	return nil
}

// cut shortens s to at most n bytes of valid UTF-8.
func cut(s string, n int) string {
	if len(s) > n {
		s = s[:n]
	}
	return strings.ToValidUTF8(s, "")
}
