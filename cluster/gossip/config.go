package gossip

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Config describes one node's part in the gossip.
type Config struct {
	// Node is the id of this node. Required.
	Node string
	// Advertise is the cluster port as other nodes reach it, host:port. Required. A
	// host name is resolved when Run begins.
	Advertise string
	// PacketConn brings packets, Listener streams; both speak for Advertise. They are
	// closed when Run ends. Required.
	PacketConn net.PacketConn
	Listener   net.Listener
	// Dial opens a stream to addr; node is the id that must answer there, "" for
	// anybody. Its errors are sentences for people. Required.
	Dial func(ctx context.Context, addr, node string) (net.Conn, error)
	// Keys returns the keys for packets, 32 bytes each; the first one seals. It is asked
	// for every packet. Required.
	Keys func() [][]byte
	// Meta returns what this node tells about itself; see Gossip.Update. Required.
	Meta func() Meta

	// Join are addresses of other nodes, host:port.
	Join []string
	// Known returns more of them, such as those of the members as they were last known.
	// It is asked at every try; nil means none.
	Known func() []string

	// ProbeInterval is how often another node is asked whether it lives; zero means 1s.
	// One that is gone is noticed after about five of them.
	ProbeInterval time.Duration
	// Retry is the pause before the first repetition of a try to join; zero means
	// 500ms. The pauses grow to ten times that while nobody answers, and are sixty
	// times that while only some nodes are missing.
	Retry time.Duration
	// LeaveTimeout bounds how long Run takes to say goodbye; zero means 1s.
	LeaveTimeout time.Duration

	// Log gets what gossip has to tell; nil means nowhere.
	Log *slog.Logger
	// Registerer gets the metrics; nil means none.
	Registerer prometheus.Registerer
}

func (cfg Config) withDefaults() (Config, error) {
	switch {
	case cfg.Node == "" || strings.Contains(cfg.Node, nameSeparator):
		return cfg, fmt.Errorf("gossip: Config.Node %q is no id of a node", cfg.Node)
	case cfg.PacketConn == nil, cfg.Listener == nil, cfg.Dial == nil, cfg.Keys == nil, cfg.Meta == nil:
		return cfg, errors.New("gossip: Config.PacketConn, Listener, Dial, Keys and Meta are required")
	}
	host, _, err := net.SplitHostPort(cfg.Advertise)
	if err != nil {
		return cfg, fmt.Errorf("the address to advertise must be host:port: %w", err)
	}
	if ip, err := netip.ParseAddr(host); host == "" || err == nil && ip.IsUnspecified() {
		return cfg, fmt.Errorf("other nodes cannot reach %s; name an address of this machine with --advertise HOST:PORT", cfg.Advertise)
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if cfg.Known == nil {
		cfg.Known = func() []string { return nil }
	}
	cfg.ProbeInterval = cmp.Or(cfg.ProbeInterval, time.Second)
	cfg.Retry = cmp.Or(cfg.Retry, 500*time.Millisecond)
	cfg.LeaveTimeout = cmp.Or(cfg.LeaveTimeout, time.Second)
	return cfg, nil
}
