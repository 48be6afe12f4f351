package clustertest

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"strconv"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/orrery-io/orrery/job"
)

// TestPartitions lets chance do everything to the network that it can do, and some
// nodes die of it. ORRERY_TEST_SEEDS says how often.
func TestPartitions(t *testing.T) {
	seeds := uint64(1)
	if n, err := strconv.ParseUint(os.Getenv("ORRERY_TEST_SEEDS"), 10, 32); err == nil {
		seeds = n
	}
	for seed := range seeds {
		for _, nodes := range []int{3, 5} {
			t.Run(fmt.Sprintf("nodes=%d/seed=%d", nodes, seed), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) { partitions(t, nodes, seed) })
			})
		}
	}
}

func partitions(t *testing.T, nodes int, seed uint64) {
	h := newHistory(t)
	h.start(Config{Nodes: nodes, Seed: seed, Log: slog.New(slog.DiscardHandler)})
	h.c.Leader()
	h.under(seed, 4, 4, func(r *rand.Rand) {
		for end := time.Now().Add(30 * time.Second); time.Now().Before(end); {
			trouble(h.c, r)
			time.Sleep(time.Duration(r.IntN(1500)) * time.Millisecond)
		}
		h.c.Net.Heal()
		began := time.Now()
		h.c.Record(h.c.Leader(), Submit("healed", ""))
		if took := time.Since(began); took > 5*time.Second { // virtual
			t.Errorf("the first commit after healing took %s", took)
		}
	})
	h.check()
}

// trouble does one thing to the cluster, for a while.
func trouble(c *Cluster, r *rand.Rand) {
	n := c.Nodes[r.IntN(len(c.Nodes))]
	if l := c.leading(); l != nil && r.IntN(2) == 0 {
		n = l
	}
	other := c.Nodes[(c.Index(n)+1+r.IntN(len(c.Nodes)-1))%len(c.Nodes)]
	wait := func() { time.Sleep(time.Duration(100+r.IntN(3000)) * time.Millisecond) }
	defer c.Net.Heal()
	switch r.IntN(9) {
	case 0:
		c.Net.Isolate(n.ID)
		wait()
	case 1:
		c.Net.Cut(n.ID, other.ID)
		wait()
	case 2:
		for _, to := range c.Nodes {
			c.Net.Block(n.ID, to.ID)
		}
		wait()
	case 3:
		for _, from := range c.Nodes {
			c.Net.Block(from.ID, n.ID)
		}
		wait()
	case 4:
		var halves [2][]string
		for _, x := range c.Nodes {
			i := r.IntN(2)
			halves[i] = append(halves[i], x.ID)
		}
		c.Net.Split(halves[0], halves[1])
		wait()
	case 5:
		c.Net.SetAll(Way{Delay: time.Millisecond, Jitter: time.Duration(1+r.IntN(400)) * time.Millisecond, Lose: r.Float64() / 3, Twice: r.Float64()})
		wait()
	case 6:
		for range 2 + r.IntN(8) {
			c.Net.Isolate(n.ID)
			time.Sleep(time.Duration(50+r.IntN(600)) * time.Millisecond)
			c.Net.Rejoin(n.ID)
			time.Sleep(time.Duration(50+r.IntN(300)) * time.Millisecond)
		}
	case 7:
		n.Crash()
		wait()
		c.Start(c.Index(n))
	case 8:
		if err := n.Stop(); err != nil {
			c.t.Errorf("stop %s: %v", n.ID, err)
		}
		wait()
		c.Start(c.Index(n))
	}
}

func TestRollingRestart(t *testing.T) { synctest.Test(t, testRollingRestart) }

// testRollingRestart restarts one node after the other under load. Clients try once
// more, on another node.
func testRollingRestart(t *testing.T) {
	c := Start(t, Config{Log: slog.New(slog.DiscardHandler)})
	c.Followers()
	c.Net.SetAll(Way{Delay: time.Millisecond, Jitter: time.Millisecond})
	ctx, cancel := context.WithCancel(t.Context())
	var all sync.WaitGroup
	var mu sync.Mutex
	calls, again := 0, 0
	for client := range 9 {
		all.Go(func() {
			at := client % 3
			for i := 0; ctx.Err() == nil; i++ {
				id := fmt.Sprintf("c%d-%d", client, i)
				err := c.once(at, id)
				if err != nil {
					first := err
					at = (at + 1) % 3
					mu.Lock()
					again++
					mu.Unlock()
					if err = c.once(at, id); err != nil {
						t.Errorf("%s: %v, and on another node: %v", id, first, err)
					}
				}
				mu.Lock()
				calls++
				mu.Unlock()
				time.Sleep(2 * time.Millisecond)
			}
		})
	}
	for round := range 1 {
		for i, n := range c.Nodes {
			began := time.Now()
			if err := n.Stop(); err != nil {
				t.Errorf("stop %s: %v", n.ID, err)
			}
			if took := time.Since(began); took > 2*time.Second { // virtual
				t.Errorf("round %d: %s took %s to stop", round, n.ID, took)
			}
			time.Sleep(500 * time.Millisecond)
			c.Start(i)
			c.Followers()
			time.Sleep(time.Second)
		}
	}
	cancel()
	all.Wait()
	c.Agree()
	times := map[string]int{}
	for _, p := range c.Leader().Memory.Jobs() {
		times[p]++
	}
	for p, n := range times {
		if n > 1 {
			t.Errorf("%s was recorded %d times", p, n)
		}
	}
	t.Logf("%d calls, %d tried again", calls, again)
}

// once submits on node i, and reads what it has submitted there.
func (c *Cluster) once(i int, id string) error {
	n := c.Nodes[i]
	up, m := n.Up(), n.memory()
	if up == nil {
		return job.Errorf(job.Unavailable, "connection_refused", "connection refused")
	}
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	if _, err := up.Propose(ctx, Submit(id, id)); err != nil {
		return err
	}
	if !m.Answered(id) && up == n.Up() {
		c.t.Errorf("%s does not see what it has recorded", n.ID)
	}
	return nil
}
