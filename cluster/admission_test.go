package cluster

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/orrery-io/orrery/command"
	"github.com/orrery-io/orrery/job"
)

// watching drives an admission from look to look: a leader that writes 100 entries of
// 10 KB each time, and one follower.
type watching struct {
	*admission
	now     sample
	waits   uint64
	applied uint64
	alive   bool
	limits  limits
}

func watch() *watching {
	w := &watching{
		admission: newAdmission(), alive: true, now: sample{at: time.Unix(1000, 0)},
		limits: limits{entries: 1000, bytes: 50 << 20, grace: 30 * time.Second},
	}
	w.look(0)
	return w
}

// look lets a moment pass in which the follower applies some entries.
func (w *watching) look(applies uint64) {
	w.now.at = w.now.at.Add(watchEvery)
	w.now.index += 100
	w.now.bytes += 100 * 10_000
	w.applied = min(w.applied+applies, w.now.index)
	w.admission.look(w.now, w.waits, []follower{{
		Server: Server{ID: "n2", Voter: true}, Alive: w.alive, Heard: w.now.at, Report: report{Applied: w.applied},
	}}, w.limits)
}

func TestAdmission(t *testing.T) {
	t.Run("who follows is not noticed", func(t *testing.T) {
		w := watch()
		for range 1000 {
			if w.look(100); w.closed.Load() {
				t.Fatal("closed")
			}
		}
	})
	t.Run("who falls behind closes it until it has caught up", func(t *testing.T) {
		w := watch()
		for n := 0; !w.closed.Load(); n++ {
			if w.look(50); n > 50 {
				t.Fatal("never closed")
			}
		}
		if behind := w.now.index - w.applied; behind < 1000 || behind > 1200 {
			t.Errorf("closed at %d", behind)
		}
		for n := 0; w.closed.Load(); n++ {
			if w.look(150); n > 50 {
				t.Fatal("never opened")
			}
		}
		if behind := w.now.index - w.applied; behind > 500 {
			t.Errorf("opened at %d", behind)
		}
	})
	t.Run("bytes count too", func(t *testing.T) {
		w := watch()
		w.limits.bytes = 1 << 20
		for n := 0; !w.closed.Load(); n++ {
			if w.look(50); n > 50 {
				t.Fatal("never closed")
			}
		}
		if behind := w.now.index - w.applied; behind > 400 {
			t.Errorf("closed at %d", behind)
		}
	})
	t.Run("who was away and catches up fast is left alone, and who doesn't is not", func(t *testing.T) {
		w := watch()
		for range 100 {
			w.look(100)
		}
		w.alive = false
		for range 400 {
			if w.look(0); w.closed.Load() {
				t.Fatal("a dead server closed it")
			}
		}
		w.alive = true
		for w.applied < w.now.index {
			if w.look(3000); w.closed.Load() {
				t.Fatal("closed while it catches up")
			}
		}
		w.alive = false
		for range 400 {
			w.look(0)
		}
		w.alive = true
		for n := 0; !w.closed.Load(); n++ {
			if w.look(110); n > 10 {
				t.Fatal("never closed")
			}
		}
	})
	t.Run("a queue that stands closes it until it moves", func(t *testing.T) {
		w := watch()
		for range 20 {
			w.now.queued += 100
			w.waits = 100 // of the last moment: that is no long time
			if w.look(100); w.closed.Load() {
				t.Fatal("closed")
			}
		}
		for n := 0; !w.closed.Load(); n++ {
			w.now.queued += 100
			w.waits += 100
			if w.look(100); n > 20 {
				t.Fatal("never closed")
			}
		}
		w.waits = 100
		for range 3 {
			w.now.queued += 100
			w.look(100)
		}
		if w.closed.Load() {
			t.Error("still closed")
		}
	})
}

func TestOverloaded(t *testing.T) {
	r := start(t, Config{})
	r.awaitLead(t)
	r.admission.closed.Store(true)
	cancel := func() command.Item { return command.Item{Command: &command.Cancel{Job: 1}} }
	if _, err := r.Propose(t.Context(), submit("1")); job.KindOf(err) != job.Overloaded {
		t.Errorf("Submit: %v", err)
	}
	if _, err := r.Propose(t.Context(), command.Item{Command: &command.SubmitAll{}}); !errors.Is(err, errOverloaded) {
		t.Errorf("SubmitAll: %v", err)
	}
	if results, err := r.Propose(t.Context(), cancel()); err != nil || results[0].Err != nil {
		t.Errorf("Cancel: %+v, %v", results, err)
	}
	results, err := r.Propose(t.Context(), cancel(), submit("2"), cancel())
	if err != nil || len(results) != 3 || results[0].Err != nil || results[2].Index == 0 || !errors.Is(results[1].Error(), errOverloaded) {
		t.Errorf("mixed: %+v, %v", results, err)
	}
	r.admission.closed.Store(false)
	r.record(t, submit("3"))
	if got := fmt.Sprint(r.machine.jobs()); got != "[3]" {
		t.Errorf("jobs %s", got)
	}
}
