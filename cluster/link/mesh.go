package link

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"runtime/debug"
	"sync"
	"time"

	"github.com/orrery-io/orrery/internal/obs"
	"github.com/orrery-io/orrery/job"
)

type (
	callHandler   func(ctx context.Context, from string, body []byte) ([]byte, error)
	sendHandler   func(from string, body []byte)
	streamHandler func(ctx context.Context, from string, body []byte, send func([]byte) error) error
)

// Mesh is this node's side of the links to all others. Handlers and the functions of
// OnUp and OnDown are given before Run; all other methods may be called by any
// goroutine at any time, and reach other nodes while Run runs.
type Mesh struct {
	cfg     Config
	log     *slog.Logger
	metrics *metrics

	calls        map[string]callHandler
	sends        map[string]sendHandler
	streams      map[string]streamHandler
	onUp, onDown []func(node string)

	// handlers are those of requests and streams under way.
	handlers sync.WaitGroup

	mu    sync.RWMutex
	peers map[string]*peer
	// spawn runs the connections to a peer; nil while Run does not.
	spawn func(*peer)
	// incoming are the connections that other nodes made, the newest of each.
	incoming map[string]*accepted
	stopped  chan struct{} // closed when Run ends
	ran      bool
}

// New makes a Mesh. It starts nothing.
func New(cfg Config) *Mesh {
	cfg = cfg.withDefaults()
	m := &Mesh{
		cfg: cfg, log: cfg.Log,
		calls: make(map[string]callHandler), sends: make(map[string]sendHandler), streams: make(map[string]streamHandler),
		peers: make(map[string]*peer), incoming: make(map[string]*accepted), stopped: make(chan struct{}),
	}
	m.metrics = newMetrics(cfg.Registerer, m)
	return m
}

// Handle has requests of a method answered by h, each in a goroutine of its own. Its
// ctx ends when the caller's does, or the connection. body is h's to keep, and not to
// change. A *job.Error reaches the caller as it is.
func (m *Mesh) Handle(method string, h func(ctx context.Context, from string, body []byte) ([]byte, error)) {
	m.calls[method] = h
}

// HandleSend has one-way messages of a method taken by h, one after the other in the
// order in which they were sent, as far as they come from one node. h must not block:
// everything else from that node waits for it.
func (m *Mesh) HandleSend(method string, h func(from string, body []byte)) { m.sends[method] = h }

// HandleStream has streams of a method filled by h, each in a goroutine of its own.
// send waits while the reader has not taken what was sent; it fails when there is no
// reader any more, and h should return then. What h returns ends the stream.
func (m *Mesh) HandleStream(method string, h func(ctx context.Context, from string, body []byte, send func([]byte) error) error) {
	m.streams[method] = h
}

// OnUp has f called when this node has connected to another one, OnDown when that
// connection has ended: in turn, for each node. They must not block. What is sent in f
// goes over the new connection.
func (m *Mesh) OnUp(f func(node string)) { m.onUp = append(m.onUp, f) }

// OnDown is described at OnUp.
func (m *Mesh) OnDown(f func(node string)) { m.onDown = append(m.onDown, f) }

// handlersLimit is how long Run waits, when it ends, for handlers to return.
const handlersLimit = 5 * time.Second

// Run connects and accepts until ctx ends, then closes all connections and returns
// nil. It may be called once.
func (m *Mesh) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var wg sync.WaitGroup
	m.mu.Lock()
	if m.ran {
		m.mu.Unlock()
		return errors.New("link: Run was called twice")
	}
	m.ran = true
	m.spawn = func(p *peer) { wg.Go(func() { m.keep(ctx, p) }) }
	for _, p := range m.peers {
		m.spawn(p)
	}
	m.mu.Unlock()
	var err error
	if m.cfg.Listener != nil {
		wg.Go(func() {
			if e := m.accept(ctx); e != nil {
				err = e
				cancel(e)
			}
		})
	}
	<-ctx.Done()
	m.mu.Lock()
	m.spawn = func(*peer) {}
	close(m.stopped)
	m.mu.Unlock()
	wg.Wait()
	m.awaitHandlers(ctx)
	return err
}

// awaitHandlers waits for what was asked by connections that have ended: their
// contexts have, too. A handler that does not return must not keep the node alive.
func (m *Mesh) awaitHandlers(ctx context.Context) {
	done := make(chan struct{})
	go func() {
		m.handlers.Wait()
		close(done)
	}()
	select {
	case <-done:
	case <-time.After(handlersLimit):
		m.log.WarnContext(ctx, "handlers of other nodes' requests don't return and are left behind")
	}
}

// contain calls f, and makes an error of its panic.
func (m *Mesh) contain(method string, f func() error) (err error) {
	defer func() {
		if v := recover(); v != nil {
			m.metrics.panics.Inc()
			m.log.Error("handler panicked", slog.String("method", method), slog.Any("panic", v), slog.String("stack", string(debug.Stack())))
			err = job.Errorf(job.Internal, "panic", "the request %s failed at node %s because of a fault of the program; its log has the details", method, m.cfg.Node)
		}
	}()
	return f()
}

// accepted is a place for a connection of another node.
type accepted struct {
	*conn

	epoch epoch
}

// admit makes c the connection of its node, and waits until the one before has ended,
// so that their messages don't mix. An error means that there is a newer one already,
// or that the node stops.
func (m *Mesh) admit(ctx context.Context, c *accepted) error {
	m.mu.Lock()
	old := m.incoming[c.node]
	switch {
	case ctx.Err() != nil:
		m.mu.Unlock()
		return errStopped
	case old != nil && c.epoch.before(old.epoch):
		m.mu.Unlock()
		return errSuperseded
	}
	m.incoming[c.node] = c
	// It is there: no need to wait any longer before connecting to it.
	p := m.peers[c.node]
	m.mu.Unlock()
	if p != nil {
		p.hurry()
	}
	if old != nil {
		old.fail(errSuperseded)
		<-old.read
	}
	return nil
}

// dismiss forgets a connection that has ended.
func (m *Mesh) dismiss(c *accepted) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.incoming[c.node] == c {
		delete(m.incoming, c.node)
	}
}

// serve runs an accepted connection.
func (m *Mesh) serve(ctx context.Context, c *accepted) {
	if err := m.admit(ctx, c); err != nil {
		close(c.read)
		c.fail(err)
		m.metrics.refused.WithLabelValues(reason(err)).Inc()
		return
	}
	defer m.dismiss(c)
	m.metrics.connsIn.Inc()
	defer m.metrics.connsIn.Dec()
	m.log.InfoContext(ctx, "link accepted", obs.Node(c.node), obs.Addr(addrOf(c.net)))
	m.logEnd(ctx, c.conn, c.run(ctx))
}

func addrOf(c net.Conn) string {
	if a := c.RemoteAddr(); a != nil {
		return a.String()
	}
	return ""
}

// checkSize refuses a body that the other side would not take.
func (m *Mesh) checkSize(body []byte) error {
	if len(body) > m.cfg.MaxMessage {
		return fmt.Errorf("link: %w", tooLarge(len(body), m.cfg.MaxMessage))
	}
	return nil
}

// sum adds up a number of all connections.
func (m *Mesh) sum(of func(*conn) int) int {
	m.mu.RLock()
	var all []*conn
	for _, p := range m.peers {
		if c := p.conn(); c != nil {
			all = append(all, c)
		}
	}
	for _, c := range m.incoming {
		all = append(all, c.conn)
	}
	m.mu.RUnlock()
	n := 0
	for _, c := range all {
		c.mu.Lock()
		n += of(c)
		c.mu.Unlock()
	}
	return n
}
