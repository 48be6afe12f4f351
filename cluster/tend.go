package cluster

import (
	"context"
	"fmt"
	"time"

	"github.com/hashicorp/raft"
	"github.com/orrery-io/orrery/command"
	"github.com/orrery-io/orrery/internal/obs"
	"github.com/orrery-io/orrery/job"
)

const (
	// steadyFor is how long a node must have answered every question before it gets a
	// vote.
	steadyFor = 2 * time.Second
	// forgetAfter is after how long a silent node goes that never became a voter.
	forgetAfter = time.Hour
	// tellEvery is how often the leader logs how far a new node is, or what it waits
	// for.
	tellEvery = 5 * time.Second
)

// keepMembers looks after the members for as long as this node leads, and returns what
// ends that and waits.
func (n *Node) keepMembers(ctx context.Context, r *raft.Raft) (end func()) {
	ctx, cancel := context.WithCancel(ctx)
	c := newCensus()
	if n.cfg.Peers == nil {
		close(c.ready)
	}
	n.census.Store(c)
	done := make(chan struct{})
	go func() {
		defer close(done)
		if n.cfg.Peers == nil {
			t := tending{node: n, raft: r, census: c, told: map[string]telling{}}
			t.moveSelf(ctx)
			return
		}
		polled := make(chan struct{})
		go func() {
			defer close(polled)
			n.poll(ctx, r, c)
		}()
		n.tend(ctx, r, c)
		<-polled
	}()
	return func() {
		cancel()
		<-done
		n.census.CompareAndSwap(c, nil)
	}
}

// tending is the leader's care for the members in one term. One goroutine uses it.
type tending struct {
	node   *Node
	raft   *raft.Raft
	census *census
	told   map[string]telling // what was logged of whom
}

// telling keeps the log from saying the same thing again and again.
type telling struct {
	what string
	when time.Time
}

// tend promotes, cleans up and migrates until ctx ends.
func (n *Node) tend(ctx context.Context, r *raft.Raft, c *census) {
	t := tending{node: n, raft: r, census: c, told: map[string]telling{}}
	if c.asked(ctx) != nil {
		return
	}
	tick := time.NewTicker(pollEvery)
	defer tick.Stop()
	for {
		for _, care := range []func(context.Context){t.moveSelf, t.promote, t.cleanUp, t.migrate} {
			if ctx.Err() == nil && n.IsLeader() {
				care(ctx)
			}
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// change does one thing to the members, if it is still wanted by then.
func (t *tending) change(ctx context.Context, do func() error) error {
	release, err := t.node.changeMembers(ctx)
	if err != nil {
		return err
	}
	defer release()
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return do()
}

// warn logs what has gone wrong, unless it is only that the term is over.
func (t *tending) warn(ctx context.Context, what, id string, err error) {
	if ctx.Err() == nil && t.tell(id, what+err.Error()) {
		t.node.log.WarnContext(ctx, what, obs.Member(id), obs.Err(err)) //nolint:sloglint // constant at every caller
	}
}

// tell reports whether it is time to log something of a node.
func (t *tending) tell(id, what string) bool {
	last := t.told[id]
	if since := time.Since(last.when); since < tellEvery || last.what == what && since < time.Minute {
		return false
	}
	t.told[id] = telling{what: what, when: time.Now()}
	return true
}

// moveSelf brings this node's own address in the configuration up to date.
func (t *tending) moveSelf(ctx context.Context) {
	n := t.node
	s, ok := find(servers(t.raft), n.cfg.ID)
	if !ok || n.cfg.Address == "" || s.Address == n.cfg.Address {
		return
	}
	err := t.change(ctx, func() error {
		was := s.Address
		s.Address = n.cfg.Address
		if err := n.place(ctx, t.raft, t.census, s); err != nil {
			return err
		}
		n.log.InfoContext(ctx, "the address of a node has changed", obs.Member(s.ID), obs.Addr(s.Address), obs.Was(was))
		return nil
	})
	if err != nil {
		t.warn(ctx, "the address of this node could not be recorded", s.ID, err)
	}
}

// promote gives a node its vote that has caught up, one at a time.
func (t *tending) promote(ctx context.Context) {
	n := t.node
	for _, s := range servers(t.raft) {
		if s.Voter {
			continue
		}
		why := t.census.notYet(s.ID, n.cfg.ID, n.cfg.Machine.SchemaVersion())
		if why != "" {
			if _, known := t.told[s.ID]; !known {
				t.told[s.ID] = telling{when: time.Now()} // most need only a moment
			} else if t.tell(s.ID, why) {
				n.log.InfoContext(ctx, "a node catches up and has no vote yet", obs.Member(s.ID), obs.Reason(why))
			}
			continue
		}
		err := t.change(ctx, func() error {
			now, ok := find(servers(t.raft), s.ID)
			if !ok || now.Voter || t.census.notYet(s.ID, n.cfg.ID, n.cfg.Machine.SchemaVersion()) != "" {
				return nil // removed, or gone, while this waited
			}
			now.Voter = true
			if err := n.set(t.raft, now); err != nil {
				return err
			}
			n.log.InfoContext(ctx, "a node has caught up and is a voter now", obs.Member(s.ID))
			return nil
		})
		if err != nil {
			t.warn(ctx, "a node could not be made a voter", s.ID, err)
		}
		return
	}
}

// notYet says why a server can't have a vote, "" when it can.
func (c *census) notYet(id, self string, schema int) string {
	c.mu.Lock()
	defer c.mu.Unlock()
	w := c.servers[id]
	goal, now := c.applied[0], c.applied[moments-1]
	switch {
	case w == nil || w.heard.IsZero():
		return "it has not answered yet"
	case !w.alive():
		return "it does not answer any more"
	case w.report.Installing != nil:
		i := w.report.Installing
		return fmt.Sprintf("%s of %s received", size(i.Bytes), size(i.Size))
	case w.report.Trouble != "":
		return "its disk: " + w.report.Trouble
	case w.report.Schema < schema:
		return fmt.Sprintf("its version %s knows the schema only up to %d", w.report.Version, w.report.Schema)
	case w.report.Cluster == "" || c.polls < moments || w.report.Applied < goal:
		return fmt.Sprintf("applied %d %%", w.report.Applied*100/max(now, w.report.Applied, 1))
	case w.report.Leader != self || w.report.Silence > aliveFor:
		return "it hears nothing of the leader"
	case w.steady.IsZero() || time.Since(w.steady) < steadyFor:
		return "it answers only since a moment ago"
	}
	return ""
}

// size writes a number of bytes for people.
func size(b int64) string {
	switch {
	case b >= 1e9:
		return fmt.Sprintf("%.1f GB", float64(b)/1e9)
	case b >= 1e6:
		return fmt.Sprintf("%d MB", b/1e6)
	default:
		return fmt.Sprintf("%d kB", (b+999)/1e3)
	}
}

// cleanUp removes a server that has been silent for long: one at a time, while the
// others are at work, and only as far as enough voters stay.
func (t *tending) cleanUp(ctx context.Context) {
	n := t.node
	if n.cfg.CleanupAfter < 0 {
		return
	}
	for _, s := range servers(t.raft) {
		if s.ID == n.cfg.ID || !t.gone(s) {
			continue
		}
		err := t.change(ctx, func() error {
			conf := servers(t.raft)
			now, ok := find(conf, s.ID)
			if !ok || !t.gone(now) {
				return nil
			}
			if rest, alive, _ := n.without(t.census, conf, s.ID); now.Voter && (rest < n.cfg.CleanupFloor || alive < majority(rest)) {
				return nil
			}
			n.log.WarnContext(ctx, "a node has been silent for so long that it is removed", obs.Member(s.ID), obs.Took(t.census.silent(s.ID)))
			return n.removeServer(ctx, t.raft, t.census, s.ID)
		})
		if err != nil {
			t.warn(ctx, "a node that is gone could not be removed", s.ID, err)
			return
		}
	}
}

// gone reports whether a server has been silent for long enough to be removed.
func (t *tending) gone(s Server) bool {
	limit := t.node.cfg.CleanupAfter
	if !s.Voter {
		limit = min(limit, forgetAfter)
	}
	return t.census.silent(s.ID) >= limit
}

// migrate brings the schema to the newest version that every server knows.
func (t *tending) migrate(ctx context.Context) {
	n := t.node
	have := n.cfg.Machine.SchemaVersion()
	to := n.cfg.newest
	if have >= to {
		return
	}
	for _, f := range n.followers() {
		switch {
		case !f.Alive:
			if t.tell("schema", f.ID) {
				n.log.InfoContext(ctx, "the newer schema waits for a node that does not answer", obs.Member(f.ID))
			}
			return
		case f.Report.Schema <= have:
			if t.tell("schema", f.ID) {
				n.log.InfoContext(ctx, "the newer schema waits for a node with an older version", obs.Member(f.ID))
			}
			return
		}
		to = min(to, f.Report.Schema)
	}
	results, err := n.proposer.propose(ctx, []command.Item{{Command: &command.Migrate{To: to}}})
	switch {
	case err != nil && job.KindOf(err) != job.Internal:
	case err != nil:
		t.warn(ctx, "the schema could not be brought to a newer version", n.cfg.ID, err)
	case results[0].Err != nil:
		t.warn(ctx, "the schema could not be brought to a newer version", n.cfg.ID, results[0].Err)
	default:
		n.log.InfoContext(ctx, "every node knows the newer schema, the database has it now", obs.Schema(to))
	}
}
