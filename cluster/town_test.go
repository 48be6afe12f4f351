package cluster

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/raft"
	"github.com/orrery-io/orrery/job"
)

// town is a cluster whose nodes come, go and move. All of it is in memory, in a bubble
// of virtual time.
type town struct {
	t     *testing.T
	lines lines // what the nodes have logged

	mu    sync.Mutex
	homes map[string]*home
	apart map[[2]string]bool // who doesn't reach whom
	deaf  map[string]bool    // whom raft doesn't reach, although questions do
}

// home is one node: what survives its restarts, and the node while it runs.
type home struct {
	cfg   Config
	node  *running // nil while it doesn't run
	addr  raft.ServerAddress
	trans *raft.InmemTransport
}

// lines keeps log records as text.
type lines struct {
	mu   sync.Mutex
	text strings.Builder
}

func (l *lines) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(b)
}

func (l *lines) count(s string) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Count(l.text.String(), s)
}

// newTown founds a cluster of n1 to n<founders>.
func newTown(t *testing.T, founders int, change func(*Config)) *town {
	t.Helper()
	w := &town{t: t, homes: map[string]*home{}, apart: map[[2]string]bool{}, deaf: map[string]bool{}}
	t.Cleanup(func() { time.Sleep(10 * time.Second) }) // raft has questions open when it has shut down
	var list []raft.Server
	for i := range founders {
		id := fmt.Sprintf("n%d", i+1)
		list = append(list, raft.Server{ID: raft.ServerID(id), Address: raft.ServerAddress(id + ":1")})
	}
	for _, s := range list {
		w.build(string(s.ID), func(cfg *Config) {
			cfg.Founders = list
			if change != nil {
				change(cfg)
			}
		})
	}
	for _, s := range list {
		w.start(string(s.ID))
	}
	return w
}

// build makes the folder of a node, which isn't started yet.
func (w *town) build(id string, change func(*Config)) *home {
	w.t.Helper()
	h := &home{addr: raft.ServerAddress(id + ":1"), cfg: Config{
		ID: id, Dir: w.t.TempDir(), Machine: newFake(nil), Address: id + ":1", HTTP: "http://" + id, Version: "v1",
		Peers: telephone{w, id}, Contacts: func() []string { return w.neighbours(id) },
		Log: slog.New(slog.NewTextHandler(io.MultiWriter(&w.lines, w.t.Output()), &slog.HandlerOptions{Level: slog.LevelDebug})),
	}}
	if change != nil {
		change(&h.cfg)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.homes[id] = h
	return h
}

func (w *town) neighbours(id string) (ids []string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for other := range w.homes {
		if other != id {
			ids = append(ids, other)
		}
	}
	slices.Sort(ids)
	return ids
}

// start starts a node on what it has, at the address that its configuration says.
func (w *town) start(id string) *running {
	w.t.Helper()
	h := w.home(id)
	w.plug(h)
	n := start(w.t, h.cfg)
	w.mu.Lock()
	defer w.mu.Unlock()
	h.node = n
	return n
}

// plug gives a home a new transport, at its address.
func (w *town) plug(h *home) {
	w.mu.Lock()
	defer w.mu.Unlock()
	h.addr = raft.ServerAddress(h.cfg.Address)
	_, h.trans = raft.NewInmemTransportWithTimeout(h.addr, 200*time.Millisecond)
	h.cfg.Transport = &road{InmemTransport: h.trans, town: w, from: h.cfg.ID}
	w.connect()
}

// connect makes every transport reach exactly those that it should. The caller holds mu.
func (w *town) connect() {
	for _, a := range w.homes {
		for _, b := range w.homes {
			if a == b || a.trans == nil {
				continue
			}
			a.trans.Disconnect(raft.ServerAddress(b.cfg.ID))
			if b.trans != nil && !w.deaf[a.cfg.ID] && !w.deaf[b.cfg.ID] && !w.apart[[2]string{a.cfg.ID, b.cfg.ID}] {
				a.trans.Connect(raft.ServerAddress(b.cfg.ID), b.trans)
			}
		}
	}
}

// stop stops a node and returns what its Run returned.
func (w *town) stop(id string) error {
	h := w.home(id)
	err := h.node.stop()
	h.node.machine.flush()
	w.mu.Lock()
	defer w.mu.Unlock()
	h.cfg.Machine = newFake(h.node.machine.disk)
	h.node, h.trans = nil, nil
	w.connect()
	return err
}

// cut isolates a node, or connects it again.
func (w *town) cut(id string, cut bool) { w.separate(cut, id, w.neighbours(id)...) }

// separate cuts the lines between a node and others, both ways, or mends them.
func (w *town) separate(cut bool, id string, others ...string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, other := range others {
		w.apart[[2]string{id, other}], w.apart[[2]string{other, id}] = cut, cut
	}
	w.connect()
}

func (w *town) home(id string) *home {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.homes[id]
}

func (w *town) node(id string) *running { return w.home(id).node }

// await waits until something is true.
func (w *town) await(what string, is func() bool) {
	w.t.Helper()
	for limit := time.Now().Add(10 * time.Minute); !is(); {
		if time.Now().After(limit) {
			w.t.Fatalf("waited in vain: %s", what)
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// leader waits for a node that leads, other than those given.
func (w *town) leader(except ...string) *running {
	w.t.Helper()
	var found *running
	w.await("a leader", func() bool {
		for _, id := range w.neighbours("") {
			if h := w.home(id); h.node != nil && !slices.Contains(except, id) && h.node.IsLeader() {
				found = h.node
			}
		}
		return found != nil
	})
	return found
}

// record records a payload through whoever leads.
func (w *town) record(payload string) {
	w.t.Helper()
	w.await("record "+payload, func() bool {
		_, err := w.leader().Propose(w.t.Context(), submit(payload))
		return err == nil
	})
}

// awaitVoters waits until the leader has exactly these voters and nobody else.
func (w *town) awaitVoters(ids ...string) {
	w.t.Helper()
	w.await(fmt.Sprintf("voters %s", ids), func() bool {
		r := w.leader().raft.Load()
		var have []string
		for _, s := range servers(r) {
			if !s.Voter {
				return false
			}
			have = append(have, s.ID)
		}
		slices.Sort(have)
		return slices.Equal(have, ids)
	})
}

// awaitMember waits until the leader has a server in a certain way.
func (w *town) awaitMember(id string, is func(Member) bool) {
	w.t.Helper()
	w.await("member "+id, func() bool {
		m, ok := w.member(id)
		return ok && is(m)
	})
}

func (w *town) member(id string) (Member, bool) {
	list, err := w.leader().Members(w.t.Context())
	if err != nil {
		return Member{}, false
	}
	i := slices.IndexFunc(list, func(m Member) bool { return m.ID == id })
	if i < 0 {
		return Member{}, false
	}
	return list[i], true
}

// agree waits until all nodes have what the leader has.
func (w *town) agree(ids ...string) {
	w.t.Helper()
	l := w.leader()
	want := l.machine.jobs()
	for _, id := range ids {
		n := w.node(id)
		if err := n.machine.WaitApplied(w.t.Context(), l.adapter.lastCommand.Load()); err != nil {
			w.t.Fatal(err)
		}
		if got := n.machine.jobs(); !slices.Equal(got, want) {
			w.t.Errorf("%s has %d jobs, the leader %d", id, len(got), len(want))
		}
	}
}

// telephone is how a node calls others.
type telephone struct {
	town *town
	id   string
}

func (p telephone) Call(ctx context.Context, node, method string, body []byte) ([]byte, error) {
	p.town.mu.Lock()
	other := p.town.homes[node]
	var n *running
	if other != nil && !p.town.apart[[2]string{p.id, node}] {
		n = other.node
	}
	p.town.mu.Unlock()
	if n == nil {
		return nil, job.Errorf(job.Unavailable, "node_unreachable", "node %s can't be reached", node)
	}
	h := n.Handlers()[method]
	if h == nil {
		return nil, job.Errorf(job.Invalid, "unknown_method", "%s?", method)
	}
	return h(ctx, p.id, body)
}

// road is a transport that finds nodes by their id, as the real one does.
type road struct {
	*raft.InmemTransport
	town *town
	from string
}

func (r *road) AppendEntriesPipeline(id raft.ServerID, _ raft.ServerAddress) (raft.AppendPipeline, error) {
	return r.InmemTransport.AppendEntriesPipeline(id, raft.ServerAddress(id))
}

func (r *road) AppendEntries(id raft.ServerID, _ raft.ServerAddress, q *raft.AppendEntriesRequest, a *raft.AppendEntriesResponse) error {
	return r.InmemTransport.AppendEntries(id, raft.ServerAddress(id), q, a)
}

func (r *road) RequestVote(id raft.ServerID, _ raft.ServerAddress, q *raft.RequestVoteRequest, a *raft.RequestVoteResponse) error {
	return r.InmemTransport.RequestVote(id, raft.ServerAddress(id), q, a)
}

func (r *road) RequestPreVote(id raft.ServerID, _ raft.ServerAddress, q *raft.RequestPreVoteRequest, a *raft.RequestPreVoteResponse) error {
	return r.InmemTransport.RequestPreVote(id, raft.ServerAddress(id), q, a)
}

func (r *road) InstallSnapshot(id raft.ServerID, _ raft.ServerAddress, q *raft.InstallSnapshotRequest, a *raft.InstallSnapshotResponse, data io.Reader) error {
	return r.InmemTransport.InstallSnapshot(id, raft.ServerAddress(id), q, a, data)
}

func (r *road) TimeoutNow(id raft.ServerID, _ raft.ServerAddress, q *raft.TimeoutNowRequest, a *raft.TimeoutNowResponse) error {
	return r.InmemTransport.TimeoutNow(id, raft.ServerAddress(id), q, a)
}
