package scheduler

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/orrery-io/orrery/job"
)

// matcher is a term without loops, machine or agents that speak.
func matcher(tb testing.TB) *term {
	tb.Helper()
	s := newScheduler(Config{}, nil)
	return newTerm(s, 1)
}

// standIn makes an agent that is ready for work.
func standIn(t *term, id string, slots int, queues, types []string) *agent {
	a := t.agentOf(id)
	a.row = job.Agent{ID: id, Slots: slots, Queues: queues}
	for _, typ := range types {
		a.row.Capabilities = append(a.row.Capabilities, job.Capability{Type: typ})
	}
	a.connected, a.welcomed = true, true
	t.enlist(a)
	return a
}

func wait(t *term, queue, typ string, ids ...job.ID) {
	for _, id := range ids {
		t.waits(&job.Job{ID: id, ReadyAt: job.Time(id), State: job.Pending, Spec: job.Spec{Queue: queue, Type: typ, Priority: 4}})
	}
}

func decided(t *term) (pairs []string) {
	for _, d := range t.match(nil, 1000, 1) {
		pairs = append(pairs, fmt.Sprintf("%d→%s", d.entry.id, d.agent.id))
	}
	return pairs
}

func TestMatch(t *testing.T) {
	q := []string{"default"}
	tests := []struct {
		name string
		set  func(t *term)
		want []string
	}{
		{"the agent with the least load for its slots gets the job", func(t *term) {
			standIn(t, "busy", 4, q, []string{"a"}).reserved = 2
			standIn(t, "idle", 1, q, []string{"a"})
			wait(t, "default", "a", 1)
		}, []string{"1→idle"}},
		{"equally loaded agents take turns", func(t *term) {
			standIn(t, "x", 2, q, []string{"a"})
			standIn(t, "y", 2, q, []string{"a"})
			wait(t, "default", "a", 1, 2, 3, 4)
		}, []string{"1→x", "2→y", "3→x", "4→y"}},
		{"nobody gets more than its slots", func(t *term) {
			standIn(t, "x", 2, q, []string{"a"})
			wait(t, "default", "a", 1, 2, 3)
		}, []string{"1→x", "2→x"}},
		{"a group without an agent does not block another", func(t *term) {
			wait(t, "default", "nobody", 1, 2)
			wait(t, "default", "a", 3)
			standIn(t, "x", 2, q, []string{"a"})
		}, []string{"3→x"}},
		{"a paused queue does not block another", func(t *term) {
			standIn(t, "x", 2, []string{"slow", "fast"}, []string{"a"})
			t.setPaused("slow", true)
			wait(t, "slow", "a", 1)
			wait(t, "fast", "a", 2)
		}, []string{"2→x"}},
		{"a queue that is resumed goes on", func(t *term) {
			standIn(t, "x", 2, q, []string{"a"})
			t.setPaused("default", true)
			wait(t, "default", "a", 1)
			if d := decided(t); len(d) > 0 {
				panic(d)
			}
			t.setPaused("default", false)
		}, []string{"1→x"}},
		{"a queue paused with its work already offered stands still", func(t *term) {
			wait(t, "default", "a", 1)
			standIn(t, "x", 2, q, []string{"a"})
			t.setPaused("default", true)
		}, nil},
		{"jobs of several types keep their common order", func(t *term) {
			wait(t, "default", "a", 1, 4)
			wait(t, "default", "b", 2, 3)
			standIn(t, "x", 3, q, []string{"a", "b"})
		}, []string{"1→x", "2→x", "3→x"}},
		{"an agent takes only from its own queues", func(t *term) {
			standIn(t, "x", 3, []string{"mine"}, []string{"a"})
			wait(t, "default", "a", 1)
			wait(t, "mine", "a", 2)
		}, []string{"2→x"}},
		{"a narrow and a wide agent share the work", func(t *term) {
			standIn(t, "narrow", 1, q, []string{"a"})
			standIn(t, "wide", 2, q, []string{"a", "b"})
			wait(t, "default", "a", 1, 2)
			wait(t, "default", "b", 3, 4)
		}, []string{"1→narrow", "2→wide", "3→wide"}},
		{"an agent that is withdrawn gets nothing", func(t *term) {
			a := standIn(t, "x", 3, q, []string{"a"})
			wait(t, "default", "a", 1)
			t.withdraw(a)
		}, nil},
		{"a job whose deadline has passed is left to expire", func(t *term) {
			standIn(t, "x", 3, q, []string{"a"})
			t.waits(&job.Job{ID: 1, State: job.Pending, Spec: job.Spec{Queue: "default", Type: "a", ExpiresAt: 1}})
			wait(t, "default", "a", 2)
		}, []string{"2→x"}},
		{"a job withdrawn from its window is not given to anybody", func(t *term) {
			standIn(t, "x", 3, q, []string{"a"})
			wait(t, "default", "a", 1, 2)
			t.withdrawJob("default", "a", 1)
		}, []string{"2→x"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			m := matcher(t)
			tt.set(m)
			if got := decided(m); !slices.Equal(got, tt.want) {
				t.Errorf("got %v, want %v", got, tt.want)
			}
		})
	}
}

func TestMatch_forgetsWhatNobodyNeeds(t *testing.T) {
	m := matcher(t)
	for id := range job.ID(1000) {
		typ := fmt.Sprint("type-", id)
		wait(m, "default", typ, id+1)
		m.withdrawJob("default", typ, id+1)
	}
	a := standIn(m, "x", 1, []string{"default"}, []string{"a"})
	wait(m, "default", "a", 5000)
	if got := decided(m); !slices.Equal(got, []string{"5000→x"}) {
		t.Error(got)
	}
	m.withdraw(a)
	if len(m.groups) != 0 || len(m.classes) != 0 || len(m.queues) != 0 {
		t.Errorf("%d groups, %d classes and %d queues are left", len(m.groups), len(m.classes), len(m.queues))
	}
}

func TestMatch_keepsLittleOfWhatNobodyServes(t *testing.T) {
	m := matcher(t)
	for id := range job.ID(10 * windowIdle) {
		wait(m, "default", "a", id+1)
	}
	g := m.groups[groupKey{"default", "a"}]
	if g.win.len() > windowIdle || g.win.complete {
		t.Errorf("%d jobs in memory, complete %v", g.win.len(), g.win.complete)
	}
	standIn(m, "x", 1, []string{"default"}, []string{"a"})
	if !slices.Contains(m.refills, g) {
		t.Error("the window is not filled for the agent that has come")
	}
}

func TestPrefetch(t *testing.T) {
	tests := []struct {
		name  string
		slots int
		took  []int64 // in µs
		want  int
	}{
		{"nothing is known yet", 4, nil, 4},
		{"long jobs get none", 4, []int64{60_000, 80_000}, 4},
		{"fairly short ones get one for each slot", 4, []int64{20_000}, 8},
		{"short ones as many as keep the agent busy", 1, []int64{1000}, 26},
		{"of short ones never more than a bound", 1, []int64{10}, 65},
		{"which grows with the slots", 100, []int64{10}, 500},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			a := &agent{row: job.Agent{Slots: tt.slots}}
			for _, us := range tt.took {
				a.ran(time.Duration(us)*time.Microsecond, 1)
			}
			if got := a.limit(0); got != tt.want {
				t.Errorf("got %d, want %d", got, tt.want)
			}
		})
	}
}

func TestPrefetch_canBeBoundedOrSwitchedOff(t *testing.T) {
	a := &agent{row: job.Agent{Slots: 10}, took: time.Microsecond}
	if got := a.limit(5); got != 15 {
		t.Errorf("bounded: got %d", got)
	}
	if got := a.limit(-1); got != 10 {
		t.Errorf("switched off: got %d", got)
	}
}

func BenchmarkMatch(b *testing.B) {
	for _, agents := range []int{1, 100, 10_000} {
		b.Run(fmt.Sprintf("%d agents, 8 groups", agents), func(b *testing.B) {
			t := matcher(b)
			types := []string{"a", "b", "c", "d", "e", "f", "g", "h"}
			for i := range agents {
				standIn(t, fmt.Sprint("agent-", i), 100, []string{"default"}, types)
			}
			id := job.ID(0)
			var decisions []decision
			b.ReportAllocs()
			for b.Loop() {
				id++
				t.restore(t.groupOf(groupKey{"default", types[id%8]}), entry{id: id, readyAt: job.Time(id)})
				decisions = t.match(decisions[:0], 10, 1)
				t.release(decisions[0].agent)
			}
		})
	}
}
