package gossip

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"time"

	"github.com/orrery-io/orrery/cluster/port"
	"github.com/orrery-io/orrery/internal/obs"
)

// How the pauses between tries relate to Config.Retry.
const (
	slowest = 10 // while nobody answers
	partly  = 60 // while some answer
)

// How often the same line is logged, while nobody answers and while some do.
const (
	repeatSoon  = time.Minute
	repeatLater = 10 * time.Minute
)

// joinAll tries to reach everybody who is not alive, until ctx ends.
func (g *Gossip) joinAll(ctx context.Context, s *session) {
	pause := g.cfg.Retry
	for {
		missing := g.missing(ctx)
		for _, at := range missing {
			if ctx.Err() != nil {
				return
			}
			if err := g.join(s, at.addr); err != nil && ctx.Err() == nil && !at.gone {
				g.tellFailure(ctx, at.given, err)
			}
		}
		wait := pause
		switch {
		case g.alive() == 0:
			pause = min(2*pause, slowest*g.cfg.Retry)
		case g.mine.Load().Fresh:
			// New nodes must find each other before they can do anything.
			pause, wait = g.cfg.Retry, slowest/2*g.cfg.Retry
		default:
			pause, wait = g.cfg.Retry, partly*g.cfg.Retry
		}
		if !g.rest(ctx, jitter(wait)) {
			return
		}
	}
}

// rest waits, less long when the last peer goes. It reports false when ctx has ended.
func (g *Gossip) rest(ctx context.Context, wait time.Duration) bool {
	some := g.alive() > 0
	end := time.Now().Add(wait)
	for {
		left := min(time.Until(end), slowest*g.cfg.Retry)
		if left <= 0 || some && g.alive() == 0 {
			return ctx.Err() == nil
		}
		select {
		case <-ctx.Done():
			return false
		case <-time.After(left):
		}
	}
}

// place is an address to try, and how it was given.
type place struct {
	given string
	addr  netip.AddrPort
	gone  bool // known only from a node that has gone; it may have been removed
}

// missing returns the addresses at which nobody is known to live, resolved anew.
func (g *Gossip) missing(ctx context.Context) []place {
	g.mu.Lock()
	given := slices.Concat(g.cfg.Join, g.extra)
	g.mu.Unlock()
	given = append(given, g.cfg.Known()...)
	named := len(given)
	var living []string
	for _, p := range g.Peers() {
		if p.Alive {
			living = append(living, p.Address)
		} else {
			given = append(given, p.Address)
		}
	}
	skip := make(map[netip.AddrPort]bool)
	for _, addr := range append(living, g.cfg.Advertise) {
		addrs, _ := resolve(ctx, addr) // a name that is unknown now is joined twice
		for _, a := range addrs {
			skip[a] = true
		}
	}
	var places []place
	for i, addr := range given {
		gone := i >= named
		if addr == g.cfg.Advertise || slices.Contains(living, addr) {
			continue
		}
		addrs, err := resolve(ctx, addr)
		if err != nil && ctx.Err() == nil && !gone {
			g.tellFailure(ctx, addr, err)
		}
		for _, a := range addrs {
			if !skip[a] {
				skip[a] = true
				places = append(places, place{given: addr, addr: a, gone: gone})
			}
		}
	}
	return places
}

// join exchanges everything with the node at addr.
func (g *Gossip) join(s *session, addr netip.AddrPort) error {
	s.net.watch(addr.String())
	_, err := s.list.Join([]string{addr.String()})
	if why := s.net.failure(addr.String()); err != nil && why != nil {
		err = why // memberlist has only kept its text
	}
	if err != nil {
		g.metrics.joins.WithLabelValues(joinFailed).Inc()
		return err
	}
	g.metrics.joins.WithLabelValues(joinOK).Inc()
	return nil
}

// Join tries the addresses now, and from now on as if they had been in Config.Join. It
// returns nil when one of them has answered, and otherwise a sentence for each.
func (g *Gossip) Join(ctx context.Context, addrs ...string) error {
	s := g.running.Load()
	if s == nil {
		return errNotRunning
	}
	var errs []error
	ok := false
	for _, addr := range addrs {
		found, err := resolve(ctx, addr)
		if err == nil {
			g.remember(addr)
		}
		for _, a := range found {
			if err = g.join(s, a); err == nil {
				ok = true
				break
			}
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", addr, err))
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
	}
	if ok {
		return nil
	}
	return errors.Join(errs...)
}

// rememberJoins bounds what Join adds.
const rememberJoins = 64

func (g *Gossip) remember(addr string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if slices.Contains(g.extra, addr) || slices.Contains(g.cfg.Join, addr) {
		return
	}
	g.extra = append(g.extra, addr)
	if len(g.extra) > rememberJoins {
		g.extra = g.extra[1:]
	}
}

// resolve returns the addresses that stand for host:port, at least one.
func resolve(ctx context.Context, addr string) ([]netip.AddrPort, error) {
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return nil, err
	}
	n, err := strconv.ParseUint(port, 10, 16)
	if err != nil || n == 0 || host == "" {
		return nil, &net.AddrError{Err: "not host:port with a port from 1 to 65535", Addr: addr}
	}
	if ip, err := netip.ParseAddr(host); err == nil {
		return []netip.AddrPort{netip.AddrPortFrom(ip.Unmap(), uint16(n))}, nil
	}
	ips, err := net.DefaultResolver.LookupNetIP(ctx, "ip", host)
	if err != nil {
		return nil, err
	}
	addrs := make([]netip.AddrPort, len(ips))
	for i, ip := range ips {
		addrs[i] = netip.AddrPortFrom(ip.Unmap(), uint16(n))
	}
	if len(addrs) == 0 {
		return nil, &net.DNSError{Err: "no address", Name: host}
	}
	return addrs, nil
}

// jitter varies a pause by a quarter, so that nodes that were started together don't
// stay in step.
func jitter(d time.Duration) time.Duration {
	return d*3/4 + rand.N(d/2+1)
}

// tale is what may have been logged about something.
type tale struct {
	text  string
	begun time.Time // when it was first true
	told  time.Time // when it was last logged; zero for never
}

// tell reports whether text about something is worth a line: it has been true for at
// least as long as after, and was not logged within the last interval.
func (g *Gossip) tell(about, text string, after, interval time.Duration) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	last := g.told[about]
	if last.text != text {
		if len(g.told) > rememberMost {
			clear(g.told)
		}
		last = tale{text: text, begun: time.Now()}
	}
	say := time.Since(last.begun) >= after && (last.told.IsZero() || time.Since(last.told) >= interval)
	if say {
		last.told = time.Now()
	}
	g.told[about] = last
	return say
}

// tellFailure logs why an address was not joined: at once, but when nobody answers there
// only after a while, because nodes that start together miss each other for a moment.
func (g *Gossip) tellFailure(ctx context.Context, addr string, err error) {
	after, interval := time.Duration(0), repeatLater
	if g.alive() == 0 {
		interval = repeatSoon
	}
	if _, silent := errors.AsType[net.Error](err); silent || errors.Is(err, port.ErrUnreachable) {
		after = slowest * g.cfg.Retry
	}
	if g.tell(addr, err.Error(), after, interval) {
		g.log.WarnContext(ctx, "another node cannot be reached yet; this one goes on trying", obs.Addr(addr), obs.Err(err))
	}
}
