package cluster

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"testing"
	"time"
)

// seedsEnv makes TestMembersAtRandom run more often, or from another seed on: N or
// N:FIRST.
const seedsEnv = "ORRERY_TEST_SEEDS"

// TestMembersAtRandom lets nodes join, leave, stop, move and lose touch in any order,
// and looks whether the cluster finds together again, with everything that it has
// acknowledged.
func TestMembersAtRandom(t *testing.T) {
	seeds, first := 4, 1
	if s := os.Getenv(seedsEnv); s != "" {
		if _, err := fmt.Sscanf(s+":1", "%d:%d", &seeds, &first); err != nil {
			t.Fatal(err)
		}
	}
	for seed := first; seed < first+seeds; seed++ {
		inTown(t, fmt.Sprintf("seed %d", seed), func(t *testing.T) { testMembersAtRandom(t, uint64(seed)) }) //nolint:gosec // small
	}
}

// wanderers is a town at the mercy of chance.
type wanderers struct {
	*town
	rnd    *rand.Rand
	gone   map[string]bool // were removed
	moves  int
	acked  []string
	asked  int
	change func(*Config)
}

func testMembersAtRandom(t *testing.T, seed uint64) {
	short := func(cfg *Config) {
		cfg.TrailingLogs, cfg.SnapshotInterval, cfg.PinGrace = 8, 3*time.Second, 2*time.Second
	}
	w := &wanderers{town: newTown(t, 3, short), rnd: rand.New(rand.NewPCG(seed, 0)), gone: map[string]bool{}, change: short} //nolint:gosec // a test
	w.record("start")
	for range 60 {
		w.act()
		for range w.rnd.IntN(4) {
			w.write()
		}
		time.Sleep(time.Duration(w.rnd.IntN(4000)) * time.Millisecond)
	}
	w.settle()
}

func (w *wanderers) pick(is func(*home) bool) string {
	var ids []string
	for _, id := range w.neighbours("") {
		if is(w.home(id)) {
			ids = append(ids, id)
		}
	}
	if len(ids) == 0 {
		return ""
	}
	return ids[w.rnd.IntN(len(ids))]
}

func runs(h *home) bool { return h.node != nil && h.node.dead.Err() == nil }

// act does one thing.
func (w *wanderers) act() {
	w.t.Helper()
	id := w.pick(runs)
	if id == "" {
		w.revive()
		return
	}
	n := w.node(id)
	ctx, cancel := context.WithTimeout(w.t.Context(), 8*time.Second)
	defer cancel()
	switch w.rnd.IntN(9) {
	case 0:
		if len(w.neighbours("")) < 9 {
			fresh := fmt.Sprintf("n%d", len(w.neighbours(""))+1)
			w.build(fresh, w.change)
			w.start(fresh)
		}
	case 1:
		w.halt(id)
	case 2, 3:
		w.revive()
	case 4:
		w.halt(id)
		if w.moves++; !raceDetector {
			w.home(id).cfg.Address = "moved:" + strconv.Itoa(w.moves)
		}
		w.start(id)
	case 5:
		w.cut(id, true)
	case 6:
		w.mend()
	case 7:
		to := w.pick(runs)
		if _, err := n.Transfer(ctx, to); err != nil {
			w.t.Logf("transfer to %s: %v", to, err)
		}
	case 8:
		victim := w.pick(func(h *home) bool { return !w.gone[h.cfg.ID] })
		err := n.Remove(ctx, victim, false)
		w.t.Logf("%s removes %s: %v", id, victim, err)
		if err == nil {
			w.gone[victim] = true
		}
	}
}

// halt stops a node.
func (w *wanderers) halt(id string) {
	w.t.Helper()
	if err := w.stop(id); err != nil && !errors.Is(err, ErrRemoved) {
		w.t.Errorf("%s: %v", id, err)
	}
}

// revive starts a node that has stopped, if it wasn't removed.
func (w *wanderers) revive() {
	w.t.Helper()
	id := w.pick(func(h *home) bool { return h.node == nil && !w.dismissed(h) })
	if id != "" {
		w.start(id)
	}
}

// dismissed reports whether a node that is stopped knows that it was removed.
func (w *wanderers) dismissed(h *home) bool {
	w.t.Helper()
	n, err := New(h.cfg)
	if errors.Is(err, ErrRemoved) {
		return true
	}
	if err != nil {
		w.t.Fatal(err)
	}
	n.Close()
	return false
}

func (w *wanderers) mend() {
	for _, id := range w.neighbours("") {
		w.cut(id, false)
	}
}

// write records something at any node.
func (w *wanderers) write() {
	id := w.pick(runs)
	if id == "" {
		return
	}
	ctx, cancel := context.WithTimeout(w.t.Context(), time.Second)
	defer cancel()
	w.asked++
	payload := strconv.Itoa(w.asked)
	if _, err := w.node(id).Propose(ctx, submit(payload)); err == nil {
		w.acked = append(w.acked, payload)
	}
}

// settle brings everybody back, and checks what must be true then.
func (w *wanderers) settle() {
	t := w.t
	t.Helper()
	w.mend()
	for _, id := range w.neighbours("") {
		if h := w.home(id); h.node != nil && !runs(h) {
			w.halt(id)
		}
		if h := w.home(id); h.node == nil && !w.dismissed(h) {
			w.start(id)
		}
	}
	w.record("end")
	var here []string
	w.await("those who run are the voters, at their addresses", func() bool {
		here = nil
		for _, id := range w.neighbours("") {
			if runs(w.home(id)) {
				here = append(here, id)
			}
		}
		list, err := w.leader().Members(t.Context())
		if err != nil || len(list) != len(here) {
			return false
		}
		for _, m := range list {
			if !m.Voter || !m.Alive || m.Stale || !slices.Contains(here, m.ID) || m.Address != w.home(m.ID).cfg.Address {
				return false
			}
		}
		return true
	})
	for id := range w.gone {
		if slices.Contains(here, id) {
			t.Errorf("%s was removed and is a member", id)
		}
	}
	w.agree(here...)
	have := map[string]int{}
	for _, p := range w.leader().machine.jobs() {
		have[p]++
	}
	for _, p := range w.acked {
		if have[p] != 1 {
			t.Errorf("%s was acknowledged and is there %d times", p, have[p])
		}
	}
	for _, id := range w.neighbours("") {
		if w.home(id).node != nil {
			w.halt(id)
		}
	}
	t.Logf("%d of %d acknowledged, members %s, removed %d", len(w.acked), w.asked, here, len(w.gone))
}
