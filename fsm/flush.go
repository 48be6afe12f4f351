package fsm

import (
	"context"
	"database/sql/driver"
	"fmt"
	"slices"
	"time"

	"github.com/orrery-io/orrery/internal/obs"
	"github.com/orrery-io/orrery/job"

	"github.com/tinylib/msgp/msgp"
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

	jobs     []change[job.ID, job.Job]
	keys     []change[string, keyRow]
	heads    []change[attemptKey, logHead]
	chunks   []change[int64, job.LogChunk]
	agents   []change[string, job.Agent]
	queues   []QueueInfo
	feed     []*batch
	requests []requestBatch
	drop     uint64 // rows of requests up to this index

	doc []byte // buffer
}

// rows is how many rows are written.
func (f *flush) rows() int {
	return len(f.jobs) + len(f.keys) + len(f.heads) + len(f.chunks) + len(f.agents) + len(f.queues) + len(f.feed) + len(f.requests)
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
	if m.flushed.Load() >= m.applied.Load() {
		return m.failed()
	}
	return m.flushNow(flushReason{})
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
}

// release lets go of rows, and keeps the room.
func (f *flush) release() {
	clear(f.jobs)
	clear(f.keys)
	clear(f.heads)
	clear(f.chunks)
	clear(f.agents)
	clear(f.queues)
	clear(f.feed)
	clear(f.requests)
	if cap(f.doc) > 1<<20 {
		f.doc = nil
	}
}

// write writes a flush in one transaction and returns the size of the feed after
// it. It runs inside the connection's Raw.
func (s *store) write(f *flush, feedBytes int64, sync bool, list []migration) (_ int64, err error) {
	if sync {
		if err := s.stmts.synchronousFull.exec(); err != nil {
			return 0, err
		}
		defer func() {
			if e := s.stmts.syncUsual.exec(); err == nil {
				err = e
			}
		}()
	}
	if err := s.stmts.begin.exec(); err != nil {
		return 0, err
	}
	feedBytes, err = s.writeRows(f, feedBytes)
	if err == nil && f.migrate > s.version {
		err = migrateTo(s.execRaw, list, s.version, f.migrate)
	}
	if err == nil {
		err = s.stmts.commit.exec()
	}
	if err != nil {
		_ = s.stmts.rollback.exec() // SQLite may have done so itself
		return 0, err
	}
	s.version = max(s.version, f.migrate)
	return feedBytes, nil
}

// execRaw runs SQL, also several statements, inside the connection's Raw.
func (s *store) execRaw(query string) error {
	x, ok := s.raw.(driver.ExecerContext)
	if !ok {
		return fmt.Errorf("the SQLite driver's %T cannot execute", s.raw)
	}
	_, err := x.ExecContext(context.Background(), query, nil)
	return err
}

// feedSum is the size of what a trim drops.
func (s *store) feedSum(through uint64) (int64, error) {
	q, ok := s.raw.(driver.QueryerContext)
	if !ok {
		return 0, fmt.Errorf("the SQLite driver's %T cannot query", s.raw)
	}
	rows, err := q.QueryContext(context.Background(), sqlFeedSum, []driver.NamedValue{{Ordinal: 1, Value: int64(through)}}) //nolint:gosec // a log index
	if err != nil {
		return 0, err
	}
	defer rows.Close()
	sum := make([]driver.Value, 1)
	if err := rows.Next(sum); err != nil {
		return 0, err
	}
	n, _ := sum[0].(int64)
	return n, nil
}

func (s *store) writeRows(f *flush, feedBytes int64) (int64, error) {
	if err := s.writeJobs(f); err != nil {
		return 0, err
	}
	if err := s.writeLogs(f); err != nil {
		return 0, err
	}
	if err := s.writeSmall(f); err != nil {
		return 0, err
	}
	feedBytes, err := s.writeFeed(f, feedBytes)
	if err != nil {
		return 0, err
	}
	if m := f.marker; m != nil {
		if err := s.stmts.putMarker.exec(int64(m.Index), int64(m.Term), int64(m.ConfigurationIndex), m.Configuration); err != nil { //nolint:gosec // log indexes
			return 0, err
		}
	}
	err = s.stmts.putMeta.exec(int64(f.index), int64(f.term), int64(f.lastTime), int64(f.lastID), f.lastChunk, f.clusterID, //nolint:gosec // log indexes
		int64(f.trimmed), feedBytes, int64(f.confIndex), f.conf) //nolint:gosec // log indexes
	return feedBytes, err
}

func (s *store) writeJobs(f *flush) error {
	// In the order of the ids the B-tree is walked once.
	slices.SortFunc(f.jobs, func(a, b change[job.ID, job.Job]) int { return int(a.key - b.key) })
	w := &s.jobs
	w.s = &s.stmts
	for _, c := range f.jobs {
		if c.row != nil {
			if err := w.put(c.row); err != nil {
				return err
			}
		} else if err := s.stmts.dropJob.exec(int64(c.key)); err != nil {
			return err
		}
	}
	if err := w.finish(); err != nil {
		return err
	}
	for _, c := range f.keys {
		var err error
		if c.row != nil {
			err = s.stmts.putKey.exec(c.key, int64(c.row.Job), c.row.Hash)
		} else {
			err = s.stmts.dropKey.exec(c.key)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// encode encodes a document into the flush's buffer, which the next one reuses.
func (f *flush) encode(v msgp.Marshaler) ([]byte, error) {
	doc, err := v.MarshalMsg(f.doc[:0])
	if err == nil {
		f.doc = doc
	}
	return doc, err
}

func (s *store) writeLogs(f *flush) error {
	for _, c := range f.heads {
		k := []driver.Value{int64(c.key.job), int64(c.key.fence)} //nolint:gosec // a log index
		if c.row == nil {
			if err := s.stmts.dropHead.exec(k...); err != nil {
				return err
			}
			continue
		}
		doc, err := f.encode(c.row)
		if err != nil {
			return err
		}
		if err := s.stmts.putHead.exec(append(k, doc)...); err != nil {
			return err
		}
	}
	for _, c := range f.chunks {
		if c.row == nil {
			if err := s.stmts.dropChunk.exec(c.key); err != nil {
				return err
			}
			continue
		}
		doc, err := f.encode(c.row)
		if err != nil {
			return err
		}
		if err := s.stmts.putChunk.exec(c.key, doc); err != nil {
			return err
		}
	}
	return nil
}

func (s *store) writeSmall(f *flush) error {
	for i := range f.queues {
		doc, err := f.encode(&f.queues[i])
		if err != nil {
			return err
		}
		if err := s.stmts.putQueue.exec(f.queues[i].Name, doc); err != nil {
			return err
		}
	}
	for _, c := range f.agents {
		if c.row == nil {
			if err := s.stmts.dropAgent.exec(c.key); err != nil {
				return err
			}
			continue
		}
		doc, err := f.encode(c.row)
		if err != nil {
			return err
		}
		if err := s.stmts.putAgent.exec(c.key, doc); err != nil {
			return err
		}
	}
	return nil
}

func (s *store) writeFeed(f *flush, size int64) (int64, error) {
	for _, x := range f.feed {
		f.doc = appendBatch(f.doc[:0], x)
		size += int64(len(f.doc))
		if err := s.stmts.putFeed.exec(int64(x.index), f.doc); err != nil { //nolint:gosec // a log index
			return 0, err
		}
	}
	if f.trimmed > s.trimmed {
		gone, err := s.feedSum(f.trimmed)
		if err != nil {
			return 0, err
		}
		if err := s.stmts.trimFeed.exec(int64(f.trimmed)); err != nil { //nolint:gosec // a log index
			return 0, err
		}
		size -= gone
		s.trimmed = f.trimmed
	}
	for i := range f.requests {
		doc, err := f.encode(f.requests[i].rows)
		if err != nil {
			return 0, err
		}
		if err := s.stmts.putRequests.exec(int64(f.requests[i].index), doc); err != nil { //nolint:gosec // a log index
			return 0, err
		}
	}
	if f.drop > 0 {
		if err := s.stmts.trimRequests.exec(int64(f.drop)); err != nil { //nolint:gosec // a log index
			return 0, err
		}
	}
	return size, nil
}
