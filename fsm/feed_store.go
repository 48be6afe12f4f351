package fsm

import (
	"context"
	"fmt"
	"slices"

	"github.com/orrery-io/orrery/internal/obs"
	"github.com/orrery-io/orrery/job"
)

const (
	sqlReadFeed = "SELECT idx, doc FROM feed WHERE idx >= ? AND idx <= ? ORDER BY idx"
	sqlFeedSize = "SELECT idx, length(doc) FROM feed ORDER BY idx LIMIT 10000"
	sqlFeedSum  = "SELECT coalesce(sum(length(doc)), 0) FROM feed WHERE idx <= ?"
)

// storedEvents reads events after the cursor and up to entry last from SQLite:
// whole entries, up to nextEvents.
func (m *Machine) storedEvents(ctx context.Context, cursor job.EventID, last uint64) ([]job.Event, error) {
	var events []job.Event
	err := m.batches(ctx, cursor.Index, last, func(x *batch) bool {
		events = append(events, following(x, cursor)...)
		return len(events) < nextEvents
	})
	return events, err
}

// batches reads the stored batches of a range of entries, until f returns false.
func (m *Machine) batches(ctx context.Context, first, last uint64, f func(*batch) bool) error {
	return m.list(ctx, sqlReadFeed, []any{int64(first), int64(min(last, 1<<63-1))}, func(r row) (bool, error) { //nolint:gosec // log indexes
		var index int64
		doc, err := r.scanDoc(&index)
		if err != nil {
			return false, err
		}
		x, err := decodeBatch(uint64(index), doc) //nolint:gosec // a log index
		if err != nil {
			return false, err
		}
		return f(x), nil
	})
}

// JobEvents returns what is kept of a job's events, oldest first.
func (m *Machine) JobEvents(ctx context.Context, id job.ID) ([]job.Event, error) {
	j, err := m.Job(ctx, id)
	if err != nil {
		return nil, err
	}
	var events []job.Event
	pick := func(x *batch) {
		for _, e := range x.events {
			if e.Job == id {
				e.Row, e.AgentRow = nil, nil
				events = append(events, e)
			}
		}
	}
	trail := slices.Compact(slices.Clone(j.Trail))
	for _, index := range trail {
		if x := m.ring.at(index); x != nil {
			pick(x)
			continue
		}
		err := m.batches(ctx, index, index, func(x *batch) bool { pick(x); return true })
		if err != nil {
			return nil, fmt.Errorf("read events of job %d: %w", id, err)
		}
	}
	return events, nil
}

// FeedToTrim tells the leader that the stored feed is over its bound, and up to
// which entry it should be dropped (TrimFeed).
func (m *Machine) FeedToTrim() (through uint64, ok bool) {
	size := m.feedSize.Load()
	over := size - m.cfg.FeedBytes
	if over <= 0 {
		return 0, false
	}
	over += m.cfg.FeedBytes / 16 // so that it is not needed again at once
	err := m.list(context.Background(), sqlFeedSize, nil, func(r row) (bool, error) {
		var index, n int64
		if err := r.Scan(&index, &n); err != nil {
			return false, err
		}
		through = uint64(index) //nolint:gosec // a log index
		over -= n
		return over > 0, nil
	})
	if err != nil {
		m.log.Error("cannot read the size of the feed", obs.Err(err))
		return 0, false
	}
	return through, through > m.trimmed.Load()
}
