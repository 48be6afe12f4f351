package clustertest

import (
	"context"
	"errors"
	"time"

	"github.com/orrery-io/orrery/job"
)

// noticed is how long it takes until a node notices that a connection is dead.
const noticed = time.Second

// maxMessage bounds a request, in bytes: as cluster/link does.
const maxMessage = 8 << 20

// peers is a node's way to the handlers of the others. It implements cluster.Peers.
type peers struct {
	net *Network
	id  string
	up  context.Context //nolint:containedctx // the life of the process that the node stands for
}

func unreachable(node string) error {
	return job.Errorf(job.Unavailable, "node_unreachable", "node %s can't be reached", node)
}

// Call implements cluster.Peers.
func (p *peers) Call(ctx context.Context, node, method string, body []byte) ([]byte, error) {
	if len(body) > maxMessage {
		return nil, job.Errorf(job.TooLarge, "message_too_large", "a message between nodes would have %d bytes; the limit is %d", len(body), maxMessage)
	}
	there := p.net.fate(p.id, node)
	switch {
	case p.net.cut(p.id, node):
		if !pause(ctx, noticed) {
			return nil, context.Cause(ctx)
		}
		return nil, unreachable(node)
	case !pause(ctx, there.delay):
		return nil, context.Cause(ctx)
	}
	point := p.net.point(node)
	if point == nil || p.up.Err() != nil {
		return nil, unreachable(node)
	}
	h := point.handlers[method]
	if h == nil {
		return nil, job.Errorf(job.Invalid, "unknown_method", "node %s does not know %s", node, method)
	}
	p.net.mu.Lock()
	p.net.calls[method]++
	p.net.mu.Unlock()
	type answer struct {
		body []byte
		err  error
	}
	got := make(chan answer, 1)
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	go func() {
		b, err := h(ctx, p.id, append([]byte(nil), body...))
		if _, ok := errors.AsType[*job.Error](err); err != nil && !ok {
			err = job.Errorf(job.Internal, "internal", "node %s: %v", node, err)
		}
		got <- answer{b, err}
	}()
	select {
	case a := <-got:
		if p.net.cut(node, p.id) {
			pause(ctx, noticed)
			return nil, job.ErrOutcomeUnknown
		}
		if !pause(ctx, p.net.fate(node, p.id).delay) || point.up.Err() != nil || p.up.Err() != nil {
			return nil, job.ErrOutcomeUnknown
		}
		return a.body, a.err
	case <-point.up.Done():
	case <-p.up.Done():
	case <-ctx.Done():
	}
	return nil, job.ErrOutcomeUnknown
}
