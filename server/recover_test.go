package server

import (
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/orrery-io/orrery/client"
)

// runAlone runs a node alone on a folder until the test, or the function that is
// returned, ends it.
func runAlone(t *testing.T, dir string) (c *client.Client, stop func()) {
	t.Helper()
	s, err := New(Config{Data: dir, HTTP: "127.0.0.1:0"})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	ended := make(chan error, 1)
	go func() { ended <- s.Run(ctx) }()
	select {
	case <-s.Ready():
	case err := <-ended:
		t.Fatal(err)
	}
	if c, err = client.New(client.Config{Addr: s.URL()}); err != nil {
		t.Fatal(err)
	}
	stopped := false
	stop = func() {
		if stopped {
			return
		}
		stopped = true
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}
	t.Cleanup(stop)
	return c, stop
}

func TestRecovery(t *testing.T) {
	dir := t.TempDir()
	c, stop := runAlone(t, dir)
	j, err := c.Submit(t.Context(), client.Submission{Type: "echo"})
	if err != nil {
		t.Fatal(err)
	}
	before, err := c.Cluster(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := OpenRecovery(t.Context(), RecoveryConfig{Data: dir}); err == nil || !strings.Contains(err.Error(), "in use by another node") {
		t.Errorf("a node that runs is recovered: %v", err)
	}
	stop()

	for range 2 { // it can be done again
		r, err := OpenRecovery(t.Context(), RecoveryConfig{Data: dir})
		if err != nil {
			t.Fatal(err)
		}
		if r.Node != before.Node || r.Last == 0 || len(r.Others) != 0 {
			t.Errorf("%+v", r)
		}
		done, err := r.Run(t.Context())
		if err != nil || done.ClusterID == before.ClusterID || done.ClusterID == "" {
			t.Fatalf("%+v %v", done, err)
		}
		if err := r.Close(); err != nil {
			t.Error(err)
		}
	}

	c, _ = runAlone(t, dir)
	if got, err := c.Get(t.Context(), j.ID); err != nil || got.Type != "echo" {
		t.Errorf("%v %v", got, err)
	}
	after, err := c.Cluster(t.Context())
	if err != nil || after.ClusterID == before.ClusterID || after.Node != before.Node {
		t.Errorf("%+v %v", after, err)
	}
	var id identity
	if b, err := os.ReadFile(filepath.Join(dir, "node.json")); err != nil || json.Unmarshal(b, &id) != nil || id.Cluster != after.ClusterID {
		t.Errorf("%+v %v", id, err)
	}
}

func TestRecovery_of_what_is_no_node(t *testing.T) {
	dir := t.TempDir()
	for _, path := range []string{dir, filepath.Join(dir, "no"), ""} {
		if _, err := OpenRecovery(t.Context(), RecoveryConfig{Data: path}); err == nil || !strings.Contains(err.Error(), "--data DIR") {
			t.Errorf("%q: %v", path, err)
		}
	}
	if entries, err := os.ReadDir(dir); err != nil || len(entries) != 0 {
		t.Errorf("something was made: %v %v", entries, err)
	}
}
