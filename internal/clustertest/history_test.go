package clustertest

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/orrery-io/orrery/cluster"
	"github.com/orrery-io/orrery/job"
)

// history is what clients were told, and what they check meanwhile.
type history struct {
	t *testing.T
	c *Cluster

	mu      sync.Mutex
	acked   []string          // request ids, in the order of their acknowledgements
	jobs    map[string]job.ID // by request id
	leaders map[uint64]string // by term
	unknown int
	reads   int
	refused int
}

func newHistory(t *testing.T) *history {
	return &history{t: t, jobs: map[string]job.ID{}, leaders: map[uint64]string{}}
}

// lead checks that a term has one leader.
func (h *history) lead(id string) func(context.Context, uint64) error {
	return func(ctx context.Context, term uint64) error {
		h.mu.Lock()
		if other, ok := h.leaders[term]; ok && other != id {
			h.t.Errorf("%s and %s lead in term %d", other, id, term)
		}
		h.leaders[term] = id
		h.mu.Unlock()
		<-ctx.Done()
		return nil
	}
}

// write submits one job after the other, each with its own request id, and again and
// again until somebody has acknowledged it. Now and then it repeats one that was.
func (h *history) write(ctx context.Context, client int, r *rand.Rand) {
	for i := 0; ctx.Err() == nil; i++ {
		id := fmt.Sprintf("c%d-%d", client, i)
		for ctx.Err() == nil && !h.submit(id, r) {
			time.Sleep(20 * time.Millisecond)
		}
		if r.IntN(4) == 0 {
			h.submit(id, r)
		}
		time.Sleep(time.Duration(5+r.IntN(30)) * time.Millisecond)
	}
}

// submit reports whether it was acknowledged.
func (h *history) submit(id string, r *rand.Rand) bool {
	n := h.c.Nodes[r.IntN(len(h.c.Nodes))].Up()
	if n == nil {
		return false
	}
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	results, err := n.Propose(ctx, Submit(id, id))
	h.mu.Lock()
	defer h.mu.Unlock()
	switch {
	case err == nil:
	case job.KindOf(err) == job.Unknown:
		h.unknown++
		return false
	case job.KindOf(err) == job.Unavailable, ctx.Err() != nil:
		h.refused++
		return false
	default:
		h.t.Errorf("submit %s: %v", id, err)
		return false
	}
	if first, ok := h.jobs[id]; !ok {
		h.jobs[id] = results[0].Job
		h.acked = append(h.acked, id)
	} else if first != results[0].Job {
		h.t.Errorf("request %s was answered with job %d, and then with job %d", id, first, results[0].Job)
	}
	return true
}

// read checks again and again that a linearizable read on any node sees everything
// that was acknowledged before.
func (h *history) read(ctx context.Context, r *rand.Rand) {
	for ctx.Err() == nil {
		i := r.IntN(len(h.c.Nodes))
		n, m := h.c.Nodes[i].Up(), h.c.Nodes[i].memory()
		if n == nil {
			time.Sleep(20 * time.Millisecond)
			continue
		}
		h.mu.Lock()
		before := len(h.acked)
		h.mu.Unlock()
		limit, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		_, err := n.ReadIndex(limit)
		cancel()
		h.mu.Lock()
		if err == nil {
			h.reads++
			for _, id := range h.acked[:before] {
				if !m.Answered(id) {
					h.t.Errorf("a linearizable read on %s misses %s, which was acknowledged before", h.c.Nodes[i].ID, id)
					break
				}
			}
		}
		h.mu.Unlock()
		time.Sleep(time.Duration(5+r.IntN(30)) * time.Millisecond)
	}
}

// check compares what was acknowledged with what is there.
func (h *history) check() {
	h.t.Helper()
	h.c.Agree()
	h.mu.Lock()
	defer h.mu.Unlock()
	jobs := h.c.Leader().Memory.Jobs()
	times := map[string]int{}
	for _, p := range jobs {
		times[p]++
	}
	for p, n := range times {
		if n > 1 {
			h.t.Errorf("%s was recorded %d times", p, n)
		}
	}
	for _, id := range h.acked {
		if got := h.jobs[id]; int(got) > len(jobs) || got < 1 || jobs[got-1] != id {
			h.t.Errorf("%s was acknowledged as job %d and is not there", id, got)
		}
	}
	h.t.Logf("%d acknowledged, %d unknown, %d refused, %d reads, %d terms", len(h.acked), h.unknown, h.refused, h.reads, len(h.leaders))
}

// under runs clients while f does something to the cluster.
func (h *history) under(seed uint64, writers, readers int, f func(r *rand.Rand)) {
	ctx, cancel := context.WithCancel(context.Background())
	var all sync.WaitGroup
	for i := range writers {
		all.Go(func() { h.write(ctx, i, rand.New(rand.NewPCG(seed, uint64(i)+10))) }) //nolint:gosec // reproducible
	}
	for i := range readers {
		all.Go(func() { h.read(ctx, rand.New(rand.NewPCG(seed, uint64(i)+1000))) }) //nolint:gosec // reproducible
	}
	f(rand.New(rand.NewPCG(seed, 2))) //nolint:gosec // reproducible
	cancel()
	all.Wait()
}

// start starts a cluster whose history is h.
func (h *history) start(cfg Config) {
	change := cfg.Change
	cfg.Change = func(i int, c *cluster.Config) {
		c.Lead = h.lead(c.ID)
		if change != nil {
			change(i, c)
		}
	}
	h.c = Start(h.t, cfg)
}
