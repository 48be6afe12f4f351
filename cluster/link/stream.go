package link

import (
	"context"
	"fmt"
	"iter"
	"sync"
)

// reader is a stream at the side that asked for it.
type reader struct {
	// window bounds what waits, in bytes, apart from one item.
	window int
	wake   chan struct{} // capacity 1

	mu     sync.Mutex
	items  [][]byte
	size   int
	closed bool
	err    error
}

// take keeps an item. An error means that the other side has not heeded its credit.
func (r *reader) take(b []byte) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.size > r.window {
		return fmt.Errorf("%w: a stream has more than its credit", errViolation)
	}
	r.items = append(r.items, b)
	r.size += len(b) + overhead
	r.signal()
	return nil
}

// close ends the stream after what has come.
func (r *reader) close(err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.closed, r.err = true, err
	r.signal()
}

func (r *reader) signal() {
	select {
	case r.wake <- struct{}{}:
	default:
	}
}

// next returns what has come. done means that it was all, with err.
func (r *reader) next(spare [][]byte) (items [][]byte, done bool, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	clear(spare)
	items, r.items = r.items, spare[:0]
	return items, r.closed && len(items) == 0, r.err
}

// free notes that n bytes were read.
func (r *reader) free(n int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.size -= n
}

// Stream asks a node for a stream and yields its items as they come, each the caller's
// to keep. It connects first if there is no connection. A stream that ends with an
// error yields it last, with a nil item: the handler's *job.Error, one of kind
// job.Unavailable and code "node_unreachable" or "link_broken", or the cause of ctx's
// end. Who stops reading ends the stream at the other side. A stream of this node
// itself is filled in the reader's goroutine.
func (m *Mesh) Stream(ctx context.Context, node, method string, body []byte) iter.Seq2[[]byte, error] {
	return func(yield func([]byte, error) bool) {
		if err := m.checkSize(body); err != nil {
			yield(nil, err)
			return
		}
		if node == m.cfg.Node {
			m.streamHere(ctx, method, body, yield)
			return
		}
		c, err := m.await(ctx, node)
		if err != nil {
			yield(nil, err)
			return
		}
		c.stream(ctx, method, body, yield)
	}
}

func (m *Mesh) streamHere(ctx context.Context, method string, body []byte, yield func([]byte, error) bool) {
	h := m.streams[method]
	if h == nil {
		yield(nil, m.unknownMethod(method))
		return
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	left := false
	err := m.contain(method, func() error {
		return h(ctx, m.cfg.Node, body, func(b []byte) error {
			if left || ctx.Err() != nil {
				return context.Canceled
			}
			if left = !yield(b, nil); left {
				cancel()
				return context.Canceled
			}
			return nil
		})
	})
	if err != nil && !left {
		yield(nil, err)
	}
}

func (c *conn) stream(ctx context.Context, method string, body []byte, yield func([]byte, error) bool) {
	window := c.mesh.cfg.StreamWindow
	r := &reader{window: window, wake: make(chan struct{}, 1)}
	id, err := c.push(ctx, entry{message: message{Kind: open, Method: method, Body: body, Credit: int64(window)}, r: r})
	if err != nil {
		yield(nil, unreachable(c.node, err))
		return
	}
	defer c.leave(id)
	var items [][]byte
	read := 0
	for {
		var done bool
		if items, done, err = r.next(items); done {
			if err != nil {
				yield(nil, err)
			}
			return
		}
		for _, b := range items {
			if ctx.Err() != nil {
				yield(nil, context.Cause(ctx))
				return
			}
			if !yield(b, nil) {
				return
			}
			n := len(b) + overhead
			r.free(n)
			if read += n; read >= window/2 {
				c.urge(message{Kind: credit, ID: id, Credit: int64(read)})
				read = 0
			}
		}
		if len(items) > 0 {
			continue
		}
		select {
		case <-r.wake:
		case <-ctx.Done():
			yield(nil, context.Cause(ctx))
			return
		}
	}
}

// leave ends a stream that the reader has left.
func (c *conn) leave(id uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.streams[id] == nil {
		return // it has ended by itself
	}
	delete(c.streams, id)
	if c.why == nil {
		c.add(entry{message: message{Kind: cancel, ID: id}})
	}
}
