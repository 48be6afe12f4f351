package cluster

import (
	"cmp"
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/orrery-io/orrery/fsm"
	"github.com/orrery-io/orrery/job"
)

// TestChaos submits jobs to three nodes with real databases while it stops them, cuts
// them off, shortens their logs, takes a database away and passes the leadership on.
// In the end every node has every job that was acknowledged, once, and all have the
// same rows. ORRERY_CHAOS_SEEDS says how many times; 2 unless told.
func TestChaos(t *testing.T) {
	if testing.Short() {
		t.Skip("takes long")
	}
	seeds, err := strconv.ParseUint(cmp.Or(os.Getenv("ORRERY_CHAOS_SEEDS"), "2"), 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	for seed := range seeds {
		if one := os.Getenv("ORRERY_CHAOS_SEED"); one != "" && one != fmt.Sprint(seed) {
			continue
		}
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { chaos(t, seed) })
		})
	}
}

func chaos(t *testing.T, seed uint64) {
	c := newCrew(t, 3, 0, func(_ int, cfg *Config) {
		cfg.TrailingLogs, cfg.SnapshotThreshold, cfg.SnapshotInterval = 1, 4<<10, 2*time.Second
		cfg.LeaderWait = time.Second
	})
	r := rand.New(rand.NewPCG(seed, 1)) //nolint:gosec // reproducible
	acked := map[job.ID]string{}
	var mu sync.Mutex
	ctx, stop := context.WithCancel(t.Context())
	var clients sync.WaitGroup
	for k := range 4 {
		clients.Go(func() {
			for i := 0; ctx.Err() == nil; i++ {
				payload := fmt.Sprintf(`"%d-%d"`, k, i)
				n := c.node((k + i) % 3)
				if n == nil {
					time.Sleep(10 * time.Millisecond)
					continue
				}
				results, err := n.Propose(ctx, realSubmit(payload))
				if err == nil {
					mu.Lock()
					acked[results[0].Job] = payload
					mu.Unlock()
				}
				time.Sleep(10 * time.Millisecond)
			}
		})
	}
	heal := func() {
		for i := range c.nodes {
			if c.node(i) == nil {
				c.start(t, i)
			}
			c.cut(i, false)
		}
	}
	whole := func() bool { // nobody waits for what it had
		for i := range c.nodes {
			if n := c.node(i); n == nil || n.raft.Load() == nil || !n.lifted() {
				return false
			}
		}
		return true
	}
	refills := 0
	for range 60 {
		i := r.IntN(3)
		n := c.node(i)
		switch what := r.IntN(7); {
		case what == 0 && n != nil:
			c.stop(t, i)
		case what <= 1 && n == nil:
			c.start(t, i)
		case what == 2:
			c.cut(i, true)
		case what == 3:
			heal()
		case what == 4 && n != nil && n.raft.Load() != nil:
			_ = n.snapshot(n.raft.Load()) // it may be ending
		case what == 5 && n != nil && n.IsLeader():
			n.raft.Load().LeadershipTransfer()
		case what == 6 && whole():
			// One at a time: what two have lost is lost.
			c.stop(t, i)
			if _, err := fsm.SetAside(filepath.Join(c.dirs[i], "db")); err != nil {
				t.Fatal(err)
			}
			refills++
			c.start(t, i)
		}
		time.Sleep(time.Duration(r.IntN(1500)) * time.Millisecond)
	}
	heal()
	stop()
	clients.Wait()
	c.equal(t)
	for i := range c.nodes {
		n := c.node(i)
		seen := map[string]job.ID{}
		for id, payload := range acked {
			j, err := n.machine.Job(t.Context(), id)
			if err != nil || string(j.Payload) != payload {
				t.Fatalf("node %d, job %d, acknowledged as %s: %+v, %v", i, id, payload, j, err)
			}
			if again, ok := seen[payload]; ok {
				t.Fatalf("%s is job %d and %d", payload, again, id)
			}
			seen[payload] = id
		}
	}
	if len(acked) < 500 {
		t.Errorf("%d jobs, %d databases taken away: that proves little", len(acked), refills)
	}
	t.Logf("%d jobs acknowledged, %d databases taken away", len(acked), refills)
}
