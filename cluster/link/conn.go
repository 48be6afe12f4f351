package link

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"os"
	"sync"
	"time"

	"github.com/coder/websocket"
	"github.com/orrery-io/orrery/internal/obs"
)

// conn is one connection, on either side. It has a reader and a writer.
type conn struct {
	mesh *Mesh
	// node is at the other end.
	node string
	// dialed means that this node made the connection: it asks, the other answers.
	dialed bool
	ws     *websocket.Conn
	net    net.Conn // under ws; for its deadlines, and to close it hard
	// wanted reports whether the connection shall stay although nothing happens on it.
	wanted func() bool

	wake chan struct{} // capacity 1; the writer has something to do
	// ended is closed when nothing can be queued any more, read when the reader has
	// ended: no handler is called after that.
	ended, read chan struct{}

	mu      sync.Mutex
	why     error // why it ended
	queue   []entry
	size    int           // of queue, in bytes
	room    chan struct{} // closed when there is room again; nil when nobody waits
	lastID  uint64
	asked   map[uint64]*question // dialing side: what waits for an answer
	streams map[uint64]*reader   // dialing side
	serving map[uint64]*serving  // accepting side
	held    int                  // bytes of the requests in serving
	used    time.Time            // dialing side: when something was asked last
}

// entry is a message that waits to be written. q is the question that it asks, r the
// reader of the stream that it opens, if any.
type entry struct {
	message

	q *question
	r *reader
}

func newConn(m *Mesh, node string, ws *websocket.Conn, nc net.Conn, dialed bool) *conn {
	return &conn{
		mesh: m, node: node, dialed: dialed, ws: ws, net: nc,
		wanted: func() bool { return true },
		wake:   make(chan struct{}, 1), ended: make(chan struct{}), read: make(chan struct{}),
		asked: make(map[uint64]*question), streams: make(map[uint64]*reader), serving: make(map[uint64]*serving),
		used: time.Now(),
	}
}

// run speaks with the other node until the connection ends, and returns why. When ctx
// ends it writes what is queued and closes. Handlers may go on for a while.
func (c *conn) run(ctx context.Context) error {
	life, over := context.WithCancelCause(context.WithoutCancel(ctx))
	stop := context.AfterFunc(ctx, func() { c.close(errStopped) })
	defer stop()
	var writing sync.WaitGroup
	writing.Go(c.writeLoop)
	c.fail(c.readLoop(life))
	close(c.read)
	over(c.why)
	writing.Wait()
	_ = c.ws.CloseNow()
	_ = c.net.Close()
	return c.why
}

// fail ends the connection at once. The first reason counts.
func (c *conn) fail(why error) {
	c.close(why)
	_ = c.net.SetDeadline(time.Unix(1, 0)) // closing a TLS connection may wait for a write
	_ = c.net.Close()
}

// closeLimit is how long the writer may take for what is queued when the connection
// ends in good order.
const closeLimit = time.Second

// close takes nothing more, and ends the connection when what is queued is written.
// Everything that waits for an answer learns that there will be none.
func (c *conn) close(why error) {
	c.mu.Lock()
	if c.why != nil {
		c.mu.Unlock()
		return
	}
	c.why = why
	asked, streams := c.asked, c.streams
	c.asked, c.streams = nil, nil
	_ = c.net.SetWriteDeadline(time.Now().Add(closeLimit))
	close(c.ended)
	for _, q := range asked {
		if q.sent {
			q.answer(nil, unknown(c.node, why))
		} else {
			q.answer(nil, unreachable(c.node, why))
		}
	}
	c.mu.Unlock()
	for _, r := range streams {
		r.close(broken(c.node, why))
	}
	c.signal()
}

// signal wakes the writer.
func (c *conn) signal() {
	select {
	case c.wake <- struct{}{}:
	default:
	}
}

// push queues a message, as soon as there is room. A question or reader that comes
// with it is registered under the id that is returned.
func (c *conn) push(ctx context.Context, e entry) (id uint64, err error) {
	for {
		room, id, err := c.offer(e)
		if room == nil {
			return id, err
		}
		select {
		case <-room:
		case <-c.ended:
		case <-ctx.Done():
			return 0, context.Cause(ctx)
		}
	}
}

// offer queues a message if there is room. Otherwise it returns a channel that is
// closed when there may be.
func (c *conn) offer(e entry) (room <-chan struct{}, id uint64, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.why != nil {
		return nil, 0, c.why
	}
	if c.full(&e.message) {
		if c.room == nil {
			c.room = make(chan struct{})
		}
		return c.room, 0, nil
	}
	if e.q != nil || e.r != nil {
		c.lastID++
		e.ID = c.lastID
		c.used = time.Now()
		if e.q != nil {
			c.asked[e.ID] = e.q
		} else {
			c.streams[e.ID] = e.r
		}
	}
	c.add(e)
	return nil, e.ID, nil
}

// post queues a message if there is room now.
func (c *conn) post(m message) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.why != nil || c.full(&m) {
		return false
	}
	c.used = time.Now()
	c.add(entry{message: m})
	return true
}

// urge queues a message whatever the bound is: one that others wait for and of which
// there are few.
func (c *conn) urge(m message) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.why == nil {
		c.add(entry{message: m})
	}
}

// full reports whether m has to wait for room; c.mu is held. A message larger than the
// bound goes alone.
func (c *conn) full(m *message) bool {
	return c.size > 0 && c.size+m.size() > c.mesh.cfg.QueueBytes
}

// add queues a message; c.mu is held.
func (c *conn) add(e entry) {
	c.queue = append(c.queue, e)
	c.size += e.size()
	if len(c.queue) == 1 {
		c.signal()
	}
}

// take moves what goes into the next frame to batch. closing means that there is
// nothing more, and will not be.
func (c *conn) take(batch []message) (_ []message, closing bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	n, framed, taken := 0, 0, 0
	for n < len(c.queue) {
		e := &c.queue[n]
		size := e.size()
		if e.q == nil || !e.q.withdrawn {
			if framed > 0 && framed+size > softFrame {
				break
			}
			if e.q != nil {
				e.q.sent = true
			}
			framed += size
			batch = append(batch, e.message)
		}
		taken += size
		n++
	}
	clear(c.queue[:n])
	if c.queue = c.queue[n:]; len(c.queue) == 0 {
		c.queue = nil
	}
	c.size -= taken
	if c.room != nil && c.size <= c.mesh.cfg.QueueBytes/2 {
		close(c.room)
		c.room = nil
	}
	return batch, c.why != nil && len(c.queue) == 0
}

// writeLoop writes what is queued, again as soon as the write before has returned.
func (c *conn) writeLoop() {
	defer c.abandon()
	tick := time.NewTicker(c.mesh.cfg.Beat)
	defer tick.Stop()
	w := writer{conn: c}
	for {
		select {
		case <-c.wake:
		case <-tick.C:
			if c.dialed && c.idle() && !c.wanted() {
				c.close(errUnwanted)
			}
			c.urge(message{Kind: beat})
		}
		for {
			var closing bool
			if w.batch, closing = c.take(w.batch[:0]); len(w.batch) > 0 {
				if err := w.write(); err != nil {
					c.fail(err)
					return
				}
			}
			if closing {
				_ = c.net.SetDeadline(time.Unix(1, 0))
				return
			}
			if len(w.batch) == 0 {
				break
			}
		}
	}
}

// abandon gives up what is still queued when nothing is written any more.
func (c *conn) abandon() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.queue = nil
	c.size = 0
}

// idle reports whether nothing is asked and was not for a while.
func (c *conn) idle() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.asked)+len(c.streams)+len(c.queue) == 0 && time.Since(c.used) >= c.mesh.cfg.IdleTimeout
}

// writer makes frames.
type writer struct {
	*conn

	batch []message
	buf   []byte
}

func (w *writer) write() error {
	b := beginFrame(w.buf)
	for i := range w.batch {
		var err error
		if b, err = w.batch[i].MarshalMsg(b); err != nil {
			return err
		}
	}
	clear(w.batch)
	b = endFrame(b, len(w.batch))
	// A context that can end would cost the library a timer for each write.
	if err := w.ws.Write(context.Background(), websocket.MessageBinary, b); err != nil {
		return err
	}
	m := w.mesh.metrics
	m.framesOut.Inc()
	m.messagesOut.Add(float64(len(w.batch)))
	m.bytesOut.Add(float64(len(b)))
	w.buf = b
	if cap(b) > 4*softFrame {
		w.buf = nil // don't keep what one large message needed
	}
	return nil
}

// readLoop takes frame after frame, and returns why there are no more. Handlers get
// ctx.
func (c *conn) readLoop(ctx context.Context) error {
	m := c.mesh.metrics
	var scratch []byte
	for {
		b, err := c.readFrame(scratch[:0])
		if err != nil {
			return err
		}
		if scratch = b; cap(b) > 4*softFrame {
			scratch = nil
		}
		m.framesIn.Inc()
		m.bytesIn.Add(float64(len(b)))
		count := 0
		// Bodies refer to the frame and outlive it.
		err = decodeFrame(append([]byte(nil), b...), func(msg *message) error {
			count++
			if c.dialed {
				return c.answered(msg)
			}
			return c.requested(ctx, msg)
		})
		m.messagesIn.Add(float64(count))
		if err != nil {
			return errors.Join(errViolation, err)
		}
	}
}

// readFrame reads one frame into b. Each part that comes is a sign of life.
func (c *conn) readFrame(b []byte) ([]byte, error) {
	c.alive()
	typ, r, err := c.ws.Reader(context.Background())
	if err != nil {
		return b, c.lost(err)
	}
	if typ != websocket.MessageBinary {
		return b, errors.Join(errViolation, errors.New("a text message came"))
	}
	limit := c.mesh.cfg.MaxMessage + softFrame
	for {
		if len(b) == cap(b) {
			b = append(b, 0)[:len(b)]
		}
		n, err := r.Read(b[len(b):cap(b)])
		b = b[:len(b)+n]
		switch {
		case len(b) > limit:
			return b, errors.Join(errViolation, errors.New("a frame is too large"))
		case err == nil:
			if len(b) >= softFrame {
				c.alive()
			}
		case err == io.EOF: //nolint:errorlint // an io.Reader returns io.EOF itself
			return b, nil
		default:
			return b, c.lost(err)
		}
	}
}

// alive gives the other side its time anew.
func (c *conn) alive() {
	_ = c.net.SetReadDeadline(time.Now().Add(c.mesh.cfg.Silence))
}

// lost explains an error of reading.
func (c *conn) lost(err error) error {
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return errSilent
	}
	return err
}

// reason names why a connection ended, for the metrics.
func reason(why error) string {
	switch {
	case errors.Is(why, errStopped):
		return "stopped"
	case errors.Is(why, errSuperseded):
		return "superseded"
	case errors.Is(why, errUnwanted):
		return "unwanted"
	case errors.Is(why, errSilent):
		return "silent"
	case errors.Is(why, errViolation):
		return "violation"
	default:
		return "lost"
	}
}

// logEnd tells that a connection has ended, loudly when the other side is to blame.
func (m *Mesh) logEnd(ctx context.Context, c *conn, why error) {
	word := reason(why)
	m.metrics.ended.WithLabelValues(word).Inc()
	level := slog.LevelInfo
	if word == "violation" || word == "silent" {
		level = slog.LevelWarn
	}
	direction := "in"
	if c.dialed {
		direction = "out"
	}
	m.log.LogAttrs(ctx, level, "link ended", obs.Node(c.node), slog.String("direction", direction), obs.Err(why))
}
