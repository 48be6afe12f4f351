package fsm

import (
	"context"
	"errors"
	"path/filepath"
	"sync"
	"testing"

	"github.com/orrery-io/orrery/command"
	"github.com/orrery-io/orrery/job"
)

// TestReaders asks everything that can be asked, from many goroutines, while the
// machine applies, flushes, marks, copies, and installs a snapshot. The race
// detector and the answers are the judges.
func TestReaders(t *testing.T) {
	model := setup(t, Config{})
	work := func(b *bundle, n int) {
		for range n {
			id := b.do(submission(nil)).Job
			b.dispatch(id)
			b.finish(id, job.OutcomeCompleted, job.Completed, nil)
		}
	}
	work(model, 100)
	model.mark(model.index)
	snapshot := model.copy()

	b := setup(t, Config{FlushEvery: 1, CachedJobs: 64, DirtyRows: 20})
	b.replay(model.log[:30])
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	ask := func(question func() error) {
		wg.Go(func() {
			for ctx.Err() == nil {
				if err := question(); err != nil && ctx.Err() == nil && !errors.Is(err, job.ErrJobNotFound) {
					t.Error(err)
					return
				}
			}
		})
	}
	last := job.ID(0)
	ask(func() error {
		last = last%150 + 1
		j, err := b.m.Job(ctx, last)
		if err == nil && j.ID != last {
			return errors.New("another job")
		}
		return err
	})
	ask(func() error {
		jobs, _, err := b.m.Jobs(ctx, JobFilter{States: []job.State{job.Pending, job.Completed}}, 0, 20)
		for i := 1; i < len(jobs); i++ {
			if jobs[i].ID >= jobs[i-1].ID {
				return errors.New("not in order")
			}
		}
		return err
	})
	ask(func() error {
		_, err := b.m.ReadyJobs(ctx, "default", "email.send", ReadyPos{}, 20)
		return err
	})
	ask(func() error {
		_, err := b.m.ActiveJobs(ctx, 0, 20)
		return err
	})
	ask(func() error {
		index, _ := b.m.Applied()
		if err := b.m.Flush(ctx); err != nil {
			return err
		}
		if s := b.m.Stats(); s.Flushed < index || s.Applied < s.Flushed {
			return errors.New("indexes out of order")
		}
		b.m.Queues()
		b.m.Agents()
		b.m.Synced()
		b.m.Marker()
		b.m.FeedToTrim()
		return b.m.WaitApplied(ctx, index)
	})
	feed := b.m.Subscribe(job.EventID{})
	seen := job.EventID{}
	ask(func() error {
		events, err := feed.Next(ctx)
		for _, e := range events {
			// Every entry of this log has one event.
			if e.ID.Index != seen.Index+1 || e.ID.N != 0 {
				return errors.New("gap or repeat at " + e.ID.String())
			}
			seen = e.ID
		}
		return err
	})
	b.replay(model.log[30:60])
	if _, err := b.m.Install(t.Context(), snapshot, Marker{}); err != nil {
		t.Fatal(err)
	}
	b.index = model.index
	b.now = model.now
	for range 3 {
		work(b, 30)
		b.mark(b.index)
		if _, err := b.m.CopyTo(t.Context(), filepath.Join(t.TempDir(), "copy")); err != nil {
			t.Fatal(err)
		}
	}
	cancel()
	wg.Wait()
}

// TestClusterIDWhileItIsGiven asks for the id while Init is applied: the race detector
// is the judge. Whoever sees that entry applied sees the id.
func TestClusterIDWhileItIsGiven(t *testing.T) {
	b := setup(t, Config{})
	var wg sync.WaitGroup
	wg.Go(func() {
		for b.m.ClusterID() == "" && t.Context().Err() == nil {
		}
	})
	b.do(&command.Init{ClusterID: "c1"})
	wg.Wait()
	if id := b.m.ClusterID(); id != "c1" {
		t.Errorf("the id is %q", id)
	}
}
