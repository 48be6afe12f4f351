package gossip

import (
	"context"
	"errors"
	"fmt"
	"log"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/memberlist"
	"github.com/orrery-io/orrery/internal/obs"
)

// Gossip is this node's part in the gossip. Its methods may be called at any time,
// from any goroutine.
type Gossip struct {
	cfg     Config
	log     *slog.Logger
	metrics *metrics
	name    string // of this start
	card    atomic.Pointer[[]byte]
	mine    atomic.Pointer[Meta]
	seenAll *registry
	changed chan struct{} // capacity 1: somebody came, went or changed
	update  chan struct{} // capacity 1: Update was called
	running atomic.Pointer[session]

	mu       sync.Mutex
	onChange []func()
	extra    []string        // addresses given to Join
	told     map[string]tale // what was logged about an address
}

// session is what Run has while it runs.
type session struct {
	list *memberlist.Memberlist
	net  *transport
}

// errNotRunning is returned while Run doesn't run.
var errNotRunning = errors.New("gossip doesn't run yet")

// New checks cfg; it starts nothing. Its errors are sentences for the person who
// starts the node.
func New(cfg Config) (*Gossip, error) {
	cfg, err := cfg.withDefaults()
	if err != nil {
		return nil, err
	}
	g := &Gossip{
		cfg: cfg, log: cfg.Log, name: startName(cfg.Node, time.Now()),
		seenAll: &registry{starts: make(map[string]*sighting)},
		changed: make(chan struct{}, 1), update: make(chan struct{}, 1),
		told: make(map[string]tale),
	}
	g.metrics = newMetrics(g, cfg.Registerer)
	if _, err := g.refresh(); err != nil {
		return nil, err
	}
	widest := *g.mine.Load()
	widest.Cluster, widest.Version = longestCluster, ""
	if _, err := (card{Meta: widest, Address: g.hostname()}).encode(); err != nil {
		return nil, err
	}
	return g, nil
}

// longestCluster stands for a cluster's id when sizes are checked.
const longestCluster = "00000000000000000000000000000000"

// hostname is the advertised address if it has a name, else "".
func (g *Gossip) hostname() string {
	if _, err := netip.ParseAddrPort(g.cfg.Advertise); err == nil {
		return ""
	}
	return g.cfg.Advertise
}

// refresh asks what this node tells about itself, and reports whether that is new.
func (g *Gossip) refresh() (bool, error) {
	meta := g.cfg.Meta()
	old := g.mine.Load()
	if old != nil && *old == meta {
		return false, nil
	}
	b, err := card{Meta: meta, Address: g.hostname()}.encode()
	if err != nil {
		return false, err
	}
	g.card.Store(&b)
	g.mine.Store(&meta)
	return true, nil
}

// cluster is the id of the cluster that this node belongs to, "" for none.
func (g *Gossip) cluster() string { return g.mine.Load().Cluster }

// Run takes part until ctx ends, says goodbye, and returns nil then.
func (g *Gossip) Run(ctx context.Context) error {
	self, err := g.resolveSelf(ctx)
	if err == nil {
		_, err = g.refresh()
	}
	if err != nil {
		if ctx.Err() != nil {
			err = nil
		}
		return errors.Join(err, closed(g.cfg.PacketConn.Close()), closed(g.cfg.Listener.Close()))
	}
	s := &session{net: newTransport(g.cfg, g.metrics, self)}
	s.net.start()
	if s.list, err = memberlist.Create(g.listConfig(s.net)); err != nil {
		return errors.Join(fmt.Errorf("start gossip: %w", err), s.net.Shutdown())
	}
	g.running.Store(s)
	var work sync.WaitGroup
	work.Go(func() { g.joinAll(ctx, s) })
	work.Go(func() { g.tend(ctx, s) })
	<-ctx.Done()
	work.Wait()
	g.running.Store(nil)
	if err := s.list.Leave(g.cfg.LeaveTimeout); err != nil {
		g.log.DebugContext(context.WithoutCancel(ctx), "nobody was told that this node stops", obs.Err(err))
	}
	return s.list.Shutdown()
}

func (g *Gossip) listConfig(t *transport) *memberlist.Config {
	d := delegate{g}
	conf := memberlist.DefaultLANConfig()
	conf.Name = g.name
	conf.Transport = t
	conf.Delegate, conf.Events, conf.Alive, conf.Merge = d, d, d, d
	conf.Logger = log.New(&logger{log: g.log}, "", 0)
	conf.TCPTimeout = streamTimeout
	conf.ProbeInterval = g.cfg.ProbeInterval
	conf.ProbeTimeout = g.cfg.ProbeInterval / 2
	conf.GossipInterval = min(g.cfg.ProbeInterval/5, 200*time.Millisecond)
	conf.PushPullInterval = 15 * g.cfg.ProbeInterval
	conf.SuspicionMaxTimeoutMult = 3
	conf.EnableCompression = false // packets are small; nothing is unpacked that could grow
	conf.UDPBufferSize = 1400 - sealCost
	return conf
}

// streamTimeout bounds an exchange over a stream.
const streamTimeout = 5 * time.Second

// resolveSelf finds the IP address to advertise. A name may not be known at once.
func (g *Gossip) resolveSelf(ctx context.Context) (netip.AddrPort, error) {
	for pause := g.cfg.Retry; ; pause = min(2*pause, 10*g.cfg.Retry) {
		addrs, err := resolve(ctx, g.cfg.Advertise)
		if err == nil {
			return addrs[0], nil
		}
		if bad, ok := errors.AsType[*net.AddrError](err); ok {
			return netip.AddrPort{}, bad
		}
		g.log.WarnContext(ctx, "the name to advertise has no address yet", obs.Addr(g.cfg.Advertise), obs.Err(err))
		select {
		case <-ctx.Done():
			return netip.AddrPort{}, context.Cause(ctx)
		case <-time.After(jitter(pause)):
		}
	}
}

// tend spreads changes, in both directions, until ctx ends.
func (g *Gossip) tend(ctx context.Context, s *session) {
	tick := time.NewTicker(g.cfg.ProbeInterval)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-g.changed:
			g.callBack()
		case <-g.update:
			g.spread(ctx, s)
		case <-tick.C:
			g.spread(ctx, s)
			g.seenAll.forget()
			g.report(ctx)
		}
	}
}

// spread tells the others what is new about this node.
func (g *Gossip) spread(ctx context.Context, s *session) {
	fresh, err := g.refresh()
	if err != nil {
		g.log.ErrorContext(ctx, "the others cannot be told about this node", obs.Err(err))
		return
	}
	if !fresh {
		return
	}
	if err := s.list.UpdateNode(g.cfg.ProbeInterval); err != nil {
		g.log.DebugContext(ctx, "nobody was told about this node yet", obs.Err(err)) // it goes on in the background
	}
	g.notify() // who is a stranger may have changed
}

// conflictAfter is after how many probe intervals two starts that both live are two
// processes, not one that has come back.
const conflictAfter = 60

// report tells of ids that are used twice.
func (g *Gossip) report(ctx context.Context) {
	for _, c := range g.seenAll.conflicts(conflictAfter * g.cfg.ProbeInterval) {
		g.metrics.conflicts.Inc()
		g.log.ErrorContext(ctx, "two processes use the same node id, from copies of one data folder; stop one of them, and let it join again with an empty folder",
			obs.Node(c.node), obs.Addr(c.a), slog.String("other_addr", c.b))
	}
}

// seen takes in that a start lives, or has gone.
func (g *Gossip) seen(n *memberlist.Node, alive bool) {
	g.seenAll.put(n, alive)
	node, _ := splitName(n.Name)
	if node == g.cfg.Node {
		return
	}
	g.notify()
	addr := net.JoinHostPort(n.Addr.String(), strconv.Itoa(int(n.Port)))
	g.log.Debug("gossip heard of a node", obs.Node(node), obs.Addr(addr), slog.Bool("alive", alive))
}

// refuse keeps a stranger out, also one that was new when it was let in.
func (g *Gossip) refuse(n *memberlist.Node, cluster string) {
	if g.seenAll.drop(n.Name) {
		g.notify()
	}
	node, _ := splitName(n.Name)
	if !g.tell("foreign "+n.Name, cluster, 0, repeatLater) {
		return
	}
	g.metrics.foreign.Inc()
	g.log.Warn("a node of another cluster was refused; look at --join, and give each cluster a key of its own",
		obs.Node(node), obs.Addr(net.JoinHostPort(n.Addr.String(), strconv.Itoa(int(n.Port)))), slog.String("its_cluster", cluster))
}

func (g *Gossip) notify() {
	select {
	case g.changed <- struct{}{}:
	default:
	}
}

func (g *Gossip) callBack() {
	g.mu.Lock()
	list := slices.Clone(g.onChange)
	g.mu.Unlock()
	for _, f := range list {
		f()
	}
}

// OnChange has f called after peers have come, gone or changed; several changes may
// make one call. f must not wait for long.
func (g *Gossip) OnChange(f func()) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.onChange = append(g.onChange, f)
}

// Update says that Config.Meta returns something new, so that the others learn of it
// at once. It doesn't wait.
func (g *Gossip) Update() {
	select {
	case g.update <- struct{}{}:
	default:
	}
}

// Peers returns the other nodes of this cluster, and those that belong to none yet, in
// the order of their ids. Those that have gone are among them for a day.
func (g *Gossip) Peers() []Peer { return g.seenAll.peers(g.cfg.Node, g.cluster()) }

// Peer returns one of Peers.
func (g *Gossip) Peer(node string) (Peer, bool) {
	for _, p := range g.Peers() {
		if p.Node == node {
			return p, true
		}
	}
	return Peer{}, false
}

// alive is how many of Peers live.
func (g *Gossip) alive() int {
	n := 0
	for _, p := range g.Peers() {
		if p.Alive {
			n++
		}
	}
	return n
}
