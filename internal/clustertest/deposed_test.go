package clustertest

import (
	"log/slog"
	"math/rand/v2"
	"testing"
	"testing/synctest"
	"time"

	"github.com/orrery-io/orrery/cluster"
)

func TestDeposedLeader(t *testing.T) { synctest.Test(t, testDeposedLeader) }

// testDeposedLeader makes leaders that don't know yet that another one leads: the
// answers of the others take long, so for a while after its own messages are lost a
// leader still hears from a majority. Whoever reads there must not miss what the next
// leader has acknowledged.
func testDeposedLeader(t *testing.T) {
	h := newHistory(t)
	h.start(Config{Log: slog.New(slog.DiscardHandler), Change: func(_ int, cfg *cluster.Config) {
		cfg.LeaseTimeout = 500 * time.Millisecond
	}})
	both := 0
	h.under(1, 24, 12, func(*rand.Rand) {
		for range 2 {
			l := h.c.Leader()
			others := h.c.Followers()
			for _, f := range others {
				h.c.Net.Set(f.ID, l.ID, Way{Delay: 300 * time.Millisecond})
			}
			time.Sleep(2 * time.Second)
			for _, f := range others {
				h.c.Net.Block(l.ID, f.ID)
			}
			for began := time.Now(); time.Since(began) < 2*time.Second; time.Sleep(time.Millisecond) {
				for _, f := range others {
					if l.IsLeader() && f.IsLeader() {
						both++
						break
					}
				}
			}
			h.c.Net.Heal()
			time.Sleep(time.Second)
		}
	})
	h.check()
	if both == 0 {
		t.Error("there never were two leaders; the test shows nothing")
	}
	t.Logf("two leaders for %d ms", both)
}
