//go:build linux

package chaos

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/orrery-io/orrery/client"
	"github.com/orrery-io/orrery/job"
)

// jobLoad submits work through the Go client, and remembers what was acknowledged.
type jobLoad struct {
	addrs []string
	pause time.Duration // between two submissions of one submitter

	mu       sync.Mutex
	acked    map[string]job.ID // by token
	unknown  map[string]bool   // tokens without an answer
	latency  []time.Duration
	cancels  map[string]bool // tokens whose cancellation was asked for
	retries  map[string]bool
	count    atomic.Int64
	rolling  atomic.Bool  // failures count: a client that retries once must see none
	failures atomic.Int64 // while rolling
	failed   []string
}

func newJobLoad(addrs []string, pause time.Duration) *jobLoad {
	return &jobLoad{addrs: addrs, pause: pause, acked: map[string]job.ID{}, unknown: map[string]bool{}, cancels: map[string]bool{}, retries: map[string]bool{}}
}

// client returns a client that begins with a random node.
func (l *jobLoad) client(r *rand.Rand) *client.Client {
	addrs := append([]string(nil), l.addrs...)
	r.Shuffle(len(addrs), func(i, k int) { addrs[i], addrs[k] = addrs[k], addrs[i] })
	c, err := client.New(client.Config{Token: token, Addrs: addrs, Timeout: 10 * time.Second})
	if err != nil {
		panic(err)
	}
	return c
}

// submit goes on until ctx ends.
func (l *jobLoad) submit(ctx context.Context, seed, who uint64) {
	r := rand.New(rand.NewPCG(seed, who))
	c := l.client(r)
	tick := time.NewTicker(l.pause)
	defer tick.Stop()
	for n := 0; ; n++ {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		if n%50 == 49 {
			c = l.client(r)
		}
		l.one(ctx, c, r, fmt.Sprintf("%d-%d", who, n))
	}
}

// one submits a job, and cancels or retries it at times.
func (l *jobLoad) one(ctx context.Context, c *client.Client, r *rand.Rand, token string) {
	w := work{Token: token, Kind: "quick"}
	s := client.Submission{Type: "work", Metadata: map[string]string{"token": token}, Retry: job.Retry{Backoff: job.Fixed, Initial: 50}, MaxAttempts: 20}
	switch k := r.IntN(100); {
	case k < 10:
		w.Kind, w.Steps = "slow", 10+r.IntN(60)
	case k < 12:
		w.Kind, w.Steps = stubborn, 60+r.IntN(120)
	case k < 20:
		w.Kind = "flaky"
	case k < 25:
		w.Kind = "bad"
	case k < 30:
		s.Delay = job.Duration(200 + r.IntN(2000))
	}
	s.Payload = w
	// Without a key only the request's id keeps it from happening twice.
	if r.IntN(3) > 0 {
		s.IdempotencyKey = "key-" + token
	}
	cancel := r.IntN(20) == 0
	start := time.Now()
	rolling := l.rolling.Load()
	l.count.Add(1)
	j, err := c.Submit(ctx, s)
	l.note(ctx, token, j, err, time.Since(start), rolling)
	if err != nil {
		return
	}
	switch {
	case cancel:
		l.mu.Lock()
		l.cancels[token] = true
		l.mu.Unlock()
		_, _ = c.Cancel(ctx, j.ID, "chaos")
	case w.Kind == "bad":
		l.mu.Lock()
		l.retries[token] = true
		l.mu.Unlock()
	}
}

func (l *jobLoad) note(ctx context.Context, token string, j *job.Job, err error, took time.Duration, rolling bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if err == nil {
		l.acked[token] = j.ID
		l.latency = append(l.latency, took)
		return
	}
	// Whether an error means that nothing happened is for the registers to check;
	// here any error leaves it open.
	l.unknown[token] = true
	if rolling && l.rolling.Load() && ctx.Err() == nil {
		l.failures.Add(1)
		if len(l.failed) < 10 {
			l.failed = append(l.failed, err.Error())
		}
	}
}

// redrive retries the jobs that have failed for good, now and then, until ctx ends.
func (l *jobLoad) redrive(ctx context.Context, seed uint64) {
	r := rand.New(rand.NewPCG(seed, 999))
	for pauseFor(ctx, time.Second) {
		c := l.client(r)
		for j, err := range c.List(ctx, client.ListOptions{Filter: client.Filter{States: []job.State{job.Failed}, Types: []string{"work"}}, Limit: 20}) {
			if err != nil {
				break
			}
			_, _ = c.Retry(ctx, j.ID)
		}
	}
}

// pauseFor waits, and reports false when ctx ends first.
func pauseFor(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}
