package server

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/orrery-io/orrery/agent"
	"github.com/orrery-io/orrery/agentconn"
	"github.com/orrery-io/orrery/cluster/link"
	"github.com/orrery-io/orrery/command"
	"github.com/orrery-io/orrery/fsm"
	"github.com/orrery-io/orrery/job"
	"github.com/orrery-io/orrery/scheduler"
)

// town is three nodes in a bubble of virtual time, as far as agents are concerned:
// real hubs, relays, links and schedulers, and real agents. In the place of consensus
// they share one state machine, and the test says who leads.
type town struct {
	t       *testing.T
	machine *fsm.Machine
	nodes   []*townNode
	roads   roads

	logMu  sync.Mutex
	index  uint64
	term   uint64
	now    job.Time
	leader *townNode // guarded by logMu; nil is nobody

	drainMu sync.Mutex
	drained map[string]bool
	endLed  func()
}

type townNode struct {
	town  *town
	id    string
	url   string
	relay *relay
	hub   *agentconn.Hub
	sched *scheduler.Scheduler
	mesh  *link.Mesh
	stop  func()
	// stopHub ends the hub, as a node does first that shuts down.
	stopHub func()
	// lossy is of how many messages that this node sends next one in three is dropped.
	lossy atomic.Int64
}

// inTown runs f in a bubble with n nodes, of which the first leads.
func inTown(t *testing.T, n int, f func(w *town)) {
	t.Helper()
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		w := &town{t: t, endLed: func() {}}
		w.roads.listeners = make(map[string]*roadEnd)
		var err error
		if w.machine, err = fsm.Open(t.Context(), fsm.Config{Dir: dir}); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(context.Background()) //nolint:usetesting // ends after the nodes
		var wg sync.WaitGroup
		wg.Go(func() {
			if err := w.machine.Run(ctx); err != nil {
				t.Error(err)
			}
		})
		for i := range n {
			w.build(fmt.Sprintf("n%d", i+1))
		}
		defer func() {
			w.endLed()
			for _, x := range w.nodes {
				x.stop()
			}
			time.Sleep(2 * time.Minute) // attempts to connect that nobody waits for any more
			cancel()
			wg.Wait()
			if err := w.machine.Close(); err != nil {
				t.Error(err)
			}
		}()
		w.record(&command.Migrate{To: fsm.NewestSchema}, &command.Init{ClusterID: "town"})
		for _, x := range w.nodes {
			x.run()
		}
		w.lead(w.nodes[0])
		f(w)
	})
}

func (w *town) build(id string) {
	x := &townNode{town: w, id: id, url: "http://" + id, stop: func() {}}
	log := slog.New(slog.DiscardHandler)
	if os.Getenv("ORRERY_TEST_LOG") != "" {
		log = slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelDebug})).With("on", id)
	}
	x.mesh = link.New(link.Config{
		Node: id, Listener: w.roads.listen(id + ":link"), Log: log,
		Dial: func(ctx context.Context, node string) (net.Conn, error) {
			return w.roads.dial(ctx, id, node+":link")
		},
		From: func(c net.Conn) string { return c.(*road).from },
	})
	others := func() (ids []string) {
		for _, y := range w.nodes {
			if y != x {
				ids = append(ids, y.id)
			}
		}
		return ids
	}
	x.relay = newRelay(id, lossyMesh{x.mesh, x}, others, log)
	x.sched = scheduler.New(scheduler.Config{Machine: w.machine, Propose: x.propose, Send: x.relay.Deliver, Log: log})
	x.hub = agentconn.New(agentconn.Config{
		Node: id, Cluster: w.machine.ClusterID, ToLeader: x.relay.ToLeader, Log: log,
		Nodes: w.urls,
	})
	x.relay.tie(x.hub, x.sched)
	w.nodes = append(w.nodes, x)
}

// urls are the addresses of the nodes that take agents.
func (w *town) urls() (urls []string) {
	w.drainMu.Lock()
	defer w.drainMu.Unlock()
	for _, x := range w.nodes {
		if !w.drained[x.id] {
			urls = append(urls, x.url)
		}
	}
	return urls
}

func (w *town) draining(id string, on bool) {
	w.drainMu.Lock()
	defer w.drainMu.Unlock()
	if w.drained == nil {
		w.drained = make(map[string]bool)
	}
	w.drained[id] = on
}

// lossyMesh drops what townNode.lossy tells it to.
type lossyMesh struct {
	*link.Mesh

	node *townNode
}

func (m lossyMesh) Send(node, method string, body []byte) bool {
	if left := m.node.lossy.Add(-1); left >= 0 && left%3 == 1 {
		return false
	}
	return m.Mesh.Send(node, method, body)
}

// run runs the node until stop is called.
func (x *townNode) run() {
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	start := func(ctx context.Context, f func(context.Context) error) {
		wg.Go(func() {
			if err := f(ctx); err != nil {
				x.town.t.Errorf("node %s: %v", x.id, err)
			}
		})
	}
	start(ctx, x.mesh.Run)
	start(ctx, x.relay.Run)
	hubCtx, stopHub := context.WithCancel(ctx)
	x.stopHub = stopHub
	start(hubCtx, x.hub.Run)
	srv := &http.Server{Handler: x.hub, ReadHeaderTimeout: time.Minute}
	wg.Go(func() { _ = srv.Serve(x.town.roads.listen(x.id)) })
	for _, y := range x.town.nodes {
		x.mesh.Connect(y.id)
	}
	x.stop = sync.OnceFunc(func() {
		cancel()
		_ = srv.Close()
		wg.Wait()
	})
}

// stopHub has a node take no agents any more, and send its own away.
func (w *town) stopHub(x *townNode) {
	x.stopHub()
	synctest.Wait()
}

// kill takes a node away at once: nobody hears of it again.
func (w *town) kill(x *townNode) {
	w.roads.isolate(x.id)
	if w.leader == x {
		w.lead(nil)
	}
}

// lead makes a node the leader, and ends the term before. Everybody hears of it after
// a moment that differs.
func (w *town) lead(x *townNode) {
	w.endLed()
	w.logMu.Lock()
	w.leader = x
	w.term++
	term := w.term
	w.logMu.Unlock()
	id := ""
	w.endLed = func() {}
	if x != nil {
		id = x.id
		ctx, cancel := context.WithCancel(context.Background())
		done := make(chan struct{})
		go func() {
			defer close(done)
			defer x.relay.Lead(term)()
			if err := x.sched.Lead(ctx, term); err != nil {
				w.t.Errorf("lead: %v", err)
			}
		}()
		w.endLed = func() {
			cancel()
			<-done
		}
	}
	var told sync.WaitGroup
	for _, y := range w.nodes {
		told.Go(func() {
			time.Sleep(rand.N(20 * time.Millisecond))
			y.relay.LeaderChanged(id)
		})
	}
	told.Wait()
	synctest.Wait()
}

func (x *townNode) propose(ctx context.Context, items ...command.Item) ([]command.Result, error) {
	w := x.town
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	w.logMu.Lock()
	defer w.logMu.Unlock()
	if w.leader != x {
		return nil, job.ErrNotLeader
	}
	return w.apply(x.sched.Prepare, items)
}

// apply records items; w.logMu is held.
func (w *town) apply(prepare func([]command.Item) func([]command.Result, error), items []command.Item) ([]command.Result, error) {
	done := prepare(items)
	w.index++
	w.now = max(w.now, job.At(time.Now()))
	e := command.Entry{Time: w.now, Version: "test", Items: items}
	data, err := e.Append(nil)
	if err != nil {
		done(nil, err)
		return nil, err
	}
	results, err := w.machine.Apply([]fsm.Entry{{Index: w.index, Term: w.term, Data: data}})
	if err != nil {
		w.t.Error(err)
		done(nil, err)
		return nil, err
	}
	done(results[0], nil)
	return results[0], nil
}

// record has commands recorded.
func (w *town) record(commands ...command.Command) []command.Result {
	w.t.Helper()
	items := make([]command.Item, len(commands))
	for i, c := range commands {
		items[i].Command = c
	}
	w.logMu.Lock()
	prepare := func([]command.Item) func([]command.Result, error) { return func([]command.Result, error) {} }
	if w.leader != nil {
		prepare = w.leader.sched.Prepare
	}
	results, err := w.apply(prepare, items)
	w.logMu.Unlock()
	if err != nil {
		w.t.Fatal(err)
	}
	for i, r := range results {
		if r.Err != nil {
			w.t.Fatalf("%T: %v", commands[i], r.Err)
		}
	}
	return results
}

func (w *town) submit(spec job.Spec) job.ID {
	w.t.Helper()
	spec.Type = "work"
	spec.Priority = job.DefaultPriority
	spec.Normalize()
	return w.record(&command.Submit{Spec: spec})[0].Job
}

func (w *town) job(id job.ID) *job.Job {
	w.t.Helper()
	j, err := w.machine.Job(w.t.Context(), id)
	if err != nil {
		w.t.Fatal(err)
	}
	return j
}

// until lets time pass until something is so, at most an hour.
func (w *town) until(what string, is func() bool) {
	w.t.Helper()
	for range 36_000 {
		synctest.Wait()
		if is() {
			return
		}
		time.Sleep(100 * time.Millisecond)
	}
	w.t.Fatalf("it never came to it that %s", what)
}

// nodeOf returns the node that an agent is connected to, by the record.
func (w *town) nodeOf(id string) string {
	row, err := w.machine.Agent(id)
	if err != nil || row.Status != job.AgentReady {
		return ""
	}
	return row.Node
}

// agent runs a real agent until the bubble ends. Handlers for "work" call do.
func (w *town) agent(id string, slots int, addrs []string, do func(ctx context.Context, j *agent.Job[job.JSON]) error) {
	w.t.Helper()
	a, err := agent.New(agent.Config{
		ID: id, Slots: slots, Addrs: addrs, Log: slog.New(slog.DiscardHandler),
		HTTP: &http.Client{Transport: &http.Transport{
			DisableKeepAlives: true,
			DialContext: func(ctx context.Context, _, addr string) (net.Conn, error) {
				return w.roads.dial(ctx, id, strings.TrimSuffix(addr, ":80"))
			},
		}},
	})
	if err != nil {
		w.t.Fatal(err)
	}
	agent.Handle(a, "work", func(ctx context.Context, j *agent.Job[job.JSON]) (string, error) { return id, do(ctx, j) })
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := a.Run(ctx); err != nil {
			w.t.Errorf("agent %s: %v", id, err)
		}
	}()
	end := w.nodes[0].stop // the agents end before the nodes do
	w.nodes[0].stop = sync.OnceFunc(func() {
		cancel()
		go func() { _ = a.Close() }()
		<-done
		end()
	})
}

// roads are the connections between nodes and agents, in memory.
type roads struct {
	mu        sync.Mutex
	listeners map[string]*roadEnd
	open      []*road
	// isolated are those that nobody reaches, and that reach nobody.
	isolated map[string]bool
}

type roadEnd struct {
	conns chan net.Conn
	once  sync.Once
	done  chan struct{}
}

func (l *roadEnd) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.done:
		return nil, net.ErrClosed
	}
}

func (l *roadEnd) Close() error   { l.once.Do(func() { close(l.done) }); return nil }
func (l *roadEnd) Addr() net.Addr { return &net.UnixAddr{Name: "road"} }

// road is one end of a connection.
type road struct {
	net.Conn

	from, to string
	all      *roads
	closed   chan struct{}
	once     sync.Once
}

func (r *roads) listen(name string) *roadEnd {
	r.mu.Lock()
	defer r.mu.Unlock()
	l := &roadEnd{conns: make(chan net.Conn), done: make(chan struct{})}
	r.listeners[name] = l
	return l
}

func (r *roads) dial(ctx context.Context, from, to string) (net.Conn, error) {
	r.mu.Lock()
	l := r.listeners[to]
	node := strings.TrimSuffix(to, ":link")
	blocked := r.isolated[from] || r.isolated[node]
	r.mu.Unlock()
	if blocked {
		select { // as when packets vanish
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		case <-time.After(time.Minute):
			return nil, os.ErrDeadlineExceeded
		}
	}
	if l == nil {
		return nil, errors.New("nobody listens")
	}
	a, b := net.Pipe()
	x, y := &road{Conn: a, from: from, to: node, all: r, closed: make(chan struct{})}, &road{Conn: b, from: from, to: node, all: r, closed: make(chan struct{})}
	select {
	case l.conns <- y:
	case <-l.done:
		return nil, errors.New("nobody listens")
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.open = append(slices.DeleteFunc(r.open, func(c *road) bool {
		select {
		case <-c.closed:
			return true
		default:
			return false
		}
	}), x, y)
	return x, nil
}

// Close implements net.Conn. The other side does not hear of it when one is isolated.
func (c *road) Close() error {
	c.once.Do(func() { close(c.closed) })
	if c.all.cut(c) {
		return c.SetDeadline(time.Unix(1, 0))
	}
	return c.Conn.Close()
}

func (r *roads) cut(c *road) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.isolated[c.from] || r.isolated[c.to]
}

// Read implements net.Conn.
func (c *road) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	if c.all.cut(c) && !errors.Is(err, os.ErrDeadlineExceeded) {
		return 0, c.wait()
	}
	return n, err
}

// Write implements net.Conn.
func (c *road) Write(p []byte) (int, error) {
	if c.all.cut(c) {
		return len(p), nil // into the void
	}
	return c.Conn.Write(p)
}

// wait waits until this end is closed.
func (c *road) wait() error {
	<-c.closed
	return net.ErrClosed
}

// sever breaks the connections between two, for which which returns true.
func (r *roads) sever(which func(from, to string) bool) {
	r.mu.Lock()
	open := slices.Clone(r.open)
	r.mu.Unlock()
	for _, c := range open {
		if which(c.from, c.to) {
			_ = c.Conn.Close()
		}
	}
}

// isolate cuts a node off without a word to anybody.
func (r *roads) isolate(name string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.isolated == nil {
		r.isolated = make(map[string]bool)
	}
	r.isolated[name] = true
}
