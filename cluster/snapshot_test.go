package cluster

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"runtime"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/raft"
	"github.com/orrery-io/orrery/fsm"
)

// testSnapshots makes a snapshot store over a machine that has applied 10.
func testSnapshots(t *testing.T) (*snapshots, *adapter, *fakeMachine) {
	t.Helper()
	m := newFake(nil)
	m.state.Applied, m.state.Term = 10, 1
	store := testStore(t, 20)
	ctx := func() context.Context { return t.Context() }
	s := newSnapshots(Config{Dir: t.TempDir(), Machine: m, Log: testLog(t), PinGrace: time.Hour}, store, store.metrics, ctx)
	if err := s.prepare(); err != nil {
		t.Fatal(err)
	}
	store.marker, store.trimmable, store.termAt = s.marker, s.trimmable, s.termAt
	return s, &adapter{machine: m, snaps: s, metrics: store.metrics, fail: func(err error) { t.Error(err) }, ctx: ctx, fault: func(string) error { return nil }, damaged: func() {}}, m
}

// take does what raft does for a local snapshot, up to Release.
func take(t *testing.T, s *snapshots, snap raft.FSMSnapshot, index uint64) error {
	t.Helper()
	sink, err := s.Create(1, index, 1, raft.Configuration{}, 1, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := snap.Persist(sink); err != nil {
		return err
	}
	return sink.Close()
}

// receive stores content as if another node had sent it, and opens it for Restore.
func receive(t *testing.T, s *snapshots, index uint64, content []byte) io.ReadCloser {
	t.Helper()
	sink, err := s.Create(1, index, 1, raft.Configuration{}, 1, nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := sink.Write(content); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := sink.Close(); err != nil {
			t.Fatal(err)
		}
	}
	meta, rc, err := s.Open(sink.ID())
	if err != nil || meta.Size != int64(len(content)) {
		t.Fatalf("open: %+v, %v", meta, err)
	}
	return rc
}

// wrapped hides a reader as raft does.
type wrapped struct{ io.ReadCloser }

func (w wrapped) WrappedReadCloser() io.ReadCloser { return w.ReadCloser }

// other returns what a node with a newer state would send.
func other(t *testing.T) []byte {
	t.Helper()
	m := newFake(nil)
	m.state = fakeState{Applied: 60, Term: 1, Jobs: []string{"x"}, Marker: &fsm.Marker{Index: 50, Term: 1, Configuration: raft.EncodeConfiguration(raft.Configuration{})}}
	path := t.TempDir() + "/copy"
	if _, err := m.CopyTo(t.Context(), path); err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestSnapshots(t *testing.T) {
	t.Run("a local one sets the marker once", func(t *testing.T) {
		s, a, m := testSnapshots(t)
		snap, err := a.Snapshot()
		if err != nil {
			t.Fatal(err)
		}
		if err := take(t, s, snap, 12); err != nil {
			t.Fatal(err)
		}
		snap.Release()
		if marker, _ := m.Marker(); marker.Index != 12 {
			t.Errorf("marker %+v", marker)
		}
		if n, err := s.store.number(keyMarker); n != 12 || err != nil {
			t.Errorf("remembered %d, %v", n, err)
		}
		if applied, _ := m.Applied(); applied != 12 {
			t.Errorf("applied %d: an entry that the machine doesn't see moves it too", applied)
		}
		if _, err := a.Snapshot(); !errors.Is(err, raft.ErrNothingNewToSnapshot) {
			t.Errorf("a second one: %v", err)
		}
		list, err := s.List()
		if err != nil || len(list) != 1 || list[0].Index != 12 {
			t.Errorf("list %+v, %v", list, err)
		}
	})

	t.Run("one from before an install is refused", func(t *testing.T) {
		s, a, m := testSnapshots(t)
		snap, err := a.Snapshot()
		if err != nil {
			t.Fatal(err)
		}
		if err := a.Restore(wrapped{wrapped{receive(t, s, 50, other(t))}}); err != nil {
			t.Fatal(err)
		}
		if err := take(t, s, snap, 12); err == nil {
			t.Error("the marker went back")
		}
		snap.Release()
		if marker, _ := m.Marker(); marker.Index != 50 {
			t.Errorf("marker %+v", marker)
		}
		if got := a.lastCommand.Load(); got != 60 {
			t.Errorf("applied %d", got)
		}
		if n, err := s.store.number(keyInstalled); n != 60 || err != nil {
			t.Errorf("remembered %d, %v", n, err)
		}
		// Raft drops the log now.
		if err := s.store.DeleteRange(1, 20); err != nil || kept(t, s.store) != "0-0" {
			t.Errorf("the log still holds %s, %v", kept(t, s.store), err)
		}
	})

	t.Run("an install waits until raft has taken note of a local one", func(t *testing.T) {
		s, a, m := testSnapshots(t)
		snap, err := a.Snapshot()
		if err != nil {
			t.Fatal(err)
		}
		if err := take(t, s, snap, 12); err != nil {
			t.Fatal(err)
		}
		rc := receive(t, s, 50, other(t))
		done := make(chan error, 1)
		go func() { done <- a.Restore(rc) }()
		for epoch := uint64(0); epoch == 0; { // until Restore has begun
			runtime.Gosched()
			s.mu.Lock()
			epoch = s.epoch
			s.mu.Unlock()
		}
		if marker, _ := m.Marker(); marker.Index != 12 {
			t.Error("Restore didn't wait")
		}
		snap.Release()
		if err := <-done; err != nil {
			t.Error(err)
		}
		if marker, _ := m.Marker(); marker.Index != 50 {
			t.Errorf("marker %+v", marker)
		}
	})

	t.Run("what is no database leaves everything as it was", func(t *testing.T) {
		s, a, m := testSnapshots(t)
		rc := receive(t, s, 50, []byte("garbage"))
		if err := a.Restore(rc); err == nil {
			t.Error("garbage was installed")
		}
		if err := rc.Close(); err != nil {
			t.Error(err)
		}
		if applied, _ := m.Applied(); applied != 10 {
			t.Errorf("applied %d", applied)
		}
		if n, err := s.store.number(keyInstalled); n != 0 || err != nil {
			t.Errorf("remembered %d, %v", n, err)
		}
		if files, err := os.ReadDir(s.dir); err != nil || len(files) != 0 {
			t.Errorf("left behind: %v, %v", files, err)
		}
		if err := a.Restore(io.NopCloser(strings.NewReader("x"))); err == nil {
			t.Error("a foreign reader was taken")
		}
	})

	t.Run("a cancelled one leaves nothing", func(t *testing.T) {
		s, _, _ := testSnapshots(t)
		sink, err := s.Create(1, 50, 1, raft.Configuration{}, 1, nil)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := sink.Write([]byte("half")); err != nil {
			t.Fatal(err)
		}
		for range 2 {
			if err := sink.Cancel(); err != nil {
				t.Error(err)
			}
		}
		if err := sink.Close(); err == nil {
			t.Error("a cancelled snapshot was closed")
		}
		if files, err := os.ReadDir(s.dir); err != nil || len(files) != 0 {
			t.Errorf("left behind: %v, %v", files, err)
		}
		if empty, err := s.Create(1, 50, 1, raft.Configuration{}, 1, nil); err != nil || empty.Close() == nil {
			t.Error("an empty snapshot was taken")
		}
		if err := s.begin().Persist(foreignSink{}); err == nil {
			t.Error("a foreign sink was taken")
		}
	})

	t.Run("a copy serves several nodes while it is young, and keeps the log", func(t *testing.T) {
		s, a, m := testSnapshots(t)
		if _, _, err := s.Open("none"); err == nil {
			t.Error("a copy without a marker")
		}
		snap, err := a.Snapshot()
		if err != nil {
			t.Fatal(err)
		}
		if err := take(t, s, snap, 12); err != nil {
			t.Fatal(err)
		}
		snap.Release()
		var contents [2][]byte
		for i := range contents {
			meta, rc, err := s.Open("1-12")
			if err != nil || meta.Index != 12 {
				t.Fatalf("open: %+v, %v", meta, err)
			}
			if contents[i], err = io.ReadAll(rc); err != nil || int64(len(contents[i])) != meta.Size {
				t.Errorf("%d bytes of %d, %v", len(contents[i]), meta.Size, err)
			}
			if err := errors.Join(rc.Close(), rc.Close()); err != nil {
				t.Error(err)
			}
		}
		if m.copies != 1 || !bytes.Equal(contents[0], contents[1]) {
			t.Errorf("%d copies", m.copies)
		}
		m.state.Applied = 20
		m.flush()
		if got := s.trimmable(); got != 11 {
			t.Errorf("the log may go up to %d", got)
		}
		s.grace = 0
		s.latest.made = time.Time{}
		_, rc, err := s.Open("1-12")
		if err != nil {
			t.Fatal(err)
		}
		if m.copies != 2 {
			t.Errorf("an old copy was sent")
		}
		if err := rc.Close(); err != nil {
			t.Error(err)
		}
	})

	t.Run("a copy from before an install serves nobody", func(t *testing.T) {
		s, a, m := testSnapshots(t)
		snap, err := a.Snapshot()
		if err != nil {
			t.Fatal(err)
		}
		if err := take(t, s, snap, 12); err != nil {
			t.Fatal(err)
		}
		snap.Release()
		_, before, err := s.Open("1-12")
		if err != nil {
			t.Fatal(err)
		}
		if err := a.Restore(receive(t, s, 50, other(t))); err != nil {
			t.Fatal(err)
		}
		meta, rc, err := s.Open("1-50")
		if err != nil {
			t.Fatal(err)
		}
		if meta.Index != 50 || m.copies != 2 {
			t.Errorf("the copy at %d is sent, the %d. one", meta.Index, m.copies)
		}
		if _, err := io.ReadAll(before); err != nil {
			t.Errorf("who reads the old one: %v", err)
		}
		if err := errors.Join(before.Close(), rc.Close()); err != nil {
			t.Error(err)
		}
	})
}

// TestSentMarkerIsKnown: a leader that has its database from another node, and sends a
// copy on, goes on behind the copy's marker also when it has set another one meanwhile.
// Its log never had the entry there.
func TestSentMarkerIsKnown(t *testing.T) {
	s, a, m := testSnapshots(t)
	if err := a.Restore(receive(t, s, 50, other(t))); err != nil {
		t.Fatal(err)
	}
	if err := s.store.DeleteRange(1, 20); err != nil {
		t.Fatal(err)
	}
	for i := uint64(51); i < 70; i++ {
		if err := s.store.StoreLog(&raft.Log{Index: i, Term: 2}); err != nil {
			t.Fatal(err)
		}
	}
	m.state.Marker.Configuration = raft.EncodeConfiguration(raft.Configuration{})
	_, rc, err := s.Open("1-50")
	if err != nil {
		t.Fatal(err)
	}
	defer rc.Close()
	m.state.Applied = 65
	snap, err := a.Snapshot()
	if err != nil {
		t.Fatal(err)
	}
	if err := take(t, s, snap, 65); err != nil {
		t.Fatal(err)
	}
	snap.Release()
	var l raft.Log
	if err := s.store.GetLog(50, &l); err != nil || l.Term != 1 || !bytes.Equal(l.Extensions, termOnly) {
		t.Errorf("entry 50: %+v, %v", l, err)
	}
	if err := s.store.GetLog(49, &l); !errors.Is(err, raft.ErrLogNotFound) {
		t.Errorf("entry 49: %v", err)
	}
}

// foreignSink is a sink of another store.
type foreignSink struct{ raft.SnapshotSink }

// TestBubble runs a node from start to end in virtual time, and fails when a goroutine
// of it stays behind.
func TestBubble(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := start(t, Config{})
		r.awaitLead(t)
		r.record(t, submit("1"))
		time.Sleep(time.Hour) // markers are set meanwhile
		if m, ok := r.machine.Marker(); !ok || m.Index == 0 {
			t.Errorf("marker %+v, %v", m, ok)
		}
		r.record(t, submit("2"))
		if err := r.stop(); err != nil {
			t.Error(err)
		}
	})
}
