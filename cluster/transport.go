package cluster

import (
	"cmp"
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"slices"
	"sync"
	"syscall"
	"time"

	"github.com/hashicorp/raft"
)

// TransportConfig describes how raft reaches the other nodes.
type TransportConfig struct {
	// Listener has the connections that other nodes make for raft; its Addr is where
	// they reach this one. Required.
	Listener net.Listener
	// Dial connects to a node, which is to be at addr. Required.
	Dial func(ctx context.Context, node, addr string) (net.Conn, error)
	// Address returns the newest known address of a node. "" means that there is none,
	// and that the one in the cluster's configuration is tried. Nil means always that.
	Address func(node string) string

	// Timeout is how long a request may take, except for sending a database, which may
	// take as long as it makes progress; zero means 10s. It must be longer than a slow
	// disk takes for the entries of one request.
	Timeout time.Duration
	// DialTimeout is how long making a connection may take; zero means 2s. A node
	// behind a network that was cut is found again that soon.
	DialTimeout time.Duration
	// ReceiveStall is how long no byte may come of a database that is received; zero
	// means 5s. Meanwhile this node can't vote.
	ReceiveStall time.Duration
	// SendStall is how long no byte may go of a database that is sent; zero means 15s.
	SendStall time.Duration

	// Log gets what the transport has to tell; nil means nowhere.
	Log *slog.Logger
}

// maxPool is how many idle connections to one node are kept.
const maxPool = 3

// Transport is raft.NetworkTransport over connections that somebody else makes. Nodes
// are addressed by id, so that they are found at their newest address. Sending a
// database has a connection of its own, on which nothing may stand still: raft has no
// limit on receiving one, and a node that waits for the rest of it takes no part in
// elections.
//
// It accepts connections from New on, until Close.
type Transport struct {
	cfg  TransportConfig
	log  *slog.Logger
	net  *raft.NetworkTransport
	life context.Context //nolint:containedctx // the transport's own: ends with Close
	end  context.CancelFunc

	mu          sync.Mutex
	conns       map[closer]struct{}  // everything that is open
	addresses   map[string]string    // the newest, by node
	sending     map[uint64]*progress // by serial number
	receiving   map[*progress]closer // with the connections
	serial      uint64
	beats       map[string]chan struct{} // closed when the next heartbeat has reached the node
	interrupted bool
	stopping    chan struct{} // closed when interrupted
}

type closer interface{ Close() error }

var (
	_ raft.Transport   = (*Transport)(nil)
	_ raft.WithPreVote = (*Transport)(nil)
	_ raft.WithClose   = (*Transport)(nil)
)

// NewTransport makes a transport. It is to be closed, which raft does when it shuts
// down.
func NewTransport(cfg TransportConfig) *Transport {
	cfg.Timeout = cmp.Or(cfg.Timeout, 10*time.Second)
	cfg.DialTimeout = cmp.Or(cfg.DialTimeout, 2*time.Second)
	cfg.ReceiveStall = cmp.Or(cfg.ReceiveStall, 5*time.Second)
	cfg.SendStall = cmp.Or(cfg.SendStall, 15*time.Second)
	if cfg.Address == nil {
		cfg.Address = func(string) string { return "" }
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	t := &Transport{
		cfg: cfg, log: cfg.Log, conns: map[closer]struct{}{}, addresses: map[string]string{},
		sending: map[uint64]*progress{}, receiving: map[*progress]closer{},
		beats: map[string]chan struct{}{}, stopping: make(chan struct{}),
	}
	t.life, t.end = context.WithCancel(context.Background())
	t.net = raft.NewNetworkTransportWithConfig(&raft.NetworkTransportConfig{
		Stream: stream{t}, MaxPool: maxPool, Timeout: cfg.Timeout,
		Logger: newRaftLog(cfg.Log, "raft-net"),
	})
	return t
}

// Close ends all connections and the listener. It may be called more than once.
func (t *Transport) Close() error {
	t.end()
	err := t.net.Close()
	t.net.CloseStreams()
	t.mu.Lock()
	conns := t.conns
	t.conns = map[closer]struct{}{}
	t.mu.Unlock()
	for c := range conns {
		_ = c.Close()
	}
	return err
}

// Interrupt ends what raft would wait for before it can stop, now and from now on:
// databases on their way, and entries for nodes that can't be reached.
func (t *Transport) Interrupt() {
	t.mu.Lock()
	defer t.mu.Unlock()
	if !t.interrupted {
		close(t.stopping)
	}
	t.interrupted = true
	for _, p := range t.sending {
		p.interrupt()
	}
	for p := range t.receiving {
		p.interrupt()
	}
}

// Receiving tells how far the database is that this node receives; nil when it receives
// none. It stays until the database is also installed.
func (t *Transport) Receiving() *Installing {
	t.mu.Lock()
	defer t.mu.Unlock()
	var newest *progress
	for p := range t.receiving {
		if newest == nil || p.moved.Load() > newest.moved.Load() {
			newest = p
		}
	}
	if newest == nil {
		return nil
	}
	return &Installing{Bytes: newest.bytes(), Size: newest.size}
}

// Consumer implements raft.Transport.
func (t *Transport) Consumer() <-chan raft.RPC { return t.net.Consumer() }

// LocalAddr implements raft.Transport.
func (t *Transport) LocalAddr() raft.ServerAddress { return t.net.LocalAddr() }

// SetHeartbeatHandler implements raft.Transport.
func (t *Transport) SetHeartbeatHandler(cb func(rpc raft.RPC)) { t.net.SetHeartbeatHandler(cb) }

// EncodePeer implements raft.Transport: the address by which a leader makes itself
// known.
func (t *Transport) EncodePeer(id raft.ServerID, addr raft.ServerAddress) []byte {
	return t.net.EncodePeer(id, raft.ServerAddress(t.resolve(id, addr)))
}

// DecodePeer implements raft.Transport.
func (t *Transport) DecodePeer(b []byte) raft.ServerAddress { return t.net.DecodePeer(b) }

// AppendEntriesPipeline implements raft.Transport.
func (t *Transport) AppendEntriesPipeline(id raft.ServerID, addr raft.ServerAddress) (raft.AppendPipeline, error) {
	return t.net.AppendEntriesPipeline(id, t.target(id, addr))
}

// AppendEntries implements raft.Transport. Entries for a node that can't be reached
// wait until a heartbeat gets through to it: raft would try again only after a pause
// that grows to ten seconds, and leave a node alone for that long that is back.
func (t *Transport) AppendEntries(id raft.ServerID, addr raft.ServerAddress, req *raft.AppendEntriesRequest, resp *raft.AppendEntriesResponse) error {
	send := func() error { return t.net.AppendEntries(id, t.target(id, addr), req, resp) }
	if !isHeartbeat(req) {
		return t.await(string(id), send)
	}
	err := send()
	if err == nil {
		t.reached(string(id))
	}
	return err
}

// isHeartbeat is how raft itself tells.
func isHeartbeat(req *raft.AppendEntriesRequest) bool {
	return req.PrevLogEntry == 0 && req.PrevLogTerm == 0 && len(req.Entries) == 0 && req.LeaderCommitIndex == 0
}

// awaitLimit is how long entries wait at most. So long raft may go on with a node that
// has been removed meanwhile.
const awaitLimit = 30 * time.Second

// await repeats a request when the node could not be reached and then a heartbeat has
// reached it.
func (t *Transport) await(node string, send func() error) error {
	var limit <-chan time.Time
	for {
		t.mu.Lock()
		beat := t.beats[node]
		if beat == nil {
			beat = make(chan struct{})
			t.beats[node] = beat
		}
		t.mu.Unlock()
		err := send()
		if _, ok := errors.AsType[*unreached](err); !ok {
			return err
		}
		if limit == nil {
			limit = time.After(awaitLimit)
		}
		select {
		case <-beat:
		case <-limit:
			return err
		case <-t.stopping:
			return err
		case <-t.life.Done():
			return err
		}
	}
}

// reached lets requests that wait for a node try again.
func (t *Transport) reached(node string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if beat := t.beats[node]; beat != nil {
		close(beat)
		delete(t.beats, node)
	}
}

// RequestVote implements raft.Transport.
func (t *Transport) RequestVote(id raft.ServerID, addr raft.ServerAddress, req *raft.RequestVoteRequest, resp *raft.RequestVoteResponse) error {
	return t.persist(func() error { return t.net.RequestVote(id, t.target(id, addr), req, resp) })
}

// RequestPreVote implements raft.WithPreVote.
func (t *Transport) RequestPreVote(id raft.ServerID, addr raft.ServerAddress, req *raft.RequestPreVoteRequest, resp *raft.RequestPreVoteResponse) error {
	return t.persist(func() error { return t.net.RequestPreVote(id, t.target(id, addr), req, resp) })
}

// TimeoutNow implements raft.Transport.
func (t *Transport) TimeoutNow(id raft.ServerID, addr raft.ServerAddress, req *raft.TimeoutNowRequest, resp *raft.TimeoutNowResponse) error {
	return t.persist(func() error { return t.net.TimeoutNow(id, t.target(id, addr), req, resp) })
}

// InstallSnapshot implements raft.Transport: it sends the database.
func (t *Transport) InstallSnapshot(id raft.ServerID, addr raft.ServerAddress, req *raft.InstallSnapshotRequest, resp *raft.InstallSnapshotResponse, data io.Reader) error {
	p := newProgress(t, string(id), req.Size)
	t.mu.Lock()
	if t.interrupted {
		t.mu.Unlock()
		return errInterrupted
	}
	t.serial++
	serial := t.serial
	t.sending[serial] = p
	t.mu.Unlock()
	defer func() {
		t.mu.Lock()
		defer t.mu.Unlock()
		delete(t.sending, serial)
	}()
	target := destination{node: string(id), addr: t.resolve(id, addr), serial: serial}
	return p.because(t.net.InstallSnapshot(id, target.encode(), req, resp, data))
}

// resolve returns where a node is: at its newest known address, or at the one that the
// caller knows. When a node has moved, connections to where it was are of no use.
func (t *Transport) resolve(id raft.ServerID, addr raft.ServerAddress) string {
	newest := t.cfg.Address(string(id))
	if newest == "" {
		return string(addr)
	}
	t.mu.Lock()
	moved := t.addresses[string(id)] != "" && t.addresses[string(id)] != newest
	t.addresses[string(id)] = newest
	var old []closer
	for c := range t.conns {
		if d, ok := c.(*dialed); ok && moved && d.to.node == string(id) && d.to.addr != newest {
			old = append(old, c)
		}
	}
	t.mu.Unlock()
	for _, c := range old {
		_ = c.Close()
	}
	return newest
}

func (t *Transport) target(id raft.ServerID, addr raft.ServerAddress) raft.ServerAddress {
	return destination{node: string(id), addr: t.resolve(id, addr)}.encode()
}

// persist repeats a request that failed because its connection was closed: it was kept
// from before, and the other node has been started again since. An election would
// otherwise lose a vote for it. Only for requests that may come twice.
func (t *Transport) persist(request func() error) error {
	var err error
	for range maxPool + 1 {
		if err = request(); !isGone(err) || t.life.Err() != nil {
			return err
		}
	}
	return err
}

// isGone reports whether an error means that a connection is no more: it was closed, or
// the other machine doesn't confirm what is sent to it.
func isGone(err error) bool {
	return slices.ContainsFunc(gone, func(g error) bool { return errors.Is(err, g) })
}

var gone = []error{
	io.EOF, io.ErrUnexpectedEOF, io.ErrClosedPipe, net.ErrClosed,
	syscall.ECONNRESET, syscall.EPIPE, syscall.ETIMEDOUT, syscall.EHOSTUNREACH, syscall.ENETUNREACH,
}
