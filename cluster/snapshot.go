package cluster

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/raft"
	"github.com/orrery-io/orrery/fsm"
	"github.com/orrery-io/orrery/internal/obs"
)

// Keys beside raft's own in the stable store.
var (
	// keyMarker is the highest marker that the database of this folder has had. A
	// database whose marker is below it was lost or put back.
	keyMarker = []byte("OrreryMarker")
	// keyInstalled is the applied index of the database that was installed last: up
	// to there the log may be shorter than the database. While an install is under
	// way it is the largest number.
	keyInstalled = []byte("OrreryInstalled")
)

// snapshots is raft's snapshot store. There is one snapshot: the database, described
// by its marker. The rules:
//
//   - A local snapshot sets the marker, in the database, with a full fsync. It is told
//     from a received one by who persists into the sink, never by content.
//   - begin takes the epoch, an install ends it: a local snapshot of an older epoch is
//     refused, or raft's idea of its last snapshot would go backwards. For the same
//     reason an install waits for those that have set their marker and that raft is
//     not done with.
//   - Open copies the live database. The copy may hold more than its marker says; the
//     machine passes over entries that it has. While a copy is sent, and a while after,
//     the log keeps the entry at the marker: raft asks for it next.
type snapshots struct {
	machine Machine
	log     *slog.Logger
	metrics *metrics
	store   *logStore
	dir     string // for copies and received files; emptied at start
	grace   time.Duration
	ctx     func() context.Context      // of Run
	wanted  func(context.Context) error // waits for a node that needs a copy; nil doesn't

	setting sync.Mutex // held while the marker changes or the database is copied
	marked  atomic.Pointer[position]
	servers []byte // as keyServers has it; under setting

	mu     sync.Mutex
	epoch  uint64
	closed map[*local]struct{} // have set their marker; raft isn't done with them
	idle   *sync.Cond          // closed has become smaller
	pins   map[*pin]struct{}
	latest *copied          // nil, or the newest copy of this epoch
	files  map[string]*sink // received, by id
	serial uint64
}

// pin keeps the log from the entry at index on.
type pin struct{ index, term uint64 }

func newSnapshots(cfg Config, store *logStore, m *metrics, ctx func() context.Context) *snapshots {
	s := &snapshots{
		machine: cfg.Machine, log: cfg.Log, metrics: m, store: store,
		dir: filepath.Join(cfg.Dir, "snapshots"), grace: cfg.PinGrace, ctx: ctx,
		closed: map[*local]struct{}{}, pins: map[*pin]struct{}{}, files: map[string]*sink{},
	}
	s.idle = sync.NewCond(&s.mu)
	return s
}

// prepare empties the folder: nothing in it survives a restart.
func (s *snapshots) prepare() error {
	if err := os.RemoveAll(s.dir); err != nil {
		return fmt.Errorf("empty the folder of snapshots: %w", err)
	}
	if err := os.MkdirAll(s.dir, 0o700); err != nil {
		return fmt.Errorf("make the folder of snapshots: %w", err)
	}
	return nil
}

// load takes over the marker that the database has.
func (s *snapshots) load() {
	if m, ok := s.machine.Marker(); ok {
		s.marked.Store(&position{m.Term, m.Index})
	}
}

// trimmable is the highest index that the log need not keep.
func (s *snapshots) trimmable() uint64 {
	limit := s.machine.Synced()
	s.mu.Lock()
	defer s.mu.Unlock()
	for p := range s.pins {
		limit = min(limit, p.index-1)
	}
	return limit
}

func (s *snapshots) marker() uint64 { return s.position().index }

// position is the marker's place in the log, zero when there is none. It never waits.
func (s *snapshots) position() position {
	if p := s.marked.Load(); p != nil {
		return *p
	}
	return position{}
}

// termAt returns the term of the entry at the marker, or at that of a copy that is
// being sent.
func (s *snapshots) termAt(index uint64) (term uint64, ok bool) {
	if m := s.position(); m.index == index {
		return m.term, true
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for p := range s.pins {
		if p.index == index {
			return p.term, true
		}
	}
	return 0, false
}

// note remembers the marker where it can be had without waiting, and beside the log,
// so that a database that was lost or put back is noticed.
func (s *snapshots) note(m fsm.Marker) error {
	if !bytes.Equal(m.Configuration, s.servers) {
		if err := s.store.Set(keyServers, m.Configuration); err != nil {
			return err
		}
		s.servers = m.Configuration
	}
	// The term first: too high a term is no harm.
	if old := s.position(); old.term != m.Term {
		if err := s.store.SetUint64(keyMarkerTerm, m.Term); err != nil {
			return err
		}
	}
	s.marked.Store(&position{m.Term, m.Index})
	return s.store.SetUint64(keyMarker, m.Index)
}

// mark sets the marker, and remembers beside the log that the database had it.
func (s *snapshots) mark(ctx context.Context, m fsm.Marker) error {
	s.setting.Lock()
	defer s.setting.Unlock()
	if err := s.machine.Mark(ctx, m); err != nil {
		return fmt.Errorf("set the marker at %d: %w", m.Index, err)
	}
	s.metrics.markers.Inc()
	return s.note(m)
}

// installing is called before an install changes anything; undo after one that was
// refused.
func (s *snapshots) installing() (undo func() error, err error) {
	before, err := s.store.number(keyInstalled)
	if err != nil {
		return nil, err
	}
	undo = func() error { return s.store.SetUint64(keyInstalled, before) }
	return undo, s.store.SetUint64(keyInstalled, math.MaxUint64)
}

// installed is called after an install.
func (s *snapshots) installed() error {
	applied, _ := s.machine.Applied()
	marker, _ := s.machine.Marker()
	s.store.installed()
	return errors.Join(s.note(marker), s.store.SetUint64(keyInstalled, applied))
}

// begin permits a local snapshot in the present epoch.
func (s *snapshots) begin() *local {
	s.mu.Lock()
	defer s.mu.Unlock()
	return &local{snaps: s, epoch: s.epoch}
}

// supersede ends the epoch, waits for local snapshots that raft is about to take note
// of, and keeps the marker as it is until release is called. Copies from before are
// given to nobody any more: who gets one lacks entries that no log has.
func (s *snapshots) supersede() (release func()) {
	s.mu.Lock()
	s.epoch++
	for len(s.closed) > 0 {
		s.idle.Wait()
	}
	s.mu.Unlock()
	s.setting.Lock()
	s.mu.Lock()
	s.latest = nil
	s.mu.Unlock()
	return s.setting.Unlock
}

// local is a snapshot of this node's own state: the permission to set the marker.
type local struct {
	snaps *snapshots
	epoch uint64
}

// Persist implements raft.FSMSnapshot. Nothing is written: closing the sink sets the
// marker.
func (l *local) Persist(to raft.SnapshotSink) error {
	s, ok := to.(*sink)
	if !ok {
		return fmt.Errorf("persist: %T is no sink of this store", to)
	}
	s.local = l
	return s.Close()
}

// Release implements raft.FSMSnapshot.
func (l *local) Release() {
	l.snaps.mu.Lock()
	defer l.snaps.mu.Unlock()
	delete(l.snaps.closed, l)
	l.snaps.idle.Broadcast()
}

// settle reports whether l may set the marker. An install waits then until raft has
// released l.
func (l *local) settle() error {
	l.snaps.mu.Lock()
	defer l.snaps.mu.Unlock()
	if l.epoch != l.snaps.epoch {
		return errors.New("a newer snapshot was installed meanwhile")
	}
	l.snaps.closed[l] = struct{}{}
	return nil
}

// sink takes one snapshot, local or received. Raft uses it from one goroutine.
type sink struct {
	snaps  *snapshots
	meta   raft.SnapshotMeta
	local  *local
	file   *os.File
	path   string
	closed bool
	err    error
}

// Create implements raft.SnapshotStore.
func (s *snapshots) Create(version raft.SnapshotVersion, index, term uint64, conf raft.Configuration, confIndex uint64, _ raft.Transport) (raft.SnapshotSink, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.serial++
	id := fmt.Sprintf("%d-%d-%d", term, index, s.serial)
	return &sink{
		snaps: s,
		path:  filepath.Join(s.dir, "received-"+strconv.FormatUint(s.serial, 10)+".db"),
		meta:  raft.SnapshotMeta{Version: version, ID: id, Index: index, Term: term, Configuration: conf, ConfigurationIndex: confIndex},
	}, nil
}

// ID implements raft.SnapshotSink.
func (s *sink) ID() string { return s.meta.ID }

// Write implements raft.SnapshotSink for a database that is received.
func (s *sink) Write(b []byte) (int, error) {
	if s.file == nil {
		f, err := os.OpenFile(s.path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
		if err != nil {
			return 0, err
		}
		s.file = f
	}
	n, err := s.file.Write(b)
	s.meta.Size += int64(n)
	return n, err
}

// Close implements raft.SnapshotSink. Raft calls it more than once.
func (s *sink) Close() error {
	if !s.closed {
		s.closed = true
		if s.local != nil {
			s.err = s.closeLocal()
		} else {
			s.err = s.closeReceived()
		}
	}
	return s.err
}

func (s *sink) closeLocal() error {
	if err := s.local.settle(); err != nil {
		return err
	}
	return s.snaps.mark(s.snaps.ctx(), fsm.Marker{
		Index: s.meta.Index, Term: s.meta.Term,
		ConfigurationIndex: s.meta.ConfigurationIndex, Configuration: raft.EncodeConfiguration(s.meta.Configuration),
	})
}

func (s *sink) closeReceived() error {
	if s.file == nil {
		return errors.New("an empty snapshot was received")
	}
	if err := errors.Join(s.file.Sync(), s.file.Close()); err != nil {
		return errors.Join(err, os.Remove(s.path))
	}
	s.snaps.mu.Lock()
	defer s.snaps.mu.Unlock()
	s.snaps.files[s.meta.ID] = s
	return nil
}

// Cancel implements raft.SnapshotSink.
func (s *sink) Cancel() error {
	if s.closed {
		return nil
	}
	s.closed, s.err = true, errors.New("cancelled")
	if s.file == nil {
		return nil
	}
	return errors.Join(s.file.Close(), os.Remove(s.path))
}

// List implements raft.SnapshotStore: the marker, when there is one.
func (s *snapshots) List() ([]*raft.SnapshotMeta, error) {
	m, ok := s.machine.Marker()
	if !ok {
		return nil, nil
	}
	return []*raft.SnapshotMeta{metaOf(m)}, nil
}

func metaOf(m fsm.Marker) *raft.SnapshotMeta {
	return &raft.SnapshotMeta{
		Version: raft.SnapshotVersionMax, ID: fmt.Sprintf("%d-%d", m.Term, m.Index), Index: m.Index, Term: m.Term,
		Configuration: raft.DecodeConfiguration(m.Configuration), ConfigurationIndex: m.ConfigurationIndex,
	}
}

// Open implements raft.SnapshotStore: a received database for Restore, or a fresh
// copy of this node's for another one. The description goes with the copy, whatever
// the marker was when the id was listed.
func (s *snapshots) Open(id string) (*raft.SnapshotMeta, io.ReadCloser, error) {
	s.mu.Lock()
	got, ok := s.files[id]
	delete(s.files, id)
	s.mu.Unlock()
	if ok {
		f, err := os.Open(got.path)
		if err != nil {
			return nil, nil, err
		}
		meta := got.meta
		return &meta, &received{File: f, path: got.path, meta: meta, drop: func() error { return os.Remove(got.path) }}, nil
	}
	if s.wanted != nil {
		if err := s.wanted(s.ctx()); err != nil {
			return nil, nil, err
		}
	}
	return s.copy()
}

// copied is a copy of the database for other nodes. It serves whoever asks while it is
// young: a node that can't be reached is tried again and again.
type copied struct {
	meta raft.SnapshotMeta
	path string
	made time.Time
	pin  *pin
	refs int       // open readers
	left time.Time // when the last of them was closed
}

func (s *snapshots) copy() (*raft.SnapshotMeta, io.ReadCloser, error) {
	s.setting.Lock()
	defer s.setting.Unlock()
	s.mu.Lock()
	c := s.latest
	if c != nil && time.Since(c.made) < s.grace {
		c.refs++
	} else {
		c = nil
	}
	s.mu.Unlock()
	if c == nil {
		var err error
		if c, err = s.makeCopy(); err != nil {
			return nil, nil, err
		}
	}
	o := &outgoing{snaps: s, copied: c}
	f, err := os.Open(c.path)
	if err != nil {
		return nil, nil, errors.Join(err, o.Close())
	}
	o.File = f
	meta := c.meta
	return &meta, o, nil
}

// makeCopy copies the database, and keeps the log from its marker on before it begins.
func (s *snapshots) makeCopy() (_ *copied, err error) {
	m, ok := s.machine.Marker()
	if !ok {
		return nil, errors.New("there is no snapshot yet")
	}
	c := &copied{meta: *metaOf(m), made: time.Now(), pin: &pin{index: m.Index, term: m.Term}, refs: 1}
	s.mu.Lock()
	s.pins[c.pin] = struct{}{}
	s.serial++
	c.path = filepath.Join(s.dir, "copy-"+strconv.FormatUint(s.serial, 10)+".db")
	s.mu.Unlock()
	if c.meta.Size, err = s.machine.CopyTo(s.ctx(), c.path); err != nil {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.discard(c)
		return nil, fmt.Errorf("copy the database: %w", err)
	}
	s.mu.Lock()
	s.latest = c
	s.mu.Unlock()
	s.metrics.copies.Inc()
	s.log.Info("database copied for another node", obs.Index(m.Index), slog.Int64("bytes", c.meta.Size), obs.Took(time.Since(c.made)))
	return c, nil
}

// discard removes a copy that nobody reads, and lets the log go. The caller holds mu.
func (s *snapshots) discard(c *copied) {
	delete(s.pins, c.pin)
	if s.latest == c {
		s.latest = nil
	}
	if err := os.Remove(c.path); err != nil && !errors.Is(err, os.ErrNotExist) {
		s.log.Warn("a copy of the database stays behind", obs.Path(c.path), obs.Err(err))
	}
}

// leave takes note that a reader of c has gone. The copy and the log stay a while: the
// reader may have received everything and need the entries behind it, or come again.
func (s *snapshots) leave(c *copied) {
	s.mu.Lock()
	defer s.mu.Unlock()
	c.refs--
	c.left = time.Now()
	time.AfterFunc(s.grace, func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		if c.refs == 0 && time.Since(c.left) >= s.grace {
			s.discard(c)
		}
	})
}

// outgoing is a copy on its way to another node.
type outgoing struct {
	*os.File
	snaps  *snapshots
	copied *copied
	once   sync.Once
}

// Close lets go of the copy.
func (o *outgoing) Close() (err error) {
	o.once.Do(func() {
		if o.File != nil {
			err = o.File.Close()
		}
		o.snaps.leave(o.copied)
	})
	return err
}
