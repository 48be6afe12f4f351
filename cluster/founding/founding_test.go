package founding

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"
)

// only returns the one cluster that has begun.
func (w *world) only() (cluster string, founders []string) {
	w.t.Helper()
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.begun) != 1 {
		w.t.Fatalf("begun: %v", w.begun)
	}
	for c, list := range w.begun {
		return c, list
	}
	return "", nil
}

func (w *world) result(id string) string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.nodes[id].result
}

func (w *world) said(id string) string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.nodes[id].said.String()
}

func TestThreeNodesAgree(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t, 1)
		w.start("n-b", 3)
		w.start("n-c", 3)
		time.Sleep(time.Minute)
		if text := w.said("n-c"); !strings.Contains(text, "waiting for 3 nodes to begin the cluster, 2 seen: n-b at n-b:7701, n-c (this one); start the others with --join n-c:7701") ||
			strings.Count(text, "waiting for a cluster") < 6 {
			t.Errorf("while it waits a node says:\n%s", text)
		}
		w.start("n-a", 3)
		w.run("decided", func() bool { return w.decided("n-a", "n-b", "n-c") })
		cluster, founders := w.only()
		if !slices.Equal(founders, []string{"n-a", "n-b", "n-c"}) {
			t.Errorf("founders %v", founders)
		}
		for _, id := range founders {
			want := "joins " + cluster
			if id == "n-a" {
				want = "begins " + cluster
			}
			p := w.nodes[id]
			if w.result(id) != want || p.founding.Fresh() || p.founding.Cluster() != cluster || p.founding.Waiting() != "" {
				t.Errorf("%s %s, want %s; fresh %v, cluster %q", id, w.result(id), want, p.founding.Fresh(), p.founding.Cluster())
			}
		}
		if c := w.nodes["n-b"].founding.Contacts(); !slices.Contains(c, "n-a") {
			t.Errorf("contacts of n-b: %v", c)
		}
	})
}

func TestFourNodesOneListWinsAndTheFourthJoins(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t, 1)
		for i := range 4 {
			w.start(node(i), 3)
		}
		w.run("decided", func() bool { return w.decided("n-a", "n-b", "n-c", "n-d") })
		cluster, founders := w.only()
		if slices.Contains(founders, "n-d") || w.result("n-d") != "joins "+cluster || w.nodes["n-d"].founding.Cluster() != "" {
			t.Errorf("founders %v, n-d %s", founders, w.result("n-d"))
		}
	})
}

func TestViewsThatOverlapEndInOneList(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t, 1)
		w.cut[[2]string{"n-a", "n-d"}] = true // {a,b,c} or {b,c,d}
		for i := range 4 {
			w.start(node(i), 3)
		}
		w.run("begun", func() bool { return w.decided("n-a", "n-b", "n-c") || w.decided("n-b", "n-c", "n-d") })
		w.mu.Lock()
		clear(w.cut)
		w.mu.Unlock()
		w.run("decided", func() bool { return w.decided("n-a", "n-b", "n-c", "n-d") })
		w.only()
	})
}

func TestHalvesNeverBegin(t *testing.T) {
	tests := []struct {
		name   string
		groups [][]string
		expect int
	}{
		{"one and two of three", [][]string{{"n-a"}, {"n-b", "n-c"}}, 3},
		{"two and two", [][]string{{"n-a", "n-d"}, {"n-b", "n-c"}}, 3},
		{"two and three of five", [][]string{{"n-a", "n-b"}, {"n-c", "n-d", "n-e"}}, 5},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				w := newWorld(t, 1)
				for _, a := range tt.groups[0] {
					for _, b := range tt.groups[1] {
						w.cut[[2]string{a, b}] = true
					}
				}
				all := slices.Concat(tt.groups...)
				for _, id := range all {
					w.start(id, tt.expect)
				}
				time.Sleep(time.Hour)
				w.mu.Lock()
				if len(w.begun) != 0 {
					t.Errorf("half of the nodes have begun: %v", w.begun)
				}
				clear(w.cut)
				w.mu.Unlock()
				w.run("decided", func() bool { return w.decided(all...) })
				w.only()
			})
		})
	}
}

func TestOneNodeBeginsAlone(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t, 1)
		w.start("n-a", 1)
		w.run("decided", func() bool { return w.decided("n-a") })
		if _, founders := w.only(); !slices.Equal(founders, []string{"n-a"}) {
			t.Errorf("founders %v", founders)
		}
	})
}

func TestDifferentExpectationsAreSaid(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t, 1)
		w.start("n-a", 3)
		w.start("n-b", 3)
		w.start("n-c", 5)
		w.start("n-d", 0)
		time.Sleep(time.Minute)
		want := "2 seen: n-a (this one), n-b at n-b:7701; start the others with --join n-a:7701; n-c at n-c:7701 was started with --bootstrap-expect 5, and this node with 3: start all of them with the same number"
		if text := w.said("n-a"); !strings.Contains(text, want) {
			t.Errorf("n-a says:\n%s", text)
		}
		if text := w.said("n-d"); !strings.Contains(text, "no member of a cluster answers yet at the addresses of --join") {
			t.Errorf("n-d says:\n%s", text)
		}
		w.kill("n-c")
		w.start("n-c", 3)
		w.run("decided", func() bool { return w.decided("n-a", "n-b", "n-c", "n-d") })
		if _, founders := w.only(); slices.Contains(founders, "n-d") {
			t.Errorf("founders %v", founders)
		}
	})
}

func TestANodeThatSeesAClusterJoinsIt(t *testing.T) {
	for _, expect := range []int{0, 1, 3} {
		bubble(t, func(t *testing.T) {
			w := newWorld(t, 1)
			w.start("n-z", 1)
			w.run("decided", func() bool { return w.decided("n-z") })
			w.settle("n-z")
			cluster, _ := w.only()
			w.start("n-a", expect)
			w.run("decided", func() bool { return w.decided("n-a") })
			if got := w.result("n-a"); got != "joins "+cluster {
				t.Errorf("n-a %s", got)
			}
			// And it never founds another one.
			w.kill("n-z")
			w.kill("n-a")
			if expect > 0 {
				w.start("n-a", expect)
				w.run("decided", func() bool { return w.decided("n-a") })
				w.only()
			}
		})
	}
}

// TestTheProposerDies kills the proposer when its first message of a kind arrives.
func TestTheProposerDies(t *testing.T) {
	for _, method := range []string{methodReady, methodPromise} {
		t.Run("at "+method, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				w := newWorld(t, 1)
				died := make(chan struct{}, 1)
				killed := false
				w.meddle = func(from, to, m string) {
					w.mu.Lock()
					now := m == method && !killed
					killed = killed || now
					w.mu.Unlock()
					if now {
						w.kill("n-a")
						died <- struct{}{}
					}
				}
				for i := range 3 {
					w.start(node(i), 3)
				}
				<-died
				time.Sleep(10 * time.Minute)
				w.mu.Lock()
				if len(w.begun) != 0 {
					t.Errorf("begun: %v", w.begun)
				}
				bound := w.nodes["n-b"].disk.rec.Promised != nil || w.nodes["n-c"].disk.rec.Promised != nil
				w.mu.Unlock()
				if text := w.said("n-b") + w.said("n-c"); bound && !(strings.Contains(text, "waits for n-a to begin it, which has not answered for 9m") && strings.Contains(text, "start it again; if it is gone for good, stop this node, remove its data folder")) {
					t.Errorf("who waits for the dead says:\n%s", text)
				}
				w.start("n-a", 3)
				w.run("decided", func() bool { return w.decided("n-a", "n-b", "n-c") })
				w.only()
			})
		})
	}
}

func TestTheProposerDiesAfterItHasBegun(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t, 1)
		for i := range 3 {
			w.start(node(i), 3)
		}
		for w.result("n-a") == "" {
			time.Sleep(time.Microsecond)
		}
		w.kill("n-a")
		cluster, _ := w.only()
		time.Sleep(10 * time.Minute)
		w.start("n-a", 3)
		w.run("decided", func() bool { return w.decided("n-a", "n-b", "n-c") })
		if w.result("n-a") != "begins "+cluster || w.result("n-b") != "joins "+cluster || w.result("n-c") != "joins "+cluster {
			t.Errorf("%s, %s, %s", w.result("n-a"), w.result("n-b"), w.result("n-c"))
		}
	})
}

func TestAReplacedFolderFreesNobodyElse(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t, 1)
		w.meddle = func(from, _, m string) {
			if m == methodPromise {
				w.kill(from)
			}
		}
		for i := range 3 {
			w.start(node(i), 3)
		}
		w.run("promised", func() bool { return w.nodes["n-b"].disk.rec.Promised != nil || w.nodes["n-c"].disk.rec.Promised != nil })
		w.mu.Lock()
		w.meddle = nil
		w.mu.Unlock()
		time.Sleep(time.Minute)
		// n-a is gone for good; the operator empties the folders that wait for it.
		for _, id := range []string{"n-b", "n-c"} {
			w.kill(id)
			w.mu.Lock()
			delete(w.nodes, id)
			w.mu.Unlock()
		}
		for _, id := range []string{"n-e", "n-f", "n-g"} {
			w.start(id, 3)
		}
		w.run("decided", func() bool { return w.decided("n-e", "n-f", "n-g") })
		w.only()
	})
}

func TestFoundGivesTheSameAnswerAgain(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t, 1)
		for i := range 3 {
			w.start(node(i), 3)
		}
		w.run("decided", func() bool { return w.decided("n-a", "n-b", "n-c") })
		cluster, _ := w.only()
		for i := range 3 {
			w.kill(node(i))
		}
		w.start("n-a", 5) // even if it is told something else
		w.run("decided", func() bool { return w.decided("n-a") })
		if got := w.result("n-a"); got != "begins "+cluster {
			t.Errorf("n-a %s", got)
		}
		w.start("n-b", 3)
		w.run("decided", func() bool { return w.decided("n-b") })
		if got := w.result("n-b"); got != "joins "+cluster {
			t.Errorf("n-b %s", got)
		}
	})
}

func TestABrokenDiskEndsFound(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t, 1)
		full := errors.New("no space left on device")
		for i := range 3 {
			p := w.start(node(i), 3)
			if i == 1 {
				p.disk.mu.Lock()
				p.disk.fail = full
				p.disk.mu.Unlock()
			}
		}
		w.run("failed", func() bool { return errors.Is(w.nodes["n-b"].err, full) })
		time.Sleep(time.Minute)
		w.mu.Lock()
		defer w.mu.Unlock()
		if len(w.begun) != 0 {
			t.Errorf("begun without the promise of all: %v", w.begun)
		}
	})
}
