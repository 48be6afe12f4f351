package cluster

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/hashicorp/raft"
)

const (
	// wantedLimit is how long a copy of the database waits for a node that needs it,
	// before raft is told that there is none.
	wantedLimit = 5 * time.Second
	wantedPause = 100 * time.Millisecond
)

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
	var before uint64
	var since time.Time
	for {
		if r := n.raft.Load(); r == nil || r.State() != raft.Leader {
			return errUnwanted
		}
		first, err := n.store.FirstIndex()
		if err != nil {
			return err
		}
		if first == 0 {
			first = n.snaps.marker() // an install emptied the log
		}
		if first != before {
			before, since = first, time.Now() // what was said earlier may be from before the log was cut
		}
		if slices.ContainsFunc(n.followers(), func(f follower) bool {
			return f.Alive && f.Heard.After(since) && (f.Report.Applied < first || f.Report.LogLast+1 < first)
		}) {
			return nil
		}
		select {
		case <-time.After(wantedPause):
		case <-limit.C:
			return errUnwanted
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}
