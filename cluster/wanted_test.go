package cluster

import (
	"testing"
	"time"
)

func TestCopyOnlyWhenWanted(t *testing.T) {
	inTown(t, "no copy is made for a node that is away, one when it is back", func(t *testing.T) {
		w := newTown(t, 3, func(cfg *Config) { cfg.TrailingLogs, cfg.SnapshotThreshold, cfg.PinGrace = 1, 1<<40, time.Hour })
		w.record("0")
		away := remove([]string{"n1", "n2", "n3"}, w.leader().cfg.ID)[0]
		if err := w.stop(away); err != nil {
			t.Fatal(err)
		}
		for _, p := range payloads(1, 200) {
			w.record(p)
		}
		here := remove([]string{"n1", "n2", "n3"}, away)
		w.agree(here...)
		for _, id := range here {
			n := w.node(id)
			n.machine.flush()
			if err := n.snapshot(n.raft.Load()); err != nil {
				t.Fatal(err)
			}
			if st := n.Status(); st.LogFirst < 100 {
				t.Fatalf("the log of %s still starts at %d", id, st.LogFirst)
			}
		}
		for i := range 60 {
			w.record(payloads(300+i, 300+i)[0])
			time.Sleep(time.Second)
		}
		if c := w.copies(here...); c != 0 {
			t.Errorf("%d copies were made for nobody", c)
		}
		w.start(away)
		w.agree(away)
		if c := w.copies(here...); c != 1 {
			t.Errorf("%d copies were made", c)
		}
		// And it joins in again for good.
		w.record("400")
		w.agree(away)
	})

	inTown(t, "a new node gets one", func(t *testing.T) {
		w := newTown(t, 1, func(cfg *Config) { cfg.TrailingLogs, cfg.SnapshotThreshold, cfg.PinGrace = 1, 1<<40, time.Hour })
		for _, p := range payloads(1, 200) {
			w.record(p)
		}
		n := w.node("n1")
		n.machine.flush()
		if err := n.snapshot(n.raft.Load()); err != nil {
			t.Fatal(err)
		}
		w.build("n2", nil)
		w.start("n2")
		w.awaitVoters("n1", "n2")
		w.agree("n2")
		if c := w.copies("n1"); c != 1 {
			t.Errorf("%d copies were made", c)
		}
	})
}

func (w *town) copies(ids ...string) (c int) {
	for _, id := range ids {
		m := w.node(id).machine
		m.mu.Lock()
		c += m.copies
		m.mu.Unlock()
	}
	return c
}
