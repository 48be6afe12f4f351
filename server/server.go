package server

import (
	"cmp"
	"context"
	"log/slog"
	"net"
	"regexp"
	"sync"
	"sync/atomic"
	"time"

	"github.com/orrery-io/orrery/agentconn"
	"github.com/orrery-io/orrery/cluster"
	"github.com/orrery-io/orrery/fsm"
	"github.com/orrery-io/orrery/httpapi"
	"github.com/orrery-io/orrery/scheduler"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
)

// Config describes one node.
type Config struct {
	// Data is the folder for everything that the node stores. It is created when
	// it is missing.
	Data string
	// HTTP is the address of the API and of the agents' WebSocket; "" means
	// 127.0.0.1:7700. Port 0 takes a free one: see Addr.
	HTTP string
	// Token must come with every request when it is set. Without one the node
	// listens on loopback addresses only.
	Token string

	// Profile is a loopback address at which /debug/pprof answers; "" means nowhere.
	Profile string

	// Cluster is the address for the other nodes, TCP and UDP; "" means that this
	// node is alone. Port 0 takes a free one.
	Cluster string
	// Advertise and HTTPAdvertise are Cluster and the URL of the API as other nodes
	// and agents reach them; "" means to derive them from the addresses.
	Advertise, HTTPAdvertise string
	// Join are cluster addresses of other nodes; one that lives is enough, and none is
	// needed by a node that was a member before.
	Join []string
	// BootstrapExpect is how many new nodes begin a cluster together; 0 means that
	// this node joins one that is there.
	BootstrapExpect int
	// KeyFile holds the cluster key; required with Cluster.
	KeyFile string
	// SnapshotThreshold is after how many bytes of log the log is cut; zero means
	// 64 MiB.
	SnapshotThreshold int64
	// ElectionTimeout is how long a follower hears nothing from the leader before it
	// asks for an election; zero means 500ms.
	ElectionTimeout time.Duration
	// CleanupAfter is how long a server may be gone before the leader removes it; zero
	// means 72h, less than zero never.
	CleanupAfter time.Duration
	// BackupEvery is the time between two local backups; zero means 24h, less than
	// zero none. BackupKeep is how many are kept; zero means 3.
	BackupEvery time.Duration
	BackupKeep  int
	// Watchdog is after how long without a sign of life the kernel kills the process;
	// zero means never. See cluster.Config.
	Watchdog time.Duration
	// Version is that of the program, for people and for the log.
	Version string
	// Lease is how long an agent may be silent before its work is given to
	// another; zero means 15s.
	Lease time.Duration
	// OnHang is called when the disk holds up a write to the log for seconds. The
	// process should exit then: Run may be unable to, and a node that hangs must not
	// go on to look alive. Nil does nothing.
	OnHang func(error)
	// Log gets what the node has to tell; nil means nowhere.
	Log *slog.Logger
}

// Server is one node.
type Server struct {
	cfg      Config
	log      *slog.Logger
	data     *dataDir
	listener net.Listener
	profile  net.Listener // nil without profiles
	machine  *fsm.Machine
	net      *network // nil on a node alone
	node     *cluster.Node
	sched    *scheduler.Scheduler
	hub      *agentconn.Hub
	relay    *relay
	backups  *cluster.Backups
	api      *httpapi.API
	url      string // of the API, as others reach it
	draining atomic.Bool
	ready    chan struct{}
	onReady  sync.Once
	onClose  sync.Once
}

// New checks cfg, opens the data folder and the address, and builds the node. It
// starts nothing; a Server that is never run must be closed. Its errors are
// sentences for the person who starts the node.
func New(cfg Config) (_ *Server, err error) {
	cfg.HTTP = cmp.Or(cfg.HTTP, "127.0.0.1:7700")
	cfg.Version = cmp.Or(cfg.Version, "devel")
	cfg.Lease = cmp.Or(cfg.Lease, 15*time.Second)
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	ctx := context.Background()
	s := &Server{cfg: cfg, log: cfg.Log, ready: make(chan struct{})}
	defer func() {
		if err != nil {
			s.Close()
		}
	}()
	if s.listener, err = listen(ctx, cfg.HTTP, cfg.Token != ""); err != nil {
		return nil, err
	}
	if cfg.Profile != "" {
		if s.profile, err = listenProfile(ctx, cfg.Profile); err != nil {
			return nil, err
		}
	}
	if s.data, err = openDataDir(cfg.Data, cfg.Version); err != nil {
		return nil, err
	}
	reg := prometheus.NewRegistry()
	// What the heap has in use includes the headroom of the collector; this does not.
	live := collectors.GoRuntimeMetricsRule{Matcher: regexp.MustCompile("^/gc/heap/live:bytes$")}
	reg.MustRegister(collectors.NewGoCollector(collectors.WithGoCollectorRuntimeMetrics(live)), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	alone := cfg.Cluster == ""
	if s.machine, err = cluster.OpenMachine(ctx, fsm.Config{Dir: s.data.sub("db"), OnDamage: s.damaged, Log: cfg.Log, Registerer: reg},
		s.data.sub("raft"), s.data.id.Node, alone); err != nil {
		return nil, err
	}
	if err = s.data.setCluster(s.machine.ClusterID(), cfg.Version); err != nil {
		return nil, err
	}
	if err = s.data.emptyFolder(scratchName); err != nil {
		return nil, err
	}
	if !alone {
		if err = s.joinNetwork(reg); err != nil {
			return nil, err
		}
	}
	if s.url, err = advertisedURL(cfg.HTTPAdvertise, s.Addr(), s.ClusterAddr()); err != nil {
		return nil, err
	}
	s.relay = s.newRelay()
	s.sched = scheduler.New(scheduler.Config{
		Machine:    s.machine,
		Propose:    s.propose,
		Send:       s.relay.Deliver,
		Lease:      cfg.Lease,
		Log:        cfg.Log,
		Registerer: reg,
	})
	conf := cluster.Config{
		ID:                s.data.id.Node,
		Dir:               s.data.sub("raft"),
		Machine:           s.machine,
		Version:           cfg.Version,
		Prepare:           s.sched.Prepare,
		Lead:              s.lead,
		OnHang:            cfg.OnHang,
		Member:            s.data.cluster() != "",
		HeartbeatTimeout:  cfg.ElectionTimeout,
		ElectionTimeout:   cfg.ElectionTimeout,
		LeaseTimeout:      cfg.ElectionTimeout / 2,
		SnapshotThreshold: cfg.SnapshotThreshold,
		CleanupAfter:      cfg.CleanupAfter,
		CleanupFloor:      max(3, cfg.BootstrapExpect),
		Watchdog:          cfg.Watchdog,
		Log:               cfg.Log,
		Registerer:        reg,
	}
	if s.net != nil {
		conf.Transport, conf.Receiving = s.net.transport, s.net.transport.Receiving
		conf.Found, conf.Contacts = s.net.founding.Found, s.net.founding.Contacts
		conf.Peers, conf.Address = s.net.mesh, s.net.port.Advertise()
		conf.HTTP, conf.Draining = s.url, s.draining.Load
	}
	if s.node, err = cluster.New(conf); err != nil {
		return nil, err
	}
	s.node.OnLeader(s.relay.LeaderChanged)
	s.hub = agentconn.New(agentconn.Config{
		Node:       s.data.id.Node,
		Cluster:    s.machine.ClusterID,
		ToLeader:   s.relay.ToLeader,
		Nodes:      s.urls,
		Log:        cfg.Log,
		Registerer: reg,
	})
	s.relay.tie(s.hub, s.sched)
	if s.net != nil {
		s.net.serve(s)
	}
	if s.backups, err = cluster.NewBackups(cluster.BackupsConfig{
		Dir:        s.data.sub("backups"),
		Make:       s.makeBackup,
		Every:      cfg.BackupEvery,
		Keep:       cfg.BackupKeep,
		Log:        cfg.Log,
		Registerer: reg,
	}); err != nil {
		return nil, err
	}
	s.api = httpapi.New(httpapi.Config{
		Machine:    s.machine,
		Node:       s.node,
		Cluster:    admin{s},
		Scheduler:  s.relay,
		Hub:        s.relay,
		Token:      cfg.Token,
		Version:    cfg.Version,
		Draining:   s.draining.Load,
		Waiting:    s.waiting,
		Scratch:    s.data.sub(scratchName),
		Gatherer:   reg,
		Registerer: reg,
		Log:        cfg.Log,
	})
	return s, nil
}
