//go:build linux

package chaos

import (
	"context"
	"errors"
	"fmt"
	"log"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"time"

	"github.com/orrery-io/orrery/client"
)

// options say what a run is.
type options struct {
	mode     string
	seed     uint64
	duration time.Duration
	nodes    int
	kills    int
	// schedules and workers are how many the mode schedules has.
	schedules, workers int
	only               []string
	binary             string
	keep               string
	network            string // proxies, spaces (network namespaces), or either by the seed
	lease              time.Duration
}

func (o *options) defaults() error {
	type size struct {
		nodes    int
		duration time.Duration
	}
	sizes := map[string]size{"quick": {3, 110 * time.Second}, "soak": {3, 20 * time.Minute}, "failover": {3, time.Hour}, "single": {1, 60 * time.Second}, "schedules": {3, 2 * time.Minute}}
	s, ok := sizes[o.mode]
	if !ok {
		return fmt.Errorf("-chaos=%s: it must be quick, soak, failover, single or schedules", o.mode)
	}
	if o.nodes == 0 {
		o.nodes = s.nodes
	}
	if o.duration == 0 {
		o.duration = s.duration
	}
	if o.binary == "" {
		return errors.New("-binary is missing; scripts/chaos.sh builds it")
	}
	o.lease = 3 * time.Second
	switch {
	case o.network == "" && (o.seed%2 == 1 && o.mode != "schedules" || o.nodes == 1):
		o.network = "proxies"
	case o.network != "" && o.network != "proxies" && o.network != "spaces":
		return fmt.Errorf("-net=%s: it must be proxies or spaces", o.network)
	}
	return nil
}

// env is a run: the system under test, who works with it, and what was seen.
type env struct {
	options
	room    string
	log     *log.Logger
	cluster *cluster
	net     *network
	nodes   []*node
	workers []*worker
	jobs    *jobLoad
	regs    *registers
	plans   *scheduleLoad
	feed    *listener
	watch   *watcher
	res     *resource
	found   *findings
	journal *journal

	quiesce func() // ends the load; set by load

	gaps     int            // damage that only verify found
	jumps    []jump         // of clocks
	counts   map[string]int // faults by name
	deaths   []killed       // of leaders, for the failover figure
	recovery []time.Duration
}

// killed is a leader's death.
type killed struct {
	mono int64
	wall time.Time
}

func (e *env) say(format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	e.log.Print(text)
	e.journal.write("say", text)
}

// names are those of all nodes.
func (e *env) names() []string {
	var out []string
	for _, n := range e.nodes {
		out = append(out, n.name)
	}
	return out
}

// between are all links of one group with another, both ways.
func between(a, b []string) (out []link) {
	for _, x := range a {
		for _, y := range b {
			if x != y {
				out = append(out, link{x, y}, link{y, x})
			}
		}
	}
	return out
}

// others are the names of all nodes but n.
func (e *env) others(n *node) (out []string) {
	for _, o := range e.nodes {
		if o != n {
			out = append(out, o.name)
		}
	}
	return out
}

// leader waits for one, because a fault before may have left none.
func (e *env) leader(ctx context.Context) (*node, error) {
	return e.cluster.awaitLeader(ctx, 20*time.Second)
}

// follower is a random node that does not lead; the only node when there is one.
func (e *env) follower(ctx context.Context, r *rand.Rand) (*node, error) {
	l, err := e.leader(ctx)
	if err != nil {
		return nil, err
	}
	rest := slices.DeleteFunc(slices.Clone(e.nodes), func(n *node) bool { return n == l })
	if len(rest) == 0 {
		return l, nil
	}
	return rest[r.IntN(len(rest))], nil
}

// kill is kill -9 of a node.
func (e *env) kill(n *node) {
	n.mu.Lock()
	n.down = true
	n.mu.Unlock()
	n.process().kill()
}

// start starts a node again, and watches over its end.
func (e *env) start(n *node) error {
	if err := e.cluster.start(n); err != nil {
		return err
	}
	p := n.process()
	go func() {
		<-p.exited
		n.mu.Lock()
		mine := n.proc == p && !n.down
		n.mu.Unlock()
		if mine {
			e.found.violated(0, "%s ended by itself: %v; its log says: %s", n.name, p.err, lastLines(n.log, 3))
		}
	}()
	return nil
}

// mayEnd permits a node to end by itself.
func (n *node) mayEnd() {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.down = true
}

// startAll starts all nodes and agents that are not running.
func (e *env) startAll() error {
	for _, n := range e.nodes {
		if !n.process().alive() {
			if err := e.start(n); err != nil {
				return err
			}
		}
	}
	for _, w := range e.workers {
		if !w.process().alive() {
			if err := w.start(); err != nil {
				return err
			}
		}
	}
	return nil
}

// Limits of invariant 7: how long until a commit after the network is whole again,
// and when processes must start first, which a busy machine takes its time for.
const (
	healLimit    = 5 * time.Second
	restartLimit = 15 * time.Second
)

// probe submits until somebody acknowledges it, and returns how long that took.
func (e *env) probe(ctx context.Context, limit time.Duration) (time.Duration, error) {
	start := time.Now()
	r := rand.New(rand.NewPCG(e.seed, uint64(since())))
	var last error
	for time.Since(start) < 4*limit && ctx.Err() == nil {
		c, err := client.New(client.Config{Token: token, Addrs: e.addrs(r), Timeout: time.Second})
		if err != nil {
			return 0, err
		}
		short, cancel := context.WithTimeout(ctx, 2*time.Second)
		_, err = c.Submit(short, client.Submission{Type: "probe", Queue: "probes"})
		cancel()
		if err == nil {
			return time.Since(start), nil
		}
		last = err
		pauseFor(ctx, 20*time.Millisecond)
	}
	return time.Since(start), last
}

// addrs are where clients reach the nodes, in random order.
func (e *env) addrs(r *rand.Rand) []string {
	var out []string
	for _, n := range e.nodes {
		out = append(out, "http://"+n.viaHTTP)
	}
	r.Shuffle(len(out), func(i, k int) { out[i], out[k] = out[k], out[i] })
	return out
}

// recovered heals everything, and checks that the cluster commits again in time.
func (e *env) recovered(ctx context.Context, after string) error {
	limit := healLimit
	for _, n := range e.nodes {
		if !n.process().alive() {
			limit = restartLimit
		}
	}
	e.net.heal()
	if err := e.net.failed; err != nil {
		return err
	}
	if err := e.startAll(); err != nil {
		return err
	}
	took, err := e.probe(ctx, limit)
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	e.recovery = append(e.recovery, took)
	switch {
	case err != nil:
		e.found.violated(7, "after %s: no commit in %s: %v", after, took.Round(time.Millisecond), err)
		return fmt.Errorf("the cluster does not recover from %s", after)
	case took > limit:
		e.found.violated(7, "after %s: the first commit took %s", after, took.Round(time.Millisecond))
	}
	e.journal.write("recovered", map[string]any{"after": after, "ms": took.Milliseconds()})
	// The next fault meets a whole cluster.
	for _, n := range e.nodes {
		if err := e.cluster.ready(ctx, n, 30*time.Second); err != nil {
			e.found.violated(7, "after %s: %v", after, err)
			return err
		}
	}
	return nil
}

// advance sets how far a node's proposer sees its clock ahead.
func (n *node) advance(d time.Duration) error {
	return os.WriteFile(n.clock, []byte(strconv.FormatInt(d.Milliseconds(), 10)), 0o600)
}

// keepHistory copies logs and histories of a failed run.
func (e *env) keepHistory() (string, error) {
	to := e.keep
	if to == "" {
		return "", nil
	}
	to = filepath.Join(to, fmt.Sprintf("chaos-%s-%d", e.mode, e.seed))
	if err := os.MkdirAll(to, 0o750); err != nil {
		return "", err
	}
	for _, pattern := range []string{"*.log", "*.jsonl", "*.html"} {
		files, err := filepath.Glob(filepath.Join(e.room, pattern))
		if err != nil {
			return "", err
		}
		for _, f := range files {
			text, err := os.ReadFile(f)
			if err != nil {
				return "", err
			}
			if err := os.WriteFile(filepath.Join(to, filepath.Base(f)), text, 0o600); err != nil {
				return "", err
			}
		}
	}
	return to, nil
}
