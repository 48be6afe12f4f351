package cluster

import (
	"errors"
	"testing"
	"time"

	"github.com/orrery-io/orrery/job"
)

func TestRemove(t *testing.T) {
	inTown(t, "refuses what would stop the cluster", func(t *testing.T) {
		w := newTown(t, 3, nil)
		w.record("1")
		asker := w.node("n1")
		refusedAs(t, asker.Remove(t.Context(), "n9", false), "member_not_found")
		l := w.leader().cfg.ID
		rest := remove([]string{"n1", "n2", "n3"}, l)
		if err := w.stop(rest[0]); err != nil {
			t.Fatal(err)
		}
		w.awaitMember(rest[0], func(m Member) bool { return !m.Alive })
		leader := w.leader()
		refusedAs(t, leader.Remove(t.Context(), rest[1], false), "no_majority")
		refusedAs(t, leader.Remove(t.Context(), l, false), "no_majority")
		w.awaitVoters("n1", "n2", "n3")
		// The dead one may go.
		if err := leader.Remove(t.Context(), rest[0], false); err != nil {
			t.Fatal(err)
		}
		// And one of the last two, the leader itself.
		if err := leader.Remove(t.Context(), l, false); err != nil {
			t.Fatal(err)
		}
		<-leader.over
		if err := w.stop(l); !errors.Is(err, ErrRemoved) {
			t.Errorf("it ended with %v", err)
		}
		w.awaitVoters(rest[1])
		refusedAs(t, w.node(rest[1]).Remove(t.Context(), rest[1], false), "last_voter")
		refusedAs(t, w.node(rest[1]).Remove(t.Context(), rest[1], true), "last_voter")
		w.record("2")
	})

	inTown(t, "with force it happens when a majority is back", func(t *testing.T) {
		w := newTown(t, 3, nil)
		w.record("1")
		leader := w.leader()
		rest := remove([]string{"n1", "n2", "n3"}, leader.cfg.ID)
		if err := w.stop(rest[0]); err != nil {
			t.Fatal(err)
		}
		w.awaitMember(rest[0], func(m Member) bool { return !m.Alive })
		if err := leader.Remove(t.Context(), rest[1], true); !errors.Is(err, job.ErrOutcomeUnknown) {
			t.Errorf("Remove: %v", err)
		}
		// The old leader's entry stays, or a new leader without it drops it.
		w.start(rest[0])
		w.record("2")
		time.Sleep(time.Minute)
		_, still := w.member(rest[1])
		err := w.stop(rest[1])
		if still && err != nil || !still && !errors.Is(err, ErrRemoved) {
			t.Errorf("a member: %v, ended with %v", still, err)
		}
	})

	inTown(t, "a node that catches up may go at any time", func(t *testing.T) {
		w := newTown(t, 1, nil)
		w.record("1")
		w.build("n2", func(cfg *Config) { cfg.Trouble = func() string { return "slow" } })
		n := w.start("n2")
		w.awaitMember("n2", func(m Member) bool { return m.Applied > 0 })
		if err := n.Remove(t.Context(), "n2", false); err != nil {
			t.Fatal(err)
		}
		<-n.over
		if err := w.stop("n2"); !errors.Is(err, ErrRemoved) {
			t.Errorf("it ended with %v", err)
		}
		w.awaitVoters("n1")
	})

	inTown(t, "nobody believes a stranger who says so", func(t *testing.T) {
		w := newTown(t, 1, nil)
		w.record("1")
		_, err := request[struct{}](t.Context(), telephone{w, "n9"}, "n1", methodRemoved, "OTHER")
		if e, ok := errors.AsType[*job.Error](err); !ok || e.Code != codeForeign {
			t.Errorf("the answer is %v", err)
		}
		w.record("2")
	})
}

func TestCleanUp(t *testing.T) {
	minute := func(cfg *Config) { cfg.CleanupAfter = time.Minute }
	inTown(t, "three voters stay", func(t *testing.T) {
		w := newTown(t, 3, minute)
		w.record("1")
		dead := remove([]string{"n1", "n2", "n3"}, w.leader().cfg.ID)[0]
		if err := w.stop(dead); err != nil {
			t.Fatal(err)
		}
		time.Sleep(10 * time.Minute)
		w.awaitVoters("n1", "n2", "n3")
		w.start(dead)
		w.record("2")
		w.agree(dead)
	})
	inTown(t, "as many stay as were to begin the cluster", func(t *testing.T) {
		w := newTown(t, 5, func(cfg *Config) { cfg.CleanupAfter, cfg.CleanupFloor = time.Minute, 5 })
		w.record("1")
		dead := remove([]string{"n1", "n2", "n3", "n4", "n5"}, w.leader().cfg.ID)[0]
		if err := w.stop(dead); err != nil {
			t.Fatal(err)
		}
		time.Sleep(10 * time.Minute)
		w.awaitVoters("n1", "n2", "n3", "n4", "n5")
	})
	inTown(t, "two of five go one by one, and nobody when it is switched off", func(t *testing.T) {
		for _, after := range []time.Duration{time.Minute, -1} {
			w := newTown(t, 5, func(cfg *Config) { cfg.CleanupAfter = after })
			w.record("1")
			all := []string{"n1", "n2", "n3", "n4", "n5"}
			dead := remove(all, w.leader().cfg.ID)[:2]
			for _, id := range dead {
				if err := w.stop(id); err != nil {
					t.Fatal(err)
				}
			}
			time.Sleep(5 * time.Minute)
			if after > 0 {
				all = remove(remove(all, dead[0]), dead[1])
			}
			w.awaitVoters(all...)
			for _, id := range all {
				if n := w.node(id); n != nil {
					if err := w.stop(id); err != nil {
						t.Fatal(err)
					}
				}
			}
		}
	})
	inTown(t, "a node that never became a voter is forgotten sooner", func(t *testing.T) {
		w := newTown(t, 1, nil)
		w.record("1")
		w.build("n2", func(cfg *Config) { cfg.Trouble = func() string { return "slow" } })
		w.start("n2")
		w.awaitMember("n2", func(m Member) bool { return m.Applied > 0 })
		if err := w.stop("n2"); err != nil {
			t.Fatal(err)
		}
		time.Sleep(59 * time.Minute)
		if _, ok := w.member("n2"); !ok {
			t.Error("it was forgotten too soon")
		}
		w.awaitVoters("n1")
	})
}

func TestSeeWhatWasAskedFor(t *testing.T) {
	inTown(t, "on the node that was asked", func(t *testing.T) {
		w := newTown(t, 5, nil)
		w.record("1")
		for range 3 {
			old := w.leader().cfg.ID
			asker := w.node(w.pickOther(old))
			if err := asker.Remove(t.Context(), old, false); err != nil {
				t.Fatal(err)
			}
			if _, ok := find(asker.Status().Servers, old); ok {
				t.Errorf("%s still has %s", asker.cfg.ID, old)
			}
			<-w.node(old).over
			if err := w.stop(old); !errors.Is(err, ErrRemoved) {
				t.Errorf("%s ended with %v", old, err)
			}
		}
		to := w.pickOther(w.leader().cfg.ID)
		asker := w.leader()
		if _, err := asker.Transfer(t.Context(), to); err != nil || asker.Status().Leader != to {
			t.Errorf("Transfer: %v, leader %s", err, asker.Status().Leader)
		}
	})
}

// pickOther returns a node that runs and isn't id.
func (w *town) pickOther(id string) string {
	for _, other := range w.neighbours(id) {
		if w.node(other) != nil {
			return other
		}
	}
	return ""
}

func TestTransfer(t *testing.T) {
	inTown(t, "to a node that was named, or to the best", func(t *testing.T) {
		w := newTown(t, 3, nil)
		w.record("1")
		for _, to := range []string{"n1", "n2", "n3", "n3"} {
			got, err := w.node("n2").Transfer(t.Context(), to)
			if err != nil || got != to {
				t.Fatalf("Transfer to %s: %s, %v", to, got, err)
			}
			w.record(to)
		}
		got, err := w.node("n1").Transfer(t.Context(), "")
		if err != nil || got == "n3" || got == "" {
			t.Errorf("Transfer: %s, %v", got, err)
		}
	})
	inTown(t, "refuses who can't lead", func(t *testing.T) {
		w := newTown(t, 3, nil)
		w.record("1")
		leader := w.leader()
		w.build("n4", func(cfg *Config) { cfg.Trouble = func() string { return "slow" } })
		w.start("n4")
		w.awaitMember("n4", func(m Member) bool { return m.Applied > 0 })
		dead := remove([]string{"n1", "n2", "n3"}, leader.cfg.ID)[0]
		if err := w.stop(dead); err != nil {
			t.Fatal(err)
		}
		w.awaitMember(dead, func(m Member) bool { return !m.Alive })
		for to, code := range map[string]string{"n9": "member_not_found", "n4": "not_a_voter", dead: "member_unreachable"} {
			_, err := leader.Transfer(t.Context(), to)
			refusedAs(t, err, code)
		}
		if !leader.IsLeader() {
			t.Error("it leads no longer")
		}
	})
	inTown(t, "a node alone has nobody", func(t *testing.T) {
		r := start(t, Config{})
		r.awaitLead(t)
		_, err := r.Transfer(t.Context(), "")
		refusedAs(t, err, "no_successor")
		list, err := r.Members(t.Context())
		if err != nil || len(list) != 1 || !list[0].Leader || !list[0].Alive || list[0].Stale {
			t.Errorf("members %+v, %v", list, err)
		}
		refusedAs(t, r.Remove(t.Context(), "n1", false), "last_voter")
	})
}
