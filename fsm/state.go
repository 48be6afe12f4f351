package fsm

import (
	"hash/maphash"
	"slices"

	"github.com/orrery-io/orrery/job"
)

// Marker says which point of the log the database stands for as a snapshot.
type Marker struct {
	// Index and Term are those of the last log entry that the snapshot covers. The
	// rows may be newer than that, never older.
	Index, Term uint64
	// ConfigurationIndex and Configuration are the cluster's configuration at that
	// point, as the consensus layer encodes it.
	ConfigurationIndex uint64
	Configuration      []byte
}

// state is all that apply works on. Apply is the only one who changes it, under
// the machine's applyMu, which the flusher takes to find it between two entries.
type state struct {
	index, term uint64   // applied
	lastTime    job.Time // of the newest applied entry
	lastID      job.ID
	lastChunk   int64
	clusterID   string
	schema      int
	trimmed     uint64 // the feed no longer has entries up to this one
	logCap      int64

	conf      []byte
	confIndex uint64

	jobs   *table[job.ID, job.Job]
	keys   *table[string, keyRow]
	heads  *table[attemptKey, logHead]
	chunks *table[int64, job.LogChunk]
	agents *table[string, job.Agent] // resident
	// schedules are resident; of ticks, their history, only what is not flushed yet is
	// in memory.
	schedules *table[string, job.Schedule]
	ticks     *table[tickKey, job.Tick]
	queues    *queueTable // resident

	requests *requestLog
	feed     []*batch // not taken by a flush yet
	feedSize int      // of those, in memory
	migrate  int      // the schema version that the next flush migrates to, 0 for none
	newest   int      // the schema version that this program knows
}

// newState makes an empty state that loads rows by id with the given functions.
func newState(cfg *Config, load loaders) *state {
	jobs := newTable(func(id job.ID) uint32 { return uint32(id) }, //nolint:gosec // only spreads
		jobWeight, cfg.CachedJobs, load.job)
	jobs.cold = func(j *job.Job) bool { return j.State.Terminal() }
	seed := maphash.MakeSeed() // spreads keys over shards: it never shows in a row
	text := func(s string) uint32 { return uint32(maphash.String(seed, s)) }
	ticks := newTable(func(k tickKey) uint32 { return text(k.schedule) + uint32(k.seq) }, //nolint:gosec // only spreads
		func(*job.Tick) int { return 150 }, 1, nil)
	ticks.cold = func(*job.Tick) bool { return true }
	return &state{
		logCap: int64(cfg.LogCap),
		newest: newest(cfg.migrations),
		jobs:   jobs,
		keys:   newTable(text, func(k *keyRow) int { return 100 + len(k.Hash) }, cfg.CachedJobs, load.key),
		heads: newTable(func(k attemptKey) uint32 { return uint32(k.job) }, //nolint:gosec // only spreads
			func(h *logHead) int { return 100 + 24*len(h.Chunks) }, 4096, load.head),
		chunks: newTable(func(id int64) uint32 { return uint32(id) }, //nolint:gosec // only spreads
			chunkWeight, 1024, load.chunk),
		agents:    newTable(text, func(*job.Agent) int { return 500 }, 0, nil),
		schedules: newTable(text, scheduleWeight, 0, nil),
		ticks:     ticks,
		queues:    newQueueTable(),
		requests:  newRequestLog(cfg.requests),
	}
}

// jobWeight is roughly what a row keeps in memory, in bytes.
func jobWeight(j *job.Job) int {
	return 1000 + len(j.Payload) + len(j.PayloadBytes) + len(j.Result) + len(j.ResultBytes) + 100*len(j.Attempts)
}

func scheduleWeight(s *job.Schedule) int {
	return 1000 + len(s.Template.Payload) + len(s.Template.PayloadBytes)
}

func chunkWeight(c *job.LogChunk) int {
	n := 100
	for i := range c.Lines {
		n += 64 + len(c.Lines[i].Text)
	}
	return n
}

// weight is what is not flushed yet: how many jobs, and how many bytes of all.
func (s *state) weight() (jobs, bytes int) {
	return len(s.jobs.dirty), s.jobs.bytes + s.keys.bytes + s.heads.bytes + s.chunks.bytes + s.schedules.bytes + s.ticks.bytes + s.feedSize
}

// move keeps the counters: a job was old and is next; either may be nil.
func (s *state) move(old, next *job.Job) {
	if old != nil {
		s.queues.of(old.Queue).counts[old.State].Add(-1)
	}
	if next != nil {
		s.queues.of(next.Queue).counts[next.State].Add(1)
	}
}

// trail appends a log index. Versions of a row share the array behind it: each
// grows from the newest only, into room that older ones do not look at.
func trail(t []uint64, index uint64) []uint64 {
	if n := len(t); n > 0 && t[n-1] == index {
		return t
	}
	if len(t) >= job.MaxTrail {
		t = slices.Clone(t[len(t)-job.MaxTrail+1:])
	}
	if t == nil {
		t = make([]uint64, 0, 4)
	}
	return append(t, index)
}
