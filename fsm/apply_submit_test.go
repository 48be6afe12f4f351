package fsm

import (
	"fmt"
	"slices"
	"testing"

	"github.com/orrery-io/orrery/command"
	"github.com/orrery-io/orrery/job"
)

func keyed(key, hash string) *command.Submit {
	s := submission(func(x *job.Spec) { x.IdempotencyKey = key })
	s.BodyHash = []byte(hash)
	return s
}

func types(events []job.Event) []job.EventType {
	list := make([]job.EventType, len(events))
	for i := range events {
		list[i] = events[i].Type
	}
	return list
}

func TestSubmit(t *testing.T) {
	t.Run("ids come from one sequence", func(t *testing.T) {
		b := setup(t, Config{})
		for want := job.ID(1); want < 4; want++ {
			if r := b.do(submission(nil)); r.Job != want {
				t.Errorf("got id %d, want %d", r.Job, want)
			}
			b.reopen()
		}
	})
	t.Run("a time in the future makes it scheduled", func(t *testing.T) {
		b := setup(t, Config{})
		at := b.now.Add(job.Minute)
		j := b.job(b.do(submission(func(x *job.Spec) { x.RunAt = at })).Job)
		if j.State != job.Scheduled || j.ReadyAt != at {
			t.Errorf("got %s at %s", j.State, j.ReadyAt)
		}
	})
	t.Run("a time in the past doesn't jump the queue", func(t *testing.T) {
		b := setup(t, Config{})
		j := b.job(b.do(submission(func(x *job.Spec) { x.RunAt = 5 })).Job)
		if j.State != job.Pending || j.ReadyAt != b.now {
			t.Errorf("got %s at %s", j.State, j.ReadyAt)
		}
	})
	t.Run("an assignment dispatches in the same entry", func(t *testing.T) {
		b := setup(t, Config{})
		feed := b.m.Subscribe(job.EventID{})
		s := submission(nil)
		a := assign()
		s.Assign = &a
		r := b.do(s)
		j := b.job(r.Job)
		if !r.Dispatched || j.State != job.Dispatched || j.Fence != job.Fence(b.index) || j.Agent != "agent-1" || j.Rev != 2 {
			t.Errorf("got %+v, %+v", r, j)
		}
		events, err := feed.Next(t.Context())
		if err != nil || !slices.Equal(types(events), []job.EventType{job.JobSubmitted, job.JobDispatched}) {
			t.Fatalf("events %v, %v", events, err)
		}
		if events[0].State != job.Pending || events[1].State != job.Dispatched || events[1].Row != j || events[1].Fence != j.Fence {
			t.Errorf("events %+v", events)
		}
		if q, _ := b.m.Queue("default"); q.Counts[job.Dispatched] != 1 || q.Counts[job.Pending] != 0 {
			t.Errorf("counters %v", q.Counts)
		}
	})
	t.Run("an assignment is left out for a delayed job and a paused queue", func(t *testing.T) {
		b := setup(t, Config{})
		a := assign()
		s := submission(func(x *job.Spec) { x.RunAt = b.now.Add(job.Hour) })
		s.Assign = &a
		if r := b.do(s); r.Dispatched {
			t.Error("a delayed job was dispatched")
		}
		b.do(&command.SetQueue{Queue: "default", Paused: true})
		s = submission(nil)
		s.Assign = &a
		if r := b.do(s); r.Dispatched || b.job(r.Job).State != job.Pending {
			t.Error("a job of a paused queue was dispatched")
		}
	})
}

func TestIdempotencyKey(t *testing.T) {
	for _, flushed := range []bool{false, true} {
		t.Run(fmt.Sprintf("flushed %v", flushed), func(t *testing.T) {
			b := setup(t, Config{})
			first := b.do(keyed("k", "h")).Job
			if flushed {
				b.reopen()
			}
			if r := b.do(keyed("k", "h")); r.Job != first || !r.Existing {
				t.Errorf("the same key and body gave %+v", r)
			}
			if err := b.refused(keyed("k", "other"), "idempotency_key_reused"); err.Kind != job.Mismatch {
				t.Errorf("kind %v", err.Kind)
			}
			if r := b.do(keyed("k2", "h")); r.Job == first {
				t.Error("another key gave the same job")
			}
			b.do(&command.Cancel{Job: first})
			b.do(&command.Delete{Jobs: []job.ID{first}})
			if flushed {
				b.reopen()
			}
			if r := b.do(keyed("k", "other")); r.Existing {
				t.Error("the key outlived its job")
			}
		})
	}
}

func TestSubmitAll(t *testing.T) {
	all := func(jobs ...*command.Submit) *command.SubmitAll {
		c := &command.SubmitAll{}
		for _, s := range jobs {
			c.Jobs = append(c.Jobs, *s)
		}
		return c
	}
	t.Run("records all jobs", func(t *testing.T) {
		b := setup(t, Config{})
		r := b.do(all(submission(nil), submission(nil)))
		if !slices.Equal(r.Jobs, []job.ID{1, 2}) || r.Count != 2 || r.Existing {
			t.Errorf("got %+v", r)
		}
	})
	t.Run("records none when one is refused", func(t *testing.T) {
		b := setup(t, Config{})
		b.do(keyed("k", "h"))
		err := b.refused(all(submission(nil), keyed("new", "x"), keyed("k", "other")), "idempotency_key_reused")
		if want := "job 2 of the batch: "; len(err.Message) < len(want) || err.Message[:len(want)] != want {
			t.Errorf("message %q", err.Message)
		}
		if n := b.m.Stats().Jobs[job.Pending]; n != 1 {
			t.Errorf("%d jobs, want 1", n)
		}
		if r := b.do(keyed("new", "y")); r.Existing || r.Job != 2 {
			t.Errorf("the refused batch left something: %+v", r)
		}
	})
	t.Run("finds the jobs of keys that it has seen", func(t *testing.T) {
		b := setup(t, Config{})
		first := b.do(keyed("k", "h")).Job
		r := b.do(all(keyed("k", "h"), submission(nil), keyed("two", "h"), keyed("two", "h")))
		if !slices.Equal(r.Jobs, []job.ID{first, 2, 3, 3}) || r.Count != 2 || r.Existing {
			t.Errorf("got %+v", r)
		}
		r = b.do(all(keyed("k", "h"), keyed("two", "h")))
		if !slices.Equal(r.Jobs, []job.ID{first, 3}) || !r.Existing {
			t.Errorf("again: %+v", r)
		}
	})
	t.Run("refuses one key with two bodies in the same batch", func(t *testing.T) {
		b := setup(t, Config{})
		b.refused(all(keyed("k", "1"), keyed("k", "2")), "idempotency_key_reused")
		if n := b.m.Stats().Queues; n != 0 {
			t.Errorf("%d queues, want none", n)
		}
	})
	t.Run("nothing gives nothing", func(t *testing.T) {
		b := setup(t, Config{})
		if r := b.do(all()); len(r.Jobs) != 0 || r.Existing {
			t.Errorf("got %+v", r)
		}
	})
}

func TestRequestID(t *testing.T) {
	item := func(id string) command.Item { return command.Item{RequestID: id, Command: submission(nil)} }
	t.Run("a repeated request gets the first answer", func(t *testing.T) {
		b := setup(t, Config{})
		first := b.items(item("a"))[0]
		for range 2 {
			again := b.items(item("a"), item("a"))
			if again[0].Job != first.Job || again[1].Job != first.Job || again[0].Index != first.Index {
				t.Errorf("got %+v, first %+v", again, first)
			}
			b.reopen()
		}
		if n := b.m.Stats().Jobs[job.Pending]; n != 1 {
			t.Errorf("%d jobs", n)
		}
	})
	t.Run("also when it was refused", func(t *testing.T) {
		b := setup(t, Config{})
		cancel := command.Item{RequestID: "c", Command: &command.Cancel{Job: 1}}
		b.items(cancel)
		b.do(submission(nil))
		b.reopen()
		if r := b.items(cancel)[0]; r.Err == nil || r.Err.Code != "job_not_found" {
			t.Errorf("got %+v", r)
		}
	})
	t.Run("the oldest are forgotten by count, the same ones after a restart", func(t *testing.T) {
		b := setup(t, Config{requests: 5})
		for i := range 4 {
			b.items(item(fmt.Sprint("a", i)), item(fmt.Sprint("b", i)))
		}
		// Kept: b1 a2 b2 a3 b3.
		for range 2 {
			b.flush()
			l := b.m.state.requests
			var ids []string
			l.each(func(r *requestRow) { ids = append(ids, r.ID) })
			if !slices.Equal(ids, []string{"b1", "a2", "b2", "a3", "b3"}) {
				t.Errorf("remembered %q", ids)
			}
			b.reopen()
		}
		if r := b.items(item("b1"))[0]; r.Job != 4 {
			t.Errorf("b1 gave job %d", r.Job)
		}
		if r := b.items(item("a1"))[0]; r.Job != 9 {
			t.Errorf("a1 is forgotten, and gave job %d", r.Job)
		}
		b.flush()
		var n int
		if err := b.m.store.lists.QueryRowContext(t.Context(), "SELECT count(*) FROM requests").Scan(&n); err != nil || n != 3 {
			t.Errorf("%d rows of requests, %v; want those of 3 entries", n, err)
		}
	})
	t.Run("an id that comes back after it was forgotten is remembered anew", func(t *testing.T) {
		b := setup(t, Config{requests: 2})
		for _, id := range []string{"x", "y", "z", "x", "y"} {
			b.items(item(id))
		}
		b.reopen()
		if r := b.items(item("x"))[0]; r.Job != 4 {
			t.Errorf("x gave job %d, want its second", r.Job)
		}
	})
}
