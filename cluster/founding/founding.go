package founding

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"log/slog"
	mathrand "math/rand/v2"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/raft"
	"github.com/orrery-io/orrery/cluster/gossip"
	"github.com/orrery-io/orrery/internal/obs"
)

// Config describes this node's part.
type Config struct {
	// Node is its id, Address its cluster port as others reach it. Required.
	Node, Address string
	// File is where promises are kept. Required.
	File string
	// Expect is how many new nodes begin a cluster together; zero means that this node
	// waits for a cluster that is there.
	Expect int
	// Cluster returns the cluster that this node is a member of, "" while it is none;
	// nil means that it is none.
	Cluster func() string
	// Peers returns the other nodes, OnChange calls back when they have changed; see
	// gossip. Peers is required.
	Peers    func() []gossip.Peer
	OnChange func(func())
	// Call reaches another node; see Handlers. Required.
	Call func(ctx context.Context, node, method string, body []byte) ([]byte, error)
	// Retry is the longest pause between two looks; zero means 500ms.
	Retry time.Duration
	// Log gets what people should know; nil means nowhere.
	Log *slog.Logger
}

// How long things may take.
const (
	askLimit    = 3 * time.Second
	remindEvery = 10 * time.Second
	silentAfter = 30 * time.Second
)

// Founding is this node's part in the founding of a cluster. Its methods may be called
// at any time, from any goroutine.
type Founding struct {
	cfg     Config
	log     *slog.Logger
	store   store
	changed chan struct{} // capacity 1: look again
	state   atomic.Pointer[state]

	mu       sync.Mutex
	rec      record
	active   bool  // Found runs and is undecided
	broken   error // nobody knows what is on disk
	onChange []func()

	// Only Found uses these.
	said     string
	saidAt   time.Time
	answered time.Time // when the proposer of our promise last did
}

// state is what others may read without waiting for a disk.
type state struct {
	fresh   bool
	cluster string
	begunBy string // who began it, "" for nodes that are no founders
	waiting string
}

// New reads what this node has promised before; it starts nothing. Its errors are
// sentences for the person who starts the node.
func New(cfg Config) (*Founding, error) {
	return newFounding(cfg, file{path: cfg.File})
}

func newFounding(cfg Config, s store) (*Founding, error) {
	if cfg.Node == "" || cfg.Address == "" || cfg.Peers == nil || cfg.Call == nil || cfg.Expect < 0 {
		return nil, errors.New("founding: Config.Node, Address, Peers and Call are required")
	}
	if cfg.Cluster == nil {
		cfg.Cluster = func() string { return "" }
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	cfg.Retry = cmp.Or(cfg.Retry, 500*time.Millisecond)
	f := &Founding{cfg: cfg, log: cfg.Log, store: s, changed: make(chan struct{}, 1)}
	var err error
	if f.rec, err = s.load(); err != nil {
		return nil, err
	}
	f.state.Store(f.rec.state())
	if cfg.OnChange != nil {
		cfg.OnChange(f.wake)
	}
	return f, nil
}

// state is what the record says to others.
func (r record) state() *state {
	if p := r.Promised; p != nil && (r.Begun || r.Joins == p.Cluster) {
		return &state{cluster: p.Cluster, begunBy: p.Proposer}
	}
	return &state{}
}

func (f *Founding) wake() {
	select {
	case f.changed <- struct{}{}:
	default:
	}
}

// OnChange has g called when Fresh or Cluster have changed. g must not wait.
func (f *Founding) OnChange(g func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.onChange = append(f.onChange, g)
}

// Fresh reports whether this node waits to learn whether it begins a cluster or joins
// one.
func (f *Founding) Fresh() bool { return f.state.Load().fresh }

// Cluster is the id of the cluster whose founder this node is, as soon as that has
// begun; "" before, and for nodes that joined later.
func (f *Founding) Cluster() string { return f.state.Load().cluster }

// Waiting is a sentence on what this node waits for, "" when it doesn't.
func (f *Founding) Waiting() string { return f.state.Load().waiting }

// publish brings the state up to date. The caller holds mu.
func (f *Founding) publish(waiting string) {
	old := *f.state.Load()
	s := f.rec.state()
	s.fresh, s.waiting = f.active, waiting
	f.state.Store(s)
	if old.fresh != s.fresh || old.cluster != s.cluster {
		for _, g := range f.onChange {
			g()
		}
	}
}

// change writes a record down and makes it count. The caller holds mu.
func (f *Founding) change(r record, err error) error {
	if err == nil {
		err = f.broken
	}
	if err != nil {
		return err
	}
	if err := f.store.save(r); err != nil {
		f.broken = err // the old or the new one is on disk
		f.wake()
		return err
	}
	f.rec = r
	return nil
}

// Contacts returns the ids of living nodes that belong to a cluster, the one that began
// it first if this node is one of its founders.
func (f *Founding) Contacts() []string {
	var list []string
	first := f.state.Load().begunBy
	if first != "" && first != f.cfg.Node {
		list = append(list, first)
	}
	for _, p := range f.cfg.Peers() {
		if p.Alive && p.Cluster != "" && !p.Fresh && p.Node != first {
			list = append(list, p.Node)
		}
	}
	return list
}

// Found waits until it is decided who begins the cluster. This node begins it when it
// gets founders; when it gets none, it waits for a leader to send it entries, or to
// add it. clusterID is the id of the cluster. Called again after a crash it gives the
// same answer. It may run once at a time.
//
// Errors: the context's, or that the disk failed.
func (f *Founding) Found(ctx context.Context) (founders []raft.Server, clusterID string, err error) {
	f.mu.Lock()
	if _, pending := f.rec.own(f.cfg.Node); pending {
		// This process died in the middle. Whoever has promised will ask.
		err = f.change(f.rec.giveUp(f.cfg.Node))
	}
	f.active = err == nil && !f.rec.decided()
	f.publish("")
	f.mu.Unlock()
	f.answered = time.Now()
	defer f.settle()
	for err == nil {
		var rec record
		if rec, err = f.record(); err != nil {
			break
		}
		if rec.Begun {
			f.log.InfoContext(ctx, "this node begins the cluster", obs.Cluster(rec.Promised.Cluster), slog.String("founders", rec.Promised.String()))
			return rec.Promised.servers(), rec.Promised.Cluster, nil
		}
		if rec.Joins != "" {
			text := "this node joins a cluster"
			if rec.Promised != nil {
				text = "the cluster has begun, with this node"
			}
			f.log.InfoContext(ctx, text, obs.Cluster(rec.Joins)) //nolint:sloglint // one of two sentences
			return nil, rec.Joins, nil
		}
		var waiting string
		if waiting, err = f.step(ctx, rec); waiting != "" && err == nil {
			f.say(ctx, waiting)
			err = f.rest(ctx)
		}
	}
	if ctx.Err() != nil {
		err = context.Cause(ctx)
	}
	return nil, "", err
}

// settle ends what Found has begun.
func (f *Founding) settle() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.active = false
	f.publish("")
}

// record returns what counts now, or why nobody knows.
func (f *Founding) record() (record, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.rec, f.broken
}

// say tells people what this node waits for, at once when that is new.
func (f *Founding) say(ctx context.Context, waiting string) {
	f.mu.Lock()
	f.publish(waiting)
	f.mu.Unlock()
	if waiting == f.said && time.Since(f.saidAt) < remindEvery {
		return
	}
	f.said, f.saidAt = waiting, time.Now()
	f.log.InfoContext(ctx, "waiting for a cluster", obs.Reason(waiting))
}

// rest waits until something may have changed.
func (f *Founding) rest(ctx context.Context) error {
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-f.changed:
		// Let what comes together be seen together.
		select {
		case <-ctx.Done():
		case <-time.After(mathrand.N(f.cfg.Retry / 10)):
		}
	case <-time.After(f.cfg.Retry/2 + mathrand.N(f.cfg.Retry/2)):
	}
	return ctx.Err()
}

// step does what can be done now. It returns what this node waits for, "" when it
// should look again at once.
func (f *Founding) step(ctx context.Context, rec record) (waiting string, err error) {
	view := look(f.cfg, f.cfg.Peers())
	for _, cluster := range view.clusters {
		if rec.Promised == nil || rec.Promised.Cluster == cluster {
			return "", f.join(cluster)
		}
	}
	if rec.Promised != nil {
		return f.followUp(ctx, *rec.Promised)
	}
	if waiting := view.waiting(f.cfg); waiting != "" {
		return waiting, nil
	}
	return f.attempt(ctx, view.founders)
}

// join ends the founding: the cluster is there. A promise that was given meanwhile
// goes first.
func (f *Founding) join(cluster string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	r, err := f.rec.join(cluster)
	if err != nil {
		return f.broken
	}
	if r.Promised == nil && f.cfg.Expect == 0 {
		f.rec = r // it never founds, so there is nothing to remember
		return f.broken
	}
	return f.change(r, nil)
}

// followUp asks what became of the proposal that this node has promised.
func (f *Founding) followUp(ctx context.Context, p Proposal) (waiting string, err error) {
	answer, err := call[statusAnswer](ctx, f, p.Proposer, methodStatus, statusQuestion{Number: p.Number, Cluster: p.Cluster})
	if err == nil {
		f.answered = time.Now()
		f.mu.Lock()
		defer f.mu.Unlock()
		switch held := f.rec.Promised; {
		case held == nil || held.Proposer != p.Proposer || held.Number != p.Number:
			return "", nil // it has proposed again meanwhile
		case answer.Fate == begun:
			return "", f.change(f.rec.join(p.Cluster))
		case answer.Fate == givenUp:
			return "", f.change(f.rec.free(p), nil)
		}
	}
	if ctx.Err() != nil {
		return "", context.Cause(ctx)
	}
	waiting = "this node has promised to begin a cluster with " + p.String() + ", and waits for " + p.Proposer + " to begin it"
	if silent := time.Since(f.answered); silent > silentAfter {
		waiting += ", which has not answered for " + silent.Truncate(10*time.Second).String() +
			": start it again; if it is gone for good, stop this node, remove its data folder, which holds nothing yet, and start it again"
	}
	return waiting, nil
}

// attempt proposes the list to its nodes. It is one try: either all promise, or the
// proposal is given up.
func (f *Founding) attempt(ctx context.Context, list []Server) (waiting string, err error) {
	others := slices.DeleteFunc(slices.Clone(list), func(s Server) bool { return s.ID == f.cfg.Node })
	waiting = f.askAll(ctx, others, methodReady, readyQuestion{Servers: list, Expect: f.cfg.Expect})
	if waiting != "" || ctx.Err() != nil {
		return waiting, context.Cause(ctx)
	}
	f.mu.Lock()
	if f.rec.decided() || f.rec.Promised != nil {
		f.mu.Unlock()
		return "", nil // somebody else was faster
	}
	err = f.change(f.rec.propose(f.cfg.Node, newClusterID(), list))
	rec := f.rec
	f.mu.Unlock()
	if err != nil {
		return "", err
	}
	p := *rec.Promised
	waiting = f.askAll(ctx, others, methodPromise, p)
	f.mu.Lock()
	defer f.mu.Unlock()
	if waiting != "" || ctx.Err() != nil {
		return waiting, errors.Join(f.change(f.rec.giveUp(f.cfg.Node)), context.Cause(ctx))
	}
	return "", f.change(f.rec.begin(f.cfg.Node, p.Number))
}

// newClusterID returns a random name of 26 letters and digits.
func newClusterID() string { return rand.Text() }

// askAll puts a question to all nodes at once. It returns "" when all agree, and else
// what to wait for.
func (f *Founding) askAll(ctx context.Context, nodes []Server, method string, question any) (waiting string) {
	reasons := make([]string, len(nodes))
	var asking sync.WaitGroup
	for i, node := range nodes {
		asking.Go(func() {
			a, err := call[agreement](ctx, f, node.ID, method, question)
			switch {
			case err != nil:
				reasons[i] = node.ID + " at " + node.Address + " cannot be asked: " + err.Error()
			case !a.OK:
				reasons[i] = node.ID + " at " + node.Address + " is not ready: " + cmp.Or(a.Why, "it gives no reason")
			}
		})
	}
	asking.Wait()
	reasons = slices.DeleteFunc(reasons, func(s string) bool { return s == "" })
	return strings.Join(reasons, "; ")
}
