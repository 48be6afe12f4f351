package scheduler

import (
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/orrery-io/orrery/job"
)

func drain(w *window) []job.ID {
	var ids []job.ID
	for e, ok := w.pop(); ok; e, ok = w.pop() {
		ids = append(ids, e.id)
	}
	return ids
}

func TestWindow(t *testing.T) {
	t.Run("higher priority comes first, then longer waiting, then the smaller id", func(t *testing.T) {
		w := window{complete: true}
		for _, e := range []entry{
			{id: 1, readyAt: 10, priority: 4},
			{id: 2, readyAt: 5, priority: 4},
			{id: 4, readyAt: 20, priority: 9},
			{id: 3, readyAt: 20, priority: 9},
			{id: 5, readyAt: 1},
		} {
			w.add(e)
		}
		if got, want := drain(&w), []job.ID{3, 4, 2, 1, 5}; !slices.Equal(got, want) {
			t.Errorf("got %v, want %v", got, want)
		}
	})

	t.Run("a removed job does not come", func(t *testing.T) {
		w := window{complete: true}
		for id := range job.ID(300) {
			w.add(entry{id: id + 1, readyAt: 1})
		}
		for id := range job.ID(299) {
			w.remove(id + 1)
		}
		w.remove(12345)
		if got, want := drain(&w), []job.ID{300}; !slices.Equal(got, want) {
			t.Errorf("got %v, want %v", got, want)
		}
	})

	t.Run("a job that comes again has its new place only", func(t *testing.T) {
		w := window{complete: true}
		w.add(entry{id: 1, readyAt: 1})
		w.add(entry{id: 2, readyAt: 2})
		w.add(entry{id: 1, readyAt: 3})
		w.add(entry{id: 1, readyAt: 3})
		if got, want := drain(&w), []job.ID{2, 1}; !slices.Equal(got, want) {
			t.Errorf("got %v, want %v", got, want)
		}
	})

	t.Run("it is cut when it grows too large, and leaves the rest to the database", func(t *testing.T) {
		w := window{complete: true}
		perm := rand.New(rand.NewPCG(1, 2)).Perm(3 * windowMost) //nolint:gosec // not a secret
		for _, n := range perm {
			w.add(entry{id: job.ID(n + 1), readyAt: job.Time(n + 1)})
		}
		if w.complete || w.len() > windowMost || w.len() < windowSize {
			t.Fatalf("complete %v, len %d", w.complete, w.len())
		}
		if w.add(entry{id: 1 << 40, readyAt: w.through.readyAt + 1}) {
			t.Error("took a job from behind its end")
		}
		through := int(w.through.id)
		got := drain(&w)
		for i, id := range got {
			if id != job.ID(i+1) {
				t.Fatalf("place %d has job %d", i, id)
			}
		}
		if len(got) != through {
			t.Errorf("holds %d jobs of the %d up to its end", len(got), through)
		}
	})

	t.Run("a higher priority is never behind the end", func(t *testing.T) {
		w := window{through: entry{id: 5, readyAt: 5, priority: 4}}
		if !w.add(entry{id: 9, readyAt: 9, priority: 5}) || w.add(entry{id: 10, readyAt: 9, priority: 4}) {
			t.Error("wrong side of the end")
		}
	})

	t.Run("one that knows nothing takes nothing and is hungry", func(t *testing.T) {
		w := window{through: start}
		if w.add(entry{id: 1, readyAt: 1, priority: job.MaxPriority}) || !w.hungry() {
			t.Error("took a job before the first read")
		}
	})

	t.Run("ahead of a newcomer is whoever has its priority or a higher one", func(t *testing.T) {
		tests := []struct {
			name     string
			w        window
			held     []entry
			priority int
			want     bool
		}{
			{"nobody waits", window{complete: true}, nil, 0, false},
			{"one of the same priority waits", window{complete: true}, []entry{{id: 1, readyAt: 1, priority: 4}}, 4, true},
			{"one of a lower priority waits", window{complete: true}, []entry{{id: 1, readyAt: 1, priority: 3}}, 4, false},
			{"more wait in the database", window{through: entry{priority: 4}}, nil, 4, true},
			{"lower ones wait in the database", window{through: entry{priority: 4}}, nil, 5, false},
			{"nothing is known", window{through: start}, nil, job.MaxPriority, true},
		}
		for _, tt := range tests {
			t.Run(tt.name, func(t *testing.T) {
				for _, e := range tt.held {
					tt.w.put(e)
				}
				if got := tt.w.ahead(tt.priority); got != tt.want {
					t.Errorf("got %v", got)
				}
			})
		}
	})
}

func TestWindow_agreesWithASortedList(t *testing.T) {
	rnd := rand.New(rand.NewPCG(3, 4)) //nolint:gosec // not a secret
	w := window{complete: true}
	model := map[job.ID]entry{}
	for range 50_000 {
		switch rnd.IntN(5) {
		case 0, 1:
			e := entry{id: job.ID(rnd.IntN(500) + 1), readyAt: job.Time(rnd.IntN(100) + 1), priority: int8(rnd.IntN(10))}
			if _, there := model[e.id]; there {
				continue // a waiting job changes its place only by leaving first
			}
			w.add(e)
			model[e.id] = e
		case 2:
			id := job.ID(rnd.IntN(500) + 1)
			w.remove(id)
			delete(model, id)
		default:
			got, ok := w.pop()
			var want entry
			for _, e := range model {
				if want.id == 0 || e.before(want) {
					want = e
				}
			}
			if ok != (want.id != 0) || ok && (got.readyAt != want.readyAt || got.id != want.id) {
				t.Fatalf("got %+v %v, want %+v", got, ok, want)
			}
			delete(model, want.id)
		}
		if w.len() != len(model) {
			t.Fatalf("len %d, want %d", w.len(), len(model))
		}
	}
}

func BenchmarkWindow(b *testing.B) {
	b.Run("add and pop at 4000", func(b *testing.B) {
		w := window{complete: true}
		for n := range 4000 {
			w.add(entry{id: job.ID(n + 1), readyAt: job.Time(n + 1), priority: 4})
		}
		id := job.ID(5000)
		b.ReportAllocs()
		for b.Loop() {
			id++
			w.add(entry{id: id, readyAt: job.Time(id), priority: 4})
			w.pop()
		}
	})
	b.Run("a job behind a full window", func(b *testing.B) {
		w := window{through: entry{id: 5, readyAt: 5, priority: 4}}
		id := job.ID(5000)
		for b.Loop() {
			id++
			w.add(entry{id: id, readyAt: job.Time(id), priority: 4})
		}
	})
}
