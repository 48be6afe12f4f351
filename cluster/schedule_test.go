package cluster

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/orrery-io/orrery/fsm"
)

func TestBackups(t *testing.T) {
	// The clock of a bubble begins at 2000-01-01.
	run := func(name string, test func(t *testing.T, dir string, b *Backups, broken *error)) {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var broken error
				dir := filepath.Join(t.TempDir(), "backups")
				b, err := NewBackups(BackupsConfig{Dir: dir, Make: func(_ context.Context, path string, _ time.Time) (fsm.BackupInfo, error) {
					if broken != nil {
						return fsm.BackupInfo{}, broken
					}
					return fsm.BackupInfo{}, os.WriteFile(path, []byte("x"), 0o600)
				}})
				if err != nil {
					t.Fatal(err)
				}
				test(t, dir, b, &broken)
			})
		})
	}
	files := func(t *testing.T, dir string) (names []string) {
		entries, err := os.ReadDir(dir)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range entries {
			names = append(names, e.Name())
		}
		return names
	}
	pass := func(t *testing.T, b *Backups, d time.Duration) {
		ctx, cancel := context.WithTimeout(t.Context(), d)
		defer cancel()
		if err := b.Run(ctx); err != nil {
			t.Error(err)
		}
	}
	run("one after a minute, then one a day, and three are kept", func(t *testing.T, dir string, b *Backups, _ *error) {
		pass(t, b, 2*time.Minute)
		if got := files(t, dir); !slices.Equal(got, []string{"orrery-20000101T000100Z.db"}) {
			t.Errorf("there are %q", got)
		}
		pass(t, b, 100*time.Hour)
		if got := files(t, dir); !slices.Equal(got, []string{"orrery-20000103T000100Z.db", "orrery-20000104T000100Z.db", "orrery-20000105T000100Z.db"}) {
			t.Errorf("there are %q", got)
		}
	})
	run("a restart catches up, and doesn't begin anew", func(t *testing.T, dir string, b *Backups, _ *error) {
		pass(t, b, time.Hour)
		pass(t, b, time.Hour)
		time.Sleep(100 * time.Hour) // switched off
		pass(t, b, time.Hour)
		if got := files(t, dir); !slices.Equal(got, []string{"orrery-20000101T000100Z.db", "orrery-20000105T060100Z.db"}) {
			t.Errorf("there are %q", got)
		}
	})
	run("what is there is kept when one fails", func(t *testing.T, dir string, b *Backups, broken *error) {
		pass(t, b, 60*time.Hour)
		have := files(t, dir)
		if err := os.WriteFile(filepath.Join(dir, "orrery-20000109T000000Z.db.part"), nil, 0o600); err != nil {
			t.Fatal(err)
		}
		*broken = errors.New("no room")
		pass(t, b, 100*time.Hour)
		if got := files(t, dir); !slices.Equal(got, have) {
			t.Errorf("there are %q, and were %q", got, have)
		}
		*broken = nil
		pass(t, b, 2*time.Minute)
		if got := files(t, dir); len(got) != 3 || !slices.Contains(got, have[len(have)-1]) {
			t.Errorf("there are %q, and were %q", got, have)
		}
	})
	run("other files are left alone", func(t *testing.T, dir string, b *Backups, _ *error) {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			t.Fatal(err)
		}
		mine := []string{"notes.txt", "orrery-before-upgrade.db"}
		for _, name := range mine {
			if err := os.WriteFile(filepath.Join(dir, name), nil, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		pass(t, b, 200*time.Hour+time.Minute)
		if got := files(t, dir); len(got) != 5 || !slices.Contains(got, mine[0]) || !slices.Contains(got, mine[1]) {
			t.Errorf("there are %q", got)
		}
	})
	run("never is never", func(t *testing.T, dir string, b *Backups, _ *error) {
		b.cfg.Every = -1
		pass(t, b, 1000*time.Hour)
		if _, err := os.Stat(dir); !errors.Is(err, os.ErrNotExist) {
			t.Error("there is a folder")
		}
	})
}
