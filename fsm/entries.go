package fsm

import (
	"fmt"
	"time"

	"github.com/orrery-io/orrery/command"
	"github.com/orrery-io/orrery/job"
)

// Entry is one entry of the log. Data is an encoded command.Entry.
type Entry struct {
	Index, Term uint64
	Data        []byte
}

// Apply applies entries in order and returns the results of each one's items. An
// entry that was applied before has no results. One goroutine calls it.
//
// An error is not a result: the state can no longer follow the log, and the
// process must stop. It is returned again by every later call, and by Run.
func (m *Machine) Apply(entries []Entry) ([][]command.Result, error) {
	all := make([][]command.Result, len(entries))
	for i := range entries {
		results, err := m.applyEntry(&entries[i])
		if err != nil {
			m.fail(err)
			return nil, m.failed()
		}
		all[i] = results
	}
	return all, nil
}

func (m *Machine) applyEntry(e *Entry) ([]command.Result, error) {
	if err := m.failed(); err != nil {
		return nil, err
	}
	if e.Index <= m.applied.Load() {
		m.metrics.skipped.Inc()
		return nil, nil
	}
	decoded, err := command.Decode(e.Data)
	if err != nil {
		return nil, fmt.Errorf("log entry %d: %w", e.Index, err)
	}
	if err := m.makeRoom(); err != nil {
		return nil, err
	}
	if mutant == "time" {
		decoded.Time = job.At(time.Now())
	}
	a := apply{index: e.Index, now: decoded.Time, events: m.events[:0]}
	results, jobs, err := m.change(e, &a, decoded.Items)
	if err != nil {
		return nil, err
	}
	m.publish(&a)
	clear(a.events)
	m.events = a.events[:0]
	m.metrics.entries.Inc()
	m.metrics.commands.Add(float64(len(decoded.Items)))
	m.nudge(jobs)
	if a.verify || m.state.schema != int(m.schema.Load()) {
		if err := m.complete(&a); err != nil {
			return nil, err
		}
	}
	return results, nil
}

// change applies the items under the lock that keeps the flusher out. It returns
// how many jobs are dirty afterwards.
func (m *Machine) change(e *Entry, a *apply, items []command.Item) ([]command.Result, int, error) {
	m.applyMu.Lock()
	defer m.applyMu.Unlock()
	if e.Term < m.state.term {
		return nil, 0, fmt.Errorf("log entry %d has term %d, but term %d was applied before: the log does not belong to this database", e.Index, e.Term, m.state.term)
	}
	a.state = m.state
	// A leader whose clock is behind, or one after a restored backup, takes no time
	// back.
	a.now = max(a.now, m.state.lastTime)
	results, err := a.run(items)
	if err != nil {
		return nil, 0, err
	}
	m.state.lastTime = a.now
	if id := a.clusterID; id != *m.clusterID.Load() {
		m.clusterID.Store(&id)
	}
	m.moveTo(e.Index, e.Term)
	if len(a.events) > 0 {
		a.batch = newBatch(a)
		m.state.feed = append(m.state.feed, a.batch)
		m.state.feedSize += a.batch.bytes
	}
	jobs, bytes := m.state.weight()
	if bytes > m.cfg.DirtyBytes/2 {
		jobs = m.cfg.DirtyRows
	}
	return results, jobs, nil
}

// newBatch copies the events out of the buffer in which they were collected: a
// batch stays in memory for long, and shall not be larger than it must.
func newBatch(a *apply) *batch {
	x := &batch{index: a.index, time: a.now, events: make([]job.Event, len(a.events)), bytes: 160 * len(a.events)}
	copy(x.events, a.events)
	for i := range a.events {
		if j := a.events[i].Row; j != nil {
			x.bytes += jobWeight(j)
		}
	}
	return x
}

// publish tells everybody about an entry.
func (m *Machine) publish(a *apply) {
	if a.trimmed != m.trimmed.Load() {
		m.trimmed.Store(a.trimmed)
	}
	if len(a.events) > 0 {
		m.ring.add(a.batch, m.flushed.Load())
	}
	m.advanced.broadcast()
}

// nudge tells the flusher that there is work.
func (m *Machine) nudge(jobs int) {
	select {
	case m.wake <- struct{}{}:
	default:
	}
	if jobs < m.cfg.DirtyRows/2 {
		return
	}
	select {
	case m.urgent <- struct{}{}:
	default:
	}
}

// makeRoom holds apply up while too much is dirty.
func (m *Machine) makeRoom() error {
	m.applyMu.Lock()
	jobs, bytes := m.state.weight()
	m.applyMu.Unlock()
	if jobs < m.cfg.DirtyRows && bytes < m.cfg.DirtyBytes {
		return nil
	}
	m.metrics.waits.Inc()
	return m.flushNow(flushReason{})
}

// complete does what an entry asked for beyond the rows: a migration takes place
// with a flush, and a hash is that of what was flushed.
func (m *Machine) complete(a *apply) error {
	if err := m.flushNow(flushReason{}); err != nil {
		return err
	}
	m.schema.Store(int64(m.state.schema))
	if !a.verify {
		return nil
	}
	if err := m.beginHash(a.index); err != nil {
		return fmt.Errorf("verify at log entry %d: %w", a.index, err)
	}
	return nil
}
