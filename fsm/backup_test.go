package fsm

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/orrery-io/orrery/command"
	"github.com/orrery-io/orrery/job"
)

func (b *bundle) backup() string {
	b.t.Helper()
	path := filepath.Join(b.t.TempDir(), "backup.db")
	if _, err := b.m.Backup(b.t.Context(), path, time.UnixMilli(int64(b.now)), "v9"); err != nil {
		b.t.Fatal(err)
	}
	return path
}

// rows returns what a backup and what came of it must have in common.
func (b *bundle) rows() (all []string) {
	b.t.Helper()
	b.flush()
	for _, query := range logical[1 : len(logical)-1] { // neither meta nor the feed
		err := b.m.store.each(b.t.Context(), query, func(r row) error {
			cols, err := r.Columns()
			if err != nil {
				return err
			}
			values, to := make([]string, len(cols)), make([]any, len(cols))
			for i := range to {
				to[i] = &values[i]
			}
			err = r.Scan(to...)
			all = append(all, values...)
			return err
		})
		if err != nil {
			b.t.Fatal(err)
		}
	}
	return all
}

func TestBackup(t *testing.T) {
	b := setup(t, Config{})
	b.do(&command.Init{ClusterID: "old"})
	for range 20 {
		id := b.do(submission(nil)).Job
		b.dispatch(id)
	}
	b.do(keyed("k", "h"))
	b.mark(b.index)
	want, index := b.rows(), b.index
	path := b.backup()
	info, err := CheckBackup(t.Context(), path)
	if err != nil || info.Index != index || info.Term != 1 || info.ClusterID != "old" || info.Version != "v9" || info.MadeAt != b.now {
		t.Fatalf("%+v, %v", info, err)
	}
	if left, err := filepath.Glob(path + "*"); err != nil || len(left) != 1 {
		t.Errorf("there are %q, %v", left, err)
	}
	if _, err := b.m.Install(t.Context(), path, Marker{}); err == nil {
		t.Error("a backup was taken for a snapshot")
	}

	restore := func(t *testing.T, c *bundle, at Marker) {
		t.Helper()
		before := c.m.LastTime()
		feed := c.m.Subscribe(c.m.LastEvent())
		got, err := c.m.Install(t.Context(), slicesClone(t, path), at)
		if err != nil || got.Index != at.Index || got.Term != at.Term || string(got.Configuration) != string(at.Configuration) {
			t.Fatalf("%+v, %v", got, err)
		}
		c.index = at.Index
		if got := c.rows(); !slices.Equal(got, want) {
			t.Errorf("%d rows, want %d", len(got), len(want))
		}
		if index, term := c.m.Applied(); index != at.Index || term != at.Term {
			t.Errorf("applied %d of term %d", index, term)
		}
		if m, ok := c.m.Marker(); !ok || m.Index != at.Index {
			t.Errorf("the marker is %+v", m)
		}
		if i, conf := c.m.Configuration(); i != at.ConfigurationIndex || string(conf) != string(at.Configuration) {
			t.Errorf("configuration %d %q", i, conf)
		}
		if c.m.LastTime() < before || c.m.LastTime() < info.MadeAt {
			t.Error("time went back")
		}
		_, err = feed.Next(t.Context())
		wantCode(t, err, "events_trimmed")
	}

	t.Run("into the cluster where it was made", func(t *testing.T) {
		b.do(submission(nil))
		lost := b.do(submission(nil)).Job
		b.now += 1000
		b.do(&command.SetQueue{Queue: "gone"})
		restore(t, b, Marker{Index: b.index + 1, Term: 1, ConfigurationIndex: 3, Configuration: []byte("conf")})
		if _, err := b.m.Job(t.Context(), lost); err == nil {
			t.Errorf("job %d is still there", lost)
		}
		sub := b.m.Subscribe(b.m.LastEvent())
		next := b.do(submission(nil)).Job
		if next <= lost {
			t.Errorf("job %d got the id of another: %d", next, lost)
		}
		if events, err := sub.Next(t.Context()); err != nil || events[0].Job != next {
			t.Errorf("events %v, %v", events, err)
		}
		b.reopen()
		if b.m.ClusterID() != "old" {
			t.Error("the cluster has another id")
		}
		b.do(submission(nil))
	})

	t.Run("into a new cluster", func(t *testing.T) {
		c := setup(t, Config{})
		c.do(&command.Init{ClusterID: "new"})
		restore(t, c, Marker{Index: info.Index + 1, Term: 2, ConfigurationIndex: 1, Configuration: []byte("conf")})
		if c.m.ClusterID() != "new" {
			t.Errorf("its id is %q", c.m.ClusterID())
		}
		old := c.job(20)
		if old.State != job.Dispatched || uint64(old.Fence) > c.index {
			t.Errorf("job 20 is %s, fence %d, and the log at %d", old.State, old.Fence, c.index)
		}
	})
}

// slicesClone copies a file, because Install moves it away.
func slicesClone(t *testing.T, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	to := filepath.Join(t.TempDir(), "clone.db")
	write(t, to, string(b))
	return to
}

func TestBackupRefuses(t *testing.T) {
	b := setup(t, Config{})
	for range 300 {
		b.do(submission(nil))
	}
	b.items(command.Item{RequestID: "r", Command: submission(nil)})
	b.mark(b.index)
	good := b.backup()
	content, err := os.ReadFile(good)
	if err != nil {
		t.Fatal(err)
	}
	file := func(t *testing.T, content []byte, change string) string {
		path := filepath.Join(t.TempDir(), "x")
		write(t, path, string(content))
		if change != "" {
			execFile(t, path, change)
		}
		return path
	}
	flipped := slices.Clone(content)
	for i := len(flipped) / 2; i < len(flipped)/2+200; i++ {
		flipped[i] ^= 0xff
	}
	turned := file(t, content, "")
	turnBit(t, turned, "jobs")
	request := file(t, content, "")
	turnBit(t, request, "requests")
	for _, tt := range []struct {
		name, path, code string
	}{
		{"missing", filepath.Join(t.TempDir(), "none"), "backup_unreadable"},
		{"empty", file(t, nil, ""), "backup_foreign"},
		{"no database", file(t, []byte("hello hello hello hello hello"), ""), "backup_damaged"},
		{"cut", file(t, content[:len(content)-5000], ""), "backup_damaged"},
		{"damaged", file(t, flipped, ""), "backup_damaged"},
		{"another program's", file(t, content, "PRAGMA application_id = 1"), "backup_foreign"},
		{"of a newer version", file(t, content, "PRAGMA user_version = 50"), "schema_too_new"},
		{"a snapshot", b.copy(), "backup_raw"},
		{"one bit of a job is wrong", turned, "backup_damaged"},
		{"one bit of a request is wrong", request, "backup_damaged"},
		{"a table is missing", file(t, content, "DROP TABLE queues"), "backup_damaged"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, err := CheckBackup(t.Context(), tt.path)
			wantCode(t, err, tt.code)
		})
	}
	if _, err := CheckBackup(t.Context(), good); err != nil {
		t.Error(err)
	}

	t.Run("no backup is made of a damaged row", func(t *testing.T) {
		dir := someDatabase(t)
		turnBit(t, statePath(dir), "jobs")
		var told []error
		b := setup(t, Config{Dir: dir, OnDamage: func(err error) { told = append(told, err) }})
		to := t.TempDir()
		if _, err := b.m.Backup(t.Context(), filepath.Join(to, "b"), time.Now(), ""); !Lost(err) {
			t.Errorf("it says %v", err)
		}
		if len(told) != 1 {
			t.Errorf("told of %v", told)
		}
		if left, err := os.ReadDir(to); err != nil || len(left) != 0 {
			t.Errorf("left behind: %v, %v", left, err)
		}
	})
	t.Run("what is cancelled leaves nothing", func(t *testing.T) {
		dir := t.TempDir()
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if _, err := b.m.Backup(ctx, filepath.Join(dir, "b"), time.Now(), ""); !errors.Is(err, context.Canceled) {
			t.Errorf("it says %v", err)
		}
		if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
			t.Errorf("left behind: %v, %v", left, err)
		}
	})
	t.Run("no folder, no room", func(t *testing.T) {
		_, err := b.m.Backup(t.Context(), filepath.Join(t.TempDir(), "none", "b"), time.Now(), "")
		wantCode(t, err, "backup_folder")
		wantCode(t, CheckRoom(good, 1<<60), "disk_full")
	})
}
