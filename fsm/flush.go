package fsm

import (
	"context"
	"fmt"
	"time"

	"github.com/orrery-io/orrery/internal/obs"
	"github.com/orrery-io/orrery/job"
)

// flush is everything that one transaction writes: the state between two entries,
// as far as it changed since the flush before.
type flush struct {
	gen         uint64
	index, term uint64
	lastTime    job.Time
	lastID      job.ID
	lastChunk   int64
	clusterID   string
	trimmed     uint64
	conf        []byte
	confIndex   uint64
	marker      *Marker
	migrate     int

	jobs      []change[job.ID, job.Job]
	keys      []change[string, keyRow]
	heads     []change[attemptKey, logHead]
	chunks    []change[int64, job.LogChunk]
	agents    []change[string, job.Agent]
	schedules []change[string, job.Schedule]
	ticks     []change[tickKey, job.Tick]
	queues    []QueueInfo
	feed      []*batch
	requests  []requestBatch
	drop      uint64 // rows of requests up to this index

	doc []byte // buffer
}

// rows is how many rows are written.
func (f *flush) rows() int {
	return len(f.jobs) + len(f.keys) + len(f.heads) + len(f.chunks) + len(f.agents) + len(f.schedules) + len(f.ticks) + len(f.queues) + len(f.feed) + len(f.requests)
}

// flushReason says what a flush is for, beyond writing what is dirty.
type flushReason struct {
	marker *Marker // to store
	sync   bool    // and fsync
	force  bool    // even when nothing changed
}

// Run writes what apply changes to SQLite until ctx ends, then once more with
// fsync, and returns nil. It returns an error when the database can no longer be
// written, or apply failed: the process must stop then.
func (m *Machine) Run(ctx context.Context) error {
	pace := time.NewTimer(0)
	defer pace.Stop()
	for {
		select {
		case <-ctx.Done():
			return m.flushNow(flushReason{sync: true, force: true})
		case <-m.dead:
			return m.failed()
		case <-m.wake:
		}
		pace.Reset(m.cfg.FlushEvery)
		if err := m.flushNow(flushReason{}); err != nil {
			return err
		}
		select {
		case <-ctx.Done():
		case <-m.dead:
		case <-pace.C:
		case <-m.urgent:
		}
	}
}

// Flush makes everything that was applied before the call readable in SQLite.
func (m *Machine) Flush(context.Context) error {
	index := m.applied.Load()
	if m.flushed.Load() >= index {
		return m.failed()
	}
	m.flushMu.Lock()
	defer m.flushMu.Unlock()
	if m.flushed.Load() >= index {
		return m.failed() // the flush that was under way had it
	}
	return m.flushLocked(flushReason{})
}

// flushNow writes what is dirty now. It waits for a flush under way.
func (m *Machine) flushNow(why flushReason) error {
	m.flushMu.Lock()
	defer m.flushMu.Unlock()
	return m.flushLocked(why)
}

func (m *Machine) flushLocked(why flushReason) error {
	if err := m.failed(); err != nil {
		return err
	}
	start := time.Now()
	f := &m.pending
	if !m.take(f, why) {
		return nil
	}
	var feedBytes int64
	err := m.store.conn.Raw(func(any) (err error) {
		feedBytes, err = m.store.write(f, m.feedSize.Load(), why.sync, m.cfg.migrations)
		return err
	})
	if err != nil {
		err = fmt.Errorf("flush up to log index %d: %w", f.index, explain(m.store.path, err))
		m.fail(err)
		m.log.Error("the database can't be written; this node stops", obs.Err(err))
		return err
	}
	m.wrote(f, feedBytes, why)
	m.metrics.flushed(f.rows(), time.Since(start))
	f.release()
	return nil
}

// take collects what is dirty, between two entries. It reports whether there is
// anything to write.
func (m *Machine) take(f *flush, why flushReason) bool {
	m.applyMu.Lock()
	defer m.applyMu.Unlock()
	s := m.state
	if why.marker != nil {
		m.marker = *why.marker
		if why.marker.Index > s.index {
			// Entries that never reach apply, such as a barrier, move the log too.
			m.moveTo(why.marker.Index, max(s.term, why.marker.Term))
		}
		m.configure(m.marker)
	}
	if s.index == m.flushed.Load() && s.migrate == 0 && !why.force {
		return false
	}
	f.gen = m.gen
	m.gen++
	f.index, f.term, f.lastTime = s.index, s.term, s.lastTime
	f.lastID, f.lastChunk, f.clusterID, f.trimmed = s.lastID, s.lastChunk, s.clusterID, s.trimmed
	f.conf, f.confIndex = s.conf, s.confIndex
	f.marker, f.migrate = why.marker, s.migrate
	s.migrate = 0
	f.jobs = s.jobs.swap(f.jobs[:0])
	f.keys = s.keys.swap(f.keys[:0])
	f.heads = s.heads.swap(f.heads[:0])
	f.chunks = s.chunks.swap(f.chunks[:0])
	f.agents = s.agents.swap(f.agents[:0])
	f.schedules = s.schedules.swap(f.schedules[:0])
	f.ticks = s.ticks.swap(f.ticks[:0])
	f.queues = s.queues.swap(f.queues[:0])
	f.feed, s.feed, s.feedSize = s.feed, f.feed[:0], 0
	f.requests, s.requests.pending = s.requests.pending, f.requests[:0]
	f.drop = 0
	if s.requests.drop != s.requests.dropped {
		f.drop, s.requests.dropped = s.requests.drop, s.requests.drop
	}
	return true
}

// wrote tells everybody that SQLite has what the flush held.
func (m *Machine) wrote(f *flush, feedBytes int64, why flushReason) {
	m.feedSize.Store(feedBytes)
	m.flushed.Store(f.index)
	if why.sync {
		m.synced.Store(f.index)
	}
	s := m.state
	s.jobs.flushed(f.gen, f.jobs)
	s.keys.flushed(f.gen, f.keys)
	s.heads.flushed(f.gen, f.heads)
	s.chunks.flushed(f.gen, f.chunks)
	s.agents.flushed(f.gen, f.agents)
	s.schedules.flushed(f.gen, f.schedules)
	s.ticks.flushed(f.gen, f.ticks)
}

// release lets go of rows, and keeps the room.
func (f *flush) release() {
	clear(f.jobs)
	clear(f.keys)
	clear(f.heads)
	clear(f.chunks)
	clear(f.agents)
	clear(f.schedules)
	clear(f.ticks)
	clear(f.queues)
	clear(f.feed)
	clear(f.requests)
	if cap(f.doc) > 1<<20 {
		f.doc = nil
	}
}
