package fsm

import (
	"context"

	"github.com/orrery-io/orrery/job"
)

// The questions of the scheduler. What SQLite answers may be a flush old; rows
// that have changed since are replaced by their newest version, and left out when
// they no longer belong. A row that belongs only since the last flush is missing:
// call Flush first, or follow the feed.
const (
	// (ready_at, id) > (?, ?) would walk all that became ready at the same moment.
	sqlReadySame = `SELECT id, doc FROM jobs INDEXED BY jobs_ready WHERE state = 2 AND queue = ? AND type = ? AND priority = ?
		AND ready_at = ? AND id > ? ORDER BY id LIMIT ?`
	sqlReadyLater = `SELECT id, doc FROM jobs INDEXED BY jobs_ready WHERE state = 2 AND queue = ? AND type = ? AND priority = ?
		AND ready_at > ? ORDER BY ready_at, id LIMIT ?`
	sqlReadyBelow = `SELECT id, doc FROM jobs INDEXED BY jobs_ready WHERE state = 2 AND queue = ? AND type = ? AND priority < ?
		ORDER BY priority DESC, ready_at, id LIMIT ?`
	// Two seeks instead of (queue, type) > (?, ?), which walks all of the queue.
	sqlNextType  = `SELECT queue, type FROM jobs INDEXED BY jobs_ready WHERE state = 2 AND queue = ? AND type > ? ORDER BY type LIMIT 1`
	sqlNextQueue = `SELECT queue, type FROM jobs INDEXED BY jobs_ready WHERE state = 2 AND queue > ? ORDER BY queue, type LIMIT 1`
	sqlDue       = `SELECT id, ready_at FROM jobs INDEXED BY jobs_due WHERE state = 1 ORDER BY ready_at, id LIMIT ?`
	sqlExpiring  = `SELECT id, expires_at FROM jobs INDEXED BY jobs_expiring WHERE expires_at > 0 ORDER BY expires_at, id LIMIT ?`
	sqlActive    = `SELECT id, doc FROM jobs INDEXED BY jobs_open WHERE state <> 5 AND state = `
	sqlActiveBy  = ` AND id > ? ORDER BY id LIMIT ?`
	sqlEnded     = `SELECT id, state, finished_at, coalesce(retention, 0) FROM jobs NOT INDEXED WHERE id > ? AND state >= 5 ORDER BY id LIMIT ?`
)

// ReadyPos is a place in the order of ready jobs: behind the job it names. The
// zero ReadyPos is before all.
type ReadyPos struct {
	Priority int
	ReadyAt  job.Time
	ID       job.ID
}

// PosOf is the place of a job in the order of ready jobs.
func PosOf(j *job.Job) ReadyPos { return ReadyPos{j.Priority, j.ReadyAt, j.ID} }

// ReadyGroup is a queue and a type of which jobs are pending.
type ReadyGroup struct{ Queue, Type string }

// ReadyGroups lists the groups of pending jobs, with a few seeks for each, however
// many jobs there are.
func (m *Machine) ReadyGroups(ctx context.Context) ([]ReadyGroup, error) {
	var groups []ReadyGroup
	var last ReadyGroup
	for {
		found := false
		next := func(r row) (bool, error) {
			found = true
			return true, r.Scan(&last.Queue, &last.Type)
		}
		err := m.list(ctx, sqlNextType, []any{last.Queue, last.Type}, next)
		if err == nil && !found {
			err = m.list(ctx, sqlNextQueue, []any{last.Queue}, next)
		}
		if err != nil || !found {
			return groups, err
		}
		groups = append(groups, last)
	}
}

// scanJob reads a row of an id and a document.
func (r row) scanJob() (*job.Job, error) {
	var id int64
	doc, err := r.scanDoc(&id)
	if err != nil {
		return nil, err
	}
	return decodeDoc[job.Job](doc)
}

// ReadyJobs lists up to limit pending jobs of a queue and type behind a place, in
// the order in which they are to be dispatched: highest priority first, then
// oldest. Fewer than limit means that there are no more. Jobs that have got another
// place since the last flush are left out: the feed tells of them.
func (m *Machine) ReadyJobs(ctx context.Context, queue, typ string, after ReadyPos, limit int) ([]*job.Job, error) {
	m.gate.RLock()
	defer m.gate.RUnlock()
	t := m.state.jobs
	pin := t.pins.add(t.complete.Load())
	defer t.pins.drop(pin)
	var jobs []*job.Job
	last, scanned := after, 0
	collect := func(r row) (bool, error) {
		j, err := r.scanJob()
		if err != nil {
			return false, err
		}
		last = PosOf(j)
		scanned++
		j = t.fill(j.ID, j)
		if j != nil && j.State == job.Pending && j.Queue == queue && j.Type == typ && PosOf(j) == last {
			jobs = append(jobs, j)
		}
		return len(jobs) < limit, nil
	}
	if after == (ReadyPos{}) {
		last.Priority = job.MaxPriority + 1
	}
	// A page may shrink to nothing when its rows were dispatched since the last
	// flush: go on, first within a moment, then to the end of a priority, then below
	// it, until there are enough or the index ends.
	for more := true; more && len(jobs) < limit; {
		scanned = 0
		for _, step := range []struct {
			query string
			args  []any
		}{
			{sqlReadySame, []any{queue, typ, last.Priority, int64(last.ReadyAt), int64(last.ID), limit}},
			{sqlReadyLater, []any{queue, typ, last.Priority, int64(last.ReadyAt), limit}},
			{sqlReadyBelow, []any{queue, typ, last.Priority, limit}},
		} {
			if err := m.store.some(ctx, step.query, step.args, collect); err != nil {
				return nil, m.readError(err)
			}
			if more = scanned > 0; more {
				break
			}
		}
	}
	return jobs, nil
}

// DueJobs lists up to limit scheduled jobs whose time has come by until, and the
// time of the first one after those (0 when there is none).
func (m *Machine) DueJobs(ctx context.Context, until job.Time, limit int) (due []job.ID, next job.Time, err error) {
	return m.timed(ctx, sqlDue, until, limit, func(j *job.Job) job.Time {
		if j.State != job.Scheduled {
			return 0
		}
		return j.ReadyAt
	})
}

// ExpiringJobs lists up to limit waiting jobs whose deadline has passed by until,
// and the deadline of the first one after those (0 when there is none).
func (m *Machine) ExpiringJobs(ctx context.Context, until job.Time, limit int) (ids []job.ID, next job.Time, err error) {
	return m.timed(ctx, sqlExpiring, until, limit, deadline)
}

// timed reads an index of times from its beginning. at is the time of a row as
// memory has it, 0 when the row no longer belongs.
func (m *Machine) timed(ctx context.Context, query string, until job.Time, limit int, at func(*job.Job) job.Time) (ids []job.ID, next job.Time, err error) {
	m.gate.RLock()
	defer m.gate.RUnlock()
	err = m.store.some(ctx, query, []any{-1}, func(r row) (bool, error) {
		var id, t int64
		if err := r.Scan(&id, &t); err != nil {
			return false, err
		}
		when := job.Time(t)
		if j, ok := m.state.jobs.peek(job.ID(id)); ok {
			if j == nil {
				return true, nil
			}
			if when = at(j); when == 0 {
				return true, nil
			}
		}
		if when <= until && len(ids) < limit {
			ids = append(ids, job.ID(id))
			return true, nil
		}
		next = when
		return false, nil
	})
	if err != nil {
		return nil, 0, m.readError(err)
	}
	return ids, next, nil
}

// ActiveJobs lists up to limit jobs that an agent has, by id, behind a job.
func (m *Machine) ActiveJobs(ctx context.Context, after job.ID, limit int) ([]*job.Job, error) {
	m.gate.RLock()
	defer m.gate.RUnlock()
	t := m.state.jobs
	pin := t.pins.add(t.complete.Load())
	defer t.pins.drop(pin)
	for {
		parts := [2][]*job.Job{}
		last := [2]job.ID{}
		for i, s := range []string{"3", "4"} {
			err := m.store.some(ctx, sqlActive+s+sqlActiveBy, []any{int64(after), limit}, func(r row) (bool, error) {
				j, err := r.scanJob()
				if err != nil {
					return false, err
				}
				parts[i] = append(parts[i], j)
				last[i] = j.ID
				return true, nil
			})
			if err != nil {
				return nil, m.readError(err)
			}
		}
		merged := mergeByID(parts[0], parts[1], limit)
		if len(merged) == 0 {
			return nil, nil
		}
		after = merged[len(merged)-1].ID
		jobs := merged[:0]
		for _, j := range merged {
			if j = t.fill(j.ID, j); j != nil && j.State.Active() {
				jobs = append(jobs, j)
			}
		}
		if len(jobs) > 0 {
			return jobs, nil
		}
	}
}

// mergeByID merges two lists that are sorted by id, up to limit.
func mergeByID(a, b []*job.Job, limit int) []*job.Job {
	out := make([]*job.Job, 0, min(limit, len(a)+len(b)))
	for len(out) < limit && len(a)+len(b) > 0 {
		if len(b) == 0 || len(a) > 0 && a[0].ID < b[0].ID {
			out, a = append(out, a[0]), a[1:]
		} else {
			out, b = append(out, b[0]), b[1:]
		}
	}
	return out
}

// Ended is what the sweep for retention looks at.
type Ended struct {
	ID         job.ID
	State      job.State
	FinishedAt job.Time
	// Retention is the job's own, 0 for the default of its state.
	Retention job.Duration
}

// EndedJobs lists up to limit jobs that have ended, by id, behind a job. next is
// where to go on, 0 at the end.
func (m *Machine) EndedJobs(ctx context.Context, after job.ID, limit int) (rows []Ended, next job.ID, err error) {
	err = m.list(ctx, sqlEnded, []any{int64(after), limit}, func(r row) (bool, error) {
		var e Ended
		err := r.Scan(&e.ID, &e.State, &e.FinishedAt, &e.Retention)
		rows = append(rows, e)
		return true, err
	})
	if err == nil && len(rows) == limit && limit > 0 {
		next = rows[limit-1].ID
	}
	return rows, next, err
}
