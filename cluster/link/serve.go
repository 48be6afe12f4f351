package link

import (
	"context"
	"fmt"

	"github.com/orrery-io/orrery/job"
)

// serving is a request or stream of the other node that is under way here.
type serving struct {
	cancel context.CancelCauseFunc
	size   int
	// credit is what may still be sent of a stream, in bytes; it can be below zero by
	// one item. more is closed when it has grown; nil when nobody waits. Both are
	// guarded by conn.mu.
	credit int64
	more   chan struct{}
}

// requested takes a message at the side that answers.
func (c *conn) requested(ctx context.Context, msg *message) error {
	switch msg.Kind {
	case send:
		c.mesh.take(c.node, msg.Method, msg.Body)
	case request, open:
		return c.begin(ctx, msg)
	case cancel:
		c.mu.Lock()
		s := c.serving[msg.ID]
		c.mu.Unlock()
		if s != nil {
			s.cancel(context.Canceled)
		}
	case credit:
		c.mu.Lock()
		defer c.mu.Unlock()
		if s := c.serving[msg.ID]; s != nil && msg.Credit > 0 {
			s.credit = min(s.credit+msg.Credit, maxCredit)
			if s.more != nil {
				close(s.more)
				s.more = nil
			}
		}
	default:
		// A beat, or of a later version.
	}
	return nil
}

// maxCredit bounds what the other side can claim to have room for.
const maxCredit = 64 << 20

// begin has a request or stream handled, or refuses it.
func (c *conn) begin(ctx context.Context, msg *message) error {
	m := c.mesh
	call, stream := m.calls[msg.Method], m.streams[msg.Method]
	if msg.Kind == request && call == nil || msg.Kind == open && stream == nil {
		c.refuse(msg, m.unknownMethod(msg.Method))
		return nil
	}
	ctx, cancel := context.WithCancelCause(ctx)
	s := &serving{cancel: cancel, size: msg.size(), credit: min(msg.Credit, maxCredit)}
	switch taken, err := c.admit(msg.ID, s); {
	case err != nil:
		cancel(nil)
		return err
	case !taken:
		cancel(nil)
		m.metrics.refused.WithLabelValues("overloaded").Inc()
		c.refuse(msg, job.Errorf(job.Overloaded, "node_overloaded", "node %s has too many requests of node %s under way", m.cfg.Node, c.node).WithHint("try again in a second"))
		return nil
	}
	id, method, body := msg.ID, msg.Method, msg.Body
	if msg.Kind == request {
		m.handlers.Go(func() { c.answer(ctx, s, id, method, body, call) })
	} else {
		m.handlers.Go(func() { c.fill(ctx, s, id, method, body, stream) })
	}
	return nil
}

// admit notes what is under way. taken is false when there is too much of it.
func (c *conn) admit(id uint64, s *serving) (taken bool, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.serving[id] != nil {
		return false, fmt.Errorf("%w: the id %d is used twice", errViolation, id)
	}
	cfg := &c.mesh.cfg
	if c.why != nil || len(c.serving) >= cfg.MaxRequests || c.held > 0 && c.held+s.size > cfg.MaxRequestBytes {
		return false, nil
	}
	c.serving[id] = s
	c.held += s.size
	return true, nil
}

// over notes that something is no longer under way.
func (c *conn) over(id uint64, s *serving) {
	s.cancel(nil)
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.serving, id)
	c.held -= s.size
}

// refuse answers what is not handled.
func (c *conn) refuse(msg *message, why error) {
	k := reply
	if msg.Kind == open {
		k = end
	}
	c.urge(message{Kind: k, ID: msg.ID, Fault: faultOf(why)})
}

// answer handles a request.
func (c *conn) answer(ctx context.Context, s *serving, id uint64, method string, body []byte, h callHandler) {
	var res []byte
	err := c.mesh.contain(method, func() (err error) {
		res, err = h(ctx, c.node, body)
		return err
	})
	if err == nil {
		if err = c.mesh.checkSize(res); err != nil {
			res = nil
		}
	}
	if ctx.Err() == nil { // somebody waits for it
		_, _ = c.push(ctx, entry{message: message{Kind: reply, ID: id, Body: res, Fault: faultOf(err)}})
	}
	c.over(id, s)
}

// fill handles a stream.
func (c *conn) fill(ctx context.Context, s *serving, id uint64, method string, body []byte, h streamHandler) {
	err := c.mesh.contain(method, func() error {
		return h(ctx, c.node, body, func(b []byte) error {
			if err := c.mesh.checkSize(b); err != nil {
				return err
			}
			if err := c.spend(ctx, s, int64(len(b)+overhead)); err != nil {
				return err
			}
			_, err := c.push(ctx, entry{message: message{Kind: item, ID: id, Body: b}})
			return err
		})
	})
	if ctx.Err() == nil {
		_, _ = c.push(ctx, entry{message: message{Kind: end, ID: id, Fault: faultOf(err)}})
	}
	c.over(id, s)
}

// spend waits until there is credit, and takes of it.
func (c *conn) spend(ctx context.Context, s *serving, n int64) error {
	for {
		c.mu.Lock()
		if ctx.Err() != nil {
			c.mu.Unlock()
			return context.Cause(ctx)
		}
		if s.credit > 0 {
			s.credit -= n
			c.mu.Unlock()
			return nil
		}
		if s.more == nil {
			s.more = make(chan struct{})
		}
		more := s.more
		c.mu.Unlock()
		select {
		case <-more:
		case <-ctx.Done():
		}
	}
}
