package agent

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/orrery-io/orrery/wire"
)

// welcomeTimeout bounds how long a node may take to answer the hello. A cluster
// without a leader can't.
const welcomeTimeout = 10 * time.Second

// sdk names this library in the hello.
const sdk = "orrery-go"

// session is one connection from the hello on.
type session struct {
	agent *Agent
	conn  conn
	addr  string

	once sync.Once
	// ended is closed when the session is; why is set before.
	ended chan struct{}
	why   error
}

// fail ends the session for the first reason given.
func (s *session) fail(why error) {
	s.once.Do(func() {
		s.why = why
		close(s.ended)
		s.conn.cut()
	})
}

// serve speaks with the node until the connection is lost or ctx ends, and returns
// why. welcomed tells whether the node had taken the agent.
func (a *Agent) serve(ctx context.Context, addr string, c conn) (welcomed bool, err error) {
	s := &session{agent: a, conn: c, addr: addr, ended: make(chan struct{})}
	stop := context.AfterFunc(ctx, func() { s.fail(context.Cause(ctx)) })
	defer stop()

	sent := a.bench.now()
	welcome, rest, err := s.greet()
	if err != nil {
		s.fail(err)
		return false, s.why
	}
	a.learn(welcome.Nodes)
	a.link.Store(s)
	a.bench.welcome(welcome, sent)
	a.log.Info("connected", "addr", addr, "node", welcome.Node, "session", welcome.Session)
	if told := a.cfg.Hooks.Connected; told != nil {
		told(addr)
	}
	var writing sync.WaitGroup
	writing.Go(s.writeLoop)

	for {
		for i := range rest {
			s.take(&rest[i])
		}
		if rest, err = s.receive(); err != nil {
			break
		}
	}
	s.fail(err)
	writing.Wait()
	a.link.Store(nil)
	a.bench.unlink()
	if told := a.cfg.Hooks.Disconnected; told != nil {
		told(addr, s.why)
	}
	return true, s.why
}

// greet sends the hello and waits for the welcome. It returns the messages that
// came after it in the same frame.
func (s *session) greet() (*wire.Welcome, []wire.Message, error) {
	hello := s.agent.hello()
	frame, err := wire.AppendFrame(nil, s.conn.format(), []wire.Message{{Hello: hello}})
	if err != nil {
		return nil, nil, fmt.Errorf("encode the hello: %w", err)
	}
	timer := time.AfterFunc(welcomeTimeout, func() {
		s.fail(errors.New("the node did not answer the hello; perhaps the cluster has no leader"))
	})
	defer timer.Stop()
	if err := s.conn.write(frame); err != nil {
		return nil, nil, fmt.Errorf("send the hello: %w", err)
	}
	for {
		msgs, err := s.receive()
		if err != nil {
			return nil, nil, err
		}
		for i := range msgs {
			switch m := &msgs[i]; {
			case m.Welcome != nil:
				return m.Welcome, msgs[i+1:], nil
			case m.Error != nil:
				return nil, nil, s.refusal(m.Error)
			case m.Bye != nil:
				return nil, nil, errBye(m.Bye)
			}
		}
	}
}

// receive reads one frame.
func (s *session) receive() ([]wire.Message, error) {
	b, err := s.conn.read()
	if err != nil {
		return nil, fmt.Errorf("read: %w", err)
	}
	return wire.DecodeFrame(s.conn.format(), b, wire.Limits{})
}

// take carries out one message.
func (s *session) take(m *wire.Message) {
	b := s.agent.bench
	switch {
	case m.Dispatch != nil:
		b.accept(m.Dispatch)
	case m.ResultAck != nil:
		b.acknowledge(m.ResultAck)
	case m.Beat != nil:
		b.answer(m.Beat)
	case m.Cancel != nil:
		b.stopOne(m.Cancel)
	case m.Welcome != nil: // of a new leader
		s.agent.learn(m.Welcome.Nodes)
		b.welcomeAgain(m.Welcome)
	case m.Nodes != nil:
		s.agent.learn(m.Nodes.Nodes)
	case m.Drain != nil:
		s.agent.finishAndLeave(m.Drain.Reason)
	case m.Bye != nil:
		s.conn.leave()
		s.fail(errBye(m.Bye))
	case m.Error != nil:
		s.fail(s.refusal(m.Error))
	}
	// Anything else is of a later version, or none of an agent's business.
}

// refusal turns the node's last word into an error.
func (s *session) refusal(e *wire.Error) error {
	if e.Fatal {
		return &RefusedError{Addr: s.addr, Code: e.Code, Message: e.Message}
	}
	return fmt.Errorf("the node closed the connection: %s (%s)", e.Message, e.Code)
}

func errBye(b *wire.Bye) error {
	err := errors.New("the node said goodbye")
	if b.Reason != "" {
		err = fmt.Errorf("the node said goodbye: %s", b.Reason)
	}
	if b.Reconnect {
		return elsewhere{err}
	}
	return err
}

// writeLoop sends frames until the session ends. It waits for something to send,
// never for more of it: what comes while a frame is being written goes into the
// next.
func (s *session) writeLoop() {
	out := s.agent.bench.out
	var f frame
	var buf []byte
	for {
		select {
		case <-s.ended:
			return
		case <-out.wake:
		}
		for out.next(&f) {
			if cap(buf) > 4*wire.SoftFrame {
				buf = nil
			}
			var err error
			if buf, err = s.encode(buf[:0], f.msgs); err == nil {
				err = s.conn.write(buf)
			}
			if err != nil {
				out.unsaid(&f)
				s.fail(fmt.Errorf("write: %w", err))
				return
			}
		}
	}
}

// encode writes a frame. A message that cannot be encoded is left out, so that it
// is not tried for ever; that would be a fault of this package.
func (s *session) encode(b []byte, msgs []wire.Message) ([]byte, error) {
	format := s.conn.format()
	b, err := wire.AppendFrame(b, format, msgs)
	if err == nil {
		return b, nil
	}
	s.agent.log.Error("message cannot be encoded", "error", err)
	good := make([]wire.Message, 0, len(msgs))
	for i := range msgs {
		if _, err := wire.AppendFrame(nil, format, msgs[i:i+1]); err == nil {
			good = append(good, msgs[i])
		}
	}
	return wire.AppendFrame(b, format, good)
}

// hello introduces the agent with what it has at the moment.
func (a *Agent) hello() *wire.Hello {
	h := &wire.Hello{
		Protocol: wire.Protocol, ID: a.cfg.ID, Name: a.cfg.Name, Group: a.cfg.Group, Labels: a.cfg.Labels,
		Capabilities: a.capabilities, Queues: a.cfg.Queues, Slots: a.cfg.Slots, Version: a.cfg.Version, SDK: sdk,
	}
	a.bench.mu.Lock()
	defer a.bench.mu.Unlock()
	h.Held, h.Outbox = a.bench.holdings()
	h.Draining = a.bench.draining
	return h
}
