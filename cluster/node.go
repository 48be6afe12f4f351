package cluster

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/raft"
	"github.com/orrery-io/orrery/internal/obs"
	"github.com/orrery-io/orrery/job"
)

// Node is this process's part in the cluster. Its methods may be called at any time,
// from any goroutine.
type Node struct {
	cfg       Config
	log       *slog.Logger
	metrics   *metrics
	store     *logStore
	snaps     *snapshots
	adapter   *adapter
	clock     *clock
	proposer  *proposer
	transport raft.Transport
	guard     *guard            // nil when this node is alone
	restores  chan *restoration // to be restored between two terms
	upload    upload
	plan      plan
	changing  chan struct{} // capacity 1: held while the members are changed
	census    atomic.Pointer[census]

	raft      atomic.Pointer[raft.Raft] // nil until Run has started it
	term      atomic.Uint64             // the term in which this node leads and takes proposals; zero: none
	floor     atomic.Pointer[position]  // below it this node takes no part in elections; nil: none
	ctx       atomic.Pointer[context.Context]
	leaders   *leadership
	forward   *forwarder
	reads     *reads
	notices   *notices
	admission *admission
	phase     atomic.Int32    // of stopping
	guests    sync.WaitGroup  // calls that another node answers
	dead      context.Context //nolint:containedctx // the life of the node itself: ends with fail
	fail      context.CancelCauseFunc
	hung      chan struct{} // closed by hang
	onHang    sync.Once
	onDamage  sync.Once
	leftOpen  bool // the disk hangs: Run must not touch the log again

	mu     sync.Mutex
	stop   context.CancelFunc // of Run; nil while it doesn't run
	closed bool
	over   chan struct{} // closed when Run has returned, or Close without it

	settled chan struct{} // see Settled
}

// New opens the log and compares it with the database; it starts nothing. Its errors
// are sentences for the person who starts the node. A Node that is never run must be
// closed.
func New(cfg Config) (*Node, error) {
	cfg, err := cfg.withDefaults()
	if err != nil {
		return nil, err
	}
	bolt, err := openLog(cfg.Dir)
	if err != nil {
		return nil, err
	}
	n := &Node{
		cfg: cfg, log: cfg.Log.With(obs.Node(cfg.ID)), clock: &clock{}, transport: cfg.Transport, changing: make(chan struct{}, 1),
		leaders: newLeadership(), forward: newForwarder(cfg), reads: newReads(), notices: newNotices(), admission: newAdmission(),
		hung: make(chan struct{}), restores: make(chan *restoration), over: make(chan struct{}), settled: make(chan struct{}),
	}
	n.dead, n.fail = context.WithCancelCause(context.Background())
	n.proposer = newProposer(cfg, n.clock)
	n.metrics = newMetrics(n, cfg.Registerer)
	n.store = &logStore{
		bolt: bolt, timeout: cfg.WriteTimeout, metrics: n.metrics,
		applied: func() uint64 { i, _ := cfg.Machine.Applied(); return i },
		fail:    n.fail, hang: n.hang,
	}
	n.snaps = newSnapshots(cfg, n.store, n.metrics, n.runCtx)
	n.snaps.wanted = n.wanted
	n.snaps.load()
	n.store.trimmable, n.store.marker, n.store.termAt = n.snaps.trimmable, n.snaps.marker, n.snaps.termAt
	n.adapter = &adapter{machine: cfg.Machine, snaps: n.snaps, metrics: n.metrics, fail: n.fail, ctx: n.runCtx, fault: cfg.fault, damaged: n.damaged}
	n.proposer.metrics, n.proposer.fail = n.metrics, n.fail
	n.proposer.committed, n.store.stored = n.notices.committed, n.noticed
	n.forward.send = n.sendCalls
	n.proposer.apply = func(data []byte) raft.ApplyFuture {
		return n.raft.Load().ApplyLog(raft.Log{Data: data, Extensions: checksum(data)}, 0)
	}
	if n.transport == nil {
		n.transport = alone(cfg.ID)
	} else {
		n.guard = newGuard(n)
		n.transport = n.guard
	}
	if err := n.store.load(); err != nil {
		return nil, errors.Join(err, bolt.Close())
	}
	if err := n.checkOwner(); err != nil {
		return nil, errors.Join(err, bolt.Close())
	}
	if err := n.checkRemoved(); err != nil && !cfg.recovering {
		return nil, errors.Join(err, bolt.Close())
	}
	if n.plan, err = n.examine(); err != nil {
		return nil, errors.Join(err, bolt.Close())
	}
	return n, nil
}

// Settled is closed when Run has decided about the database. Before that it may yet be
// set aside, so nobody should be shown what is in it.
func (n *Node) Settled() <-chan struct{} { return n.settled }

// alone is the transport of a node without others. It reaches only itself.
func alone(id string) raft.Transport {
	addr, t := raft.NewInmemTransport(raft.ServerAddress(id))
	t.Connect(addr, t)
	return t
}

// hang ends Run without waiting for the disk.
func (n *Node) hang(err error) {
	n.onHang.Do(func() {
		n.fail(err)
		close(n.hung)
		n.cfg.OnHang(err)
	})
}

// runCtx is the context of Run, for work that raft asks for.
func (n *Node) runCtx() context.Context {
	if ctx := n.ctx.Load(); ctx != nil {
		return *ctx
	}
	return n.dead
}

func (n *Node) refusal() error {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.closed || n.isClosed() {
		return job.ErrClosed
	}
	return job.ErrNotLeader
}

// IsLeader reports whether this node leads and takes proposals.
func (n *Node) IsLeader() bool {
	r := n.raft.Load()
	return n.term.Load() != 0 && r != nil && r.State() == raft.Leader
}

// Close releases the log. While Run runs it ends Run and waits for it. It may be
// called more than once.
func (n *Node) Close() {
	n.mu.Lock()
	stop, was := n.stop, n.closed
	n.closed = true
	n.mu.Unlock()
	switch {
	case stop != nil:
		stop()
		<-n.over
	case !was:
		n.release()
		close(n.over)
	default:
		<-n.over
	}
}

// release closes the log.
func (n *Node) release() {
	if err := n.store.bolt.Close(); err != nil {
		n.log.Error("close the log", obs.Err(err))
	}
}

// Server is one member of the cluster.
type Server struct {
	ID      string `json:"id"`
	Address string `json:"address"`
	Voter   bool   `json:"voter"`
}

// Status is what this node knows of the cluster at one moment.
type Status struct {
	ID        string `json:"id"`
	ClusterID string `json:"cluster_id"`
	// State is "starting", "follower", "candidate", "leader" or "stopped".
	State string `json:"state"`
	// Leader is the id of the leader, "" while none is known.
	Leader string `json:"leader"`
	Term   uint64 `json:"term"`
	// Commit is up to where the log is known to be decided, Applied how much of it the
	// state machine has.
	Commit  uint64 `json:"commit"`
	Applied uint64 `json:"applied"`
	// Synced is how much is in the database, on disk, and Snapshot its marker.
	Synced   uint64 `json:"synced"`
	Snapshot uint64 `json:"snapshot"`
	// LogFirst and LogLast are the entries that are kept, both zero for none.
	LogFirst uint64   `json:"log_first"`
	LogLast  uint64   `json:"log_last"`
	Servers  []Server `json:"servers"`
	// LastContact is when the leader was last heard of; zero on the leader itself.
	LastContact time.Time `json:"last_contact,omitzero"`
	// Installing is set while this node receives a copy of the database.
	Installing *Installing `json:"installing,omitempty"`
	// Refetching says that this node has lost its database, and that no leader has sent
	// it a copy yet.
	Refetching bool `json:"refetching,omitempty"`
}

// Status returns how the node stands. Before Run and after it most of it is empty.
func (n *Node) Status() Status {
	st := Status{ID: n.cfg.ID, ClusterID: n.cfg.Machine.ClusterID(), State: "starting", Synced: n.cfg.Machine.Synced()}
	st.Applied, _ = n.cfg.Machine.Applied()
	if m, ok := n.cfg.Machine.Marker(); ok {
		st.Snapshot = m.Index
	}
	st.Refetching = st.ClusterID == "" && n.floor.Load() != nil
	if n.cfg.Receiving != nil {
		st.Installing = n.cfg.Receiving()
	}
	r := n.raft.Load()
	if r == nil {
		return st
	}
	_, leader := r.LeaderWithID()
	st.Leader, st.Term, st.Commit = string(leader), r.CurrentTerm(), r.CommitIndex()
	switch r.State() {
	case raft.Leader:
		st.State = "leader"
	case raft.Candidate:
		st.State = "candidate"
	case raft.Shutdown:
		st.State = "stopped"
		return st
	default:
		st.State = "follower"
		st.LastContact = r.LastContact()
	}
	st.LogFirst, _ = n.store.FirstIndex() // zero when the node is stopping
	st.LogLast, _ = n.store.LastIndex()
	for _, s := range r.GetConfiguration().Configuration().Servers {
		st.Servers = append(st.Servers, Server{ID: string(s.ID), Address: string(s.Address), Voter: s.Suffrage == raft.Voter})
	}
	return st
}
