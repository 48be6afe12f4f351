package cluster

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math"
	"runtime/pprof"
	"sync"
	"time"

	"github.com/hashicorp/raft"
	"github.com/orrery-io/orrery/internal/obs"
	"github.com/orrery-io/orrery/job"
)

// stopLimit bounds how long Run waits for raft when it ends.
const stopLimit = 10 * time.Second

// Run takes part in the cluster until ctx ends, and returns nil then. Any other return
// is a reason for the process to end: the state machine or the disk has failed, or
// Lead has. It may be called once, and closes the log.
func (n *Node) Run(ctx context.Context) error {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	n.mu.Lock()
	if n.closed || n.stop != nil {
		n.mu.Unlock()
		return job.ErrClosed
	}
	n.stop = stop
	n.mu.Unlock()
	n.ctx.Store(&ctx)
	defer context.AfterFunc(n.dead, stop)()

	endWatch := n.startWatch()
	err := n.run(ctx)

	n.proposer.queue.end(job.ErrClosed)
	if n.leftOpen {
		n.proposer.giveUp()
	} else {
		n.release()
	}
	endWatch()
	n.mu.Lock()
	n.closed, n.stop = true, nil
	n.mu.Unlock()
	close(n.over)
	if cause := context.Cause(n.dead); cause != nil {
		return cause
	}
	if err != nil && ctx.Err() != nil && errors.Is(err, context.Cause(ctx)) {
		return nil // stopped while it started
	}
	return err
}

func (n *Node) run(ctx context.Context) error {
	if err := n.snaps.prepare(); err != nil {
		return err
	}
	if err := n.carryOut(ctx, n.plan); err != nil {
		return err
	}
	applied, _ := n.cfg.Machine.Applied()
	last, err := n.lastCommand(applied)
	if err != nil {
		return err
	}
	n.adapter.lastCommand.Store(last)
	if n.guard != nil {
		guarded, stop := context.WithCancel(context.WithoutCancel(ctx))
		defer stop() // raft may still talk while it shuts down
		go n.guard.run(guarded)
	}
	r, err := n.startRaft()
	if err != nil {
		return err
	}

	var answers, work sync.WaitGroup
	answers.Go(n.proposer.run)
	answers.Go(n.proposer.complete)
	led := make(chan struct{})
	work.Go(func() { defer close(led); n.lead(ctx, r) })
	work.Go(func() { n.keepMarkers(ctx, r) })
	work.Go(func() { n.belong(ctx, r) })
	// These go on until the leadership is in other hands.
	late, endLate := context.WithCancel(context.WithoutCancel(ctx))
	defer endLate()
	work.Go(func() { n.answerReads(late, r) })
	work.Go(func() { n.watchLeader(late, r) })
	work.Go(func() { n.watchFollowers(late) })
	if n.cfg.Peers != nil {
		work.Go(func() { n.notify(late, r) })
	}
	n.electAlone(r)

	<-ctx.Done()
	n.resign(r, led)
	if t, ok := n.cfg.Transport.(interface{ Interrupt() }); ok {
		t.Interrupt()
	}
	// Raft forgets futures when it shuts down, so everything that waits for one ends
	// first: raft answers all of them while it runs.
	n.proposer.queue.end(job.ErrClosed)
	n.forward.end()
	endLate()
	stopped := make(chan error, 1)
	go func() {
		work.Wait()
		answers.Wait()
		stopped <- r.Shutdown().Error()
	}()
	limit := time.NewTimer(stopLimit)
	defer limit.Stop()
	select {
	case err := <-stopped:
		return err
	case <-n.hung:
	case <-limit.C:
		n.leftOpen = true
		var stacks bytes.Buffer
		_ = pprof.Lookup("goroutine").WriteTo(&stacks, 1) // a buffer takes everything
		n.log.Error("something of this node did not end when it was told to; what everything waits for", obs.Stacks(stacks.String()))
		return fmt.Errorf("the node could not stop within %s", stopLimit)
	}
	n.leftOpen = true
	return nil
}

// startRaft starts raft on what the log and the marker say.
func (n *Node) startRaft() (*raft.Raft, error) {
	cache, err := raft.NewLogCache(cachedEntries, n.store)
	if err != nil {
		return nil, err
	}
	conf := raft.DefaultConfig()
	conf.LocalID = raft.ServerID(n.cfg.ID)
	conf.HeartbeatTimeout = n.cfg.HeartbeatTimeout
	conf.ElectionTimeout = n.cfg.ElectionTimeout
	conf.LeaderLeaseTimeout = n.cfg.LeaseTimeout
	conf.MaxAppendEntries = maxAppend
	conf.BatchApplyCh = true
	conf.NoSnapshotRestoreOnStart = true // the database is there
	conf.NoLegacyTelemetry = true
	conf.SnapshotInterval = 24 * time.Hour // keepMarkers decides
	conf.SnapshotThreshold = math.MaxUint64
	conf.TrailingLogs = n.cfg.TrailingLogs
	conf.ShutdownOnRemove = false
	conf.Logger = newRaftLog(n.log, "raft")
	r, err := raft.NewRaft(conf, n.adapter, cache, n.store, n.snaps, n.transport)
	if err != nil {
		return nil, fmt.Errorf("start raft: %w", err)
	}
	n.store.running.Store(true)
	n.raft.Store(r)
	return r, nil
}

// electAlone makes the only voter the leader without waiting for a heartbeat that
// nobody could send: it tells itself what a leader that resigns tells its successor.
func (n *Node) electAlone(r *raft.Raft) {
	voters, mine := 0, false
	for _, s := range r.GetConfiguration().Configuration().Servers {
		if s.Suffrage == raft.Voter {
			voters++
			mine = s.ID == raft.ServerID(n.cfg.ID)
		}
	}
	if voters != 1 || !mine || n.cfg.Transport != nil {
		return
	}
	header := raft.RPCHeader{ProtocolVersion: raft.ProtocolVersionMax, ID: []byte(n.cfg.ID), Addr: []byte(n.transport.LocalAddr())}
	err := n.transport.TimeoutNow(raft.ServerID(n.cfg.ID), n.transport.LocalAddr(), &raft.TimeoutNowRequest{RPCHeader: header}, &raft.TimeoutNowResponse{})
	if err != nil {
		n.log.Debug("no early election", obs.Err(err)) // it comes after the heartbeat timeout
	}
}

// Bounds on how far the log reaches back.
const (
	checkMarker = time.Second
	trailAlone  = 64 // entries; there is no follower, but a start compares terms
)

// keepMarkers sets a marker when enough log was written or enough time has passed.
func (n *Node) keepMarkers(ctx context.Context, r *raft.Raft) {
	tick := time.NewTicker(checkMarker)
	defer tick.Stop()
	last := time.Now()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		n.lifted()
		if n.store.written.Load() < n.cfg.SnapshotThreshold && time.Since(last) < n.cfg.SnapshotInterval {
			continue
		}
		last = time.Now()
		if err := n.snapshot(r); err != nil && ctx.Err() == nil {
			n.log.WarnContext(ctx, "the marker could not be set, the log grows meanwhile", obs.Err(err))
		}
	}
}

// Snapshot sets the marker of this node at what it has applied, cuts its log, and
// returns the marker's index: the one that was there when nothing has happened since.
// Errors: job.ErrClosed while the node doesn't run.
func (n *Node) Snapshot(context.Context) (index uint64, err error) {
	r := n.raft.Load()
	if r == nil {
		return 0, job.ErrClosed
	}
	if err := n.snapshot(r); err != nil {
		return 0, fmt.Errorf("set the marker: %w", err)
	}
	m, _ := n.cfg.Machine.Marker()
	return m.Index, nil
}

// snapshot sets the marker at what is applied and cuts the log.
func (n *Node) snapshot(r *raft.Raft) error {
	size, entries := n.store.written.Swap(0), n.store.entries.Swap(0)
	conf := r.ReloadableConfig()
	conf.TrailingLogs = trailAlone
	if len(r.GetConfiguration().Configuration().Servers) > 1 {
		average := max(size/max(entries, 1), 1)
		conf.TrailingLogs = min(n.cfg.TrailingLogs, max(trailAlone, uint64(n.cfg.SnapshotThreshold/2/average))) //nolint:gosec // positive
	}
	if err := r.ReloadConfig(conf); err != nil {
		return err
	}
	err := r.Snapshot().Error()
	if errors.Is(err, raft.ErrNothingNewToSnapshot) || errors.Is(err, raft.ErrRaftShutdown) {
		return nil
	}
	return err
}
