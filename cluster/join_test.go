package cluster

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hashicorp/raft"
	"github.com/orrery-io/orrery/fsm"
	"github.com/orrery-io/orrery/job"
)

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
