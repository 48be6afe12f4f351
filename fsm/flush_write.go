package fsm

import (
	"context"
	"database/sql/driver"
	"fmt"
	"slices"

	"github.com/orrery-io/orrery/job"

	"github.com/tinylib/msgp/msgp"
)

// write writes a flush in one transaction and returns the size of the feed after
// it. It runs inside the connection's Raw.
func (s *store) write(f *flush, feedBytes int64, sync bool, list []migration) (_ int64, err error) {
	if sync {
		if err := s.synchronous("FULL"); err != nil {
			return 0, err
		}
		defer func() {
			if e := s.synchronous("NORMAL"); err == nil {
				err = e
			}
		}()
	}
	if err := s.stmts.begin.exec(); err != nil {
		return 0, err
	}
	if f.migrate > s.version {
		// Rows may need the new tables and columns.
		if err = migrateTo(s.execRaw, list, s.version, f.migrate); err == nil {
			err = s.stmts.prepareJobs(context.Background(), s.raw, f.migrate)
		}
	}
	if err == nil {
		feedBytes, err = s.writeRows(f, feedBytes)
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

// synchronous sets what a commit waits for. SQLite does that when it compiles the
// PRAGMA, not when it runs it: as a prepared statement it would do nothing. It runs
// inside the connection's Raw.
func (s *store) synchronous(level string) error { return s.execRaw("PRAGMA synchronous = " + level) }

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
	if err := s.writeSchedules(f); err != nil {
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
	next := s.stamp.next()
	err = s.stmts.putMeta.exec(int64(f.index), int64(f.term), int64(f.lastTime), int64(f.lastID), f.lastChunk, f.clusterID, //nolint:gosec // log indexes
		int64(f.trimmed), feedBytes, int64(f.confIndex), f.conf, next[:]) //nolint:gosec // log indexes
	s.stamp = next // after an error the machine is at its end
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
	if err != nil {
		return nil, err
	}
	f.doc = seal(doc)
	return f.doc, nil
}

// writeDocs writes the changes of a table whose rows are a key, of one column or more,
// and a document.
func writeDocs[K comparable, V any, P interface {
	*V
	msgp.Marshaler
}](f *flush, changes []change[K, V], put, drop *statement, key func(K) []driver.Value) error {
	for _, c := range changes {
		columns := key(c.key)
		if c.row == nil {
			if err := drop.exec(columns...); err != nil {
				return err
			}
			continue
		}
		doc, err := f.encode(P(c.row))
		if err != nil {
			return err
		}
		if err := put.exec(append(columns, doc)...); err != nil {
			return err
		}
	}
	return nil
}

// one is the key of a table that has it in one column, with room for the document.
func one[K string | int64](k K) []driver.Value { return []driver.Value{k, nil}[:1] }

func (s *store) writeLogs(f *flush) error {
	err := writeDocs(f, f.heads, s.stmts.putHead, s.stmts.dropHead, func(k attemptKey) []driver.Value {
		return []driver.Value{int64(k.job), int64(k.fence), nil}[:2] //nolint:gosec // a log index
	})
	if err != nil {
		return err
	}
	return writeDocs(f, f.chunks, s.stmts.putChunk, s.stmts.dropChunk, one)
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
	return writeDocs(f, f.agents, s.stmts.putAgent, s.stmts.dropAgent, one)
}

// writeSchedules writes schedules and their history. Before schema 2 there are none,
// and no tables for them.
func (s *store) writeSchedules(f *flush) error {
	if len(f.schedules) == 0 && len(f.ticks) == 0 {
		return nil
	}
	if err := s.stmts.prepareSchedules(context.Background(), s.raw); err != nil {
		return err
	}
	if err := writeDocs(f, f.schedules, s.stmts.putSchedule, s.stmts.dropSchedule, one); err != nil {
		return err
	}
	return writeDocs(f, f.ticks, s.stmts.putTick, s.stmts.dropTick, func(k tickKey) []driver.Value {
		return []driver.Value{k.schedule, k.seq, nil}[:2]
	})
}

func (s *store) writeFeed(f *flush, size int64) (int64, error) {
	for _, x := range f.feed {
		f.doc = seal(appendBatch(f.doc[:0], x))
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
