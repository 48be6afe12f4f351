package cluster

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/hashicorp/raft"
	raftboltdb "github.com/hashicorp/raft-boltdb/v2"
	"go.etcd.io/bbolt"
	bbolterrors "go.etcd.io/bbolt/errors"
)

const (
	logFile = "raft.db"
	// openTimeout is how long to wait for another process to let go of the folder.
	openTimeout = time.Second
	// cachedEntries is how many of the newest entries stay in memory for followers
	// and for the machine.
	cachedEntries = 64
	// deleteChunk is how many entries one transaction deletes, so that new entries
	// don't wait long behind it.
	deleteChunk = 256
)

// openLog opens the log in dir, and creates it when it is missing.
func openLog(dir string) (*raftboltdb.BoltStore, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("open the log: %w", err)
	}
	path := filepath.Join(dir, logFile)
	db, err := openBolt(path)
	switch {
	case errors.Is(err, bbolterrors.ErrTimeout):
		return nil, fmt.Errorf("another process uses the log %s; stop it first, or choose another data folder", path)
	case errors.Is(err, errDamaged), errors.Is(err, bbolterrors.ErrInvalid), errors.Is(err, bbolterrors.ErrChecksum),
		errors.Is(err, bbolterrors.ErrVersionMismatch):
		return nil, fmt.Errorf("the log %s is damaged; a node of a cluster joins again with an empty data folder (take its former id out with `orrery cluster remove`), a node alone needs its data folder back from a backup (%w)", path, err)
	case err != nil:
		return nil, fmt.Errorf("open the log %s: %w", path, err)
	}
	return db, nil
}

// logFileBytes is the size of the log's file in dir; zero when there is none.
func logFileBytes(dir string) int64 {
	info, err := os.Stat(filepath.Join(dir, logFile))
	if err != nil {
		return 0
	}
	return info.Size()
}

func openBolt(path string) (*raftboltdb.BoltStore, error) {
	if err := findDamage(path); err != nil {
		return nil, err
	}
	return raftboltdb.New(raftboltdb.Options{
		Path:   path,
		NoSync: mutant == "nosync", // never otherwise
		BoltOptions: &bbolt.Options{
			Timeout:        openTimeout,
			NoFreelistSync: true, // a commit writes what changed, not the list of all free pages
			FreelistType:   bbolt.FreelistMapType,
		},
		MsgpackUseNewTimeFormat: true,
	})
}

// backend is what holds the log: *raftboltdb.BoltStore.
type backend interface {
	raft.LogStore
	raft.StableStore
	Close() error
}

// logStore is the log as raft sees it: bolt, with a deadline on every write, checks on
// what is written and deleted, and failures that end the node. Raft writes from its
// main goroutine; the snapshot goroutine deletes at the same time.
type logStore struct {
	bolt    backend
	timeout time.Duration
	metrics *metrics
	// trimmable is the highest index that may be deleted because it is in the
	// database, on disk, and nobody needs it. applied and marker are the machine's.
	trimmable, applied, marker func() uint64
	termAt                     func(index uint64) (term uint64, ok bool) // of a snapshot, for GetLog
	stored                     func(last uint64)                         // called after each write, on the goroutine of raft that wrote; nil does nothing
	fail                       func(error)                               // ends the node
	hang                       func(error)                               // ends the node without waiting for the disk

	running atomic.Bool  // raft runs: its goroutines may be ended
	written atomic.Int64 // bytes and
	entries atomic.Int64 // entries since the last marker
	total   atomic.Int64 // bytes since the start
	writes  writes       // under way

	mu                  sync.Mutex
	lastIndex, lastTerm uint64
	wipe                bool // the next deletion takes everything: a snapshot was installed
}

var (
	_ raft.LogStore          = (*logStore)(nil)
	_ raft.StableStore       = (*logStore)(nil)
	_ raft.MonotonicLogStore = (*logStore)(nil)
)

// IsMonotonic makes raft drop the whole log after it has installed a snapshot, rather
// than leave entries that no longer belong to it before a gap.
func (s *logStore) IsMonotonic() bool { return true }

// load reads where the log ends.
func (s *logStore) load() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	last, err := s.bolt.LastIndex()
	if err != nil {
		return fmt.Errorf("read the log: %w", err)
	}
	s.lastIndex, s.lastTerm = last, 0
	if last > 0 {
		if s.lastTerm, err = s.term(last); err != nil {
			return err
		}
	}
	return nil
}

// term returns the term of an entry that is in the log.
func (s *logStore) term(index uint64) (uint64, error) {
	var l raft.Log
	if err := s.bolt.GetLog(index, &l); err != nil {
		return 0, fmt.Errorf("read entry %d of the log: %w", index, err)
	}
	return l.Term, nil
}

// guard watches one write; the caller calls what it returns when the write is over.
func (s *logStore) guard(what string) func() {
	end := s.writes.begin()
	late := newOverdue(s.timeout, func() {
		s.hang(fmt.Errorf("the disk has held up %s for more than %s; this process ends so that the work can go on elsewhere: check the disk", what, s.timeout))
	})
	return func() { late.stop(); end() }
}

// broken ends the node because the disk refused a write, and with it the goroutine of
// raft that asked for it: raft would go on as a follower, or panic, and nothing that
// it could still do would be true on disk.
func (s *logStore) broken(what string, err error) error {
	err = fmt.Errorf("%s: %w", what, err)
	if errors.Is(err, syscall.ENOSPC) {
		err = fmt.Errorf("the disk is full; free some space and start the node again (%w)", err)
	}
	s.fail(err)
	if s.running.Load() {
		runtime.Goexit()
	}
	return err
}

// StoreLog implements raft.LogStore.
func (s *logStore) StoreLog(l *raft.Log) error { return s.StoreLogs([]*raft.Log{l}) }

// StoreLogs implements raft.LogStore. The entries are on disk when it returns.
func (s *logStore) StoreLogs(logs []*raft.Log) error {
	if err := s.follows(logs); err != nil {
		return s.broken("write the log", err)
	}
	began := time.Now()
	stop := s.guard("writing the log")
	err := s.bolt.StoreLogs(logs)
	stop()
	if err != nil {
		return s.broken("write the log", err)
	}
	s.metrics.write.Observe(time.Since(began).Seconds())
	size := int64(0)
	for _, l := range logs {
		size += int64(len(l.Data))
	}
	s.written.Add(size)
	s.total.Add(size)
	s.entries.Add(int64(len(logs)))
	if s.stored != nil {
		s.stored(logs[len(logs)-1].Index)
	}
	return nil
}

// follows checks that the entries continue the log: no gap, no term that falls.
func (s *logStore) follows(logs []*raft.Log) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.wipe = false
	for _, l := range logs {
		if s.lastIndex > 0 && l.Index != s.lastIndex+1 || l.Term < s.lastTerm {
			return fmt.Errorf("entry %d of term %d can't follow entry %d of term %d", l.Index, l.Term, s.lastIndex, s.lastTerm)
		}
		s.lastIndex, s.lastTerm = l.Index, l.Term
	}
	return nil
}

// termOnly marks an entry of which only the term is known.
var termOnly = []byte("orrery: the content of this entry is not known")

// GetLog implements raft.LogStore. After an install the log begins behind the marker,
// and raft asks for the entry at the marker: a follower when a new leader has others
// behind it, a leader when it has sent a copy of its database and goes on from there.
// Its term is known, and that is all that raft looks at. No node takes such an entry
// from another (guard).
func (s *logStore) GetLog(index uint64, l *raft.Log) error {
	err := s.bolt.GetLog(index, l)
	if errors.Is(err, raft.ErrLogNotFound) && index > 1 {
		if term, ok := s.termAt(index); ok {
			*l = raft.Log{Index: index, Term: term, Type: raft.LogNoop, Extensions: termOnly}
			return nil
		}
	}
	if err != nil && !errors.Is(err, raft.ErrLogNotFound) {
		return s.broken(fmt.Sprintf("read entry %d of the log", index), err)
	}
	if err == nil && !intact(l) {
		return s.broken(fmt.Sprintf("read entry %d of the log", index), errEntryDamaged)
	}
	return err
}

var errEntryDamaged = errors.New("it is not what was written: the disk has changed it; check the disk, and let the node join its cluster again with an empty data folder, or, if it is alone, put its data folder back from a backup")

// checksum is what the leader puts into Extensions of a command, because the log has no
// checksums of its own: it stays with the entry on every node.
func checksum(data []byte) []byte {
	return binary.BigEndian.AppendUint32(nil, crc32.Checksum(data, crc32.MakeTable(crc32.Castagnoli)))
}

// intact reports whether an entry is what the leader made of it, as far as it says.
func intact(l *raft.Log) bool {
	return l.Type != raft.LogCommand || len(l.Extensions) == 0 || bytes.Equal(l.Extensions, checksum(l.Data))
}

// FirstIndex implements raft.LogStore.
func (s *logStore) FirstIndex() (uint64, error) { return s.bolt.FirstIndex() }

// LastIndex implements raft.LogStore.
func (s *logStore) LastIndex() (uint64, error) { return s.bolt.LastIndex() }

// DeleteRange implements raft.LogStore. Raft deletes for three reasons: the start of
// the log because of a snapshot, its end because a new leader has other entries
// there, and all of it after an installed snapshot. Of the first as much is deleted
// as may be; raft comes back for the rest after the next snapshot.
func (s *logStore) DeleteRange(low, high uint64) error {
	marker := s.marker()
	switch {
	case s.takeWipe(high):
		return s.deleteAll()
	case high <= marker:
		return s.deletePrefix(low, min(high, s.trimmable()))
	case low > marker:
		if applied := s.applied(); low <= applied {
			return s.broken("cut the log", fmt.Errorf("entries from %d were to be replaced, but %d is applied", low, applied))
		}
		return s.deleteSuffix(low, high)
	default:
		return s.broken("cut the log", fmt.Errorf("entries %d to %d were to go, but the marker is at %d", low, high, marker))
	}
}

// installed takes note that the machine has a newer state than the log leads to.
// Raft drops the whole log next, unless it is empty.
func (s *logStore) installed() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.wipe = s.lastIndex > 0
}

func (s *logStore) takeWipe(high uint64) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	wipe := s.wipe && high == s.lastIndex
	s.wipe = false
	return wipe
}

func (s *logStore) deletePrefix(low, high uint64) error {
	for low <= high {
		end := min(low+deleteChunk-1, high)
		stop := s.guard("cutting the log")
		err := s.bolt.DeleteRange(low, end)
		stop()
		if err != nil {
			return s.broken("cut the log", err)
		}
		low = end + 1
	}
	return nil
}

func (s *logStore) deleteSuffix(low, high uint64) error {
	if err := s.deleteBackwards(low, high); err != nil {
		return err
	}
	return s.load()
}

// deleteBackwards deletes from the end, so that what is left has no gap when the
// process dies in the middle.
func (s *logStore) deleteBackwards(low, high uint64) error {
	for high >= low && high > 0 {
		start := low
		if high-low >= deleteChunk {
			start = high - deleteChunk + 1
		}
		stop := s.guard("cutting the log")
		err := s.bolt.DeleteRange(start, high)
		stop()
		if err != nil {
			return s.broken("cut the log", err)
		}
		high = start - 1
	}
	return nil
}

// deleteAll empties the log. The database holds all that counts.
func (s *logStore) deleteAll() error {
	first, err := s.bolt.FirstIndex()
	if err != nil {
		return s.broken("read the log", err)
	}
	last, err := s.bolt.LastIndex()
	if err != nil {
		return s.broken("read the log", err)
	}
	if last > 0 {
		if err := s.deletePrefix(first, last); err != nil {
			return err
		}
	}
	return s.load()
}

// Set implements raft.StableStore. The value is on disk when it returns.
func (s *logStore) Set(key, val []byte) error {
	stop := s.guard("writing the vote")
	err := s.bolt.Set(key, val)
	stop()
	if err != nil {
		return s.broken("write the vote", err)
	}
	return nil
}

// Get implements raft.StableStore.
func (s *logStore) Get(key []byte) ([]byte, error) { return s.bolt.Get(key) }

// SetUint64 implements raft.StableStore. The value is on disk when it returns.
func (s *logStore) SetUint64(key []byte, val uint64) error {
	stop := s.guard("writing the vote")
	err := s.bolt.SetUint64(key, val)
	stop()
	if err != nil {
		return s.broken("write the vote", err)
	}
	return nil
}

// GetUint64 implements raft.StableStore.
func (s *logStore) GetUint64(key []byte) (uint64, error) { return s.bolt.GetUint64(key) }

// number reads a value that may be missing, which is zero.
func (s *logStore) number(key []byte) (uint64, error) {
	v, err := s.bolt.GetUint64(key)
	if errors.Is(err, raftboltdb.ErrKeyNotFound) {
		return 0, nil
	}
	if err != nil {
		return 0, fmt.Errorf("read the log's key %s: %w", key, err)
	}
	return v, nil
}
