package port

import (
	"cmp"
	"errors"
	"log/slog"
	"time"

	"github.com/orrery-io/orrery/cluster/keyring"
	"github.com/prometheus/client_golang/prometheus"
)

// The protocols of the cluster port.
const (
	Raft   = "orrery-raft/1"
	Link   = "orrery-link/1"
	Gossip = "orrery-gossip/1"
)

// Config describes the cluster port of a node.
type Config struct {
	// Listen is where to listen, TCP and UDP, as host:port. No host means all
	// addresses of the machine, port 0 any that is free for both. Required.
	Listen string
	// Advertise is how other nodes reach this one, as host:port or host; without a
	// port it is that of Listen. Empty means the host of Listen or, when that means all
	// addresses, the private address of the machine.
	Advertise string
	// Node is the id of this node. Required.
	Node string
	// Version of the program; the other side may see it.
	Version string
	// Cluster returns the id of the cluster, "" while this node belongs to none. It is
	// asked for each connection. Nil means none.
	Cluster func() string
	// Ring has the cluster keys. Required.
	Ring *keyring.Ring

	// HandshakeTimeout is how long a connection may take until both sides have said
	// hello, from the moment it is there; zero means 5s.
	HandshakeTimeout time.Duration
	// DialTimeout is how long Dial waits for a connection; zero means 5s.
	DialTimeout time.Duration
	// MaxHandshakes is how many connections that others have made may be there before
	// their handshake is done; zero means 512.
	MaxHandshakes int
	// MaxWaiting is how many connections of one protocol may wait for Accept; those
	// beyond are refused. Zero means 128.
	MaxWaiting int

	// Log gets what the port has to tell; nil means nowhere.
	Log *slog.Logger
	// Registerer gets the metrics; nil means none.
	Registerer prometheus.Registerer
}

func (cfg Config) withDefaults() (Config, error) {
	switch {
	case cfg.Listen == "":
		return cfg, errors.New("port: Config.Listen is required")
	case cfg.Node == "":
		return cfg, errors.New("port: Config.Node is required")
	case cfg.Ring == nil:
		return cfg, errors.New("port: Config.Ring is required")
	}
	if cfg.Cluster == nil {
		cfg.Cluster = func() string { return "" }
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	cfg.HandshakeTimeout = cmp.Or(cfg.HandshakeTimeout, 5*time.Second)
	cfg.DialTimeout = cmp.Or(cfg.DialTimeout, 5*time.Second)
	cfg.MaxHandshakes = cmp.Or(cfg.MaxHandshakes, 512)
	cfg.MaxWaiting = cmp.Or(cfg.MaxWaiting, 128)
	return cfg, nil
}
