package cluster

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hashicorp/raft"
	"github.com/orrery-io/orrery/command"
	"github.com/orrery-io/orrery/job"
)

// tcp is a network on loopback in which nodes find each other by id.
type tcp struct {
	mu    sync.Mutex
	addrs map[string]string
}

func (n *tcp) listen(t *testing.T, id string) raft.Transport {
	t.Helper()
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	n.mu.Lock()
	n.addrs[id] = l.Addr().String()
	n.mu.Unlock()
	return NewTransport(TransportConfig{Listener: l, Dial: func(ctx context.Context, node, _ string) (net.Conn, error) {
		n.mu.Lock()
		addr := n.addrs[node]
		n.mu.Unlock()
		return (&net.Dialer{}).DialContext(ctx, "tcp", addr)
	}})
}

// fill submits jobs with random payloads until the database has that many bytes.
func (c *crew) fill(t *testing.T, size int64) (jobs int) {
	t.Helper()
	random := rand.NewChaCha8([32]byte{1})
	i := c.leader(t)
	l := c.node(i)
	for {
		var dbs []string
		if jobs%1000 == 0 {
			var err error
			if dbs, err = filepath.Glob(filepath.Join(c.dirs[i], "db", "gen-*", "state.db*")); err != nil {
				t.Fatal(err)
			}
			sum := int64(0)
			for _, path := range dbs {
				if info, err := os.Stat(path); err == nil {
					sum += info.Size()
				}
			}
			if sum >= size {
				return jobs
			}
		}
		batch := &command.SubmitAll{Jobs: make([]command.Submit, 25)}
		for i := range batch.Jobs {
			payload := make([]byte, 3000)
			_, _ = random.Read(payload)
			s := spec("1")
			s.Payload, s.PayloadBytes = nil, payload
			batch.Jobs[i].Spec = s
		}
		if _, err := l.Propose(t.Context(), command.Item{Command: batch}); err != nil {
			t.Fatal(err)
		}
		jobs += len(batch.Jobs)
	}
}

// TestLargeInstall has a node join, and another one come back after it was away for
// longer than the log, while jobs are submitted, over TCP. ORRERY_LARGE_INSTALL is the
// size of the database in MiB, 16 unless told.
func TestLargeInstall(t *testing.T) {
	if testing.Short() {
		t.Skip("moves large files")
	}
	mib, err := strconv.ParseInt(cmp.Or(os.Getenv("ORRERY_LARGE_INSTALL"), "16"), 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	network := &tcp{addrs: map[string]string{}}
	c := makeCrew(t, 3, 1, func(_ int, cfg *Config) {
		cfg.Transport = network.listen(t, cfg.ID)
		cfg.HeartbeatTimeout, cfg.ElectionTimeout, cfg.LeaseTimeout = 3*time.Second, 3*time.Second, 2*time.Second
		cfg.TrailingLogs, cfg.SnapshotThreshold, cfg.PinGrace = 64, 1<<40, time.Minute
	})
	l := c.leader(t)
	away := (l + 1) % 3
	c.record(t, l, "0")
	c.stop(t, away)
	began := time.Now()
	jobs := c.fill(t, mib<<20)
	t.Logf("%d jobs, %d MiB, in %s", jobs, mib, time.Since(began))
	c.cutLog(t)

	ctx, stop := context.WithCancel(t.Context())
	var load sync.WaitGroup
	var submitted atomic.Int64
	for range 4 {
		load.Go(func() {
			for ctx.Err() == nil {
				_, err := c.node(l).Propose(ctx, realSubmit("1"))
				switch {
				case err == nil:
					submitted.Add(1)
				case ctx.Err() == nil && !errors.Is(err, job.ErrNotLeader) && !errors.Is(err, job.ErrOutcomeUnknown) && job.KindOf(err) != job.Overloaded:
					t.Error(err)
				}
			}
		})
	}
	began = time.Now()
	c.start(t, away)
	index, err := c.node(l).ReadIndex(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := c.node(away).machine.WaitApplied(t.Context(), index); err != nil {
		t.Fatal(err)
	}
	t.Logf("back after %s, %d jobs were submitted meanwhile", time.Since(began), submitted.Load())
	began = time.Now()
	c.admit(t, 3)
	t.Logf("joined after %s, %d jobs were submitted in all", time.Since(began), submitted.Load())
	stop()
	load.Wait()
	if now := c.leader(t); now != l {
		t.Logf("the leader changed from %d to %d: this machine is busy", l, now)
	} else if n := c.node(l).machine.copies.Load(); n != 1 {
		t.Errorf("%d copies of the database were made", n)
	}
	for i := range c.nodes {
		if n := c.node(i); n.machine.copies.Load() > 0 && i != l && c.leader(t) == l {
			t.Errorf("node %d has made a copy", i)
		}
	}
	began = time.Now()
	v := c.equal(t)
	t.Logf("verified in %s: %v", time.Since(began), fmt.Sprint(len(v.Hashes)))
	for _, i := range []int{away, 3} {
		c.stop(t, i)
		c.start(t, i)
		if n := c.node(i).machine.entries.Load(); n > 10 {
			t.Errorf("node %d replayed %d entries", i, n)
		}
	}
	c.equal(t)
}
