package server

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/orrery-io/orrery/agent"
	"github.com/orrery-io/orrery/job"
)

// diary is what the agents' handlers do.
type diary struct {
	t       *testing.T
	mu      sync.Mutex
	running map[job.ID]string
	times   map[job.ID]int
	begun   int
}

func newDiary(t *testing.T) *diary {
	return &diary{t: t, running: make(map[job.ID]string), times: make(map[job.ID]int)}
}

// do is a handler that takes a while, and writes down what else runs at that time.
func (d *diary) do(id string, least, most time.Duration) func(context.Context, *agent.Job[job.JSON]) error {
	return func(ctx context.Context, j *agent.Job[job.JSON]) error {
		d.mu.Lock()
		if other := d.running[j.ID]; other != "" {
			d.t.Errorf("job %d is executed by %s while %s executes it", j.ID, id, other)
		}
		d.running[j.ID] = fmt.Sprintf("%s as attempt %d", id, j.Attempt)
		d.times[j.ID]++
		d.begun++
		d.mu.Unlock()
		defer func() {
			d.mu.Lock()
			defer d.mu.Unlock()
			delete(d.running, j.ID)
		}()
		select {
		case <-time.After(least + rand.N(most-least+1)):
			return nil
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// ended reports whether all of the jobs have.
func (w *town) ended(ids []job.ID) bool {
	for _, id := range ids {
		if !w.job(id).State.Terminal() {
			return false
		}
	}
	return true
}

// TestRelay_everyNode has agents on all nodes do the work of a leader.
func TestRelay_everyNode(t *testing.T) {
	inTown(t, 3, func(w *town) {
		d := newDiary(t)
		for i, x := range w.nodes {
			w.agent(fmt.Sprint("a", i), 2, []string{x.url}, d.do(fmt.Sprint("a", i), 0, 100*time.Millisecond))
		}
		w.until("all agents are connected", func() bool { return w.nodeOf("a0") != "" && w.nodeOf("a1") != "" && w.nodeOf("a2") != "" })
		if w.nodeOf("a2") != "n3" {
			t.Errorf("agent a2 is at %q", w.nodeOf("a2"))
		}
		var ids []job.ID
		for range 60 {
			ids = append(ids, w.submit(job.Spec{MaxAttempts: 1}))
		}
		w.until("all jobs have ended", func() bool { return w.ended(ids) })
		by := map[string]int{}
		for _, id := range ids {
			j := w.job(id)
			if j.State != job.Completed {
				t.Errorf("job %d is %s", id, j.State)
			}
			by[string(j.Result)]++
		}
		if len(by) != 3 {
			t.Errorf("the work was done by %v", by)
		}

		// How busy the agents are, every node can tell.
		for _, x := range w.nodes {
			load, ok := x.relay.AgentLoad("a1")
			if !ok || !load.Connected || load.Node != "n2" || load.Credit < 2 {
				t.Errorf("%s says of a1: %+v, %v", x.id, load, ok)
			}
			if _, ok := x.relay.AgentLoad("nobody"); ok {
				t.Errorf("%s knows nobody", x.id)
			}
		}
	})
}

// TestRelay_follow follows a job from every node; its agent is on one of them.
func TestRelay_follow(t *testing.T) {
	inTown(t, 3, func(w *town) {
		begin, end := make(chan struct{}), make(chan struct{})
		w.agent("a", 1, []string{"http://n2"}, func(_ context.Context, j *agent.Job[job.JSON]) error {
			<-begin
			j.Logf("hello")
			j.Progress(50, "half")
			<-end
			return nil
		})
		w.until("the agent is connected", func() bool { return w.nodeOf("a") != "" })
		id := w.submit(job.Spec{})
		var followers sync.WaitGroup
		for _, x := range w.nodes {
			f := x.relay.FollowLog(id)
			followers.Go(func() {
				defer f.Close()
				lines, progress := 0, 0
				for lines == 0 || progress == 0 {
					u := <-f.C
					if u.Job != id || u.Fence == 0 {
						t.Errorf("%s shows %+v", x.id, u)
					}
					for _, l := range u.Lines {
						if l.Text == "hello" && l.Seq == 1 {
							lines++
						}
					}
					if u.Progress != nil && u.Progress.Percent == 50 && u.Progress.Message == "half" {
						progress++
					}
				}
			})
		}
		synctest.Wait()
		close(begin)
		followers.Wait()
		synctest.Wait()
		for _, x := range w.nodes {
			if n := x.hub.Followers(); n != 0 {
				t.Errorf("%s still has %d followers", x.id, n)
			}
		}
		close(end)
		w.until("the job has ended", func() bool { return w.job(id).State == job.Completed })
	})
}

// TestRelay_lossy loses messages between the nodes, breaks their links, and changes
// the leader, while agents on all nodes work. Their own connections stay. Nothing may
// come of it but a delay: no attempt is lost, not even of a job that may be executed
// once only, and none is executed twice at a time.
func TestRelay_lossy(t *testing.T) {
	for seed := range uint64(8) {
		t.Run(fmt.Sprintf("seed_%d", seed), func(t *testing.T) {
			inTown(t, 3, func(w *town) { lossy(w, rand.New(rand.NewPCG(seed, 1))) })
		})
	}
}

func lossy(w *town, random *rand.Rand) {
	d := newDiary(w.t)
	for i := range 6 {
		id := fmt.Sprint("a", i)
		w.agent(id, 3, []string{w.nodes[i%3].url}, d.do(id, 0, 3*time.Second))
	}
	w.until("all agents are connected", func() bool { return len(w.machine.Agents()) == 6 })
	var ids []job.ID
	for round := range 40 {
		for range 10 {
			spec := job.Spec{MaxAttempts: 1 + random.IntN(2)}
			ids = append(ids, w.submit(spec))
		}
		switch x := w.nodes[random.IntN(3)]; round % 4 {
		case 0:
			from, to := x.id, w.nodes[random.IntN(3)].id
			w.roads.sever(func(f, t string) bool { return f == from && t == to })
		case 1:
			x.lossy.Store(30)
		case 2:
			w.roads.sever(func(f, t string) bool { return f[0] == 'n' && t[0] == 'n' })
		case 3:
			w.lead(x)
		}
		time.Sleep(time.Duration(random.IntN(1500)) * time.Millisecond)
	}
	for _, x := range w.nodes {
		x.lossy.Store(0)
	}
	w.until("all jobs have ended", func() bool { return w.ended(ids) })
	for _, id := range ids {
		j := w.job(id)
		if j.State != job.Completed || d.times[id] != 1 {
			w.t.Errorf("job %d (at most %d attempts) is %s, executed %d times: %+v", id, j.MaxAttempts, j.State, d.times[id], j.Error)
		}
		for _, a := range j.Attempts {
			// Agents hand back what waits behind long jobs.
			if a.Outcome != job.OutcomeCompleted && (a.Error == nil || a.Error.Kind != "rejected") {
				w.t.Errorf("job %d: %+v %+v", id, a, a.Error)
			}
		}
	}
}
