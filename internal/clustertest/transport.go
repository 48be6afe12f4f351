package clustertest

import (
	"context"
	"errors"
	"io"
	"sync"
	"time"

	"github.com/hashicorp/raft"
)

// rpcTimeout is how long an answer of Raft is waited for. A snapshot may take longer.
const (
	rpcTimeout     = 500 * time.Millisecond
	installTimeout = time.Minute
)

var (
	errTimeout = errors.New("no answer in time")
	errDown    = errors.New("connection refused")
)

// transport is raft's way into the network, for one life of one node. Addresses are
// ids.
type transport struct {
	net      *Network
	id       string
	incoming chan raft.RPC
	ctx      context.Context //nolint:containedctx // the life of the process that the node stands for

	mu        sync.Mutex
	heartbeat func(raft.RPC)
}

var (
	_ raft.Transport   = (*transport)(nil)
	_ raft.WithPreVote = (*transport)(nil)
)

// Consumer implements raft.Transport.
func (t *transport) Consumer() <-chan raft.RPC { return t.incoming }

// LocalAddr implements raft.Transport.
func (t *transport) LocalAddr() raft.ServerAddress { return raft.ServerAddress(t.id) }

// EncodePeer implements raft.Transport.
func (t *transport) EncodePeer(_ raft.ServerID, addr raft.ServerAddress) []byte { return []byte(addr) }

// DecodePeer implements raft.Transport.
func (t *transport) DecodePeer(b []byte) raft.ServerAddress { return raft.ServerAddress(b) }

// SetHeartbeatHandler implements raft.Transport.
func (t *transport) SetHeartbeatHandler(f func(raft.RPC)) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.heartbeat = f
}

// deliver hands a message to raft, past its queue when it is a heartbeat.
func (t *transport) deliver(ctx context.Context, rpc raft.RPC) bool {
	if a, ok := rpc.Command.(*raft.AppendEntriesRequest); ok && a.Term != 0 && a.PrevLogEntry == 0 && a.PrevLogTerm == 0 && len(a.Entries) == 0 && a.LeaderCommitIndex == 0 {
		t.mu.Lock()
		f := t.heartbeat
		t.mu.Unlock()
		if f != nil {
			f(rpc)
			return true
		}
	}
	select {
	case t.incoming <- rpc:
		return true
	case <-t.ctx.Done():
	case <-ctx.Done():
	}
	return false
}

// reply is the answer to a message, and when it was given.
type reply struct {
	raft.RPCResponse
	at time.Time
}

// pass takes one message to another node, which was sent a while ago. Nil means that it
// was lost on the way.
func (t *transport) pass(ctx context.Context, sent time.Time, to string, command any, r io.Reader, repeatable bool) (answer <-chan reply, err error) {
	f := t.net.raftFate(t.id, to)
	if f.lost {
		return nil, nil
	}
	if !pause(ctx, f.delay-time.Since(sent)) {
		return nil, nil //nolint:nilerr // the message came too late to matter
	}
	p := t.net.point(to)
	if p == nil {
		return nil, errDown
	}
	ch := make(chan raft.RPCResponse, 1)
	if !p.transport.deliver(ctx, raft.RPC{Command: command, Reader: r, RespChan: ch}) {
		return nil, nil
	}
	if f.twice && repeatable {
		p.transport.deliver(ctx, raft.RPC{Command: command, RespChan: make(chan raft.RPCResponse, 1)})
	}
	replies := make(chan reply, 1)
	go func() {
		select {
		case got := <-ch:
			replies <- reply{got, time.Now()}
		case <-t.ctx.Done():
		case <-p.up.Done():
		}
	}()
	return replies, nil
}

// back waits for the answer to a message, and takes it back.
func (t *transport) back(ctx context.Context, from string, answer <-chan reply) (any, error) {
	if answer == nil {
		<-ctx.Done()
		return nil, errTimeout
	}
	select {
	case got := <-answer:
		f := t.net.raftFate(from, t.id)
		if f.lost || !pause(ctx, f.delay-time.Since(got.at)) {
			<-ctx.Done()
			return nil, errTimeout
		}
		return got.Response, got.Error
	case <-ctx.Done():
		return nil, errTimeout
	}
}

// ask sends a message and waits for the answer.
func ask[A any](t *transport, to raft.ServerAddress, timeout time.Duration, command any, r io.Reader, repeatable bool, into *A) error {
	ctx, cancel := context.WithTimeout(t.ctx, timeout)
	defer cancel()
	answer, err := t.pass(ctx, time.Now(), string(to), command, r, repeatable)
	if err != nil {
		return err
	}
	got, err := t.back(ctx, string(to), answer)
	if err != nil {
		return err
	}
	*into = *got.(*A) //nolint:errcheck // raft answers a request with its response
	return nil
}

// AppendEntries implements raft.Transport. Raft uses the request again afterwards.
func (t *transport) AppendEntries(_ raft.ServerID, to raft.ServerAddress, args *raft.AppendEntriesRequest, resp *raft.AppendEntriesResponse) error {
	own := *args
	return ask(t, to, rpcTimeout, &own, nil, true, resp)
}

// RequestVote implements raft.Transport.
func (t *transport) RequestVote(_ raft.ServerID, to raft.ServerAddress, args *raft.RequestVoteRequest, resp *raft.RequestVoteResponse) error {
	return ask(t, to, rpcTimeout, args, nil, true, resp)
}

// RequestPreVote implements raft.WithPreVote.
func (t *transport) RequestPreVote(_ raft.ServerID, to raft.ServerAddress, args *raft.RequestPreVoteRequest, resp *raft.RequestPreVoteResponse) error {
	return ask(t, to, rpcTimeout, args, nil, true, resp)
}

// InstallSnapshot implements raft.Transport.
func (t *transport) InstallSnapshot(_ raft.ServerID, to raft.ServerAddress, args *raft.InstallSnapshotRequest, resp *raft.InstallSnapshotResponse, data io.Reader) error {
	return ask(t, to, installTimeout, args, data, false, resp)
}

// TimeoutNow implements raft.Transport.
func (t *transport) TimeoutNow(_ raft.ServerID, to raft.ServerAddress, args *raft.TimeoutNowRequest, resp *raft.TimeoutNowResponse) error {
	return ask(t, to, rpcTimeout, args, nil, false, resp)
}

// AppendEntriesPipeline implements raft.Transport.
func (t *transport) AppendEntriesPipeline(_ raft.ServerID, to raft.ServerAddress) (raft.AppendPipeline, error) {
	p := &pipeline{
		t: t, to: string(to),
		sent: make(chan *append1, 16), passed: make(chan *append1, 16), done: make(chan raft.AppendFuture, 16),
	}
	p.ctx, p.cancel = context.WithCancel(t.ctx)
	go p.pass()
	go p.answer()
	return p, nil
}

// pipeline sends entries without waiting for each answer. Both directions keep the
// order.
type pipeline struct {
	t      *transport
	to     string
	ctx    context.Context //nolint:containedctx // ends with Close
	cancel context.CancelFunc
	sent   chan *append1 // by raft
	passed chan *append1 // delivered or lost
	done   chan raft.AppendFuture
}

// append1 is one request on its way through a pipeline. It implements
// raft.AppendFuture.
type append1 struct {
	began  time.Time
	args   *raft.AppendEntriesRequest
	resp   *raft.AppendEntriesResponse
	answer <-chan reply
	err    error
	ready  chan struct{}
}

// Error implements raft.Future.
func (a *append1) Error() error { <-a.ready; return a.err }

// Start implements raft.AppendFuture.
func (a *append1) Start() time.Time { return a.began }

// Request implements raft.AppendFuture.
func (a *append1) Request() *raft.AppendEntriesRequest { return a.args }

// Response implements raft.AppendFuture.
func (a *append1) Response() *raft.AppendEntriesResponse { return a.resp }

// AppendEntries implements raft.AppendPipeline.
func (p *pipeline) AppendEntries(args *raft.AppendEntriesRequest, resp *raft.AppendEntriesResponse) (raft.AppendFuture, error) {
	a := &append1{began: time.Now(), args: args, resp: resp, ready: make(chan struct{})}
	select {
	case p.sent <- a:
		return a, nil
	case <-p.ctx.Done():
		return nil, raft.ErrPipelineShutdown
	}
}

// Consumer implements raft.AppendPipeline.
func (p *pipeline) Consumer() <-chan raft.AppendFuture { return p.done }

// Close implements raft.AppendPipeline.
func (p *pipeline) Close() error { p.cancel(); return nil }

func (p *pipeline) pass() {
	for {
		select {
		case a := <-p.sent:
			ctx, cancel := context.WithTimeout(p.ctx, rpcTimeout)
			own := *a.args
			a.answer, a.err = p.t.pass(ctx, a.began, p.to, &own, nil, true)
			cancel()
			select {
			case p.passed <- a:
			case <-p.ctx.Done():
				return
			}
		case <-p.ctx.Done():
			return
		}
	}
}

func (p *pipeline) answer() {
	for {
		var a *append1
		select {
		case a = <-p.passed:
		case <-p.ctx.Done():
			return
		}
		if a.err == nil {
			ctx, cancel := context.WithTimeout(p.ctx, rpcTimeout)
			got, err := p.t.back(ctx, p.to, a.answer)
			cancel()
			if a.err = err; err == nil {
				*a.resp = *got.(*raft.AppendEntriesResponse) //nolint:errcheck // raft answers a request with its response
			}
		}
		close(a.ready)
		select {
		case p.done <- a:
		case <-p.ctx.Done():
			return
		}
	}
}
