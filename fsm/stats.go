package fsm

import (
	"os"

	"github.com/orrery-io/orrery/job"
)

// Stats is how the machine stands, for people and dashboards.
type Stats struct {
	// Jobs counts all jobs by state.
	Jobs [10]int64
	// Queues and Agents count rows.
	Queues, Agents int
	// Applied, Flushed and Synced are log indexes.
	Applied, Flushed, Synced uint64
	// DirtyJobs and DirtyBytes are not in SQLite yet.
	DirtyJobs, DirtyBytes int
	// DatabaseBytes is the size of the file with its write-ahead log; FeedBytes
	// that of the stored events.
	DatabaseBytes, FeedBytes int64
	// FirstEvent and LastEvent bound what is kept of the feed.
	FirstEvent, LastEvent job.EventID
	SchemaVersion         int
}

// Stats returns how the machine stands.
func (m *Machine) Stats() Stats {
	m.gate.RLock()
	defer m.gate.RUnlock()
	s := Stats{
		Applied:       m.applied.Load(),
		Flushed:       m.flushed.Load(),
		Synced:        m.synced.Load(),
		DatabaseBytes: m.databaseBytes(),
		FeedBytes:     m.feedSize.Load(),
		FirstEvent:    m.FirstEvent(),
		LastEvent:     m.LastEvent(),
		SchemaVersion: m.SchemaVersion(),
	}
	for _, q := range m.state.queues.all() {
		s.Queues++
		for i, n := range q.Counts {
			s.Jobs[i] += n
		}
	}
	m.state.agents.each(func(string, *job.Agent) { s.Agents++ })
	m.applyMu.Lock()
	s.DirtyJobs, s.DirtyBytes = m.state.weight()
	m.applyMu.Unlock()
	return s
}

// walBytes is what the write-ahead log of the database takes on disk; zero when there
// is none.
func (m *Machine) walBytes() int64 {
	m.gate.RLock()
	defer m.gate.RUnlock()
	info, err := os.Stat(m.dir.path() + "-wal")
	if err != nil {
		return 0
	}
	return info.Size()
}

// databaseBytes is what the database takes on disk. It looks at the files without
// opening them: a second open and close would drop SQLite's locks. The caller holds
// the gate.
func (m *Machine) databaseBytes() int64 {
	var n int64
	path := m.dir.path()
	for _, suffix := range []string{"", "-wal"} {
		if info, err := os.Stat(path + suffix); err == nil {
			n += info.Size()
		}
	}
	return n
}

func (m *Machine) cacheCounts() (hits, misses int64) {
	m.gate.RLock()
	defer m.gate.RUnlock()
	return m.state.jobs.hits.Load(), m.state.jobs.misses.Load()
}
