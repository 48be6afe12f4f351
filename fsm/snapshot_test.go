package fsm

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/orrery-io/orrery/command"
	"github.com/orrery-io/orrery/job"
)

func (b *bundle) mark(index uint64) Marker {
	b.t.Helper()
	m := Marker{Index: index, Term: 1, ConfigurationIndex: 1, Configuration: []byte("conf")}
	if err := b.m.Mark(b.t.Context(), m); err != nil {
		b.t.Fatal(err)
	}
	return m
}

func (b *bundle) copy() (path string) {
	b.t.Helper()
	path = filepath.Join(b.t.TempDir(), "copy.db")
	size, err := b.m.CopyTo(b.t.Context(), path)
	if err != nil {
		b.t.Fatal(err)
	}
	info, err := os.Stat(path)
	if err != nil || info.Size() != size || size == 0 {
		b.t.Fatalf("copied %d bytes, the file: %v, %v", size, info, err)
	}
	return path
}

func (b *bundle) verify() []byte {
	b.t.Helper()
	return b.hash(b.do(&command.Verify{}).Index)
}

func (b *bundle) hash(index uint64) []byte {
	b.t.Helper()
	sum, err := b.m.Hash(b.t.Context(), index)
	if err != nil || len(sum) == 0 {
		b.t.Fatalf("hash %x, %v", sum, err)
	}
	return sum
}

// replay applies log entries from another bundle.
func (b *bundle) replay(log []Entry) {
	b.t.Helper()
	if _, err := b.m.Apply(log); err != nil {
		b.t.Fatal(err)
	}
	if len(log) > 0 {
		b.index = log[len(log)-1].Index
	}
}

func TestMark(t *testing.T) {
	b := setup(t, Config{})
	if _, ok := b.m.Marker(); ok {
		t.Error("an empty database has a marker")
	}
	b.do(submission(nil))
	synced := b.m.Synced()
	b.do(submission(nil))
	b.flush()
	if b.m.Synced() != synced {
		t.Error("a plain flush says that it synced")
	}
	b.m.StoreConfiguration(2, []byte("newer"))
	b.mark(5) // with a barrier before it
	b.index = 5
	for range 2 {
		m, ok := b.m.Marker()
		if !ok || m.Index != 5 || m.Term != 1 || m.ConfigurationIndex != 1 || string(m.Configuration) != "conf" {
			t.Errorf("marker %+v, %v", m, ok)
		}
		if index, term := b.m.Applied(); index != 5 || term != 1 {
			t.Errorf("applied %d, %d", index, term)
		}
		if b.m.Synced() != 5 {
			t.Errorf("synced %d", b.m.Synced())
		}
		if i, conf := b.m.Configuration(); i != 2 || string(conf) != "newer" {
			t.Errorf("configuration %d %q", i, conf)
		}
		b.reopen()
	}
	if err := b.m.Mark(t.Context(), Marker{Index: 4}); err == nil {
		t.Error("a marker went back")
	}
	if err := b.m.WaitApplied(t.Context(), 5); err != nil {
		t.Error(err)
	}
	b.do(submission(nil))
	b.m.StoreConfiguration(1, []byte("old")) // passed over
	if i, _ := b.m.Configuration(); i != 2 {
		t.Errorf("configuration went back to %d", i)
	}
}

func TestCopyAndInstall(t *testing.T) {
	leader := setup(t, Config{})
	work := func(n int) {
		for range n {
			id := leader.do(submission(nil)).Job
			leader.dispatch(id)
			leader.finish(id, job.OutcomeCompleted, job.Completed, nil)
		}
	}
	work(20)
	marker := leader.mark(leader.index)
	work(20) // the copy may be newer than its marker
	leader.do(keyed("k", "h"))
	leader.items(command.Item{RequestID: "r", Command: submission(nil)})
	leader.flush()
	path := leader.copy()
	work(5)
	want := leader.verify()

	follower := setup(t, Config{})
	follower.replay(leader.log[:3]) // it was there before, and fell behind
	old := follower.job(1)
	feed := follower.m.Subscribe(follower.m.LastEvent())
	got, err := follower.m.Install(t.Context(), path, Marker{})
	if err != nil {
		t.Fatal(err)
	}
	if got.Index != marker.Index || got.Term != 1 || !bytes.Equal(got.Configuration, marker.Configuration) {
		t.Errorf("marker %+v", got)
	}
	if j := follower.job(1); old.State != job.Completed || j.State != job.Completed {
		t.Errorf("job 1 is %s, was %s", j.State, old.State)
	}
	applied, _ := follower.m.Applied()
	if applied <= marker.Index {
		t.Errorf("applied %d, the marker is %d", applied, marker.Index)
	}
	if id, conf := follower.m.Configuration(); id != 1 || string(conf) != "conf" {
		t.Errorf("configuration %d %q", id, conf)
	}
	// The log goes on behind the marker; what the copy had is passed over.
	follower.replay(leader.log[marker.Index : len(leader.log)-1])
	if _, err := follower.m.Apply(leader.log[len(leader.log)-1:]); err != nil {
		t.Fatal(err)
	}
	if got := follower.hash(leader.index); !bytes.Equal(got, want) {
		t.Errorf("the hash is %x, want %x", got, want)
	}
	// A subscription from before goes on without a gap.
	var seen []job.EventID
	for len(seen) == 0 || seen[len(seen)-1].Less(leader.m.LastEvent()) {
		events, err := feed.Next(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range events {
			seen = append(seen, e.ID)
		}
	}
	all := leader.m.Subscribe(job.EventID{Index: 3})
	for i := 0; i < len(seen); {
		events, err := all.Next(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range events {
			if i < len(seen) && seen[i] != e.ID {
				t.Fatalf("event %d is %s, want %s", i, seen[i], e.ID)
			}
			i++
		}
	}
	follower.reopen()
	if index, _ := follower.m.Applied(); index != leader.index {
		t.Errorf("applied %d after a restart", index)
	}
	entries, err := os.ReadDir(follower.cfg.Dir)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	if !slices.Equal(names, []string{"CURRENT", "gen-2"}) {
		t.Errorf("the folder holds %q", names)
	}
}

func TestInstallRefuses(t *testing.T) {
	leader := setup(t, Config{})
	leader.do(submission(nil))
	unmarked := leader.copy()
	leader.mark(1)
	old := leader.copy()
	leader.do(submission(nil))
	leader.do(submission(nil))
	leader.mark(3)
	good := leader.copy()
	variant := func(t *testing.T, change string) string {
		path := filepath.Join(t.TempDir(), "variant.db")
		content, err := os.ReadFile(good)
		if err != nil {
			t.Fatal(err)
		}
		write(t, path, string(content))
		if change != "" {
			execFile(t, path, change)
		}
		return path
	}
	tests := []struct {
		name string
		path func(t *testing.T) string
		code string
	}{
		{"no marker", func(*testing.T) string { return unmarked }, "snapshot_unmarked"},
		{"older than what is here", func(*testing.T) string { return old }, "snapshot_older"},
		{"rows behind the marker", func(t *testing.T) string { return variant(t, "UPDATE meta SET marker_index = 9") }, "snapshot_behind"},
		{"a newer schema", func(t *testing.T) string { return variant(t, "PRAGMA user_version = 50") }, "schema_too_new"},
		{"another program's", func(t *testing.T) string { return variant(t, "PRAGMA application_id = 1") }, "database_foreign"},
		{"cut short", func(t *testing.T) string {
			path := variant(t, "")
			if err := os.Truncate(path, 20000); err != nil {
				t.Fatal(err)
			}
			return path
		}, "database_damaged"},
		{"no database", func(t *testing.T) string {
			path := filepath.Join(t.TempDir(), "x")
			write(t, path, "hello hello hello hello")
			return path
		}, "database_damaged"},
		{"empty", func(t *testing.T) string {
			path := filepath.Join(t.TempDir(), "x")
			write(t, path, "")
			return path
		}, "database_foreign"},
	}
	b := setup(t, Config{})
	b.replay(leader.log[:2])
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := b.m.Install(t.Context(), tt.path(t), Marker{})
			wantCode(t, err, tt.code)
			if index, _ := b.m.Applied(); index != 2 {
				t.Errorf("applied %d", index)
			}
			if _, err := b.m.Job(t.Context(), 2); err != nil {
				t.Error(err)
			}
		})
	}
	b.reopen()
	if _, err := b.m.Install(t.Context(), filepath.Join(t.TempDir(), "none"), Marker{}); err == nil {
		t.Error("a missing file was installed")
	}
	if _, err := b.m.Install(t.Context(), good, Marker{}); err != nil {
		t.Error(err)
	}
	if index, _ := b.m.Applied(); index != 3 {
		t.Errorf("applied %d", index)
	}
}

func TestInstallInterrupted(t *testing.T) {
	t.Run("before CURRENT was renamed", func(t *testing.T) {
		dir := someDatabase(t)
		if err := os.Mkdir(filepath.Join(dir, "gen-2"), 0o700); err != nil {
			t.Fatal(err)
		}
		write(t, filepath.Join(dir, "gen-2", databaseFile), "half a file")
		write(t, filepath.Join(dir, "CURRENT.new"), "gen-")
		b := setup(t, Config{Dir: dir})
		b.job(1)
		if _, err := os.Stat(filepath.Join(dir, "gen-2")); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("gen-2 was left: %v", err)
		}
	})
	t.Run("after it", func(t *testing.T) {
		dir := someDatabase(t)
		if err := os.CopyFS(filepath.Join(dir, "gen-2"), os.DirFS(filepath.Join(dir, "gen-1"))); err != nil {
			t.Fatal(err)
		}
		write(t, filepath.Join(dir, currentFile), "gen-2\n")
		b := setup(t, Config{Dir: dir})
		b.job(1)
		if _, err := os.Stat(filepath.Join(dir, "gen-1")); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("gen-1 was left: %v", err)
		}
	})
}

// TestCopyWhileWriting copies while apply and flusher go on: the copy is that of
// one moment.
func TestCopyWhileWriting(t *testing.T) {
	b := setup(t, Config{FlushEvery: 1})
	b.mark(1)
	b.index = 1
	stop := make(chan struct{})
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			select {
			case <-stop:
				return
			default:
				b.apply(submission(nil), submission(nil))
			}
		}
	}()
	for range 5 {
		path := b.copy()
		f := setup(t, Config{})
		if _, err := f.m.Install(t.Context(), path, Marker{}); err != nil {
			t.Fatal(err)
		}
		applied, _ := f.m.Applied()
		if n, err := f.m.CountJobs(t.Context(), JobFilter{Types: []string{"email.send"}}); err != nil || uint64(n) != 2*(applied-1) {
			t.Errorf("the copy is at index %d and holds %d jobs, %v", applied, n, err)
		}
		if q, _ := f.m.Queue("default"); uint64(q.Counts[job.Pending]) != 2*(applied-1) {
			t.Errorf("the copy is at index %d and counts %d jobs", applied, q.Counts[job.Pending])
		}
		f.close()
	}
	close(stop)
	<-done
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	path := filepath.Join(t.TempDir(), "cancelled")
	if _, err := b.m.CopyTo(ctx, path); !errors.Is(err, context.Canceled) {
		t.Errorf("a cancelled copy: %v", err)
	}
	if _, err := os.Stat(path); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a cancelled copy left %v", err)
	}
}

func TestClose(t *testing.T) {
	b := setup(t, Config{})
	b.do(submission(nil))
	m := b.m
	b.close()
	if err := m.Close(); err != nil {
		t.Errorf("a second close: %v", err)
	}
	if _, err := m.Job(t.Context(), 12); !errors.Is(err, job.ErrClosed) {
		t.Errorf("job: %v", err)
	}
	if _, _, err := m.Jobs(t.Context(), JobFilter{}, 0, 10); !errors.Is(err, job.ErrClosed) {
		t.Errorf("jobs: %v", err)
	}
	if err := m.WaitApplied(t.Context(), 100); !errors.Is(err, job.ErrClosed) {
		t.Errorf("wait: %v", err)
	}
	if _, err := m.Subscribe(m.LastEvent()).Next(t.Context()); !errors.Is(err, job.ErrClosed) {
		t.Errorf("next event: %v", err)
	}
	if _, err := m.Apply([]Entry{{Index: 100}}); !errors.Is(err, job.ErrClosed) {
		t.Errorf("apply: %v", err)
	}
	if err := m.Flush(t.Context()); !errors.Is(err, job.ErrClosed) {
		t.Errorf("flush: %v", err)
	}
	if _, err := m.Install(t.Context(), "x", Marker{}); !errors.Is(err, job.ErrClosed) {
		t.Errorf("install: %v", err)
	}
	if _, err := m.CopyTo(t.Context(), filepath.Join(t.TempDir(), "x")); !errors.Is(err, job.ErrClosed) {
		t.Errorf("copy: %v", err)
	}
}
