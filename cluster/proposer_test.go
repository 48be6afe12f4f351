package cluster

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"sync"
	"testing"

	"github.com/orrery-io/orrery/command"
	"github.com/orrery-io/orrery/job"
)

// proposing starts a Propose and returns where its outcome comes.
func (r *running) proposing(ctx context.Context, items ...command.Item) <-chan outcome {
	ch := make(chan outcome, 1)
	go func() {
		results, err := r.Propose(ctx, items...)
		ch <- outcome{results, err}
	}()
	return ch
}

type outcome struct {
	results []command.Result
	err     error
}

// awaitQueued waits until n items wait for the proposer.
func (r *running) awaitQueued(t testing.TB, n int) {
	t.Helper()
	for r.proposer.queued() != n {
		if t.Context().Err() != nil {
			t.Fatal("the test ended before the items were queued")
		}
		runtime.Gosched()
	}
}

// awaitFlying waits until n entries are in flight.
func (r *running) awaitFlying(t testing.TB, n int) {
	t.Helper()
	flying := func() int {
		r.proposer.mu.Lock()
		defer r.proposer.mu.Unlock()
		return len(r.proposer.flying)
	}
	for flying() != n {
		if t.Context().Err() != nil {
			t.Fatal("the test ended before the entries were in flight")
		}
		runtime.Gosched()
	}
}

// blocked starts a node whose machine holds the first entry, so that whatever is
// proposed next waits in the queue.
func blocked(t *testing.T, cfg Config) (r *running, first <-chan outcome, release func()) {
	t.Helper()
	r = start(t, cfg)
	r.awaitLead(t)
	release = r.machine.hold()
	t.Cleanup(release)
	first = r.proposing(t.Context(), submit("first"))
	<-r.machine.reached
	return r, first, release
}

func TestPropose(t *testing.T) {
	t.Run("what waits together goes into one entry, in order", func(t *testing.T) {
		r, first, release := blocked(t, Config{})
		var outcomes []<-chan outcome
		for i, p := range payloads(1, 100) {
			outcomes = append(outcomes, r.proposing(t.Context(), submit(p)))
			r.awaitQueued(t, i+1)
		}
		release()
		if o := <-first; o.err != nil {
			t.Fatal(o.err)
		}
		var index uint64
		for i, ch := range outcomes {
			o := <-ch
			if o.err != nil || len(o.results) != 1 || int(o.results[0].Job) != i+2 {
				t.Fatalf("call %d: %+v", i, o)
			}
			if index == 0 {
				index = o.results[0].Index
			}
			if o.results[0].Index != index {
				t.Errorf("call %d is in entry %d, the first in %d", i, o.results[0].Index, index)
			}
		}
		if got := strings.Join(r.machine.jobs(), " "); got != "first "+strings.Join(payloads(1, 100), " ") {
			t.Errorf("jobs %s", got)
		}
	})

	t.Run("a second entry follows while the first is in flight when much waits", func(t *testing.T) {
		r, first, release := blocked(t, Config{})
		var many []command.Item
		for _, p := range payloads(1, secondItems) {
			many = append(many, submit(p))
		}
		second := r.proposing(t.Context(), many...)
		r.awaitFlying(t, 2)
		third := r.proposing(t.Context(), many...)
		r.awaitQueued(t, secondItems)
		release()
		for _, ch := range []<-chan outcome{first, second, third} {
			if o := <-ch; o.err != nil {
				t.Error(o.err)
			}
		}
		if n := len(r.machine.jobs()); n != 1+2*secondItems {
			t.Errorf("%d jobs", n)
		}
	})

	t.Run("ten thousand items give ten thousand results", func(t *testing.T) {
		r := start(t, Config{})
		r.awaitLead(t)
		var many []command.Item
		for _, p := range payloads(1, 10_000) {
			many = append(many, submit(p))
		}
		var wg sync.WaitGroup
		for range 4 {
			wg.Go(func() { r.record(t, submit("x")) })
		}
		results := r.record(t, many...)
		wg.Wait()
		if len(results) != len(many) {
			t.Fatalf("%d results", len(results))
		}
		jobs := r.machine.jobs()
		for i, res := range results {
			if jobs[res.Job-1] != string(many[i].Command.(*command.Submit).Spec.Payload) {
				t.Fatalf("result %d names job %d with payload %s", i, res.Job, jobs[res.Job-1])
			}
			if i > 0 && res.Job <= results[i-1].Job {
				t.Fatalf("result %d is job %d after job %d", i, res.Job, results[i-1].Job)
			}
		}
	})

	t.Run("an item larger than an entry gets its own", func(t *testing.T) {
		r := start(t, Config{MaxEntryBytes: 1 << 10})
		r.awaitLead(t)
		big := `"` + strings.Repeat("x", 5<<10) + `"`
		results := r.record(t, submit("1"), submit(big), submit("2"))
		if results[0].Index == results[1].Index || results[1].Index == results[2].Index {
			t.Errorf("entries %d %d %d", results[0].Index, results[1].Index, results[2].Index)
		}
		if got := fmt.Sprint(r.machine.jobs()); got != "[1 "+big+" 2]" {
			t.Errorf("jobs %.80s", got)
		}
	})

	t.Run("a caller that has gone leaves nothing behind", func(t *testing.T) {
		r, first, release := blocked(t, Config{})
		ctx, cancel := context.WithCancelCause(t.Context())
		cause := errors.New("the caller has gone")
		gone := r.proposing(ctx, submit("gone"))
		r.awaitQueued(t, 1)
		stays := r.proposing(t.Context(), submit("stays"))
		r.awaitQueued(t, 2)
		cancel(cause)
		if o := <-gone; !errors.Is(o.err, cause) || errors.Is(o.err, job.ErrOutcomeUnknown) {
			t.Errorf("gone: %v", o.err)
		}
		release()
		<-first
		if o := <-stays; o.err != nil {
			t.Error(o.err)
		}
		if got := fmt.Sprint(r.machine.jobs()); got != "[first stays]" {
			t.Errorf("jobs %s", got)
		}
		if _, err := r.Propose(ctx, submit("late")); !errors.Is(err, cause) {
			t.Errorf("late: %v", err)
		}
	})

	t.Run("a caller that goes while its entry is in flight learns that nobody knows", func(t *testing.T) {
		r := start(t, Config{})
		r.awaitLead(t)
		release := r.machine.hold()
		defer release()
		ctx, cancel := context.WithCancel(t.Context())
		o := r.proposing(ctx, submit("1"))
		<-r.machine.reached
		cancel()
		if got := <-o; !errors.Is(got.err, job.ErrOutcomeUnknown) || !errors.Is(got.err, context.Canceled) || job.KindOf(got.err) != job.Unknown {
			t.Errorf("error %v", got.err)
		}
	})

	t.Run("a full queue lets callers wait", func(t *testing.T) {
		r, first, release := blocked(t, Config{MaxQueuedItems: 3})
		a := r.proposing(t.Context(), submit("a"), submit("b"))
		r.awaitQueued(t, 2)
		ctx, cancel := context.WithCancel(t.Context())
		gone := r.proposing(ctx, submit("x"), submit("y"))
		cancel()
		if o := <-gone; !errors.Is(o.err, context.Canceled) {
			t.Errorf("gone: %v", o.err)
		}
		c := r.proposing(t.Context(), submit("c"), submit("d"))
		release()
		for _, ch := range []<-chan outcome{first, a, c} {
			if o := <-ch; o.err != nil {
				t.Error(o.err)
			}
		}
		if n := len(r.machine.jobs()); n != 5 {
			t.Errorf("%d jobs", n)
		}
	})

	t.Run("before a term nothing is taken", func(t *testing.T) {
		n, err := New(Config{ID: "a", Dir: t.TempDir(), Machine: newFake(nil)})
		if err != nil {
			t.Fatal(err)
		}
		defer n.Close()
		if _, err := n.Propose(t.Context(), submit("1")); !errors.Is(err, job.ErrNotLeader) {
			t.Errorf("Propose: %v", err)
		}
		if _, err := n.ReadIndex(t.Context()); !errors.Is(err, job.ErrNotLeader) {
			t.Errorf("ReadIndex: %v", err)
		}
		if n.IsLeader() || n.Status().State != "starting" {
			t.Errorf("status %+v", n.Status())
		}
	})

	t.Run("at the end what waits is refused, and what is in flight is answered", func(t *testing.T) {
		r, first, release := blocked(t, Config{})
		waits := r.proposing(t.Context(), submit("waits"))
		r.awaitQueued(t, 1)
		stopped := make(chan error, 1)
		go func() { stopped <- r.stop() }()
		if o := <-waits; !errors.Is(o.err, job.ErrClosed) && !errors.Is(o.err, job.ErrNotLeader) {
			t.Errorf("waits: %v", o.err)
		}
		release()
		if o := <-first; o.err != nil {
			t.Errorf("first: %v", o.err)
		}
		if err := <-stopped; err != nil {
			t.Error(err)
		}
		if _, err := r.Propose(t.Context(), submit("late")); !errors.Is(err, job.ErrClosed) {
			t.Errorf("late: %v", err)
		}
		if _, err := r.ReadIndex(t.Context()); !errors.Is(err, job.ErrClosed) {
			t.Errorf("ReadIndex: %v", err)
		}
	})

	t.Run("what the decoder would refuse is not proposed", func(t *testing.T) {
		r := start(t, Config{})
		r.awaitLead(t)
		if _, err := r.Propose(t.Context(), command.Item{}); err == nil {
			t.Error("an item without a command was taken")
		}
		it := submit("1")
		it.RequestID = strings.Repeat("x", command.MaxRequestID+1)
		if _, err := r.Propose(t.Context(), it); job.KindOf(err) != job.Invalid {
			t.Errorf("long request id: %v", err)
		}
		if results, err := r.Propose(t.Context()); results != nil || err != nil {
			t.Errorf("no items: %v, %v", results, err)
		}
	})

	t.Run("Prepare sees each entry, may assign, and hears the results in order", func(t *testing.T) {
		var mu sync.Mutex
		var done []job.ID
		r := start(t, Config{Prepare: func(items []command.Item) func([]command.Result, error) {
			for _, it := range items {
				it.Command.(*command.Submit).Assign = &command.Assign{Agent: "a"}
			}
			n := len(items)
			return func(results []command.Result, err error) {
				mu.Lock()
				defer mu.Unlock()
				if err != nil || len(results) != n {
					t.Errorf("done: %d results for %d items, %v", len(results), n, err)
				}
				for _, res := range results {
					done = append(done, res.Job)
				}
			}
		}})
		r.awaitLead(t)
		var wg sync.WaitGroup
		for range 8 {
			wg.Go(func() {
				for range 50 {
					r.record(t, submit("1"))
				}
			})
		}
		wg.Wait()
		mu.Lock()
		defer mu.Unlock()
		for i, id := range done {
			if int(id) != i+1 {
				t.Fatalf("done heard of job %d at position %d", id, i)
			}
		}
		if len(done) != 400 {
			t.Errorf("done heard of %d jobs", len(done))
		}
	})
}

func TestMachineFailure(t *testing.T) {
	m := newFake(nil)
	n, err := New(Config{ID: "n1", Dir: t.TempDir(), Machine: m, Log: testLog(t)})
	if err != nil {
		t.Fatal(err)
	}
	leads := make(chan struct{}, 1)
	n.cfg.Lead = func(ctx context.Context, _ uint64) error { leads <- struct{}{}; <-ctx.Done(); return nil }
	ended := make(chan error, 1)
	go func() { ended <- n.Run(context.WithoutCancel(t.Context())) }()
	<-leads
	m.mu.Lock()
	m.fail = errors.New("the disk of the database is gone")
	m.mu.Unlock()
	if _, err := n.Propose(t.Context(), submit("1")); !errors.Is(err, job.ErrOutcomeUnknown) {
		t.Errorf("Propose: %v", err)
	}
	if err := <-ended; err == nil || !strings.Contains(err.Error(), "the disk of the database is gone") {
		t.Errorf("Run: %v", err)
	}
	if _, err := n.Propose(t.Context(), submit("2")); !errors.Is(err, job.ErrClosed) {
		t.Errorf("Propose: %v", err)
	}
}

func TestLeadFailure(t *testing.T) {
	n, err := New(Config{
		ID: "n1", Dir: t.TempDir(), Machine: newFake(nil), Log: testLog(t),
		Lead: func(context.Context, uint64) error { return errors.New("no schedule can be read") },
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := n.Run(t.Context()); err == nil || !strings.Contains(err.Error(), "no schedule can be read") {
		t.Errorf("Run: %v", err)
	}
}

func TestClock(t *testing.T) {
	c := &clock{}
	now := c.next()
	c.atLeast(now + 1000)
	c.atLeast(now)
	if got := c.next(); got < now+1000 {
		t.Errorf("time went back from %d to %d", now+1000, got)
	}
}
