package cluster

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/raft"
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

func TestJoin(t *testing.T) {
	inTown(t, "a node gets its vote only when it has caught up", func(t *testing.T) {
		w := newTown(t, 3, nil)
		for _, p := range payloads(1, 50) {
			w.record(p)
		}
		m := newFake(nil)
		release := m.hold()
		w.build("n4", func(cfg *Config) { cfg.Machine = m })
		w.start("n4")
		<-m.reached
		time.Sleep(time.Minute)
		w.awaitMember("n4", func(m Member) bool {
			return !m.Voter && m.Alive && m.Lag > 0 && m.HTTP == "http://n4" && m.Version == "v1"
		})
		if w.lines.count(`member=n4 reason="applied 0 %"`) == 0 {
			t.Error("the log doesn't tell how far the node is")
		}
		release()
		w.awaitVoters("n1", "n2", "n3", "n4")
		w.agree("n4")
	})

	inTown(t, "a node that receives the database has no vote, and the log says how far it is", func(t *testing.T) {
		w := newTown(t, 1, nil)
		w.record("1")
		var mu sync.Mutex
		received := &Installing{Bytes: 120e6, Size: 1.1e9}
		w.build("n2", func(cfg *Config) {
			cfg.Receiving = func() *Installing { mu.Lock(); defer mu.Unlock(); return received }
		})
		w.start("n2")
		time.Sleep(time.Minute)
		w.awaitMember("n2", func(m Member) bool { return !m.Voter && m.Installing != nil && m.Installing.Bytes == 120e6 })
		if w.lines.count(`member=n2 reason="120 MB of 1.1 GB received"`) == 0 {
			t.Error("the log doesn't tell how far the node is")
		}
		mu.Lock()
		received = nil
		mu.Unlock()
		w.awaitVoters("n1", "n2")
	})

	inTown(t, "a node whose disk is in trouble gets no vote", func(t *testing.T) {
		w := newTown(t, 1, nil)
		w.record("1")
		var trouble atomic.Pointer[string]
		full := "full"
		trouble.Store(&full)
		w.build("n2", func(cfg *Config) { cfg.Trouble = func() string { return *trouble.Load() } })
		w.start("n2")
		time.Sleep(20 * time.Second)
		w.awaitMember("n2", func(m Member) bool { return !m.Voter && m.Trouble == "full" })
		trouble.Store(new(string))
		w.awaitVoters("n1", "n2")
	})

	inTown(t, "a node that dies half-way gets no vote, and goes on when it is back", func(t *testing.T) {
		w := newTown(t, 3, nil)
		for _, p := range payloads(1, 20) {
			w.record(p)
		}
		m := newFake(nil)
		release := m.hold()
		w.build("n4", func(cfg *Config) { cfg.Machine = m })
		w.start("n4")
		<-m.reached
		release()
		if err := w.stop("n4"); err != nil { // whatever it has by now
			t.Fatal(err)
		}
		time.Sleep(time.Minute)
		w.awaitMember("n4", func(m Member) bool { return !m.Voter && !m.Alive })
		w.record("21")
		w.start("n4")
		w.awaitVoters("n1", "n2", "n3", "n4")
		w.agree("n4")
	})

	inTown(t, "a node that comes and goes gets no vote before it stays", func(t *testing.T) {
		w := newTown(t, 3, nil)
		w.record("1")
		w.build("n4", nil)
		w.start("n4")
		w.await("n4 is added", func() bool { _, ok := w.member("n4"); return ok })
		for range 20 {
			w.cut("n4", true)
			time.Sleep(500 * time.Millisecond)
			w.cut("n4", false)
			time.Sleep(1500 * time.Millisecond)
		}
		if m, _ := w.member("n4"); m.Voter {
			t.Error("it got a vote")
		}
		w.awaitVoters("n1", "n2", "n3", "n4")
	})

	inTown(t, "a node that answers, but that raft doesn't reach, gets no vote", func(t *testing.T) {
		w := newTown(t, 3, nil)
		w.record("1")
		var trouble atomic.Bool
		trouble.Store(true)
		w.build("n4", func(cfg *Config) {
			cfg.Trouble = func() string {
				if trouble.Load() {
					return "slow"
				}
				return ""
			}
		})
		w.start("n4")
		w.awaitMember("n4", func(m Member) bool { return m.Applied > 0 && m.Lag == 0 })
		deafen := func(deaf bool) {
			w.mu.Lock()
			defer w.mu.Unlock()
			w.deaf["n4"] = deaf
			w.connect()
		}
		deafen(true)
		time.Sleep(5 * time.Second)
		trouble.Store(false)
		time.Sleep(time.Minute)
		w.awaitMember("n4", func(m Member) bool { return !m.Voter && m.Alive && m.Lag == 0 })
		deafen(false)
		w.awaitVoters("n1", "n2", "n3", "n4")
	})

	inTown(t, "the leader changes while a node joins", func(t *testing.T) {
		w := newTown(t, 3, nil)
		w.record("1")
		m := newFake(nil)
		release := m.hold()
		w.build("n4", func(cfg *Config) { cfg.Machine = m })
		w.start("n4")
		w.await("n4 is added", func() bool { _, ok := w.member("n4"); return ok })
		old := w.leader().cfg.ID
		w.cut(old, true)
		l := w.leader(old)
		w.await("the new leader knows it", func() bool {
			_, known := find(servers(l.raft.Load()), "n4")
			return known
		})
		release()
		w.await("n4 is a voter", func() bool {
			s, _ := find(servers(w.leader(old).raft.Load()), "n4")
			return s.Voter
		})
		w.cut(old, false)
		w.record("2")
		w.awaitVoters("n1", "n2", "n3", "n4")
		w.agree("n1", "n2", "n3", "n4")
	})

	inTown(t, "a node that was added by a leader who lost, and then forgotten, is added again", func(t *testing.T) {
		w := newTown(t, 3, nil)
		w.record("1")
		old := w.leader()
		w.build("n4", nil)
		w.cut("n4", true)
		n := w.start("n4")
		// From now on only the new node hears the old leader.
		w.separate(true, old.cfg.ID, remove([]string{"n1", "n2", "n3"}, old.cfg.ID)...)
		w.separate(false, old.cfg.ID, "n4")
		_, err := old.Join(t.Context(), Joining{ID: "n4", Address: "n4:1", Fresh: true, Protocol: protocol, Schema: fsm.NewestSchema})
		if err == nil {
			t.Fatal("a leader without a majority has admitted a node")
		}
		if _, ok := find(servers(n.raft.Load()), "n4"); !ok {
			t.Fatal("the entry that admits it has not reached the new node: the test doesn't test")
		}
		w.leader(old.cfg.ID)
		w.cut("n4", false)
		w.cut(old.cfg.ID, false)
		w.awaitVoters("n1", "n2", "n3", "n4")
		w.record("2")
		w.agree("n1", "n2", "n3", "n4")
	})

	inTown(t, "a node without others says what it waits for", func(t *testing.T) {
		w := newTown(t, 0, nil)
		w.build("n1", func(cfg *Config) { cfg.Contacts = nil })
		n := w.start("n1")
		time.Sleep(time.Minute)
		if w.lines.count("name one with --join") == 0 {
			t.Error("the log doesn't say so")
		}
		list, err := n.Members(t.Context())
		if err != nil || len(list) != 1 || !list[0].Stale || list[0].Address != "n1:1" {
			t.Errorf("members %+v, %v", list, err)
		}
		if _, err := n.Join(t.Context(), Joining{ID: "n2", Address: "n2:1", Fresh: true, Protocol: protocol, Schema: 1}); !errors.Is(err, job.ErrNotLeader) {
			t.Errorf("Join: %v", err)
		}
	})

	inTown(t, "several hundred milliseconds between two new nodes are enough", func(t *testing.T) {
		w := newTown(t, 1, nil)
		w.record("1")
		all := []string{"n1"}
		for i := 2; i <= 7; i++ {
			id := fmt.Sprintf("n%d", i)
			w.build(id, nil)
			w.start(id)
			all = append(all, id)
		}
		w.awaitVoters(all...)
		w.agree(all...)
	})
}

func TestJoinRefused(t *testing.T) {
	inTown(t, "with a sentence", func(t *testing.T) {
		w := newTown(t, 3, nil)
		w.record("1")
		good := Joining{ID: "n9", Address: "n9:1", Fresh: true, Version: "v0", Protocol: protocol, Schema: fsm.NewestSchema}
		for _, c := range []struct {
			name, code string
			change     func(*Joining)
		}{
			{"no id", "", func(j *Joining) { j.ID = "" }},
			{"no address", "", func(j *Joining) { j.Address = "" }},
			{"another protocol", codeProtocol, func(j *Joining) { j.Protocol++ }},
			{"a foreign cluster", codeForeign, func(j *Joining) { j.Cluster = "OTHER" }},
			{"an older schema", codeSchema, func(j *Joining) { j.Schema = 0 }},
			{"removed before", codeRemoved, func(j *Joining) { j.Fresh = false }},
			{"an address that is in use", "address_taken", func(j *Joining) { j.Address = "n2:1" }},
		} {
			j := good
			c.change(&j)
			_, err := w.node("n1").Join(t.Context(), j)
			if c.code == "" {
				if job.KindOf(err) != job.Invalid {
					t.Errorf("%s: %v", c.name, err)
				}
				continue
			}
			refusedAs(t, err, c.code)
		}
		w.awaitVoters("n1", "n2", "n3")
	})

	inTown(t, "and a node that can never join ends with it", func(t *testing.T) {
		w := newTown(t, 3, nil)
		w.record("1")
		w.build("n4", func(cfg *Config) { cfg.newest = -1 })
		n := w.start("n4")
		<-n.over
		if err := w.stop("n4"); err == nil || !strings.Contains(err.Error(), "schema version") {
			t.Errorf("it ended with %v", err)
		}
	})

	inTown(t, "a node of another cluster stays out, and says why", func(t *testing.T) {
		w := newTown(t, 3, nil)
		w.record("1")
		foreign := []raft.Server{{ID: "n7", Address: "n7:1"}, {ID: "n8", Address: "n8:1"}}
		for _, s := range foreign {
			w.build(string(s.ID), func(cfg *Config) { cfg.Founders = foreign })
			w.start(string(s.ID))
		}
		w.await("the other cluster works", func() bool {
			_, err := w.node("n7").ReadIndex(t.Context())
			return err == nil
		})
		if err := w.stop("n8"); err != nil {
			t.Fatal(err)
		}
		w.await("n7 is refused", func() bool { return w.lines.count("start it with an empty data folder to let it join this one") > 0 })
		w.awaitVoters("n1", "n2", "n3")
		if w.node("n7").dead.Err() != nil {
			t.Error("it ended, although its cluster may come back")
		}
		w.start("n8")
		w.await("its own cluster goes on", func() bool {
			_, err := w.node("n7").ReadIndex(t.Context())
			return err == nil
		})
	})
}

func TestMove(t *testing.T) {
	if raceDetector {
		t.Skip("raft has a harmless race when an address changes")
	}
	// move restarts nodes at other addresses.
	move := func(t *testing.T, w *town, to map[string]string) {
		t.Helper()
		for id := range to {
			if err := w.stop(id); err != nil {
				t.Fatal(err)
			}
		}
		for id, addr := range to {
			w.home(id).cfg.Address = addr
			w.start(id)
		}
		for id, addr := range to {
			w.awaitMember(id, func(m Member) bool { return m.Address == addr && m.Voter && m.Alive })
		}
		w.awaitVoters("n1", "n2", "n3")
		w.record("moved")
		w.agree("n1", "n2", "n3")
	}
	inTown(t, "one after the other, the leader too", func(t *testing.T) {
		w := newTown(t, 3, nil)
		w.record("1")
		for i := range 3 {
			for _, id := range []string{"n1", "n2", "n3"} {
				move(t, w, map[string]string{id: fmt.Sprintf("%s:%d", id, i+2)})
			}
			l := w.leader().cfg.ID
			move(t, w, map[string]string{l: "elsewhere:" + strconv.Itoa(i)})
		}
	})
	inTown(t, "two at once, and all at once", func(t *testing.T) {
		w := newTown(t, 3, nil)
		w.record("1")
		move(t, w, map[string]string{"n1": "x:1", "n2": "x:2"})
		move(t, w, map[string]string{"n1": "y:1", "n2": "y:2", "n3": "y:3"})
	})
	inTown(t, "two take each other's address, or all in a ring", func(t *testing.T) {
		w := newTown(t, 3, nil)
		w.record("1")
		move(t, w, map[string]string{"n1": "n2:1", "n2": "n1:1"})
		move(t, w, map[string]string{"n1": "n1:1", "n2": "n3:1", "n3": "n2:1"})
	})
	inTown(t, "a node without a vote gets none by moving", func(t *testing.T) {
		w := newTown(t, 3, nil)
		w.record("1")
		m := newFake(nil)
		w.build("n4", func(cfg *Config) { cfg.Machine, cfg.Trouble = m, func() string { return "slow" } })
		w.start("n4")
		w.awaitMember("n4", func(m Member) bool { return m.Applied > 0 })
		if err := w.stop("n4"); err != nil {
			t.Fatal(err)
		}
		w.home("n4").cfg.Address = "n4:2"
		w.start("n4")
		w.awaitMember("n4", func(m Member) bool { return m.Address == "n4:2" && !m.Voter })
	})
	inTown(t, "a new node takes the place of one whose disk was lost", func(t *testing.T) {
		w := newTown(t, 3, nil)
		w.record("1")
		if err := w.stop("n3"); err != nil {
			t.Fatal(err)
		}
		w.build("n4", func(cfg *Config) { cfg.Address = "n3:1" })
		w.start("n4")
		w.awaitMember("n4", func(m Member) bool { return m.Voter && m.Address == "n3:1" })
		w.awaitMember("n3", func(m Member) bool { return m.Voter && m.Address == "" && !m.Alive })
		if err := w.node("n4").Remove(t.Context(), "n3", false); err != nil {
			t.Fatal(err)
		}
		w.awaitVoters("n1", "n2", "n4")
		w.agree("n4")
	})
	inTown(t, "a node that was alone becomes a cluster of one, and others join it", func(t *testing.T) {
		w := newTown(t, 0, nil)
		h := w.build("n1", nil)
		alone := h.cfg
		alone.Peers, alone.Address, alone.Contacts = nil, "", nil
		r := start(t, alone)
		r.awaitLead(t)
		r.record(t, submit("1"))
		id := r.Status().ClusterID
		if err := r.stop(); err != nil {
			t.Fatal(err)
		}
		r.machine.flush()
		h.cfg.Machine = newFake(r.machine.disk)
		w.start("n1")
		w.awaitMember("n1", func(m Member) bool { return m.Address == "n1:1" && m.Voter && m.Leader })
		w.build("n2", nil)
		w.build("n3", nil)
		w.start("n2")
		w.start("n3")
		w.awaitVoters("n1", "n2", "n3")
		w.record("2")
		w.agree("n1", "n2", "n3")
		if got := w.node("n3").Status().ClusterID; got != id {
			t.Errorf("cluster id %s, want %s", got, id)
		}
	})
}

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
