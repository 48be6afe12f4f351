package fsm

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/orrery-io/orrery/internal/obs"
	"github.com/orrery-io/orrery/job"
)

// Machine is the state machine with its database. Open makes one; Run writes to
// disk while Apply goes on; everything else is reading, and safe for concurrent
// use.
type Machine struct {
	cfg     Config
	log     *slog.Logger
	metrics *metrics
	dir     generations

	// gate keeps readers out while Install replaces store and state.
	gate  sync.RWMutex
	store *store
	state *state // apply's; of readers only what is safe for them

	// applyMu is held by apply for one entry, and by the flusher while it takes
	// what is dirty: it sees the state between entries only.
	applyMu sync.Mutex
	marker  Marker // under applyMu

	applied   atomic.Uint64            // index of position, for those who need no more
	position  atomic.Pointer[position] // changed under applyMu
	trimmed   atomic.Uint64
	schema    atomic.Int64
	clusterID atomic.Pointer[string]
	advanced  signal      // applied has moved
	events    []job.Event // buffer of apply
	ring      ring

	// flushMu is held during a flush. Lock order: flushMu, gate, applyMu.
	flushMu  sync.Mutex
	pending  flush // buffers, used again
	gen      uint64
	flushed  atomic.Uint64 // entries up to it are in SQLite
	synced   atomic.Uint64 // and fsynced
	feedSize atomic.Int64
	hashes   hashes

	wake   chan struct{} // something is dirty
	urgent chan struct{} // much is
	dead   chan struct{} // closed by fail
	fault  atomic.Pointer[error]
	failMu sync.Mutex

	closing sync.Once
}

// loaders are the by-id reads of the overlay tables.
type loaders struct {
	job   func(context.Context, job.ID) (*job.Job, error)
	key   func(context.Context, string) (*keyRow, error)
	head  func(context.Context, attemptKey) (*logHead, error)
	chunk func(context.Context, int64) (*job.LogChunk, error)
}

// Open opens the database in cfg.Dir, makes one when there is none, and checks
// that it can be worked with: not damaged as far as a quick look shows, ours, and
// of a schema that this program knows. It starts nothing and replays nothing.
func Open(ctx context.Context, cfg Config) (*Machine, error) {
	cfg.normalize()
	start := time.Now()
	m := &Machine{
		cfg:    cfg,
		log:    cfg.Log,
		gen:    1,
		wake:   make(chan struct{}, 1),
		urgent: make(chan struct{}, 1),
		dead:   make(chan struct{}),
	}
	var err error
	if m.dir, err = openGenerations(cfg.Dir); err != nil {
		return nil, err
	}
	if err := m.open(ctx); err != nil {
		return nil, err
	}
	if m.dir.fresh {
		if err := m.begin(); err != nil {
			m.store.close()
			return nil, err
		}
	}
	m.metrics = newMetrics(m, cfg.Registerer)
	m.log.InfoContext(ctx, "database opened", obs.Path(m.store.path), obs.Index(m.applied.Load()), obs.Took(time.Since(start)))
	return m, nil
}

// begin names the first generation in CURRENT, once its database is there.
func (m *Machine) begin() error {
	if m.applied.Load() > 0 {
		return job.Errorf(job.Unavailable, "current_missing",
			"the file %s/%s is missing, but there is a database; restore the data folder from a backup, or write gen-1 into that file", m.cfg.Dir, currentFile)
	}
	if err := m.dir.commit(); err != nil {
		return fmt.Errorf("write %s: %w", currentFile, err)
	}
	return nil
}

// open opens the current generation and loads what is resident. The caller has
// exclusive use of the machine.
func (m *Machine) open(ctx context.Context) error {
	st, err := openStore(ctx, m.dir.path(), m.cfg.migrations)
	if err != nil {
		return err
	}
	m.store = st
	// The loaders look up the store each time: Install replaces it. They are
	// called by readers and by apply, which both keep Install away.
	s := newState(&m.cfg, loaders{
		job:   func(ctx context.Context, id job.ID) (*job.Job, error) { return m.store.job(ctx, id) },
		key:   func(ctx context.Context, key string) (*keyRow, error) { return m.store.key(ctx, key) },
		head:  func(ctx context.Context, k attemptKey) (*logHead, error) { return m.store.head(ctx, k) },
		chunk: func(ctx context.Context, id int64) (*job.LogChunk, error) { return m.store.chunk(ctx, id) },
	})
	marker, feedBytes, err := st.loadState(ctx, s)
	if err == nil {
		err = st.settle(ctx)
	}
	if err != nil {
		st.close()
		return err
	}
	m.applyMu.Lock()
	m.state, m.marker = s, marker
	m.configure(marker)
	m.moveTo(s.index, s.term)
	m.applyMu.Unlock()
	m.gen = 1
	m.pending = flush{}
	m.flushed.Store(s.index)
	m.synced.Store(s.index)
	m.trimmed.Store(s.trimmed)
	m.schema.Store(int64(s.schema))
	id := s.clusterID // apply writes to the state
	m.clusterID.Store(&id)
	m.feedSize.Store(feedBytes)
	m.ring.reset(s.index)
	return nil
}

// Close closes the database. Call it after Run has returned; what Run did not
// flush comes again from the log.
func (m *Machine) Close() error {
	m.closing.Do(func() {
		m.flushMu.Lock()
		defer m.flushMu.Unlock()
		m.fail(job.ErrClosed)
		m.hashes.stop()
		m.gate.Lock()
		defer m.gate.Unlock()
		m.store.close()
		m.metrics.unregister(m.cfg.Registerer)
	})
	return nil
}

// fail makes err the end of the machine: Apply and Run return it. The first error
// counts.
func (m *Machine) fail(err error) {
	m.failMu.Lock()
	defer m.failMu.Unlock()
	if m.fault.Load() == nil {
		m.fault.Store(&err)
		close(m.dead)
		m.advanced.broadcast()
		m.ring.arrival.broadcast()
	}
}

// failed returns what fail was told.
func (m *Machine) failed() error {
	if p := m.fault.Load(); p != nil {
		return *p
	}
	return nil
}

// position is a place in the log.
type position struct{ index, term uint64 }

// Applied returns the newest log entry that was applied, in memory. It never
// waits.
func (m *Machine) Applied() (index, term uint64) {
	p := m.position.Load()
	return p.index, p.term
}

// moveTo says which entry was applied. The caller holds applyMu.
func (m *Machine) moveTo(index, term uint64) {
	m.state.index, m.state.term = index, term
	m.position.Store(&position{index, term})
	m.applied.Store(index)
}

// WaitApplied blocks until entry index was applied here.
func (m *Machine) WaitApplied(ctx context.Context, index uint64) error {
	for {
		moved := m.advanced.wait()
		if m.applied.Load() >= index {
			return nil
		}
		select {
		case <-moved:
		case <-m.dead:
			return m.failed()
		case <-ctx.Done():
			return fmt.Errorf("wait for log index %d: %w", index, context.Cause(ctx))
		}
	}
}

// ClusterID is what Init gave; "" before.
func (m *Machine) ClusterID() string { return *m.clusterID.Load() }

// LastTime is the time of the newest applied entry, zero when there was none. The
// leader's clock never goes behind it.
func (m *Machine) LastTime() job.Time {
	m.applyMu.Lock()
	defer m.applyMu.Unlock()
	return m.state.lastTime
}

// SchemaVersion is the version that the newest Migrate brought the schema to.
func (m *Machine) SchemaVersion() int { return int(m.schema.Load()) }

// Synced is the index up to which everything is in SQLite and fsynced: the log
// may be truncated up to it.
func (m *Machine) Synced() uint64 { return m.synced.Load() }

// Marker returns the newest snapshot marker; false when there never was one.
func (m *Machine) Marker() (Marker, bool) {
	m.applyMu.Lock()
	defer m.applyMu.Unlock()
	return m.marker, m.marker.Index > 0
}

// StoreConfiguration remembers the cluster's configuration as of a log index; it
// is stored with the next flush.
func (m *Machine) StoreConfiguration(index uint64, conf []byte) {
	m.applyMu.Lock()
	defer m.applyMu.Unlock()
	if index >= m.state.confIndex {
		m.state.confIndex, m.state.conf = index, append([]byte(nil), conf...)
	}
}

// configure takes the configuration of a marker, when it is the newest. The caller
// holds applyMu.
func (m *Machine) configure(x Marker) {
	if x.ConfigurationIndex > m.state.confIndex {
		m.state.confIndex, m.state.conf = x.ConfigurationIndex, x.Configuration
	}
}

// Configuration returns the newest configuration that StoreConfiguration, Mark or
// Install brought; 0 and nil when there was none.
func (m *Machine) Configuration() (index uint64, conf []byte) {
	m.applyMu.Lock()
	defer m.applyMu.Unlock()
	return m.state.confIndex, m.state.conf
}

// Job returns the newest version of a job, or job.ErrJobNotFound.
func (m *Machine) Job(ctx context.Context, id job.ID) (*job.Job, error) {
	m.gate.RLock()
	defer m.gate.RUnlock()
	j, err := m.state.jobs.get(ctx, id)
	if err != nil {
		return nil, m.readError(err)
	}
	if j == nil {
		return nil, job.ErrJobNotFound
	}
	return j, nil
}

// readError replaces what a read says after Close, and tells of damage.
func (m *Machine) readError(err error) error {
	if errors.Is(m.failed(), job.ErrClosed) {
		return job.ErrClosed
	}
	if Lost(err) {
		m.cfg.OnDamage(err)
	}
	return err
}
