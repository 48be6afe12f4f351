package cli

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/orrery-io/orrery/job"
)

func TestFindFiles(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"b.txt", "a/1", "a/2", ".git/config", "orrery-data/LOCK", "a/.hidden"} {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(name), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink("b.txt", filepath.Join(dir, "link")); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "bad\xff"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	big, err := os.Create(filepath.Join(dir, "big"))
	if err != nil {
		t.Fatal(err)
	}
	defer big.Close()
	if err := big.Truncate(maxDemoFile + 1); err != nil {
		t.Fatal(err)
	}
	names := func(f *demoFiles) string {
		var all []string
		for _, x := range f.files {
			all = append(all, x.name)
		}
		return strings.Join(all, " ")
	}

	found, err := findFiles(dir, 100)
	if err != nil {
		t.Fatal(err)
	}
	if got := names(found); got != "a/.hidden a/1 a/2 b.txt" || found.more || found.large != 1 || len(found.unreadable) != 1 {
		t.Errorf("found %s, %+v", got, found)
	}
	found, err = findFiles(dir, 2)
	if err != nil || names(found) != "a/.hidden a/1" || !found.more {
		t.Errorf("with a limit: %+v, %v", found, err)
	}
	if f := found.files[1]; f.changed() {
		t.Error("a file counts as changed that did not")
	}
	if err := os.WriteFile(filepath.Join(dir, "a/1"), []byte("other"), 0o600); err != nil {
		t.Fatal(err)
	}
	if f := found.files[1]; !f.changed() {
		t.Error("a changed file is not noticed")
	}
}

func TestFindFiles_nothingToDo(t *testing.T) {
	empty := t.TempDir()
	file := filepath.Join(empty, "f")
	for _, tt := range []struct{ name, dir, want string }{
		{"an empty folder", empty, "there is no file to hash"},
		{"no folder", filepath.Join(empty, "missing"), "no such file"},
		{"a file", file, "is not a folder"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if tt.dir == file {
				if err := os.WriteFile(file, nil, 0o600); err != nil {
					t.Fatal(err)
				}
			}
			if _, err := findFiles(tt.dir, 10); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("error %v, want %q", err, tt.want)
			}
		})
	}
	if _, err := findFiles(empty, 0); err == nil {
		t.Error("no limit was taken")
	}
}

func TestDemoFeed(t *testing.T) {
	f := &demoFeed{jobs: map[job.ID]*demoJob{}}
	for _, e := range []job.Event{
		{Type: job.AgentConnected, Agent: "one"},
		{Type: job.JobSubmitted, Job: 1, State: job.Pending},
		{Type: job.JobSubmitted, Job: 2, State: job.Pending},
		{Type: job.JobDispatched, Job: 1, State: job.Dispatched, Attempt: 1, Agent: "one"},
		{Type: job.JobStarted, Job: 1, State: job.Running},
		{Type: job.JobDispatched, Job: 2, State: job.Dispatched, Attempt: 1, Agent: "one"},
		{Type: job.JobCompleted, Job: 2, State: job.Completed},
	} {
		f.take(e)
	}
	if !f.running(1) || f.running(2) || f.allEnded([]job.ID{1, 2}) || !f.allEnded([]job.ID{2}) || f.allEnded([]job.ID{3}) {
		t.Errorf("jobs %+v %+v", f.jobs[1], f.jobs[2])
	}
	if len(f.rescues()) != 0 {
		t.Errorf("rescues %+v", f.rescues())
	}
	for _, e := range []job.Event{
		{Type: job.JobLost, Job: 1, State: job.Pending, Attempt: 1, Agent: "one"},
		{Type: job.JobDispatched, Job: 1, State: job.Dispatched, Attempt: 2, Agent: "two"},
		{Type: job.JobCompleted, Job: 1, State: job.Completed},
	} {
		f.take(e)
	}
	r := f.rescues()
	if len(r) != 1 || r[0].Attempt != 2 || r[0].Agent != "two" || r[0].Losses[0] != (demoLoss{1, "one", "lost"}) || f.ended != 2 {
		t.Errorf("rescues %+v, %d ended", r, f.ended)
	}
	want := []string{"lost     attempt 1 on one; back in the queue: job 1", "rescue   attempt 2 on two: job 1"}
	for i, n := range f.news {
		if got := newsText([]demoNews{n}); i >= len(want) || got != want[i] {
			t.Errorf("news %q", got)
		}
	}
}

func TestRanges(t *testing.T) {
	if got := ranges([]job.ID{9, 1, 5, 7, 6}); got != "1, 5-7, 9" {
		t.Errorf("%q", got)
	}
}

func TestHashFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "f")
	if err := os.WriteFile(path, []byte("abc"), 0o600); err != nil {
		t.Fatal(err)
	}
	sum, size, err := hashFile(t.Context(), path)
	// FIPS 180-4, the example of one block.
	if err != nil || size != 3 || sum != "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad" {
		t.Errorf("%s, %d, %v", sum, size, err)
	}
	if _, _, err := hashFile(t.Context(), path+"x"); err == nil {
		t.Error("a missing file was hashed")
	}
}
