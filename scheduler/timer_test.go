package scheduler

import (
	"math/rand/v2"
	"testing"
	"time"
)

func TestTimers_comeInOrderWhateverIsMovedOrStopped(t *testing.T) {
	rnd := rand.New(rand.NewPCG(5, 6)) //nolint:gosec // not a secret
	var h timers
	all := make([]timer, 200)
	set := map[*timer]time.Duration{}
	for range 20_000 {
		tm := &all[rnd.IntN(len(all))]
		switch rnd.IntN(4) {
		case 0, 1:
			at := time.Duration(rnd.IntN(1000) + 1)
			h.set(tm, at)
			set[tm] = at
		case 2:
			h.stop(tm)
			delete(set, tm)
		default:
			now := time.Duration(rnd.IntN(1000))
			got := h.due(now)
			if got == nil {
				for _, at := range set {
					if at <= now {
						t.Fatalf("nothing is due at %d, but one is set for %d", now, at)
					}
				}
				continue
			}
			for _, at := range set {
				if at < set[got] {
					t.Fatalf("got %d, but %d is earlier", set[got], at)
				}
			}
			if set[got] > now || got.place != 0 {
				t.Fatalf("got a timer for %d at %d, place %d", set[got], now, got.place)
			}
			delete(set, got)
		}
		if len(h.heap) != len(set) {
			t.Fatalf("%d are set, want %d", len(h.heap), len(set))
		}
	}
}
