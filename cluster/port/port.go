package port

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"time"

	"github.com/orrery-io/orrery/internal/obs"
)

// Port is the cluster port of one node. Its methods may be called from any goroutine.
type Port struct {
	cfg       Config
	log       *slog.Logger
	metrics   *metrics
	tcp       *net.TCPListener
	udp       *net.UDPConn
	advertise string
	tls       *tls.Config
	listeners map[string]*listener
	gate      *gate
	warnings  warnings
	work      sync.WaitGroup // handshakes of others

	mu     sync.Mutex
	conns  map[*Conn]struct{}
	closed bool
}

// Listen binds the port; nothing is accepted before Run, but Dial works. A port that is
// never run must be closed. Its errors are sentences for the person who starts the
// node.
func Listen(cfg Config) (*Port, error) {
	cfg, err := cfg.withDefaults()
	if err != nil {
		return nil, err
	}
	p := &Port{cfg: cfg, log: cfg.Log, gate: newGate(cfg.MaxHandshakes), conns: map[*Conn]struct{}{}, listeners: map[string]*listener{}}
	if err := p.bind(); err != nil {
		return nil, fmt.Errorf("the cluster port can't listen on %s: %w", cfg.Listen, err)
	}
	bound, _ := p.tcp.Addr().(*net.TCPAddr)
	if p.advertise, err = advertised(cfg.Listen, cfg.Advertise, bound); err != nil {
		return nil, errors.Join(err, p.tcp.Close(), p.udp.Close())
	}
	protocols := []string{Raft, Link, Gossip}
	for _, proto := range protocols {
		p.listeners[proto] = newListener(address(p.advertise), cfg.MaxWaiting)
	}
	p.tls = cfg.Ring.ServerConfig(cfg.Node, protocols...)
	p.metrics = newMetrics(p, cfg.Registerer)
	return p, nil
}

// bindTries is how often a port that is free for TCP, but not for UDP, is tried again.
const bindTries = 32

func (p *Port) bind() error {
	host, port, err := net.SplitHostPort(p.cfg.Listen)
	if err != nil {
		return err
	}
	var lc net.ListenConfig
	for try := 1; ; try++ {
		l, err := lc.Listen(context.Background(), "tcp", net.JoinHostPort(host, port))
		if err != nil {
			return err
		}
		_, bound, _ := net.SplitHostPort(l.Addr().String())
		u, err := lc.ListenPacket(context.Background(), "udp", net.JoinHostPort(host, bound))
		if err == nil {
			p.tcp, p.udp = l.(*net.TCPListener), u.(*net.UDPConn)
			return nil
		}
		_ = l.Close()
		if bound == port || try == bindTries {
			return err
		}
	}
}

// Addr is where the port listens.
func (p *Port) Addr() string { return p.tcp.Addr().String() }

// Advertise is how other nodes reach the port.
func (p *Port) Advertise() string { return p.advertise }

// PacketConn is the UDP side of the port. It is closed when Run ends.
func (p *Port) PacketConn() net.PacketConn { return p.udp }

// Listener returns the listener of a protocol: Raft, Link or Gossip, nil for any other.
// Its Accept returns *Conn; its Addr is where other nodes reach this one. It belongs to
// the port and is closed when Run ends; when it is closed before, connections of that
// protocol are refused.
func (p *Port) Listener(proto string) net.Listener {
	if l := p.listeners[proto]; l != nil {
		return l
	}
	return nil
}

// Run accepts connections until ctx ends or the port is closed, closes all of them and
// the port, and returns nil. Any other return means that the port doesn't accept any more.
func (p *Port) Run(ctx context.Context) error {
	ctx, stop := context.WithCancel(ctx)
	var work sync.WaitGroup
	defer func() {
		stop()
		p.Close()
		work.Wait()
	}()
	work.Go(func() { p.followKeys(ctx) })
	work.Go(func() { <-ctx.Done(); _ = p.tcp.Close() })

	var pause time.Duration
	for {
		c, err := p.tcp.AcceptTCP()
		switch {
		case err == nil:
			pause = 0
			p.receive(c)
		case ctx.Err() != nil, p.isClosed():
			return nil
		case errors.Is(err, net.ErrClosed):
			return err
		default: // no descriptors left, or the connection is gone already
			pause = min(max(2*pause, 5*time.Millisecond), time.Second)
			p.log.WarnContext(ctx, "the cluster port could not accept a connection", obs.Err(err))
			select {
			case <-ctx.Done():
			case <-time.After(pause):
			}
		}
	}
}

// Close closes the port and all its connections, and waits for handshakes to end. It
// may be called more than once.
func (p *Port) Close() {
	p.mu.Lock()
	p.closed = true
	conns := p.conns
	p.conns = map[*Conn]struct{}{}
	p.mu.Unlock()
	_, _ = p.tcp.Close(), p.udp.Close()
	p.gate.shut()
	for c := range conns {
		c.cut()
	}
	for _, l := range p.listeners {
		_ = l.Close()
	}
	p.work.Wait()
}

// open is how many connections there are.
func (p *Port) open() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.conns)
}

// remember adds a connection to those that are closed with the port or with their key.
// False means that the port is closed, or the key has been dropped meanwhile.
func (p *Port) remember(c *Conn) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	// Under mu: either this sees the change, or followKeys sees the connection.
	if p.closed || !p.cfg.Ring.Has(c.key) {
		return false
	}
	p.conns[c] = struct{}{}
	return true
}

func (p *Port) forget(c *Conn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.conns, c)
}

// followKeys closes the connections whose key is dropped.
func (p *Port) followKeys(ctx context.Context) {
	for {
		changed := p.cfg.Ring.Changed()
		var dropped []*Conn
		p.mu.Lock()
		for c := range p.conns {
			if !p.cfg.Ring.Has(c.key) {
				dropped = append(dropped, c)
			}
		}
		p.mu.Unlock()
		for _, c := range dropped {
			c.cut()
			p.metrics.dropped.Inc()
		}
		if len(dropped) > 0 {
			p.log.InfoContext(ctx, "connections made with a dropped cluster key closed", obs.Count(len(dropped)))
		}
		select {
		case <-ctx.Done():
			return
		case <-changed:
		}
	}
}
