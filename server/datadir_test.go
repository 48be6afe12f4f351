package server

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestDataDir(t *testing.T) {
	t.Parallel()
	// refused opens the folder and wants an error with all the words.
	refused := func(t *testing.T, path string, words ...string) {
		t.Helper()
		d, err := openDataDir(path, "test")
		if err == nil {
			_ = d.close()
			t.Fatalf("the folder was taken, want an error with %q", words)
		}
		for _, w := range words {
			if !strings.Contains(err.Error(), w) {
				t.Errorf("error %q does not say %q", err, w)
			}
		}
		if strings.Contains(err.Error(), "\n") {
			t.Errorf("error %q is more than one line", err)
		}
	}
	t.Run("a node keeps its id", func(t *testing.T) {
		t.Parallel()
		path := filepath.Join(t.TempDir(), "a", "b")
		d, err := openDataDir(path, "test")
		if err != nil {
			t.Fatal(err)
		}
		first := d.id.Node
		if err := d.setCluster("c-1", "test"); err != nil {
			t.Fatal(err)
		}
		if err := d.close(); err != nil {
			t.Fatal(err)
		}
		if d, err = openDataDir(path, "test"); err != nil {
			t.Fatal(err)
		}
		defer d.close()
		if d.id.Node != first || d.id.Cluster != "c-1" {
			t.Fatalf("got %+v, want node %s of cluster c-1", d.id, first)
		}
	})
	t.Run("a folder in use is refused", func(t *testing.T) {
		t.Parallel()
		path := t.TempDir()
		d, err := openDataDir(path, "test")
		if err != nil {
			t.Fatal(err)
		}
		defer d.close()
		refused(t, path, "in use by another node", "--data")
	})
	t.Run("a folder of another cluster is refused", func(t *testing.T) {
		t.Parallel()
		d, err := openDataDir(t.TempDir(), "test")
		if err != nil {
			t.Fatal(err)
		}
		defer d.close()
		if err := d.setCluster("c-1", "test"); err != nil {
			t.Fatal(err)
		}
		if err := d.setCluster("c-2", "test"); err == nil || !strings.Contains(err.Error(), "two clusters were mixed") {
			t.Fatalf("got %v", err)
		}
	})
	t.Run("a newer layout is refused and left as it is", func(t *testing.T) {
		t.Parallel()
		path := t.TempDir()
		content := `{"layout":99,"node":"n-x","version":"v9"}`
		write(t, filepath.Join(path, "node.json"), content)
		refused(t, path, "v9", "layout 99", "newer")
		if b, err := os.ReadFile(filepath.Join(path, "node.json")); err != nil || string(b) != content {
			t.Fatalf("node.json became %q, %v", b, err)
		}
	})
	t.Run("a damaged identity is refused", func(t *testing.T) {
		t.Parallel()
		path := t.TempDir()
		write(t, filepath.Join(path, "node.json"), "{")
		refused(t, path, "damaged", "backup")
	})
	t.Run("a folder with something else in it is refused", func(t *testing.T) {
		t.Parallel()
		path := t.TempDir()
		write(t, filepath.Join(path, "thesis.txt"), "")
		refused(t, path, "not empty", "thesis.txt", "--data")
		if left, err := os.ReadDir(path); err != nil || len(left) != 1 {
			t.Fatalf("the folder has %v, %v; nothing may be left in it", left, err)
		}
	})
	t.Run("a database without an identity is refused", func(t *testing.T) {
		t.Parallel()
		path := t.TempDir()
		if err := os.Mkdir(filepath.Join(path, "raft"), 0o700); err != nil {
			t.Fatal(err)
		}
		refused(t, path, "no node.json")
	})
	t.Run("a file instead of a folder is refused", func(t *testing.T) {
		t.Parallel()
		path := filepath.Join(t.TempDir(), "file")
		write(t, path, "")
		refused(t, path, "not a folder")
	})
}

func write(t *testing.T, path, content string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
}
