//go:build linux

package chaos

import (
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"sync"
	"time"
)

// clients is the name of this process in the network: its clients.
const clients = "clients"

// link is one direction between two parties: a node, an agent, the clients.
type link struct{ from, to string }

// network is what lies between all parties. Nodes and agents have namespaces of their
// own (spaces), or meet through proxies like the clients always do. Each service is reached through a
// proxy of its own, which knows who connects: by the process that owns the socket
// (TCP), or by the port that the packet comes from (UDP). So each direction of each
// pair can be cut on its own. What is sent over a cut TCP connection waits, as for
// a retransmission; packets are lost.
type network struct {
	mu      sync.Mutex
	cut     map[link]bool
	cutUDP  map[link]bool
	slow    map[link]bool // by crawl; proxies only
	silent  map[link]bool // connections are reset when this direction carries something
	changed chan struct{} // closed with every change
	ports   map[int]string
	closers []io.Closer
	done    chan struct{}
	wg      sync.WaitGroup
	spaces  *spaces // what nodes and agents have among themselves; nil: proxies too
	failed  error   // of spaces
}

func newNetwork() *network {
	return &network{
		cut: map[link]bool{}, cutUDP: map[link]bool{}, slow: map[link]bool{}, silent: map[link]bool{},
		changed: make(chan struct{}), ports: map[int]string{}, done: make(chan struct{}),
	}
}

// kind says what the network is made of.
func (n *network) kind() string {
	if n.spaces != nil {
		return "namespaces"
	}
	return "proxies"
}

func (n *network) close() {
	close(n.done)
	n.mu.Lock()
	for _, c := range n.closers {
		_ = c.Close()
	}
	n.mu.Unlock()
	n.wg.Wait()
}

// owns says that packets from a port of this machine come from a party.
func (n *network) owns(port int, name string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.ports[port] = name
}

// change changes the rules and wakes what waits for them.
func (n *network) change(f func()) {
	n.mu.Lock()
	defer n.mu.Unlock()
	f()
	if n.spaces != nil {
		if err := n.spaces.apply(n.cut, n.cutUDP); err != nil && n.failed == nil {
			n.failed = err
		}
	}
	close(n.changed)
	n.changed = make(chan struct{})
}

// block cuts directions.
func (n *network) block(links ...link) {
	n.change(func() {
		for _, l := range links {
			n.cut[l] = true
		}
	})
}

// blockPackets cuts directions for UDP only.
func (n *network) blockPackets(links ...link) {
	n.change(func() {
		for _, l := range links {
			n.cutUDP[l] = true
		}
	})
}

// throttle lets a direction carry only a little at a time.
func (n *network) throttle(links ...link) {
	n.change(func() {
		for _, l := range links {
			n.slow[l] = true
		}
	})
}

// crawl is how long a piece of up to 64 KiB takes in a throttled direction.
const crawl = 200 * time.Millisecond

// silence resets connections as soon as they carry something in a direction: what
// was asked for happens, and its answer is lost.
func (n *network) silence(links ...link) {
	n.change(func() {
		for _, l := range links {
			n.silent[l] = true
		}
	})
}

// heal ends all cuts.
func (n *network) heal() {
	n.change(func() {
		clear(n.cut)
		clear(n.cutUDP)
		clear(n.slow)
		clear(n.silent)
	})
}

// way says whether a direction is open, and when to ask again.
func (n *network) way(l link) (open bool, changed <-chan struct{}) {
	n.mu.Lock()
	defer n.mu.Unlock()
	return !n.cut[l], n.changed
}

func (n *network) closing(c io.Closer) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.closers = append(n.closers, c)
}

// serve offers a party's TCP address under another one, which it returns.
func (n *network) serve(party, target string) (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	n.closing(l)
	n.serveOn(l, party, target)
	return l.Addr().String(), nil
}

func (n *network) serveOn(l net.Listener, party, target string) {
	n.wg.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			n.wg.Go(func() { n.carry(c, party, target) })
		}
	})
}

// serveBoth offers a party's cluster port, TCP and UDP, under another one.
func (n *network) serveBoth(party, target string) (string, error) {
	for range 50 {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return "", err
		}
		addr := l.Addr().String()
		u, err := net.ListenPacket("udp", addr)
		if err != nil {
			_ = l.Close()
			continue
		}
		n.closing(l)
		n.closing(u)
		n.serveOn(l, party, target)
		n.wg.Go(func() { n.packets(u, party, target) })
		return addr, nil
	}
	return "", errors.New("no port is free for both TCP and UDP")
}

// carry joins a connection with the party behind the proxy.
func (n *network) carry(c net.Conn, to, target string) {
	defer c.Close()
	from := ownerOf(c)
	if from == "" {
		return // it is gone already
	}
	there, back := link{from, to}, link{to, from}
	// A connection that is opened over a cut link waits like one whose SYN is lost.
	if !n.passable(there) || !n.passable(back) {
		return
	}
	d, err := net.DialTimeout("tcp", target, 5*time.Second)
	if err != nil {
		// As close to "connection refused" as a proxy comes.
		_ = c.(*net.TCPConn).SetLinger(0)
		return
	}
	defer d.Close()
	var both sync.WaitGroup
	both.Go(func() { n.pump(d, c, there) })
	both.Go(func() { n.pump(c, d, back) })
	both.Wait()
}

// passable waits until a direction is open. It reports false when the run ends, or
// after so long that no peer still waits.
func (n *network) passable(l link) bool {
	limit := time.NewTimer(30 * time.Second)
	defer limit.Stop()
	for {
		open, changed := n.way(l)
		if open {
			return true
		}
		select {
		case <-changed:
		case <-limit.C:
			return false
		case <-n.done:
			return false
		}
	}
}

// pump copies one direction, and closes both ends when it is over.
func (n *network) pump(to, from net.Conn, l link) {
	defer to.Close()
	defer from.Close()
	buf := make([]byte, 64<<10)
	for {
		k, err := from.Read(buf)
		if k > 0 {
			if !n.passable(l) {
				return
			}
			n.mu.Lock()
			silent, slow := n.silent[l], n.slow[l]
			n.mu.Unlock()
			if slow {
				time.Sleep(crawl)
			}
			if silent {
				_ = to.(*net.TCPConn).SetLinger(0)
				return
			}
			if _, err := to.Write(buf[:k]); err != nil {
				return
			}
		}
		if err != nil {
			return
		}
	}
}

// packets carries UDP to a party, and what it answers back.
func (n *network) packets(u net.PacketConn, to, target string) {
	addr, err := net.ResolveUDPAddr("udp", target)
	if err != nil {
		return
	}
	var mu sync.Mutex
	flows := map[string]*net.UDPConn{}
	defer func() {
		mu.Lock()
		defer mu.Unlock()
		for f := range maps.Values(flows) {
			_ = f.Close()
		}
	}()
	buf := make([]byte, 64<<10)
	for {
		k, src, err := u.ReadFrom(buf)
		if err != nil {
			return
		}
		n.mu.Lock()
		from := n.ports[src.(*net.UDPAddr).Port]
		drop := n.cut[link{from, to}] || n.cutUDP[link{from, to}]
		n.mu.Unlock()
		if drop {
			continue
		}
		mu.Lock()
		f := flows[src.String()]
		if f == nil {
			if f, err = net.DialUDP("udp", nil, addr); err == nil {
				flows[src.String()] = f
				n.wg.Go(func() { n.answers(f, u, src, link{to, from}) })
			}
		}
		mu.Unlock()
		if f != nil {
			_, _ = f.Write(buf[:k]) // refused: nobody listens, as with a lost packet
		}
	}
}

func (n *network) answers(f *net.UDPConn, u net.PacketConn, src net.Addr, l link) {
	buf := make([]byte, 64<<10)
	for {
		k, err := f.Read(buf)
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			select {
			case <-n.done:
				return
			case <-time.After(10 * time.Millisecond): // refused
				continue
			}
		}
		n.mu.Lock()
		drop := n.cut[l] || n.cutUDP[l]
		n.mu.Unlock()
		if !drop {
			_, _ = u.WriteTo(buf[:k], src)
		}
	}
}

// freePort returns a loopback port that is free for TCP and UDP.
func freePort() (int, error) {
	for range 50 {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return 0, err
		}
		port := l.Addr().(*net.TCPAddr).Port
		u, err := net.ListenPacket("udp", l.Addr().String())
		_ = l.Close()
		if err != nil {
			continue
		}
		_ = u.Close()
		return port, nil
	}
	return 0, errors.New("no port is free for both TCP and UDP")
}

func loopback(port int) string { return fmt.Sprintf("127.0.0.1:%d", port) }
