package cluster

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/hashicorp/raft"
	"github.com/orrery-io/orrery/fsm"
)

// used makes a data folder in which 20 jobs were recorded: the log in dir, the
// database in disk.
func used(t *testing.T) (dir string, disk *fakeDisk) {
	t.Helper()
	dir, disk = t.TempDir(), &fakeDisk{}
	r := start(t, Config{Dir: dir, Machine: newFake(disk)})
	r.awaitLead(t)
	for _, p := range payloads(1, 20) {
		r.record(t, submit(p))
	}
	r.machine.flush()
	if err := r.snapshot(r.raft.Load()); err != nil {
		t.Fatal(err)
	}
	for _, p := range payloads(21, 25) {
		r.record(t, submit(p))
	}
	if err := r.stop(); err != nil {
		t.Fatal(err)
	}
	r.machine.flush()
	return dir, disk
}

// edit changes the closed log in dir.
func edit(t *testing.T, dir string, f func(s *logStore)) {
	t.Helper()
	bolt, err := openLog(dir)
	if err != nil {
		t.Fatal(err)
	}
	f(&logStore{bolt: bolt})
	if err := bolt.Close(); err != nil {
		t.Fatal(err)
	}
}

func TestStart(t *testing.T) {
	tests := []struct {
		name string
		// change spoils the folder or the database.
		change func(t *testing.T, dir string, disk *fakeDisk)
		// want are parts of the sentence with which New refuses; none: it starts.
		want []string
	}{
		{
			name:   "untouched",
			change: func(*testing.T, string, *fakeDisk) {},
		},
		{
			name: "log lost",
			change: func(t *testing.T, dir string, _ *fakeDisk) {
				if err := os.Remove(filepath.Join(dir, logFile)); err != nil {
					t.Fatal(err)
				}
			},
			want: []string{"is missing from", "put the whole data folder back from a backup"},
		},
		{
			name: "log cut at the end",
			change: func(t *testing.T, dir string, _ *fakeDisk) {
				edit(t, dir, func(s *logStore) {
					last, _ := s.LastIndex()
					if err := s.bolt.DeleteRange(last, last); err != nil {
						t.Fatal(err)
					}
				})
			},
			want: []string{"was cut", "backup"},
		},
		{
			name: "all entries lost",
			change: func(t *testing.T, dir string, _ *fakeDisk) {
				edit(t, dir, func(s *logStore) {
					if err := s.bolt.DeleteRange(0, 1<<40); err != nil {
						t.Fatal(err)
					}
				})
			},
			want: []string{"is missing from", "backup"},
		},
		{
			name:   "database lost",
			change: func(_ *testing.T, _ string, disk *fakeDisk) { disk.state = fakeState{} },
			want:   []string{"the database that belongs to the log", "is missing", "backup"},
		},
		{
			name: "database lost and log cut at the start",
			change: func(t *testing.T, dir string, disk *fakeDisk) {
				disk.state = fakeState{}
				edit(t, dir, func(s *logStore) {
					if err := s.bolt.DeleteRange(1, 3); err != nil {
						t.Fatal(err)
					}
					if err := s.bolt.SetUint64(keyMarker, 0); err != nil {
						t.Fatal(err)
					}
				})
			},
			want: []string{"is missing"},
		},
		{
			name: "older database put in place",
			change: func(_ *testing.T, _ string, disk *fakeDisk) {
				disk.state.Applied = 5
				disk.state.Marker = &fsm.Marker{Index: 5, Term: 2}
			},
			want: []string{"the database is older than the log", "ends at entry 5", "backup"},
		},
		{
			name:   "database of another history",
			change: func(_ *testing.T, _ string, disk *fakeDisk) { disk.state.Term++ },
			want:   []string{"don't belong together", "backup"},
		},
		{
			name:   "marker beyond what is applied",
			change: func(_ *testing.T, _ string, disk *fakeDisk) { disk.state.Marker.Index = disk.state.Applied + 1 },
			want:   []string{"contradicts itself"},
		},
		{
			name: "log of another node put in place",
			change: func(t *testing.T, dir string, _ *fakeDisk) {
				edit(t, dir, func(s *logStore) {
					if err := s.bolt.Set(keyNode, []byte("n2")); err != nil {
						t.Fatal(err)
					}
				})
			},
			want: []string{"belongs to node n2", "to node n1", "put the right raft folder back"},
		},
		{
			name: "one of several nodes has lost its log",
			change: func(t *testing.T, dir string, disk *fakeDisk) {
				disk.state.Conf = raft.EncodeConfiguration(raft.Configuration{Servers: []raft.Server{{ID: "n1", Address: "a"}, {ID: "n2", Address: "b"}}})
				if err := os.Remove(filepath.Join(dir, logFile)); err != nil {
					t.Fatal(err)
				}
			},
			want: []string{"let it join the cluster again under a new id"},
		},
		{
			name: "killed between a new database and the wipe of the old log",
			change: func(t *testing.T, dir string, disk *fakeDisk) {
				disk.state.Applied, disk.state.Term = 1000, 7
				disk.state.Marker = &fsm.Marker{Index: 990, Term: 7, Configuration: disk.state.Conf, ConfigurationIndex: 1}
				edit(t, dir, func(s *logStore) {
					if err := s.bolt.SetUint64(keyInstalled, 1<<63); err != nil {
						t.Fatal(err)
					}
				})
			},
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			dir, disk := used(t)
			tt.change(t, dir, disk)
			n, err := New(Config{ID: "n1", Dir: dir, Machine: newFake(disk)})
			if err == nil {
				n.Close()
			}
			switch {
			case len(tt.want) == 0 && err != nil:
				t.Fatalf("refused: %v", err)
			case len(tt.want) > 0 && err == nil:
				t.Fatal("it started")
			}
			for _, w := range tt.want {
				if !strings.Contains(err.Error(), w) {
					t.Errorf("error %q doesn't say %q", err, w)
				}
			}
		})
	}

	t.Run("a log is its node's from the beginning", func(t *testing.T) {
		dir, _ := used(t)
		edit(t, dir, func(s *logStore) {
			if owner, err := s.owner(); owner != "n1" || err != nil {
				t.Errorf("the owner is %q, %v", owner, err)
			}
		})
	})

	t.Run("the old log is dropped after an interrupted install", func(t *testing.T) {
		dir, disk := used(t)
		disk.state.Applied, disk.state.Term = 1000, 7
		disk.state.Marker = &fsm.Marker{Index: 990, Term: 7, Configuration: disk.state.Conf, ConfigurationIndex: 1}
		edit(t, dir, func(s *logStore) {
			if err := s.bolt.SetUint64(keyInstalled, 1<<63); err != nil {
				t.Fatal(err)
			}
		})
		r := start(t, Config{Dir: dir, Machine: newFake(disk)})
		r.awaitLead(t)
		if st := r.Status(); st.LogFirst != 991 {
			t.Errorf("log starts at %d, want 991", st.LogFirst)
		}
	})

	t.Run("a founder that died before its first entry founds again", func(t *testing.T) {
		dir := t.TempDir()
		edit(t, dir, func(s *logStore) {
			if err := s.bolt.SetUint64(keyCurrentTerm, 1); err != nil {
				t.Fatal(err)
			}
		})
		r := start(t, Config{Dir: dir})
		r.awaitLead(t)
	})

	t.Run("a second node in the same folder is refused", func(t *testing.T) {
		r := start(t, Config{})
		r.awaitLead(t)
		_, err := New(Config{ID: "n2", Dir: r.cfg.Dir, Machine: newFake(nil)})
		if err == nil || !strings.Contains(err.Error(), "another process uses the log") {
			t.Errorf("New: %v", err)
		}
	})

	t.Run("what is missing in the configuration is named", func(t *testing.T) {
		for _, cfg := range []Config{{}, {ID: "a"}, {ID: "a", Dir: t.TempDir()}} {
			if _, err := New(cfg); err == nil || !strings.Contains(err.Error(), "required") {
				t.Errorf("New(%+v): %v", cfg, err)
			}
		}
	})

	t.Run("an unreadable folder is named", func(t *testing.T) {
		file := filepath.Join(t.TempDir(), "file")
		if err := os.WriteFile(file, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := New(Config{ID: "a", Dir: file, Machine: newFake(nil)}); err == nil || !strings.Contains(err.Error(), file) {
			t.Errorf("New: %v", err)
		}
	})

	t.Run("a log that was cut in the middle of the file is named, with a remedy", func(t *testing.T) {
		dir, disk := used(t)
		size := int64(os.Getpagesize())
		for _, pages := range []int64{1, 2, 3, 4, 5} {
			if err := os.Truncate(filepath.Join(dir, logFile), (6-pages)*size); err != nil {
				t.Fatal(err)
			}
			n, err := New(Config{ID: "n1", Dir: dir, Machine: newFake(disk)})
			if err == nil {
				n.Close()
				t.Fatal("it started")
			}
			for _, want := range []string{"damaged", logFile, "backup"} {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("error %q doesn't say %q", err, want)
				}
			}
		}
	})

	t.Run("a log with a page overwritten ends no process", func(t *testing.T) {
		dir, disk := used(t)
		path := filepath.Join(dir, logFile)
		whole, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		refused := 0
		for at := 0; at < len(whole); at += os.Getpagesize() {
			for _, n := range []int{16, 256} { // the page's header; and what it points to
				damaged := slices.Clone(whole)
				for i := at; i < at+n; i++ {
					damaged[i] ^= 0x5a
				}
				if err := os.WriteFile(path, damaged, 0o600); err != nil {
					t.Fatal(err)
				}
				n, err := New(Config{ID: "n1", Dir: dir, Machine: newFake(disk)})
				if err == nil {
					n.Close()
					continue
				}
				refused++
				if !strings.Contains(err.Error(), "backup") {
					t.Errorf("page %d: error %q doesn't say what to do", at/os.Getpagesize(), err)
				}
			}
		}
		if refused == 0 {
			t.Error("no damage was found")
		}
	})

	t.Run("Close without Run lets go of the folder", func(t *testing.T) {
		dir := t.TempDir()
		for range 2 {
			n, err := New(Config{ID: "a", Dir: dir, Machine: newFake(nil)})
			if err != nil {
				t.Fatal(err)
			}
			n.Close()
			n.Close()
			if err := n.Run(t.Context()); err == nil {
				t.Error("Run after Close")
			}
		}
	})
}
