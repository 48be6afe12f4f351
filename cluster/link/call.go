package link

import (
	"context"
	"errors"

	"github.com/orrery-io/orrery/job"
)

// question is a request that waits for its answer. All but the answer is guarded by
// conn.mu.
type question struct {
	// sent means that the writer has it, withdrawn that it must not be written.
	sent, withdrawn bool
	// reply has room for the one answer.
	reply chan answer
}

type answer struct {
	body []byte
	err  error
}

// answer is called once, by whoever has removed the question from conn.asked.
func (q *question) answer(body []byte, err error) { q.reply <- answer{body, err} }

// Call asks a node and returns its answer, which is the caller's to keep. It connects
// first if there is no connection, and waits for as long as ctx allows. body must not
// be changed before it returns. A request to this node itself is handled at once, in
// the caller's goroutine.
//
// Errors: a *job.Error of the handler; one of kind job.Unavailable and code
// "node_unreachable" when the request has not left this node; job.ErrOutcomeUnknown
// when it may have been handled, also when ctx ended meanwhile (it wraps the cause
// then); job.TooLarge.
func (m *Mesh) Call(ctx context.Context, node, method string, body []byte) ([]byte, error) {
	if err := m.checkSize(body); err != nil {
		return nil, err
	}
	if node == m.cfg.Node {
		return m.callHere(ctx, method, body)
	}
	c, err := m.await(ctx, node)
	var res []byte
	if err == nil {
		res, err = c.ask(ctx, method, body)
	}
	m.metrics.calls.WithLabelValues(method, outcome(err)).Inc()
	return res, err
}

// outcome is a word for the metrics.
func outcome(err error) string {
	if err == nil {
		return "answered"
	}
	e, ok := errors.AsType[*job.Error](err)
	switch {
	case ok && e.Code == "node_unreachable":
		return "unreachable"
	case errors.Is(err, job.ErrOutcomeUnknown):
		return "unknown"
	default:
		return "refused"
	}
}

func (m *Mesh) callHere(ctx context.Context, method string, body []byte) (res []byte, err error) {
	h := m.calls[method]
	if h == nil {
		return nil, m.unknownMethod(method)
	}
	err = m.contain(method, func() (err error) {
		res, err = h(ctx, m.cfg.Node, body)
		return err
	})
	return res, err
}

func (m *Mesh) unknownMethod(method string) error {
	return job.Errorf(job.Invalid, "unknown_method", "node %s does not know the request %s; it may run another version", m.cfg.Node, method)
}

// ask sends a request and waits for its answer.
func (c *conn) ask(ctx context.Context, method string, body []byte) ([]byte, error) {
	q := &question{reply: make(chan answer, 1)}
	id, err := c.push(ctx, entry{message: message{Kind: request, Method: method, Body: body}, q: q})
	if err != nil {
		return nil, unreachable(c.node, err)
	}
	select {
	case a := <-q.reply:
		return a.body, a.err
	case <-ctx.Done():
		return c.withdraw(ctx, id, q)
	}
}

// withdraw gives up waiting for an answer because ctx has ended.
func (c *conn) withdraw(ctx context.Context, id uint64, q *question) ([]byte, error) {
	c.mu.Lock()
	if _, open := c.asked[id]; !open {
		c.mu.Unlock()
		a := <-q.reply // it is there, or about to be
		return a.body, a.err
	}
	defer c.mu.Unlock()
	delete(c.asked, id)
	if !q.sent {
		q.withdrawn = true
		return nil, unreachable(c.node, context.Cause(ctx))
	}
	c.add(entry{message: message{Kind: cancel, ID: id}})
	return nil, unknown(c.node, context.Cause(ctx))
}

// answered takes a message at the side that asks.
func (c *conn) answered(msg *message) error {
	c.mu.Lock()
	switch msg.Kind {
	case reply:
		q := c.asked[msg.ID]
		delete(c.asked, msg.ID)
		c.mu.Unlock()
		if q != nil {
			q.answer(msg.Body, msg.Fault.err())
		}
	case item, end:
		r := c.streams[msg.ID]
		if msg.Kind == end {
			delete(c.streams, msg.ID)
		}
		c.mu.Unlock()
		switch {
		case r == nil:
		case msg.Kind == end:
			r.close(msg.Fault.err())
		default:
			return r.take(msg.Body)
		}
	default:
		c.mu.Unlock()
	}
	return nil
}

// Send queues a one-way message and returns at once. false means that it is dropped:
// there is no connection (one is being made), no room, or it is too large. true means
// only that it is queued. What is sent by one goroutine arrives in order. body must not
// be changed afterwards. A message to this node itself is handled before Send returns.
func (m *Mesh) Send(node, method string, body []byte) bool {
	if node == m.cfg.Node {
		m.take(node, method, body)
		return true
	}
	p := m.peer(node)
	c := p.conn()
	if c == nil {
		p.hurry()
		m.metrics.dropped.Inc()
		return false
	}
	if m.checkSize(body) != nil || !c.post(message{Kind: send, Method: method, Body: body}) {
		m.metrics.dropped.Inc()
		return false
	}
	return true
}

// take handles a one-way message.
func (m *Mesh) take(from, method string, body []byte) {
	if h := m.sends[method]; h != nil {
		_ = m.contain(method, func() error { h(from, body); return nil })
	}
}
