package gossip

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"sync"
	"time"

	"github.com/hashicorp/memberlist"
)

const (
	maxPacket  = 64 << 10
	queuedIn   = 256                    // packets that wait for memberlist
	acceptWait = 100 * time.Millisecond // after an error that may pass
)

// transport carries memberlist's packets, sealed, and its streams. Its goroutines
// begin with start and end with Shutdown.
type transport struct {
	cfg     Config
	metrics *metrics
	self    netip.AddrPort // what is advertised
	packets chan *memberlist.Packet
	streams chan net.Conn

	ctx     context.Context //nolint:containedctx // ends with Shutdown; memberlist's interface has none
	stop    context.CancelFunc
	running sync.WaitGroup

	mu     sync.Mutex
	failed map[string]error // of the last dial to the addresses that are being joined
}

var _ memberlist.NodeAwareTransport = (*transport)(nil)

func newTransport(cfg Config, m *metrics, self netip.AddrPort) *transport {
	t := &transport{
		cfg: cfg, metrics: m, self: self, failed: make(map[string]error),
		packets: make(chan *memberlist.Packet, queuedIn), streams: make(chan net.Conn),
	}
	t.ctx, t.stop = context.WithCancel(context.Background())
	return t
}

func (t *transport) start() {
	t.running.Go(t.receive)
	t.running.Go(t.accept)
}

// receive reads packets until Shutdown. What memberlist has no time for is dropped.
func (t *transport) receive() {
	buf := make([]byte, maxPacket)
	for {
		n, from, err := t.cfg.PacketConn.ReadFrom(buf)
		at := time.Now()
		if t.ctx.Err() != nil || errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil { // of one packet, such as an answer that came to nobody
			t.pause()
			continue
		}
		plain, err := open(t.cfg.Keys(), buf[:n])
		if err != nil {
			t.metrics.refused.Inc()
			continue
		}
		select {
		case t.packets <- &memberlist.Packet{Buf: plain, From: from, Timestamp: at}:
		default:
			t.metrics.dropped.Inc()
		}
	}
}

// accept hands on streams until Shutdown.
func (t *transport) accept() {
	for {
		conn, err := t.cfg.Listener.Accept()
		if t.ctx.Err() != nil || errors.Is(err, net.ErrClosed) {
			if err == nil {
				_ = conn.Close()
			}
			return
		}
		if err != nil {
			t.pause()
			continue
		}
		select {
		case t.streams <- conn:
		case <-t.ctx.Done():
			_ = conn.Close()
			return
		}
	}
}

func (t *transport) pause() {
	select {
	case <-t.ctx.Done():
	case <-time.After(acceptWait):
	}
}

// FinalAdvertiseAddr implements memberlist.Transport.
func (t *transport) FinalAdvertiseAddr(string, int) (net.IP, int, error) {
	return t.self.Addr().AsSlice(), int(t.self.Port()), nil
}

// WriteTo implements memberlist.Transport.
func (t *transport) WriteTo(b []byte, addr string) (time.Time, error) {
	to, err := netip.ParseAddrPort(addr)
	if err != nil {
		return time.Time{}, err
	}
	packet, err := seal(t.cfg.Keys(), b)
	if err != nil {
		return time.Time{}, err
	}
	_, err = t.cfg.PacketConn.WriteTo(packet, net.UDPAddrFromAddrPort(to))
	return time.Now(), err
}

// WriteToAddress implements memberlist.NodeAwareTransport.
func (t *transport) WriteToAddress(b []byte, addr memberlist.Address) (time.Time, error) {
	return t.WriteTo(b, addr.Addr)
}

// PacketCh implements memberlist.Transport.
func (t *transport) PacketCh() <-chan *memberlist.Packet { return t.packets }

// StreamCh implements memberlist.Transport.
func (t *transport) StreamCh() <-chan net.Conn { return t.streams }

// DialTimeout implements memberlist.Transport.
func (t *transport) DialTimeout(addr string, timeout time.Duration) (net.Conn, error) {
	return t.DialAddressTimeout(memberlist.Address{Addr: addr}, timeout)
}

// DialAddressTimeout implements memberlist.NodeAwareTransport.
func (t *transport) DialAddressTimeout(addr memberlist.Address, timeout time.Duration) (net.Conn, error) {
	ctx, cancel := context.WithTimeoutCause(t.ctx, timeout, fmt.Errorf("%s did not answer within %s: %w", addr.Addr, timeout, os.ErrDeadlineExceeded))
	defer cancel()
	node, _ := splitName(addr.Name)
	conn, err := t.cfg.Dial(ctx, addr.Addr, node)
	t.mu.Lock()
	defer t.mu.Unlock()
	if _, asked := t.failed[addr.Addr]; asked {
		t.failed[addr.Addr] = err
	}
	return conn, err
}

// watch remembers from now on what a dial to addr fails with.
func (t *transport) watch(addr string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.failed[addr] = nil
}

// failure returns what the last dial to addr has failed with since watch, and forgets
// it. memberlist itself hands on no more than a text.
func (t *transport) failure(addr string) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	err := t.failed[addr]
	delete(t.failed, addr)
	return err
}

// Shutdown implements memberlist.Transport.
func (t *transport) Shutdown() error {
	t.stop()
	err := errors.Join(closed(t.cfg.PacketConn.Close()), closed(t.cfg.Listener.Close()))
	t.running.Wait()
	return err
}

// closed is err, unless somebody else has closed it before.
func closed(err error) error {
	if errors.Is(err, net.ErrClosed) {
		return nil
	}
	return err
}
