package server

import (
	"context"
	"io/fs"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/orrery-io/orrery/client"
	"github.com/orrery-io/orrery/job"
)

// largeDatabase is how large the database of TestLargeRestart becomes, in bytes.
const largeDatabase = 1 << 30

// TestLargeRestart fills a database of 1 GB, kills the node while more is being
// written, and starts it again, five times. The budget is two seconds from the
// start of the process until it answers; the measured times are in the test's
// output. Because a machine may be busy, it is only the order of magnitude that
// the test insists on: a start that reads or replays everything takes far longer.
func TestLargeRestart(t *testing.T) {
	if testing.Short() {
		t.Skip("writes 1 GB, which takes minutes with the race detector; runs without -short")
	}
	ctx, cancel := context.WithTimeout(t.Context(), 5*patience)
	defer cancel()
	data, addr := dataFolder(t), freeAddr(t)
	env := []string{dataEnv + "=" + data, httpEnv + "=" + addr}
	node := startChild(t, "node", env...)
	c := newClient(t, addr)

	random := rand.NewChaCha8([32]byte{1})
	jobs := make([]client.Submission, 3000)
	for i := range jobs {
		payload := make([]byte, 3000)
		_, _ = random.Read(payload)
		jobs[i] = client.Submission{Type: "nobody.does", PayloadBytes: payload}
	}
	var last job.ID
	submit := func() error {
		res, err := c.SubmitBatch(ctx, jobs, client.BatchOptions{})
		if err != nil {
			return err
		}
		last = res.Items[len(res.Items)-1].ID
		return nil
	}
	for databaseSize(t, data) < largeDatabase {
		if err := submit(); err != nil {
			t.Fatal(err)
		}
	}
	var took []time.Duration
	for range 5 {
		failed := make(chan struct{})
		go func() {
			defer close(failed)
			for submit() == nil {
			}
		}()
		select {
		case <-time.After(time.Duration(50+random.Uint64()%200) * time.Millisecond):
		case <-failed:
			t.Fatal("submitting ended before the node was killed")
		}
		node.kill()
		<-failed
		node = startChild(t, "node", env...)
		took = append(took, node.ready)
		if _, err := c.Get(ctx, last); err != nil {
			t.Fatalf("job %d was acknowledged: %v", last, err)
		}
	}
	slices.Sort(took)
	t.Logf("database of %d MB, %d jobs; start after kill -9 until ready: median %s, worst %s", databaseSize(t, data)>>20, last, took[2], took[4])
	if took[2] > 20*time.Second {
		t.Errorf("the median start took %s", took[2])
	}
	node.stop()
	checkDatabase(t, data)
}

// databaseSize is that of the database's files, in bytes.
func databaseSize(t *testing.T, data string) (size int64) {
	t.Helper()
	err := filepath.WalkDir(filepath.Join(data, "db"), func(_ string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		info, err := e.Info()
		if err == nil {
			size += info.Size()
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return size
}
