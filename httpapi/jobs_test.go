package httpapi

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/orrery-io/orrery/command"
	"github.com/orrery-io/orrery/job"
	"github.com/orrery-io/orrery/scheduler"
)

func TestGetJob(t *testing.T) {
	b := setup(t)
	id := b.submit()
	r := b.get("/v1/jobs/" + id.String()).want(200)
	if j := r.job(); j.ID != id || j.State != job.Pending {
		t.Errorf("%s", r.body)
	}
	if r.header.Get("Orrery-Index") == "" {
		t.Error("no Orrery-Index")
	}
	p := b.get("/v1/jobs/99").problem(404, "job_not_found")
	if p.Hint == "" || !strings.Contains(p.Detail, "99") {
		t.Errorf("%+v", p)
	}
	for _, bad := range []string{"x", "0", "-1", "+1", "1.5", "99999999999999999999", "%20"} {
		b.get("/v1/jobs/"+bad).problem(400, "invalid_id")
	}
}

func TestGetJob_waits(t *testing.T) {
	b := setup(t)
	id := b.submit()
	got := make(chan *reply, 1)
	go func() { got <- b.get(fmt.Sprintf("/v1/jobs/%d?wait=1m", id)) }()
	b.finish(id, b.dispatch(id), job.Completed)
	if j := (<-got).want(200).job(); j.State != job.Completed {
		t.Errorf("state %v", j.State)
	}
	// One that has ended is answered at once.
	if j := b.get(fmt.Sprintf("/v1/jobs/%d?wait=10m", id)).want(200).job(); j.State != job.Completed {
		t.Errorf("state %v", j.State)
	}
	b.get("/v1/jobs/99?wait=1m").problem(404, "job_not_found")
	if j := b.get(fmt.Sprintf("/v1/jobs/%d?wait=1ms", b.submit())).want(200).job(); j.State != job.Pending {
		t.Errorf("state %v", j.State)
	}
}

// TestIndexCoversTheBody reads on at the index of an answer that showed a newer row
// than its own command had made: the next read may not show an older one.
func TestIndexCoversTheBody(t *testing.T) {
	b := setup(t)
	id := b.submit()
	again := func() (rev, index uint64) {
		t.Helper()
		r := b.send("POST", fmt.Sprintf("/v1/jobs/%d/cancel", id), "", "Orrery-Request-Id", "the-same").want(200)
		if _, err := fmt.Sscan(r.header.Get("Orrery-Index"), &index); err != nil {
			t.Fatal(err)
		}
		return r.job().Rev, index
	}
	first, before := again()
	b.send("POST", fmt.Sprintf("/v1/jobs/%d/retry", id), "").want(200)
	newer, index := again()
	if newer <= first || index <= before {
		t.Errorf("revision %d at Orrery-Index %d, then revision %d at %d", first, before, newer, index)
	}
}

func TestGetJob_waits_for_a_change(t *testing.T) {
	b := setup(t)
	id := b.submit()
	r := b.get("/v1/jobs/" + id.String()).want(200)
	var index uint64
	if _, err := fmt.Sscan(r.header.Get("Orrery-Index"), &index); err != nil {
		t.Fatal(err)
	}
	b.submit() // something else happens
	got := make(chan *reply, 1)
	go func() { got <- b.get(fmt.Sprintf("/v1/jobs/%d?wait=1m&min_index=%d", id, index+1)) }()
	b.dispatch(id)
	r = (<-got).want(200)
	if j := r.job(); j.State != job.Dispatched {
		t.Errorf("state %v", j.State)
	}
	var next uint64
	if _, err := fmt.Sscan(r.header.Get("Orrery-Index"), &next); err != nil || next <= index {
		t.Errorf("Orrery-Index %d after %d", next, index)
	}
	// An index that the node has not applied yet.
	applied, _ := b.machine.Applied()
	go func() {
		for range 3 {
			b.submit()
		}
	}()
	b.get(fmt.Sprintf("/v1/jobs/%d?min_index=%d", id, applied+3)).want(200)
	if p := b.get(fmt.Sprintf("/v1/jobs/%d?min_index=-1", id)).problem(400, "out_of_range"); len(p.Errors) != 1 {
		t.Errorf("one mistake is said as %+v", p.Errors)
	}
	many := `{"type":"echo"` + strings.Repeat(`,"no":1`, 50) + "}"
	if p := b.post("/v1/jobs", many).problem(400, "unknown_field"); !strings.HasPrefix(p.Detail, "at least 20 things") {
		t.Error(p.Detail)
	}
	b.get(fmt.Sprintf("/v1/queues?min_index=%d", applied+3)).want(200)
}

func TestClose_lets_waiting_requests_answer(t *testing.T) {
	b := setup(t)
	id := b.submit()
	got := make(chan *reply, 1)
	go func() { got <- b.get(fmt.Sprintf("/v1/jobs/%d?wait=10m", id)) }()
	b.waitOpen(1)
	b.Close()
	if j := (<-got).want(200).job(); j.State != job.Pending {
		t.Errorf("state %v", j.State)
	}
}

func TestJobActions(t *testing.T) {
	b := setup(t)
	later := func(s *job.Spec) { s.RunAt = job.At(time.Now().Add(time.Hour)) }
	id := b.submit(later)
	if j := b.post(fmt.Sprintf("/v1/jobs/%d/promote", id), "").want(200).job(); j.State != job.Pending {
		t.Errorf("promoted: %v", j.State)
	}
	if j := b.post(fmt.Sprintf("/v1/jobs/%d/cancel", id), `{"reason":"not needed"}`).want(200).job(); j.State != job.Cancelled || j.CancelReason != "not needed" {
		t.Errorf("cancelled: %v, %q", j.State, j.CancelReason)
	}
	if j := b.post(fmt.Sprintf("/v1/jobs/%d/retry", id), "{}").want(200).job(); j.State != job.Pending {
		t.Errorf("retried: %v", j.State)
	}
	b.dispatch(id)
	if j := b.post(fmt.Sprintf("/v1/jobs/%d/cancel", id), "").want(200).job(); j.State != job.Dispatched || !j.CancelRequested {
		t.Errorf("cancelled while active: %v, %v", j.State, j.CancelRequested)
	}
	done := b.submit()
	b.finish(done, b.dispatch(done), job.Completed)
	for _, tt := range []struct{ action, detail string }{
		{"cancel", "is completed and cannot be cancelled"}, {"retry", "is completed and cannot be retried"}, {"promote", "is completed and cannot be promoted"},
	} {
		p := b.post(fmt.Sprintf("/v1/jobs/%d/%s", done, tt.action), "").problem(409, "wrong_state")
		if !strings.Contains(p.Detail, tt.detail) || p.Hint == "" {
			t.Errorf("%+v", p)
		}
		b.post("/v1/jobs/99/"+tt.action, "").problem(404, "job_not_found")
		b.post("/v1/jobs/x/"+tt.action, "").problem(400, "invalid_id")
	}
	before := b.node.proposed()
	b.post(fmt.Sprintf("/v1/jobs/%d/cancel", id), `{"why":"x"}`).problem(400, "unknown_field")
	b.post(fmt.Sprintf("/v1/jobs/%d/cancel", id), `{"reason":7}`).problem(400, "wrong_type")
	b.post(fmt.Sprintf("/v1/jobs/%d/cancel", id), `{"reason":"`+strings.Repeat("x", 501)+`"}`).problem(400, "out_of_range")
	b.post(fmt.Sprintf("/v1/jobs/%d/retry", id), `{"reason":"x"}`).problem(400, "unknown_field")
	b.post(fmt.Sprintf("/v1/jobs/%d/retry", id), `reason=x`, "Content-Type", "application/x-www-form-urlencoded").problem(415, "unsupported_media_type")
	if n := b.node.proposed() - before; n != 0 {
		t.Errorf("%d commands were proposed", n)
	}
}

func TestQueues(t *testing.T) {
	b := setup(t)
	b.submit()
	b.submit(func(s *job.Spec) { s.Queue = "mail/out:eu" })
	var list QueueList
	b.get("/v1/queues").want(200).into(&list)
	if len(list.Queues) != 2 || list.Queues[0].Name != "default" || list.Queues[0].Counts["pending"] != 1 {
		t.Errorf("%+v", list)
	}
	var q Queue
	b.post("/v1/queues/default/pause", `{"reason":"maintenance"}`).want(200).into(&q)
	if !q.Paused || q.Reason != "maintenance" || q.PausedAt == 0 {
		t.Errorf("%+v", q)
	}
	b.post("/v1/queues/default/resume", "").want(200).into(&q)
	b.get("/v1/queues/default").want(200).into(&q)
	b.post("/v1/queues/mail%2Fout:eu/pause", "").want(200).into(&q)
	if q.Name != "mail/out:eu" || !q.Paused {
		t.Errorf("%+v", q)
	}
	b.post("/v1/queues/later/pause", "").want(200) // it need not exist yet
	if p := b.get("/v1/queues/nowhere").problem(404, "queue_not_found"); p.Hint == "" {
		t.Errorf("%+v", p)
	}
	b.get("/v1/queues/a%20b").problem(400, "invalid_name")
	b.post("/v1/queues/"+strings.Repeat("x", 201)+"/pause", "").problem(400, "invalid_name")
}

func TestAgents(t *testing.T) {
	b := setup(t)
	var list AgentList
	if b.get("/v1/agents").want(200).into(&list); list.Agents == nil || len(list.Agents) != 0 {
		t.Errorf("%+v", list)
	}
	b.propose(
		&command.SetAgent{Agent: job.Agent{ID: "a1", Name: "one", Slots: 4, Status: job.AgentReady, Session: "s"}},
		&command.SetAgent{Agent: job.Agent{ID: "a2", Name: "two", Slots: 4, Status: job.AgentReady, Session: "t"}},
	)
	b.loads["a1"] = scheduler.AgentLoad{Held: 3}
	b.get("/v1/agents").want(200).into(&list)
	if len(list.Agents) != 2 || list.Agents[0].Load == nil || list.Agents[0].Load.Held != 3 || list.Agents[1].Load != nil {
		t.Errorf("%+v", list)
	}
	var a AgentInfo
	if b.get("/v1/agents/a2").want(200).into(&a); a.Name != "two" {
		t.Errorf("%+v", a)
	}
	if p := b.get("/v1/agents/zz").problem(404, "agent_not_found"); p.Hint == "" {
		t.Errorf("%+v", p)
	}
	// The hub, which does not run here, answers for itself.
	if r := b.get("/v1/agents/connect").want(503); r.header.Get("Content-Type") != "application/problem+json" {
		t.Errorf("%s", r.body)
	}
}

func TestDeadLetters(t *testing.T) {
	b := setup(t)
	mail := func(s *job.Spec) { s.Type, s.Queue = "mail", "out" }
	var ids []job.ID
	for range 3 {
		ids = append(ids, b.die(mail))
	}
	other := b.die()
	alive := b.submit()
	var dead DeadLetters
	b.get("/v1/dead-letters?consistency=linearizable&limit=2").want(200).into(&dead)
	if dead.Total != 4 || len(dead.Groups) != 2 || dead.Groups[0].Type != "mail" || dead.Groups[0].Count != 3 || dead.Groups[0].Message != "it broke" ||
		len(dead.Jobs) != 2 || dead.NextCursor == "" {
		t.Errorf("%+v", dead)
	}
	b.get("/v1/dead-letters?consistency=linearizable&state=timed_out").want(200).into(&dead)
	if dead.Total != 0 || len(dead.Groups) != 0 || len(dead.Jobs) != 0 {
		t.Errorf("timed out: %+v", dead)
	}
	var a DeadAnswer
	b.post("/v1/dead-letters/redrive?dry_run=true", `{"filter":{"type":"mail"}}`).want(200).into(&a)
	if !a.DryRun || a.Matched != 3 || a.Changed != 0 || len(a.IDs) != 3 {
		t.Errorf("%+v", a)
	}
	before := b.node.proposed()
	b.post("/v1/dead-letters/purge", `{"filter":{},"dry_run":true}`).want(200).into(&a)
	if a.Matched != 4 || b.node.proposed() != before {
		t.Errorf("%+v", a)
	}
	b.post("/v1/dead-letters/redrive", fmt.Sprintf(`{"ids":[%d,%d,%d,%d,99],"queue":"again","payload":{"a":1}}`, ids[0], ids[1], ids[1], alive)).want(200).into(&a)
	if a.Matched != 2 || a.Changed != 2 {
		t.Errorf("%+v", a)
	}
	j, err := b.machine.Job(t.Context(), ids[0])
	if err != nil || j.State != job.Pending || j.Queue != "again" || string(j.Payload) != `{"a":1}` {
		t.Errorf("%+v, %v", j, err)
	}
	b.post("/v1/dead-letters/purge", `{"filter":"type=mail&queue=out"}`).want(200).into(&a)
	if a.Matched != 1 || a.Changed != 1 {
		t.Errorf("%+v", a)
	}
	b.get(fmt.Sprintf("/v1/jobs/%d", ids[2])).problem(404, "job_not_found")
	b.get(fmt.Sprintf("/v1/jobs/%d", other)).want(200)
}

func TestDeadLetters_many(t *testing.T) {
	b := setup(t)
	const n = deadChunk + 20
	agent := job.Agent{ID: "a1", Name: "a1", Slots: 9999, Queues: []string{"default"}, Capabilities: []job.Capability{{Type: "echo"}}, Status: job.AgentReady, Session: "s1", Node: "n1"}
	b.propose(&command.SetAgent{Agent: agent})
	for range n {
		id := b.submit()
		fence := job.Fence(b.propose(&command.Dispatch{Job: id, Assign: command.Assign{Agent: "a1", Session: "s1", Node: "n1"}})[0].Index)
		b.finish(id, fence, job.Failed)
	}
	var a DeadAnswer
	b.post("/v1/dead-letters/redrive", `{"filter":{}}`, "Orrery-Request-Id", "r").want(200).into(&a)
	if a.Matched != n || a.Changed != n || len(a.IDs) != shownIDs {
		t.Errorf("matched %d, changed %d, %d ids", a.Matched, a.Changed, len(a.IDs))
	}
}

func TestDeadLetters_bad_input(t *testing.T) {
	b := setup(t)
	tests := []struct{ name, path, body, code, pointer string }{
		{"nothing selected", "purge", `{}`, "invalid_value", ""},
		{"both", "purge", `{"ids":[1],"filter":{}}`, "invalid_value", ""},
		{"ids of a wrong type", "purge", `{"ids":"1"}`, "wrong_type", "/ids"},
		{"an id of a wrong type", "purge", `{"ids":[1,"2"]}`, "wrong_type", "/ids/1"},
		{"id zero", "purge", `{"ids":[0]}`, "out_of_range", "/ids/0"},
		{"edits on purge", "purge", `{"ids":[1],"queue":"x"}`, "unknown_field", "/queue"},
		{"bad queue", "redrive", `{"ids":[1],"queue":"a b"}`, "invalid_value", "/queue"},
		{"empty queue", "redrive", `{"ids":[1],"queue":""}`, "invalid_value", "/queue"},
		{"deep payload", "redrive", `{"ids":[1],"payload":` + strings.Repeat("[", 99) + strings.Repeat("]", 99) + `}`, "invalid_value", "/payload"},
		{"filter of a wrong type", "redrive", `{"filter":7}`, "wrong_type", "/filter"},
		{"unknown field of the filter", "redrive", `{"filter":{"typ":"a"}}`, "unknown_field", "/filter/typ"},
		{"value of a wrong type", "redrive", `{"filter":{"type":7}}`, "wrong_type", "/filter/type"},
		{"bad value", "redrive", `{"filter":{"created_after":"soon"}}`, "invalid_value", "/filter/created_after"},
		{"bad filter text", "redrive", `{"filter":"typ=a"}`, "unknown_parameter", "/filter/typ"},
		{"malformed filter text", "redrive", `{"filter":"a=%zz"}`, "invalid_query", "/filter"},
		{"living states", "redrive", `{"filter":{"state":["failed","pending"]}}`, "invalid_value", "/filter/state"},
		{"dry_run of a wrong type", "redrive", `{"filter":{},"dry_run":"yes"}`, "wrong_type", "/dry_run"},
		{"malformed", "redrive", `{`, "invalid_json", "-"},
		{"no body", "redrive", ``, "unsupported_media_type", "-"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r := b.post("/v1/dead-letters/"+tt.path, tt.body)
			r.t = t
			status := 400
			if tt.code == "unsupported_media_type" {
				status = 415
			}
			p := r.problem(status, tt.code)
			if tt.pointer != "-" && (len(p.Errors) == 0 || p.Errors[0].Pointer != tt.pointer) {
				t.Errorf("%s", r.body)
			}
		})
	}
	b.post("/v1/dead-letters/redrive", `{"ids":[1],"payload":"`+strings.Repeat("x", job.MaxPayload)+`"}`).problem(413, "too_large")
	if n := b.node.proposed(); n != 0 {
		t.Errorf("%d commands were proposed", n)
	}
}
