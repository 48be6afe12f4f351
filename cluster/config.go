package cluster

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"time"

	"github.com/hashicorp/raft"
	"github.com/orrery-io/orrery/command"
	"github.com/orrery-io/orrery/fsm"
	"github.com/orrery-io/orrery/job"
	"github.com/prometheus/client_golang/prometheus"
)

// Machine is the state machine as this package uses it: *fsm.Machine, which
// documents the methods. Apply and Install are called from one goroutine.
type Machine interface {
	Apply(entries []fsm.Entry) ([][]command.Result, error)
	Applied() (index, term uint64)
	WaitApplied(ctx context.Context, index uint64) error
	LastTime() job.Time
	ClusterID() string
	SchemaVersion() int

	Marker() (fsm.Marker, bool)
	Mark(ctx context.Context, m fsm.Marker) error
	StoreConfiguration(index uint64, conf []byte)
	Configuration() (index uint64, conf []byte)
	CopyTo(ctx context.Context, path string) (size int64, err error)
	Install(ctx context.Context, path string, at fsm.Marker) (fsm.Marker, error)
	Reset(ctx context.Context) (aside string, err error)
	Backup(ctx context.Context, path string, madeAt time.Time, version string) (fsm.BackupInfo, error)
	Synced() uint64
	Hash(ctx context.Context, index uint64) ([]byte, error)
}

var _ Machine = (*fsm.Machine)(nil)

// Config describes one node's part in the cluster.
type Config struct {
	// ID names the node for ever. Required.
	ID string
	// Dir is the folder of the log. It is created when it is missing. Required.
	Dir string
	// Machine is what the log is applied to. Its Run must run while Run does.
	// Required.
	Machine Machine
	// Version of the program is written into every entry.
	Version string
	// Prepare is called by the leader for each entry just before it is encoded. It may
	// set Submit.Assign; the items must not be changed otherwise, or kept after done
	// was called. done gets the entry's results or the reason why there are none, in
	// the order of the log, and must not wait. Nil does nothing.
	Prepare func(items []command.Item) (done func([]command.Result, error))
	// Lead is called for each term of leadership, once everything committed before is
	// applied. ctx ends with the leadership; the next term waits for Lead to return.
	// An error before that ends the node. Nil does nothing.
	Lead func(ctx context.Context, term uint64) error
	// OnHang is called when the disk holds up a write to the log for longer than
	// WriteTimeout. Run returns then without waiting for that write, and the process
	// should exit: such a node still answers heartbeats, so no other takes over. Nil
	// does nothing.
	OnHang func(error)

	// Transport connects the nodes. Nil means that this node is alone, and forms a
	// cluster of itself when its folder is empty.
	Transport raft.Transport
	// Founders are the voters of a new cluster, the same list on each of them. It
	// counts only while the folder is empty, and only together with Transport. Empty
	// means to wait until a leader adds this node.
	Founders []raft.Server

	// Found is called while the folder is empty, when Transport is set and Founders is
	// empty: it waits until it is decided who begins the cluster. This node then writes
	// the first entry when it gets founders, and waits to be added by a leader when it
	// gets none. clusterID is the id of the new cluster. Nil means to wait for a leader.
	Found func(ctx context.Context) (founders []raft.Server, clusterID string, err error)
	// Member says that this node was part of a cluster before: an empty folder means
	// that its log is lost then, and is refused.
	Member bool
	// Peers reaches the other nodes; nil means that there are none.
	Peers Peers
	// Address is where the other nodes reach this one's Transport, HTTP where its API
	// is; both as others see them.
	Address, HTTP string
	// Contacts returns the ids of nodes that may know the cluster, while this node is
	// no member yet; nil means none.
	Contacts func() []string
	// Draining tells whether this node gives its agents away, Receiving how far a copy
	// of the database has come that it receives (nil: none), Trouble what is wrong with
	// its disk ("": nothing). Each may be nil.
	Draining  func() bool
	Receiving func() *Installing
	Trouble   func() string
	// CleanupAfter is how long a voter must have been silent before the leader removes
	// it; zero means 72h, less than zero never. CleanupFloor is how many voters stay at
	// least; zero means 3. A silent node that never became a voter goes after an hour.
	CleanupAfter time.Duration
	CleanupFloor int

	// HeartbeatTimeout is how long a follower hears nothing before it asks for an
	// election; zero means 500ms. A node that is the only voter elects itself at once.
	HeartbeatTimeout time.Duration
	// ElectionTimeout is how long an election may take; zero means 500ms.
	ElectionTimeout time.Duration
	// LeaseTimeout is how long a leader leads without hearing from a majority; zero
	// means 250ms.
	LeaseTimeout time.Duration
	// LeaderWait is how long a call waits for a leader while none can take it; zero
	// means 5s. Without Peers nothing waits.
	LeaderWait time.Duration
	// WriteTimeout is how long a write to the log may take; zero means 5s.
	WriteTimeout time.Duration

	// Watchdog is after which time without a sign of life, or with a write to the log
	// that doesn't end, the kernel kills the process (Linux only). It counts while the
	// process is stopped by a signal, and belongs into a program that does nothing
	// else, with a multiple of WriteTimeout. Zero means none.
	Watchdog time.Duration

	// SnapshotInterval is the longest time between two markers while there is anything
	// new; zero means 2m.
	SnapshotInterval time.Duration
	// SnapshotThreshold is after how many bytes of log a marker is set; zero means
	// 64 MiB.
	SnapshotThreshold int64
	// TrailingLogs is how many entries before the marker stay in the log for followers
	// that are a little behind, as far as they fit into half of SnapshotThreshold;
	// zero means 8192. A node alone keeps few.
	TrailingLogs uint64
	// PinGrace is how long the log stays as long as a follower needs it after a
	// snapshot was sent; zero means 30s.
	PinGrace time.Duration

	// MaxEntryItems and MaxEntryBytes bound an entry; zero means 1000 and 512 KiB. A
	// single command larger than that gets an entry of its own.
	MaxEntryItems, MaxEntryBytes int
	// MaxQueuedItems and MaxQueuedBytes bound what waits for the proposer; callers
	// beyond that wait for room. Zero means 65536 and 64 MiB.
	MaxQueuedItems, MaxQueuedBytes int

	// Log gets what the node has to tell; nil means nowhere.
	Log *slog.Logger
	// Registerer gets the metrics; nil means none.
	Registerer prometheus.Registerer

	newest     int  // for tests: the schema that this program knows; zero means fsm.NewestSchema
	recovering bool // the node won't run: it is about to be alone

	fault func(step string) error // for tests: called between two steps; an error ends the work there
}

// maxAppend is how many entries are sent to a follower or applied at once. With
// entries of 512 KiB that is 32 MiB.
const maxAppend = 64

func (cfg Config) withDefaults() (Config, error) {
	switch {
	case cfg.ID == "":
		return cfg, errors.New("cluster: Config.ID is required")
	case cfg.Dir == "":
		return cfg, errors.New("cluster: Config.Dir is required")
	case cfg.Machine == nil:
		return cfg, errors.New("cluster: Config.Machine is required")
	}
	if cfg.Prepare == nil {
		cfg.Prepare = func([]command.Item) func([]command.Result, error) { return func([]command.Result, error) {} }
	}
	if cfg.Lead == nil {
		cfg.Lead = func(ctx context.Context, _ uint64) error { <-ctx.Done(); return nil }
	}
	if cfg.OnHang == nil {
		cfg.OnHang = func(error) {}
	}
	if cfg.fault == nil {
		cfg.fault = func(string) error { return nil }
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	cfg.newest = cmp.Or(cfg.newest, fsm.NewestSchema)
	cfg.HeartbeatTimeout = cmp.Or(cfg.HeartbeatTimeout, 500*time.Millisecond)
	cfg.ElectionTimeout = cmp.Or(cfg.ElectionTimeout, 500*time.Millisecond)
	cfg.LeaseTimeout = cmp.Or(cfg.LeaseTimeout, 250*time.Millisecond)
	cfg.CleanupAfter = cmp.Or(cfg.CleanupAfter, 72*time.Hour)
	cfg.CleanupFloor = cmp.Or(cfg.CleanupFloor, 3)
	cfg.LeaderWait = cmp.Or(cfg.LeaderWait, 5*time.Second)
	cfg.WriteTimeout = cmp.Or(cfg.WriteTimeout, 5*time.Second)
	cfg.SnapshotInterval = cmp.Or(cfg.SnapshotInterval, 2*time.Minute)
	cfg.SnapshotThreshold = cmp.Or(cfg.SnapshotThreshold, 64<<20)
	cfg.TrailingLogs = cmp.Or(cfg.TrailingLogs, 8192)
	cfg.PinGrace = cmp.Or(cfg.PinGrace, 30*time.Second)
	cfg.MaxEntryItems = cmp.Or(cfg.MaxEntryItems, 1000)
	cfg.MaxEntryBytes = cmp.Or(cfg.MaxEntryBytes, 512<<10)
	cfg.MaxQueuedItems = cmp.Or(cfg.MaxQueuedItems, 65536)
	cfg.MaxQueuedBytes = cmp.Or(cfg.MaxQueuedBytes, 64<<20)
	return cfg, nil
}
