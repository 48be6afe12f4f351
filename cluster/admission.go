package cluster

import (
	"context"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/orrery-io/orrery/command"
	"github.com/orrery-io/orrery/internal/obs"
	"github.com/orrery-io/orrery/job"
)

// Nothing in raft slows a leader down: at saturation a follower that is a little slower
// falls behind without end, needs a snapshot when the log no longer reaches back to it,
// and falls behind again while it is sent. So the leader takes no new jobs while a
// living server is too far behind, until it has caught up. Everything else goes on:
// what was accepted is dispatched, finished and cancelled.

// errOverloaded refuses new jobs.
var errOverloaded = job.Errorf(job.Overloaded, "overloaded", "the cluster takes no new jobs until all its nodes have caught up").
	WithHint("try again in a second")

const (
	// watchEvery is how often the leader looks at the others.
	watchEvery = 250 * time.Millisecond
	// trend is over how many looks a lag must shrink to be left alone.
	trend = 4
	// leastBytes and leastEntries are how far behind a server may always be.
	leastBytes, leastEntries = 1 << 20, 256
	// queueTime is how long commands may wait for the proposer, queueCalm after how
	// much less new ones are taken again.
	queueTime, queueCalm = 2 * time.Second, 500 * time.Millisecond
	// sampled is how many looks are remembered; older entries count as if they were of
	// the oldest.
	sampled = 2400
)

// admission decides whether new jobs are taken. Its own goroutine uses it; closed may
// be read by anybody.
type admission struct {
	closed atomic.Bool

	samples []sample         // oldest first
	lags    map[string][]lag // of each server, the newest last
	why     string
}

// sample is the leader's log at one moment.
type sample struct {
	at     time.Time
	index  uint64 // of the newest entry
	bytes  int64  // of all entries that were written since the start
	queued uint64 // commands that ever came into the proposer's queue
}

// lag is how far a server is behind, as a share of the high watermark.
type lag float64

// limits are the high watermarks; low ones are half of them.
type limits struct {
	entries, bytes float64
	grace          time.Duration // in which a server that is catching up must have done so
}

func newAdmission() *admission { return &admission{lags: map[string][]lag{}} }

// reset forgets everything: another node leads.
func (a *admission) reset() {
	a.closed.Store(false)
	a.samples, a.why = nil, ""
	clear(a.lags)
}

// add takes note of the leader's log.
func (a *admission) add(s sample) {
	if len(a.samples) == sampled {
		copy(a.samples, a.samples[1:])
		a.samples = a.samples[:sampled-1]
	}
	a.samples = append(a.samples, s)
}

// when returns the log as it was at a moment.
func (a *admission) when(t time.Time) sample {
	for i := len(a.samples) - 1; i > 0; i-- {
		if !a.samples[i-1].at.After(t) {
			return between(a.samples[i-1], a.samples[i], float64(t.Sub(a.samples[i-1].at))/float64(a.samples[i].at.Sub(a.samples[i-1].at)))
		}
	}
	return a.samples[0]
}

// upTo returns the log as it was when it ended with an entry.
func (a *admission) upTo(index uint64) sample {
	for i := len(a.samples) - 1; i > 0; i-- {
		if x, y := a.samples[i-1], a.samples[i]; x.index <= index {
			if y.index <= x.index {
				return y
			}
			return between(x, y, float64(index-x.index)/float64(y.index-x.index))
		}
	}
	return a.samples[0]
}

// between is the log after a share of the way from one sample to the next.
func between(x, y sample, share float64) sample {
	share = min(max(share, 0), 1)
	return sample{
		index: x.index + uint64(share*float64(y.index-x.index)),
		bytes: x.bytes + int64(share*float64(y.bytes-x.bytes)),
	}
}

// behind is how far a server was behind when it was heard of.
func (a *admission) behind(f *follower, l limits) lag {
	then := a.when(f.Heard)
	if f.Report.Applied >= then.index {
		return 0
	}
	entries, size := float64(then.index-f.Report.Applied), float64(then.bytes-a.upTo(f.Report.Applied).bytes)
	return lag(max(entries/l.entries, size/l.bytes))
}

// look decides anew. now is the newest sample, waits what waits in the queue.
func (a *admission) look(now sample, waits uint64, others []follower, l limits) {
	a.add(now)
	why := a.slowServer(others, l)
	if why == "" && a.queueStands(now, waits) {
		why = "commands wait too long for the log of this node"
	}
	a.why = why
	a.closed.Store(why != "")
}

// slowServer says which server is too far behind, "" for none.
func (a *admission) slowServer(others []follower, l limits) (why string) {
	for id := range a.lags {
		if !contains(others, id) {
			delete(a.lags, id)
		}
	}
	for i := range others {
		f := &others[i]
		if !f.Alive || f.Heard.IsZero() || f.Report.Installing != nil {
			// Whoever receives a copy keeps its part of the log, and whoever is dead
			// must not hold up the others.
			delete(a.lags, f.ID)
			continue
		}
		past := append(a.lags[f.ID], a.behind(f, l))
		if len(past) > trend+1 {
			past = past[1:]
		}
		a.lags[f.ID] = past
		high := lag(1)
		if a.closed.Load() {
			high = 0.5
		}
		if now := past[len(past)-1]; now > high && (a.closed.Load() || !recovering(past, l.grace)) {
			why = "node " + f.ID + " can't follow"
		}
	}
	return why
}

func contains(others []follower, id string) bool {
	for i := range others {
		if others[i].ID == id {
			return true
		}
	}
	return false
}

// recovering reports whether a lag shrinks so fast that it is gone in half of grace.
func recovering(past []lag, grace time.Duration) bool {
	if len(past) <= trend {
		return true // a moment more
	}
	now := past[len(past)-1]
	return past[0]-now >= now*lag(float64(trend*watchEvery)/float64(grace/2))
}

// queueStands reports whether what came into the queue some time ago still waits.
func (a *admission) queueStands(now sample, waits uint64) bool {
	ago := queueTime
	if a.closed.Load() {
		ago = queueCalm
	}
	i := len(a.samples) - 1 - int(ago/watchEvery)
	return i >= 0 && waits > 0 && now.queued-waits < a.samples[i].queued
}

// limits are the watermarks for the log as it is: half of what it keeps for a follower
// after a marker.
func (n *Node) limits(s sample, first sample) limits {
	average := int64(1)
	if s.index > first.index {
		average = max((s.bytes-first.bytes)/int64(s.index-first.index), 1) //nolint:gosec // positive
	}
	keeps := min(float64(n.cfg.TrailingLogs), float64(n.cfg.SnapshotThreshold/2/average))
	return limits{
		entries: max(keeps/2, leastEntries),
		bytes:   max(float64(n.cfg.SnapshotThreshold)/4, leastBytes),
		grace:   n.cfg.PinGrace,
	}
}

// watchFollowers takes new jobs or refuses them, as long as this node leads, until ctx
// ends.
func (n *Node) watchFollowers(ctx context.Context) {
	tick := time.NewTicker(watchEvery)
	defer tick.Stop()
	a := n.admission
	for {
		select {
		case <-ctx.Done():
			a.reset()
			return
		case <-tick.C:
		}
		if n.term.Load() == 0 {
			a.reset()
			continue
		}
		before := a.why
		now := sample{at: time.Now(), index: n.adapter.lastCommand.Load(), bytes: n.store.total.Load()}
		var waits uint64
		now.queued, waits = n.proposer.queue.passage()
		first := now
		if len(a.samples) > 0 {
			first = a.samples[0]
		}
		a.look(now, waits, n.followers(), n.limits(now, first))
		switch {
		case a.why != "" && before == "":
			n.metrics.throttled.Set(1)
			n.log.WarnContext(ctx, "new jobs are refused until all nodes have caught up", obs.Reason(a.why))
		case a.why == "" && before != "":
			n.metrics.throttled.Set(0)
			n.log.InfoContext(ctx, "new jobs are taken again", slog.Int64("refused", n.metrics.turnedAway.Swap(0)))
		}
	}
}

// screen returns the items that may be recorded now. When it has left some out, fill
// puts the refusals between the results of the others. err refuses all of them.
func (n *Node) screen(items []command.Item) (pass []command.Item, fill func([]command.Result) []command.Result, err error) {
	if !n.admission.closed.Load() || n.term.Load() == 0 {
		return items, nil, nil
	}
	fresh := 0
	for i := range items {
		if isNew(items[i].Command) {
			fresh++
		}
	}
	if fresh == 0 {
		return items, nil, nil
	}
	n.metrics.turnAway(fresh)
	if fresh == len(items) {
		return nil, nil, errOverloaded
	}
	for i := range items {
		if !isNew(items[i].Command) {
			pass = append(pass, items[i])
		}
	}
	return pass, func(results []command.Result) []command.Result {
		all := make([]command.Result, len(items))
		for i := range items {
			if isNew(items[i].Command) {
				all[i].Err = errOverloaded
			} else {
				all[i], results = results[0], results[1:]
			}
		}
		return all
	}, nil
}

// isNew reports whether a command makes new jobs.
func isNew(c command.Command) bool {
	switch c.(type) {
	case *command.Submit, *command.SubmitAll, *command.Tick, *command.RunSchedule:
		return true
	}
	return false
}
