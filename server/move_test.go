package server

import (
	"context"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/orrery-io/orrery/agent"
	"github.com/orrery-io/orrery/job"
	"github.com/orrery-io/orrery/wire"
)

// TestMove is about agents that go to another node, with what they execute.
func TestMove(t *testing.T) {
	// long has an agent at node two execute a job that only the test ends.
	long := func(w *town) (id job.ID, d *diary, end chan struct{}) {
		d, end = newDiary(w.t), make(chan struct{})
		do := d.do("a", 0, 0)
		w.agent("a", 2, []string{"http://n2"}, func(ctx context.Context, j *agent.Job[job.JSON]) error {
			select {
			case <-end:
			case <-ctx.Done():
				w.t.Errorf("the handler was told to stop: %v", context.Cause(ctx))
			}
			return do(ctx, j)
		})
		w.until("the agent is connected", func() bool { return w.nodeOf("a") == "n2" })
		id = w.submit(job.Spec{MaxAttempts: 1})
		w.until("the job runs", func() bool { return w.job(id).State == job.Running })
		return id, d, end
	}
	finish := func(w *town, id job.ID, end chan struct{}) {
		time.Sleep(time.Minute)
		close(end)
		w.until("the job has ended", func() bool { return w.job(id).State.Terminal() })
		if j := w.job(id); j.State != job.Completed || len(j.Attempts) != 1 {
			w.t.Errorf("the job is %s after %+v", j.State, j.Attempts)
		}
	}

	t.Run("away from a node that is drained, and back", func(t *testing.T) {
		inTown(t, 3, func(w *town) {
			id, _, end := long(w)
			w.draining("n2", true)
			w.nodes[1].hub.Drain(true)
			w.until("the agent has moved", func() bool { return !slices.Contains([]string{"", "n2"}, w.nodeOf("a")) })
			if took := time.Since(w.job(id).Attempts[0].DispatchedAt.Time()); took > 5*time.Second {
				t.Errorf("moving took %s", took)
			}
			// Who comes all the same is sent to another node.
			rec := httptest.NewRecorder()
			req := httptest.NewRequest(http.MethodGet, wire.Path, http.NoBody)
			w.nodes[1].hub.ServeHTTP(rec, req)
			var problem struct{ Code, Detail string }
			if err := json.Unmarshal(rec.Body.Bytes(), &problem); err != nil || rec.Code != http.StatusServiceUnavailable || problem.Code != "draining" ||
				!strings.Contains(problem.Detail, "http://n1") {
				t.Errorf("a drained node answers %d, %s", rec.Code, rec.Body)
			}
			finish(w, id, end)
			w.draining("n2", false)
			w.nodes[1].hub.Drain(false)
			w.agent("b", 1, []string{"http://n2"}, func(context.Context, *agent.Job[job.JSON]) error { return nil })
			w.until("another agent is taken", func() bool { return w.nodeOf("b") == "n2" })
		})
	})

	t.Run("away from a node that ends, and from the next", func(t *testing.T) {
		inTown(t, 3, func(w *town) {
			id, _, end := long(w)
			w.stopHub(w.nodes[1])
			w.until("the agent has moved", func() bool { return !slices.Contains([]string{"", "n2"}, w.nodeOf("a")) })
			at := w.nodeOf("a")
			if at == "n1" {
				w.lead(w.nodes[2])
			} else {
				w.lead(w.nodes[0])
			}
			for _, x := range w.nodes {
				if x.id == at {
					w.stopHub(x)
				}
			}
			w.until("the agent has moved again", func() bool { return !slices.Contains([]string{"", "n2", at}, w.nodeOf("a")) })
			finish(w, id, end)
		})
	})

	t.Run("away from a node that is gone without a word", func(t *testing.T) {
		inTown(t, 3, func(w *town) {
			id, _, end := long(w)
			w.kill(w.nodes[1])
			w.until("the agent has moved", func() bool { return !slices.Contains([]string{"", "n2"}, w.nodeOf("a")) })
			finish(w, id, end)
		})
	})

	t.Run("away from a leader that is gone without a word", func(t *testing.T) {
		inTown(t, 3, func(w *town) {
			w.lead(w.nodes[1])
			id, _, end := long(w)
			w.kill(w.nodes[1])
			time.Sleep(2 * time.Second)
			w.lead(w.nodes[2])
			w.until("the agent has moved", func() bool { return !slices.Contains([]string{"", "n2"}, w.nodeOf("a")) })
			finish(w, id, end)
		})
	})

	t.Run("not at all, because agent and node are gone together", func(t *testing.T) {
		inTown(t, 3, func(w *town) {
			d := newDiary(t)
			w.agent("a", 1, []string{"http://n2"}, d.do("a", time.Hour, time.Hour))
			w.until("the agent is connected", func() bool { return w.nodeOf("a") == "n2" })
			id := w.submit(job.Spec{})
			w.until("the job runs", func() bool { return w.job(id).State == job.Running })
			w.roads.isolate("a")
			w.kill(w.nodes[1])
			w.agent("b", 1, []string{"http://n3"}, d.do("b", 0, 0))
			// The lease ends what the agent had, and another does it.
			w.until("the job has ended", func() bool { return w.job(id).State.Terminal() })
			if j := w.job(id); j.State != job.Completed || len(j.Attempts) != 2 || j.Attempts[0].Outcome != job.OutcomeLost {
				t.Errorf("the job is %s after %+v", j.State, j.Attempts)
			}
			if row, err := w.machine.Agent("a"); err != nil || row.Status != job.AgentLost {
				t.Errorf("the agent is %+v, %v", row, err)
			}
		})
	})

	t.Run("to a node that it was told of", func(t *testing.T) {
		inTown(t, 2, func(w *town) {
			w.draining("n2", true) // unknown, at first
			w.agent("a", 1, []string{"http://n1"}, func(context.Context, *agent.Job[job.JSON]) error { return nil })
			w.until("the agent is connected", func() bool { return w.nodeOf("a") == "n1" })
			w.draining("n2", false)
			w.nodes[0].hub.NodesChanged()
			synctest.Wait()
			w.nodes[0].hub.Drain(true)
			w.until("the agent has moved", func() bool { return w.nodeOf("a") == "n2" })
		})
	})
}
