package cluster

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/hashicorp/raft"
)

// wantedLimit is how long a copy of the database waits for a node that needs it, before
// raft is told that there is none.
const wantedLimit = 5 * time.Second

var errUnwanted = errors.New("no node that can be reached needs a copy of the database")

// wanted waits until a node can be reached that the log alone can't help. Raft asks for
// a copy as soon as the log doesn't reach back far enough for a follower, again and
// again, also when that one is down; it doesn't say for whom.
func (n *Node) wanted(ctx context.Context) error {
	if n.cfg.Peers == nil {
		return nil
	}
	limit := time.NewTimer(wantedLimit)
	defer limit.Stop()
	for {
		r := n.raft.Load()
		if r == nil || r.State() != raft.Leader {
			return errUnwanted
		}
		first, err := n.store.FirstIndex()
		if err != nil {
			return err
		}
		if first == 0 {
			first = n.snaps.marker() // an install emptied the log
		}
		if n.anyBehind(ctx, r, first) {
			return nil
		}
		select {
		case <-time.After(pollEvery):
		case <-limit.C:
			return errUnwanted
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// anyBehind asks all servers whether one of them needs what is before an entry of the
// log. The census doesn't tell: it may be from before the log was cut, and between two
// terms there is none.
func (n *Node) anyBehind(ctx context.Context, r *raft.Raft, first uint64) bool {
	c := newCensus()
	for _, id := range c.list(servers(r), n.cfg.ID, 0) {
		c.asks.Go(func() { n.askStatus(ctx, c, id) })
	}
	c.asks.Wait()
	return slices.ContainsFunc(c.followers(0), func(f follower) bool {
		return f.Alive && (f.Report.Applied < first || f.Report.LogLast+1 < first)
	})
}
