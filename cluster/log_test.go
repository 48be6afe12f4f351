package cluster

import (
	"context"
	"errors"
	"fmt"
	"math"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/hashicorp/raft"
	"github.com/orrery-io/orrery/job"
)

// badDisk is a log whose writes can be held up or refused.
type badDisk struct {
	backend
	hold   atomic.Pointer[chan struct{}]
	refuse atomic.Pointer[error]
}

func (b *badDisk) trouble() error {
	if ch := b.hold.Load(); ch != nil {
		<-*ch
	}
	if err := b.refuse.Load(); err != nil {
		return *err
	}
	return nil
}

func (b *badDisk) StoreLogs(logs []*raft.Log) error {
	return errors.Join(b.trouble(), b.backend.StoreLogs(logs))
}

func (b *badDisk) SetUint64(k []byte, v uint64) error {
	return errors.Join(b.trouble(), b.backend.SetUint64(k, v))
}

// onBadDisk runs a node that leads.
func onBadDisk(t *testing.T, cfg Config) (n *Node, disk *badDisk, ended <-chan error) {
	t.Helper()
	cfg.ID, cfg.Dir, cfg.Machine, cfg.Log = "n1", t.TempDir(), newFake(nil), testLog(t)
	leads := make(chan struct{}, 1)
	cfg.Lead = func(ctx context.Context, _ uint64) error { leads <- struct{}{}; <-ctx.Done(); return nil }
	n, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	disk = &badDisk{backend: n.store.bolt}
	n.store.bolt = disk
	ch := make(chan error, 1)
	go func() { ch <- n.Run(context.WithoutCancel(t.Context())) }()
	<-leads
	return n, disk, ch
}

func TestHungDisk(t *testing.T) {
	told := make(chan error, 1)
	n, disk, ended := onBadDisk(t, Config{WriteTimeout: 50 * time.Millisecond, OnHang: func(err error) { told <- err }})
	hold := make(chan struct{})
	disk.hold.Store(&hold)
	if _, err := n.Propose(t.Context(), submit("1")); !errors.Is(err, job.ErrOutcomeUnknown) && !errors.Is(err, job.ErrClosed) {
		t.Errorf("Propose: %v", err)
	}
	if err := <-told; !strings.Contains(err.Error(), "the disk has held up") {
		t.Errorf("OnHang: %v", err)
	}
	if err := <-ended; err == nil || !strings.Contains(err.Error(), "the disk has held up writing the log") {
		t.Errorf("Run: %v", err)
	}
	close(hold) // let the goroutines go
}

func TestFullDisk(t *testing.T) {
	n, disk, ended := onBadDisk(t, Config{})
	full := error(syscall.ENOSPC)
	disk.refuse.Store(&full)
	if _, err := n.Propose(t.Context(), submit("1")); !errors.Is(err, job.ErrOutcomeUnknown) {
		t.Errorf("Propose: %v", err)
	}
	if err := <-ended; !errors.Is(err, syscall.ENOSPC) || !strings.Contains(err.Error(), "the disk is full; free some space and start the node again") {
		t.Errorf("Run: %v", err)
	}
}

// testStore makes a log with entries 1 to n of term 1.
func testStore(t *testing.T, n int) *logStore {
	t.Helper()
	bolt, err := openLog(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = bolt.Close() })
	s := &logStore{
		bolt: bolt, timeout: time.Minute, metrics: newMetrics(nil, nil),
		trimmable: func() uint64 { return math.MaxUint64 }, applied: func() uint64 { return 0 }, marker: func() uint64 { return 0 },
		termAt: func(uint64) (uint64, bool) { return 0, false }, fail: func(error) {}, hang: func(error) {},
	}
	if err := s.load(); err != nil {
		t.Fatal(err)
	}
	var logs []*raft.Log
	for i := range n {
		logs = append(logs, &raft.Log{Index: uint64(i + 1), Term: 1, Data: []byte("x")})
	}
	if err := s.StoreLogs(logs); err != nil {
		t.Fatal(err)
	}
	return s
}

// kept returns the first and last entry, and checks that there is no gap.
func kept(t *testing.T, s *logStore) string {
	t.Helper()
	first, err := s.FirstIndex()
	if err != nil {
		t.Fatal(err)
	}
	last, err := s.LastIndex()
	if err != nil {
		t.Fatal(err)
	}
	for i := first; i <= last && i > 0; i++ {
		var l raft.Log
		if err := s.GetLog(i, &l); err != nil || l.Index != i {
			t.Fatalf("entry %d: %+v, %v", i, l, err)
		}
	}
	return fmt.Sprintf("%d-%d", first, last)
}

func TestDeleteRange(t *testing.T) {
	tests := []struct {
		name                       string
		trimmable, applied, marker uint64
		installed                  bool
		low, high                  uint64
		want                       string
		refused                    string
	}{
		{name: "start of the log", trimmable: 2000, applied: 2000, marker: 1500, low: 1, high: 1000, want: "1001-2000"},
		{name: "only as far as it is on disk and unpinned", trimmable: 700, applied: 2000, marker: 1500, low: 1, high: 1000, want: "701-2000"},
		{name: "nothing may go", trimmable: 0, applied: 2000, marker: 1500, low: 1, high: 1000, want: "1-2000"},
		{name: "end of the log", trimmable: 5, applied: 900, marker: 800, low: 901, high: 2000, want: "1-900"},
		{name: "the whole log when another leader has other entries", applied: 0, marker: 0, low: 1, high: 2000, want: "0-0"},
		{name: "everything after an install", trimmable: 5, applied: 3000, marker: 1000, installed: true, low: 1, high: 2000, want: "0-0"},
		{name: "applied entries stay", trimmable: 5, applied: 900, marker: 800, low: 900, high: 2000, want: "1-2000", refused: "900 is applied"},
		{name: "no cut across the marker", trimmable: 2000, applied: 900, marker: 800, low: 1, high: 2000, want: "1-2000", refused: "the marker is at 800"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := testStore(t, 2000)
			s.trimmable = func() uint64 { return tt.trimmable }
			s.applied = func() uint64 { return tt.applied }
			s.marker = func() uint64 { return tt.marker }
			var failed error
			s.fail = func(err error) { failed = err }
			if tt.installed {
				s.installed()
			}
			err := s.DeleteRange(tt.low, tt.high)
			if tt.refused == "" && err != nil {
				t.Error(err)
			}
			if tt.refused != "" && (err == nil || failed == nil || !strings.Contains(err.Error(), tt.refused)) {
				t.Errorf("error %v, the node ends with %v", err, failed)
			}
			if got := kept(t, s); got != tt.want {
				t.Errorf("kept %s, want %s", got, tt.want)
			}
		})
	}
}

func TestStoreLogs(t *testing.T) {
	for _, bad := range []*raft.Log{{Index: 12, Term: 1}, {Index: 10, Term: 1}, {Index: 11, Term: 0}} {
		s := testStore(t, 10)
		if err := s.StoreLog(bad); err == nil || !strings.Contains(err.Error(), "can't follow") {
			t.Errorf("entry %d of term %d: %v", bad.Index, bad.Term, err)
		}
	}
	s := testStore(t, 10)
	s.applied = func() uint64 { return 5 }
	if err := s.DeleteRange(8, 10); err != nil {
		t.Fatal(err)
	}
	if err := s.StoreLog(&raft.Log{Index: 8, Term: 2}); err != nil {
		t.Errorf("after a cut: %v", err)
	}
	s.installed()
	if err := s.DeleteRange(1, 8); err != nil {
		t.Fatal(err)
	}
	if err := s.StoreLog(&raft.Log{Index: 100, Term: 3}); err != nil {
		t.Errorf("after an install: %v", err)
	}
}

// TestDamagedEntry turns a bit of an entry behind the node's back.
func TestDamagedEntry(t *testing.T) {
	n, disk, ended := onBadDisk(t, Config{})
	if _, err := n.Propose(t.Context(), realSubmit("1")); err != nil {
		t.Fatal(err)
	}
	last, err := disk.LastIndex()
	check(t, err)
	n.Close()
	check(t, <-ended)

	bolt, err := openLog(n.cfg.Dir)
	check(t, err)
	defer func() { check(t, bolt.Close()) }()
	var l raft.Log
	check(t, bolt.GetLog(last, &l))
	if len(l.Extensions) == 0 || !intact(&l) {
		t.Fatalf("the entry has the checksum %x", l.Extensions)
	}
	l.Data[len(l.Data)/2] ^= 4
	check(t, bolt.StoreLogs([]*raft.Log{&l}))
	var failed error
	s := &logStore{bolt: bolt, fail: func(err error) { failed = err }}
	if err := s.GetLog(last, &l); !errors.Is(err, errEntryDamaged) || !errors.Is(failed, errEntryDamaged) {
		t.Errorf("reading it says %v, the node ends with %v", err, failed)
	}
}
