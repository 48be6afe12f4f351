package founding

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/raft"
	"github.com/orrery-io/orrery/cluster/gossip"
)

// world is some nodes, what they see of each other, and the messages between them, in
// a bubble of virtual time.
type world struct {
	t       *testing.T
	rng     *rand.Rand
	loss    float64                       // of a question, and of an answer
	torn    float64                       // chance of a crash in the middle of a save
	delay   time.Duration                 // longest of a message
	stale   time.Duration                 // how old what a node sees of another may be
	meddle  func(from, to, method string) // sees each question as it arrives; nil for none
	eager   bool                          // all say that they are ready: safety may not depend on that question
	running sync.WaitGroup

	mu    sync.Mutex
	nodes map[string]*process
	cut   map[[2]string]bool
	views map[[2]string]sight
	begun map[string][]string // by cluster id, who begins it
}

// process is one node, over all its lives.
type process struct {
	w      *world
	id     string
	expect int
	disk   *disk

	// Of this life; the world's mu guards them.
	life     int
	founding *Founding
	handlers map[string]func(context.Context, string, []byte) ([]byte, error)
	stop     context.CancelFunc
	cluster  string // that it is a member of
	result   string // what Found returned; "" while it has not
	err      error
	said     *lines
}

// disk keeps a record over crashes.
type disk struct {
	mu  sync.Mutex
	rec record
	// tear is asked before a save: crash in the middle of it?
	tear func() (crash, written bool)
	fail error
}

var errCrashed = errors.New("the process died")

func (d *disk) load() (record, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.rec, nil
}

func (d *disk) save(r record) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.fail != nil {
		return d.fail
	}
	crash, written := d.tear()
	if !crash || written {
		d.rec = r
	}
	if crash {
		return errCrashed
	}
	return nil
}

func newWorld(t *testing.T, seed uint64) *world {
	w := &world{
		t: t, rng: rand.New(rand.NewPCG(seed, 1)), nodes: make(map[string]*process), delay: 5 * time.Millisecond,
		cut: make(map[[2]string]bool), views: make(map[[2]string]sight), begun: make(map[string][]string),
	}
	t.Cleanup(func() {
		for _, id := range w.ids() {
			w.kill(id)
		}
		w.running.Wait()
	})
	return w
}

func (w *world) ids() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Sorted(maps.Keys(w.nodes))
}

// tear draws whether a save is interrupted, and how far it came.
func (w *world) tear() (crash, written bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.rng.Float64() < w.torn, w.rng.IntN(2) == 0
}

func (w *world) pause() time.Duration {
	w.mu.Lock()
	defer w.mu.Unlock()
	return time.Duration(w.rng.Int64N(int64(w.delay) + 1))
}

// start begins a life of a node.
func (w *world) start(id string, expect int) *process {
	w.t.Helper()
	w.mu.Lock()
	p := w.nodes[id]
	if p == nil {
		p = &process{w: w, id: id, disk: &disk{}}
		w.nodes[id] = p
	}
	p.life++
	life := p.life
	p.expect, p.result, p.err, p.said = expect, "", nil, &lines{}
	w.mu.Unlock()
	p.disk.mu.Lock()
	p.disk.tear = w.tear
	p.disk.mu.Unlock()

	f, err := newFounding(Config{
		Node: id, Address: id + ":7701", File: "unused", Expect: expect,
		Cluster: func() string { w.mu.Lock(); defer w.mu.Unlock(); return p.cluster },
		Peers:   func() []gossip.Peer { return w.view(id) },
		Call: func(ctx context.Context, node, method string, body []byte) ([]byte, error) {
			return w.call(ctx, id, life, node, method, body)
		},
		Log: slog.New(slog.NewTextHandler(p.said, nil)),
	}, p.disk)
	if err != nil {
		w.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background()) //nolint:usetesting // ends with the life
	w.mu.Lock()
	p.founding, p.handlers, p.stop = f, f.Handlers(), cancel
	member := p.cluster != ""
	w.mu.Unlock()
	if member {
		return p
	}
	w.running.Go(func() {
		founders, cluster, err := f.Found(ctx)
		w.mu.Lock()
		defer w.mu.Unlock()
		if p.life != life {
			return // it died before it could do anything with the answer
		}
		if p.err = err; err != nil {
			return
		}
		p.result = "joins " + cluster
		if founders != nil {
			p.result = "begins " + cluster
			w.note(cluster, founders)
		}
	})
	return p
}

// note checks the invariant: nobody is in two lists that have begun. The caller holds
// mu.
func (w *world) note(cluster string, founders []raft.Server) {
	var list []string
	for _, s := range founders {
		list = append(list, string(s.ID))
		if string(s.Address) != string(s.ID)+":7701" || s.Suffrage != raft.Voter {
			w.t.Errorf("founder %+v", s)
		}
	}
	if old, ok := w.begun[cluster]; ok && !slices.Equal(old, list) {
		w.t.Errorf("cluster %s has begun with %v and with %v", cluster, old, list)
	}
	for other, members := range w.begun {
		if other != cluster && slices.ContainsFunc(members, func(id string) bool { return slices.Contains(list, id) }) {
			w.t.Errorf("two clusters with a common node have begun: %v and %v", members, list)
		}
	}
	w.begun[cluster] = list
}

// settle makes members of those that have decided: they have written their log.
func (w *world) settle(id string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if p := w.nodes[id]; p.result != "" {
		_, p.cluster, _ = strings.Cut(p.result, " ")
	}
}

// kill ends a life at once.
func (w *world) kill(id string) {
	w.mu.Lock()
	p := w.nodes[id]
	p.life++
	stop := p.stop
	p.founding, p.handlers, p.stop = nil, nil, nil
	p.result = ""
	w.mu.Unlock()
	if stop != nil {
		stop()
	}
}

func (w *world) connected(a, b string) bool {
	return !w.cut[[2]string{a, b}] && !w.cut[[2]string{b, a}]
}

// view is what gossip tells a node.
func (w *world) view(id string) []gossip.Peer {
	w.mu.Lock()
	defer w.mu.Unlock()
	var peers []gossip.Peer
	for other, p := range w.nodes {
		if other == id {
			continue
		}
		if s := w.views[[2]string{id, other}]; time.Now().Before(s.until) {
			peers = append(peers, s.peer)
			continue
		}
		peer := gossip.Peer{Node: other, Address: other + ":7701", Alive: p.founding != nil && w.connected(id, other)}
		if peer.Alive {
			peer.Fresh, peer.Expect, peer.Cluster = p.founding.Fresh(), p.expect, p.cluster
			if peer.Cluster == "" {
				peer.Cluster = p.founding.Cluster()
			}
		}
		w.views[[2]string{id, other}] = sight{peer, time.Now().Add(time.Duration(w.rng.Int64N(int64(w.stale) + 1)))}
		peers = append(peers, peer)
	}
	return peers
}

// sight is what a node sees of another until it looks again.
type sight struct {
	peer  gossip.Peer
	until time.Time
}

var errLost = errors.New("no answer")

// call carries a question and its answer; either may get lost.
func (w *world) call(ctx context.Context, from string, life int, to, method string, body []byte) ([]byte, error) {
	travel := func() error {
		time.Sleep(w.pause())
		w.mu.Lock()
		lost := !w.connected(from, to) || w.rng.Float64() < w.loss || w.nodes[from].life != life
		w.mu.Unlock()
		if lost {
			<-ctx.Done()
			return errLost
		}
		return nil
	}
	if err := travel(); err != nil {
		return nil, err
	}
	w.mu.Lock()
	meddle := w.meddle
	w.mu.Unlock()
	if meddle != nil {
		meddle(from, to, method)
	}
	w.mu.Lock()
	p, eager := w.nodes[to], w.eager
	var h func(context.Context, string, []byte) ([]byte, error)
	if p != nil {
		h = p.handlers[method]
	}
	w.mu.Unlock()
	if h == nil {
		return nil, errLost
	}
	answer, err := h(ctx, from, body)
	if eager && method == methodReady {
		answer, err = []byte(`{"ok":true}`), nil
	}
	if lost := travel(); lost != nil {
		return nil, lost
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	return answer, err
}

// run lets time pass until ok, or for at most an hour.
func (w *world) run(what string, ok func() bool) {
	w.t.Helper()
	for range 36000 {
		w.mu.Lock()
		done := ok()
		w.mu.Unlock()
		if done {
			return
		}
		time.Sleep(100 * time.Millisecond)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, id := range slices.Sorted(maps.Keys(w.nodes)) {
		p := w.nodes[id]
		said := strings.Split(strings.TrimSpace(p.said.String()), "\n")
		w.t.Logf("%s: %q, %v, %+v; it says:\n%s", id, p.result, p.err, p.disk.rec, said[len(said)-1])
	}
	w.t.Fatalf("after an hour: not %s; begun: %v", what, w.begun)
}

// decided reports whether all these nodes know what to do. The caller holds mu.
func (w *world) decided(ids ...string) bool {
	for _, id := range ids {
		if p := w.nodes[id]; p.result == "" && p.cluster == "" {
			return false
		}
	}
	return true
}

// lines is a log in memory.
type lines struct {
	mu sync.Mutex
	b  strings.Builder
}

func (l *lines) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(b)
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// bubble runs a test in virtual time.
func bubble(t *testing.T, f func(t *testing.T)) {
	t.Helper()
	synctest.Test(t, f)
}

func node(i int) string { return fmt.Sprintf("n-%c", 'a'+i) }
