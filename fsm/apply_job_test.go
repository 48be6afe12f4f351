package fsm

import (
	"slices"
	"testing"

	"github.com/orrery-io/orrery/command"
	"github.com/orrery-io/orrery/job"
)

func TestReady(t *testing.T) {
	b := setup(t, Config{})
	at := b.now.Add(job.Second)
	due := b.do(submission(func(x *job.Spec) { x.RunAt = at })).Job
	later := b.do(submission(func(x *job.Spec) { x.RunAt = at.Add(job.Hour) })).Job
	pending := b.do(submission(nil)).Job
	b.now = at
	if r := b.do(&command.Ready{Jobs: []job.ID{due, later, pending, 99}}); r.Count != 1 {
		t.Errorf("counted %d", r.Count)
	}
	if j := b.job(due); j.State != job.Pending || j.ReadyAt != at {
		t.Errorf("got %s at %s; it shall queue up by when it was due", j.State, j.ReadyAt)
	}
	if j := b.job(later); j.State != job.Scheduled {
		t.Errorf("a job that is not due became %s", j.State)
	}
}

func TestCancel(t *testing.T) {
	t.Run("a running job is asked once", func(t *testing.T) {
		b := setup(t, Config{})
		id := b.do(submission(nil)).Job
		f := b.dispatch(id)
		b.do(&command.Cancel{Job: id, Reason: "a"})
		b.do(&command.Cancel{Job: id, Reason: "b"})
		j := b.job(id)
		if !j.CancelRequested || j.CancelReason != "a" || j.State != job.Dispatched {
			t.Errorf("got %+v", j)
		}
		e := b.lastEvent(id)
		if e.Type != job.JobCancelRequested || e.Fence != f || e.Agent != "agent-1" || e.Detail != "a" {
			t.Errorf("event %+v", e)
		}
		if events, _ := b.m.JobEvents(t.Context(), id); len(events) != 3 {
			t.Errorf("%d events, want 3", len(events))
		}
	})
	t.Run("an unknown job is not found", func(t *testing.T) {
		b := setup(t, Config{})
		b.refused(&command.Cancel{Job: 5}, "job_not_found")
	})
}

func TestExpire(t *testing.T) {
	b := setup(t, Config{})
	none := b.do(submission(nil)).Job
	b.refused(&command.Expire{Job: none}, "not_expired")
	soon := b.do(submission(func(x *job.Spec) { x.ExpiresAt = b.now.Add(job.Hour) })).Job
	b.refused(&command.Expire{Job: soon}, "not_expired")
	begun := b.do(submission(func(x *job.Spec) { x.ExpiresAt = b.now + 5 })).Job
	b.dispatch(begun)
	b.finish(begun, job.OutcomeFailed, job.Pending, nil)
	b.now += 10
	b.refused(&command.Expire{Job: begun}, "not_expired") // it was started in time
	b.now = b.now.Add(job.Hour)
	b.do(&command.Expire{Job: soon})
	b.do(&command.Retry{Job: soon})
	if j := b.job(soon); j.ExpiresAt != 0 || j.State != job.Pending {
		t.Errorf("after retry of an expired job: %s, expires %s", j.State, j.ExpiresAt)
	}
}

func TestRetry(t *testing.T) {
	t.Run("an ended job gets a full set of attempts and keeps its history", func(t *testing.T) {
		b := setup(t, Config{})
		id := b.do(submission(nil)).Job
		b.dispatch(id)
		b.finish(id, job.OutcomeLost, job.Pending, nil)
		b.dispatch(id)
		b.finish(id, job.OutcomeFailed, job.Failed, nil)
		b.do(&command.Retry{Job: id})
		j := b.job(id)
		if j.State != job.Pending || j.Failures != 0 || j.Lost != 0 || len(j.Attempts) != 2 || j.FinishedAt != 0 || j.ReadyAt != b.now {
			t.Errorf("got %+v", j)
		}
		b.dispatch(id)
		if n := b.job(id).Attempt(); n != 3 {
			t.Errorf("the next attempt is number %d", n)
		}
	})
	t.Run("one between attempts runs now, its failures still count", func(t *testing.T) {
		b := setup(t, Config{})
		id := b.do(submission(nil)).Job
		b.dispatch(id)
		b.finish(id, job.OutcomeFailed, job.Scheduled, func(c *command.Finish) { c.RunAt = b.now.Add(job.Hour) })
		b.do(&command.Retry{Job: id})
		if j := b.job(id); j.State != job.Pending || j.Failures != 1 || j.ReadyAt != b.now {
			t.Errorf("got %+v", j)
		}
	})
}

func TestRedrive(t *testing.T) {
	b := setup(t, Config{})
	dead := b.in(job.Failed).ID
	timed := b.in(job.TimedOut).ID
	cancelled := b.in(job.Cancelled).ID
	r := b.do(&command.Redrive{Jobs: []job.ID{dead, timed, cancelled, 99, dead}, Payload: job.JSON(`2`), Queue: "repaired"})
	if r.Count != 2 {
		t.Errorf("counted %d", r.Count)
	}
	j := b.job(dead)
	if j.State != job.Pending || string(j.Payload) != "2" || j.Queue != "repaired" || j.Failures != 0 {
		t.Errorf("got %+v", j)
	}
	from, _ := b.m.Queue("default")
	to, _ := b.m.Queue("repaired")
	if from.Counts[job.Failed] != 0 || from.Counts[job.TimedOut] != 0 || to.Counts[job.Pending] != 2 || from.Counts[job.Cancelled] != 1 {
		t.Errorf("counters %v, %v", from.Counts, to.Counts)
	}
}

func TestDelete(t *testing.T) {
	b := setup(t, Config{})
	done := b.in(job.Completed).ID
	dead := b.in(job.Failed).ID
	waiting := b.in(job.Pending).ID
	f := b.dispatch(waiting)
	b.do(&command.AppendLog{Job: waiting, Fence: f, Lines: []job.LogLine{{Seq: 1, Text: "x"}}})
	all := []job.ID{done, dead, waiting, 99}
	if r := b.do(&command.Delete{Jobs: all, OnlyDead: true}); r.Count != 1 {
		t.Errorf("counted %d dead letters", r.Count)
	}
	b.finish(waiting, job.OutcomeCompleted, job.Completed, nil)
	b.flush()
	feed := b.m.Subscribe(b.m.LastEvent())
	if r := b.do(&command.Delete{Jobs: all}); r.Count != 2 {
		t.Errorf("counted %d", r.Count)
	}
	events, err := feed.Next(t.Context())
	if err != nil || !slices.Equal(types(events), []job.EventType{job.JobDeleted, job.JobDeleted}) || events[0].Job != done || events[0].Row != nil {
		t.Errorf("events %v, %v", events, err)
	}
	for range 2 {
		for _, id := range all {
			if _, err := b.m.Job(t.Context(), id); err == nil {
				t.Errorf("job %d is still there", id)
			}
		}
		b.reopen()
		var n int
		err := b.m.store.lists.QueryRowContext(t.Context(),
			"SELECT (SELECT count(*) FROM jobs) + (SELECT count(*) FROM log_heads) + (SELECT count(*) FROM log_chunks) + (SELECT count(*) FROM keys)").Scan(&n)
		if err != nil || n != 0 {
			t.Errorf("%d rows left, %v", n, err)
		}
	}
	if s := b.m.Stats(); s.Jobs != [10]int64{} {
		t.Errorf("counters %v", s.Jobs)
	}
}

func TestSetQueue(t *testing.T) {
	b := setup(t, Config{})
	feed := b.m.Subscribe(job.EventID{})
	b.do(&command.SetQueue{Queue: "q", Paused: true, Reason: "maintenance"})
	at := b.now
	b.do(&command.SetQueue{Queue: "q", Paused: true, Reason: "longer"})
	for range 2 {
		q, err := b.m.Queue("q")
		if err != nil || !q.Paused || q.Reason != "longer" || q.PausedAt != at {
			t.Errorf("got %+v, %v", q, err)
		}
		b.reopen()
	}
	id := b.do(submission(func(x *job.Spec) { x.Queue = "q" })).Job
	b.refused(&command.Dispatch{Job: id, Assign: assign()}, "queue_paused")
	b.do(&command.SetQueue{Queue: "q"})
	b.dispatch(id)
	if q, _ := b.m.Queue("q"); q.Paused || q.Reason != "" || q.PausedAt != 0 {
		t.Errorf("got %+v", q)
	}
	feed = b.m.Subscribe(feed.Cursor())
	var got []job.EventType
	for len(got) < 4 {
		events, err := feed.Next(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, types(events)...)
	}
	if !slices.Equal(got, []job.EventType{job.QueuePaused, job.JobSubmitted, job.QueueResumed, job.JobDispatched}) {
		t.Errorf("events %v", got)
	}
	if _, err := b.m.Queue("none"); err == nil {
		t.Error("an unknown queue was found")
	}
}

func TestAgents(t *testing.T) {
	b := setup(t, Config{})
	row := job.Agent{ID: "a", Name: "A", Slots: 2, Status: job.AgentReady, Session: "s1", ConnectedAt: b.now}
	b.do(&command.SetAgent{Agent: row})
	seen := b.now
	b.do(&command.SetAgent{Agent: func() job.Agent { r := row; r.FirstSeenAt = seen; return r }()}) // nothing new
	row.Session, row.ConnectedAt = "s2", b.now+1
	b.do(&command.SetAgent{Agent: row})
	row.Status = job.AgentDraining
	b.do(&command.SetAgent{Agent: row})
	b.do(&command.AgentGone{ID: "a", Session: "s1", Status: job.AgentDisconnected}) // an old session
	b.do(&command.AgentGone{ID: "x", Session: "s1", Status: job.AgentDisconnected}) // nobody
	if r := b.do(&command.ForgetAgents{IDs: []string{"a", "x"}}); r.Count != 0 {
		t.Errorf("forgot %d connected agents", r.Count)
	}
	b.do(&command.AgentGone{ID: "a", Session: "s2", Status: job.AgentDisconnected})
	gone := b.now
	b.do(&command.AgentGone{ID: "a", Session: "s2", Status: job.AgentLost})
	for range 2 {
		a, err := b.m.Agent("a")
		if err != nil || a.FirstSeenAt != seen || a.Session != "s2" || a.Status != job.AgentLost || a.DisconnectedAt != gone {
			t.Errorf("got %+v, %v", a, err)
		}
		if list := b.m.Agents(); len(list) != 1 || list[0].ID != "a" {
			t.Errorf("list %v", list)
		}
		b.reopen()
	}
	events, err := b.m.Subscribe(job.EventID{}).Next(t.Context())
	if err != nil || !slices.Equal(types(events), []job.EventType{job.AgentConnected, job.AgentConnected, job.AgentChanged, job.AgentGone, job.AgentGone}) {
		t.Errorf("events %v, %v", events, err)
	}
	if r := b.do(&command.ForgetAgents{IDs: []string{"a"}}); r.Count != 1 {
		t.Errorf("forgot %d", r.Count)
	}
	b.reopen()
	if _, err := b.m.Agent("a"); err == nil || len(b.m.Agents()) != 0 {
		t.Error("a forgotten agent is still there")
	}
}

func TestInit(t *testing.T) {
	b := setup(t, Config{})
	b.do(&command.Init{ClusterID: "c1"})
	b.refused(&command.Init{ClusterID: "c2"}, "already_initialized")
	b.reopen()
	if id := b.m.ClusterID(); id != "c1" {
		t.Errorf("cluster id %q", id)
	}
}
