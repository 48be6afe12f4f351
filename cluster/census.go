package cluster

import (
	"cmp"
	"context"
	"slices"
	"sync"
	"time"

	"github.com/hashicorp/raft"
	"github.com/orrery-io/orrery/job"
)

const (
	// pollEvery is how often the leader asks every server how it stands, and pollLimit
	// how long it waits for an answer.
	pollEvery = 250 * time.Millisecond
	pollLimit = time.Second
	// aliveFor is how long after its last answer a server counts as alive.
	aliveFor = 2 * time.Second
	// pollsAtOnce bounds the questions that are under way.
	pollsAtOnce = 32
	// moments is how many polls ago the "moment ago" was at which a new node must have
	// caught up with what was applied then.
	moments = 4
)

// follower is another server as the leader saw it at most a moment ago.
type follower struct {
	Server
	// Report is its newest answer and Heard when that came; zero: not in this term.
	Report report
	Heard  time.Time
	// Alive is true when it has answered lately.
	Alive bool
	// Lag is how many entries it has yet to apply, Rate how many it applies per second.
	Lag  uint64
	Rate float64
}

// census is what the leader knows of the other servers in one term. It is rebuilt by
// asking them, so nothing in it outlives the term.
type census struct {
	began time.Time
	ready chan struct{} // closed when everybody was asked once
	slots chan struct{} // capacity pollsAtOnce, one for each question under way
	asks  sync.WaitGroup

	mu      sync.Mutex
	servers map[string]*watched
	applied [moments]uint64 // by the leader, one per poll, oldest first
	polls   int
}

// watched is one server, under the census's lock.
type watched struct {
	Server
	asking bool
	first  time.Time // when it came into the census
	heard  time.Time
	steady time.Time // since when it has answered every time; zero when it has not
	missed int       // questions since its last answer
	report report
	rate   float64
}

func newCensus() *census {
	return &census{
		began: time.Now(), ready: make(chan struct{}), slots: make(chan struct{}, pollsAtOnce), servers: map[string]*watched{},
	}
}

// followers returns what the leader knows of the other servers, by id; nil while this
// node doesn't lead.
func (n *Node) followers() []follower {
	c := n.census.Load()
	if c == nil {
		return nil
	}
	return c.followers(n.adapter.lastCommand.Load())
}

func (c *census) followers(applied uint64) []follower {
	c.mu.Lock()
	defer c.mu.Unlock()
	list := make([]follower, 0, len(c.servers))
	for _, w := range c.servers {
		list = append(list, w.follower(applied))
	}
	slices.SortFunc(list, func(a, b follower) int { return cmp.Compare(a.ID, b.ID) })
	return list
}

func (w *watched) follower(applied uint64) follower {
	f := follower{Server: w.Server, Report: w.report, Heard: w.heard, Rate: w.rate, Alive: w.alive()}
	if applied > w.report.Applied {
		f.Lag = applied - w.report.Applied
	}
	return f
}

func (w *watched) alive() bool { return !w.heard.IsZero() && time.Since(w.heard) < aliveFor }

// alive reports whether a server has answered lately.
func (c *census) alive(id string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	w := c.servers[id]
	return w != nil && w.alive()
}

// silent returns for how long a server has said nothing, counted from the beginning of
// the term at the earliest. Zero as long as it was asked only a few times: this node
// may have been stopped itself.
func (c *census) silent(id string) time.Duration {
	const fewTimes = 20
	c.mu.Lock()
	defer c.mu.Unlock()
	w := c.servers[id]
	if w == nil || w.missed < fewTimes {
		return 0
	}
	since := w.first
	if w.heard.After(since) {
		since = w.heard
	}
	return time.Since(since)
}

// asked waits until every server was asked once in this term.
func (c *census) asked(ctx context.Context) error {
	select {
	case <-c.ready:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// poll asks all servers, as often as pollEvery, until ctx ends.
func (n *Node) poll(ctx context.Context, r *raft.Raft, c *census) {
	tick := time.NewTicker(pollEvery)
	defer tick.Stop()
	var round sync.WaitGroup
	for first := true; ; first = false {
		for _, id := range c.list(servers(r), n.cfg.ID, n.adapter.lastCommand.Load()) {
			round.Add(1)
			c.asks.Go(func() {
				defer round.Done()
				n.askStatus(ctx, c, id)
			})
		}
		if first {
			round.Wait()
			close(c.ready)
		}
		select {
		case <-ctx.Done():
			c.asks.Wait()
			return
		case <-tick.C:
		}
	}
}

// list takes note of the configuration and of what the leader has applied, and returns
// whom to ask now.
func (c *census) list(conf []Server, self string, applied uint64) (ids []string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	copy(c.applied[:], c.applied[1:])
	c.applied[moments-1] = applied
	c.polls++
	for id := range c.servers {
		if !slices.ContainsFunc(conf, func(s Server) bool { return s.ID == id }) {
			delete(c.servers, id)
		}
	}
	for _, s := range conf {
		if s.ID == self {
			continue
		}
		w := c.servers[s.ID]
		if w == nil {
			w = &watched{first: time.Now()}
			c.servers[s.ID] = w
		}
		w.Server = s
		if !w.asking {
			w.asking = true
			ids = append(ids, s.ID)
		}
	}
	return ids
}

func (n *Node) askStatus(ctx context.Context, c *census, id string) {
	rep, err := report{}, error(job.ErrNotLeader)
	select {
	case c.slots <- struct{}{}:
		limited, cancel := context.WithTimeout(ctx, pollLimit)
		rep, err = request[report](limited, n.cfg.Peers, id, methodStatus, struct{}{})
		cancel()
		<-c.slots
	case <-ctx.Done():
	}
	mine := n.cfg.Machine.ClusterID()
	c.note(id, rep, err == nil && rep.ID == id && (rep.Cluster == "" || rep.Cluster == mine))
}

// note takes note of an answer.
func (c *census) note(id string, rep report, ok bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	w := c.servers[id]
	if w == nil {
		return // removed meanwhile
	}
	w.asking = false
	if !ok {
		w.steady = time.Time{}
		w.missed++
		return
	}
	now := time.Now()
	if took := now.Sub(w.heard).Seconds(); !w.heard.IsZero() && took > 0 && rep.Applied >= w.report.Applied {
		const weight = 0.3 // of the newest of the measurements
		w.rate += weight * (float64(rep.Applied-w.report.Applied)/took - w.rate)
	}
	if w.steady.IsZero() {
		w.steady = now
	}
	w.heard, w.report, w.missed = now, rep, 0
}

// servers returns the members of raft's configuration.
func servers(r *raft.Raft) (list []Server) {
	for _, s := range r.GetConfiguration().Configuration().Servers {
		list = append(list, Server{ID: string(s.ID), Address: string(s.Address), Voter: s.Suffrage == raft.Voter})
	}
	return list
}

// find returns the server with an id.
func find(list []Server, id string) (Server, bool) {
	i := slices.IndexFunc(list, func(s Server) bool { return s.ID == id })
	if i < 0 {
		return Server{}, false
	}
	return list[i], true
}
