package cluster

import (
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/orrery-io/orrery/fsm"
	"github.com/orrery-io/orrery/job"
)

func TestWholeLife(t *testing.T) { synctest.Test(t, testWholeLife) }

func testWholeLife(t *testing.T) {
	w := newTown(t, 3, func(cfg *Config) { cfg.CleanupAfter = time.Minute })
	w.record("1")

	// Two join, at the same time.
	quick := func(cfg *Config) { cfg.CleanupAfter = time.Minute }
	w.build("n4", quick)
	w.build("n5", quick)
	w.start("n4")
	w.start("n5")
	w.awaitVoters("n1", "n2", "n3", "n4", "n5")
	w.record("2")
	w.agree("n1", "n2", "n3", "n4", "n5")

	// The leader goes.
	old := w.leader()
	asker := w.node("n1")
	if old == asker {
		asker = w.node("n2")
	}
	if err := asker.Remove(t.Context(), old.cfg.ID, false); err != nil {
		t.Fatal(err)
	}
	<-old.over
	if err := w.stop(old.cfg.ID); !errors.Is(err, ErrRemoved) {
		t.Errorf("the removed leader ended with %v", err)
	}
	if _, err := New(w.home(old.cfg.ID).cfg); !errors.Is(err, ErrRemoved) {
		t.Errorf("a removed node started again: %v", err)
	}
	rest := []string{"n1", "n2", "n3", "n4", "n5"}
	rest = remove(rest, old.cfg.ID)
	w.awaitVoters(rest...)
	w.record("3")
	w.agree(rest...)

	// One dies, and is cleaned up: three voters stay. The next one isn't.
	l := w.leader().cfg.ID
	dead := remove(rest, l)[0]
	if err := w.stop(dead); err != nil {
		t.Fatal(err)
	}
	rest = remove(rest, dead)
	w.awaitVoters(rest...)
	w.record("4")
	next := remove(rest, w.leader().cfg.ID)[0]
	if err := w.stop(next); err != nil {
		t.Fatal(err)
	}
	time.Sleep(5 * time.Minute)
	w.awaitVoters(rest...)

	// It is replaced: a new one joins, the old one is removed.
	w.build("n6", quick)
	w.start("n6")
	w.awaitMember("n6", func(m Member) bool { return m.Voter })
	if err := w.leader().Remove(t.Context(), next, false); err != nil {
		if e := (&job.Error{}); !errors.As(err, &e) || e.Code != "member_not_found" { // cleaned up already
			t.Fatal(err)
		}
	}
	rest = append(remove(rest, next), "n6")
	w.awaitVoters(rest...)
	w.record("5")
	w.agree(rest...)

	// Those who were removed while they were away are told when they come back.
	for _, id := range []string{dead, next} {
		n := w.start(id)
		<-n.over
		if err := w.stop(id); !errors.Is(err, ErrRemoved) {
			t.Errorf("%s ended with %v", id, err)
		}
		if _, err := New(w.home(id).cfg); !errors.Is(err, ErrRemoved) {
			t.Errorf("%s started again: %v", id, err)
		}
	}
}

func remove(ids []string, id string) (rest []string) {
	for _, s := range ids {
		if s != id {
			rest = append(rest, s)
		}
	}
	return rest
}

// inTown runs a test in a bubble.
func inTown(t *testing.T, name string, test func(t *testing.T)) {
	t.Helper()
	t.Run(name, func(t *testing.T) { synctest.Test(t, test) })
}

// refusedAs checks the code of an error.
func refusedAs(t *testing.T, err error, code string) {
	t.Helper()
	e, ok := errors.AsType[*job.Error](err)
	if !ok || e.Code != code {
		t.Errorf("the error is %v, want code %s", err, code)
		return
	}
	if e.Hint == "" || e.Message == "" {
		t.Errorf("the refusal %q has no hint", e.Message)
	}
	t.Logf("%s; %s", e.Message, e.Hint)
}

func TestMembers(t *testing.T) {
	inTown(t, "are the same on every node", func(t *testing.T) {
		w := newTown(t, 3, func(cfg *Config) { cfg.Draining = func() bool { return cfg.ID == "n2" } })
		w.record("1")
		l := w.leader().cfg.ID
		w.awaitMember("n3", func(m Member) bool { return m.Lag == 0 })
		for _, id := range []string{"n1", "n2", "n3"} {
			list, err := w.node(id).Members(t.Context())
			if err != nil || len(list) != 3 {
				t.Fatalf("members %+v, %v", list, err)
			}
			for _, m := range list {
				if m.Leader != (m.ID == l) || !m.Alive || m.LastContact.IsZero() || m.Stale || m.Draining != (m.ID == "n2") || m.HTTP != "http://"+m.ID || m.Address != m.ID+":1" {
					t.Errorf("%s says of %s: %+v", id, m.ID, m)
				}
			}
		}
	})
	inTown(t, "without a leader are what the node knows itself", func(t *testing.T) {
		w := newTown(t, 3, nil)
		w.record("1")
		for _, id := range []string{"n1", "n2"} {
			if err := w.stop(id); err != nil {
				t.Fatal(err)
			}
		}
		time.Sleep(5 * time.Second)
		began := time.Now()
		list, err := w.node("n3").Members(t.Context())
		if err != nil || len(list) != 3 {
			t.Fatalf("members %+v, %v", list, err)
		}
		if took := time.Since(began); took > 0 {
			t.Errorf("it waited for %s", took)
		}
		for _, m := range list {
			if !m.Stale || m.Alive != (m.ID == "n3") || m.Leader {
				t.Errorf("%+v", m)
			}
		}
	})
}

func TestMembersMeanwhile(t *testing.T) {
	inTown(t, "an election is waited for, but not for long", func(t *testing.T) {
		w := newTown(t, 3, nil)
		w.record("1")
		l := w.leader().cfg.ID
		other := w.node(w.pickOther(l))
		if err := w.stop(l); err != nil {
			t.Fatal(err)
		}
		for {
			began := time.Now()
			list, err := other.Members(t.Context())
			if err != nil || len(list) != 3 {
				t.Fatalf("members %+v, %v", list, err)
			}
			if took := time.Since(began); took > membersWait {
				t.Errorf("it waited for %s", took)
			}
			if !list[0].Stale {
				return
			}
		}
	})
	inTown(t, "a node that waits for its cluster says so at once", func(t *testing.T) {
		w := newTown(t, 0, nil)
		w.build("n1", nil)
		n := w.start("n1")
		for range 5 {
			began := time.Now()
			list, err := n.Members(t.Context())
			if err != nil || len(list) != 1 || !list[0].Stale || list[0].ID != "n1" {
				t.Fatalf("members %+v, %v", list, err)
			}
			if took := time.Since(began); took > 0 {
				t.Errorf("it waited for %s", took)
			}
			time.Sleep(time.Second)
		}
	})
}

func TestMigrateTogether(t *testing.T) {
	inTown(t, "the schema becomes newer when every server knows it", func(t *testing.T) {
		w := newTown(t, 3, nil)
		w.record("1")
		upgrade := func(id string) {
			if err := w.stop(id); err != nil {
				t.Fatal(err)
			}
			time.Sleep(time.Minute)
			w.home(id).cfg.newest = fsm.NewestSchema + 1
			w.start(id)
			w.record(id)
			w.agree(id)
		}
		upgrade("n1")
		upgrade("n2")
		time.Sleep(time.Minute)
		for _, id := range []string{"n1", "n2", "n3"} {
			if v := w.node(id).machine.SchemaVersion(); v != fsm.NewestSchema {
				t.Fatalf("%s has schema %d", id, v)
			}
		}
		upgrade("n3")
		w.await("the newer schema", func() bool { return w.node("n3").machine.SchemaVersion() == fsm.NewestSchema+1 })
		if c := w.lines.count("every node knows the newer schema"); c != 1 {
			t.Errorf("the log says so %d times", c)
		}
		// A node with the older program can't join any more.
		w.build("n4", nil)
		n := w.start("n4")
		<-n.over
		if err := w.stop("n4"); err == nil || !strings.Contains(err.Error(), "schema version") {
			t.Errorf("it ended with %v", err)
		}
	})
}
