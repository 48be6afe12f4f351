package httpapi

import (
	"bytes"
	"context"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/orrery-io/orrery/agentconn"
	"github.com/orrery-io/orrery/cluster"
	"github.com/orrery-io/orrery/command"
	"github.com/orrery-io/orrery/fsm"
	"github.com/orrery-io/orrery/job"
	"github.com/orrery-io/orrery/scheduler"
	"github.com/orrery-io/orrery/wire"
	"github.com/prometheus/client_golang/prometheus"
)

// testNode applies what is proposed to a real machine, without a log.
type testNode struct {
	machine *fsm.Machine

	mu     sync.Mutex
	index  uint64
	count  int // items proposed
	err    error
	status cluster.Status
	reads  int
	// onRead is called by ReadIndex; nil does nothing.
	onRead func(ctx context.Context) error
}

func (n *testNode) Propose(_ context.Context, items ...command.Item) ([]command.Result, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.err != nil {
		return nil, n.err
	}
	e := command.Entry{Time: job.At(time.Now()), Version: "test", Items: items}
	data, err := e.Append(nil)
	if err != nil {
		return nil, err
	}
	n.index++
	n.count += len(items)
	results, err := n.machine.Apply([]fsm.Entry{{Index: n.index, Term: 1, Data: data}})
	if err != nil {
		return nil, err
	}
	return results[0], nil
}

func (n *testNode) ReadIndex(ctx context.Context) (uint64, error) {
	if n.onRead != nil {
		if err := n.onRead(ctx); err != nil {
			return 0, err
		}
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	n.reads++
	return n.index, n.err
}

func (n *testNode) Status() cluster.Status {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.status
}

func (n *testNode) fail(err error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.err = err
}

func (n *testNode) proposed() int {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.count
}

type testLoads map[string]scheduler.AgentLoad

func (l testLoads) AgentLoad(id string) (scheduler.AgentLoad, bool) {
	load, ok := l[id]
	return load, ok
}

// testBundle is an API over a real machine.
type testBundle struct {
	*API
	t     testing.TB
	node  *testNode
	hub   *agentconn.Hub
	loads testLoads
	reg   *prometheus.Registry
}

func setup(t testing.TB, change ...func(*Config)) *testBundle {
	t.Helper()
	m, err := fsm.Open(t.Context(), fsm.Config{Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.WithoutCancel(t.Context()))
	done := make(chan error, 1)
	go func() { done <- m.Run(ctx) }()
	t.Cleanup(func() {
		stop()
		if err := <-done; err != nil {
			t.Error(err)
		}
		if err := m.Close(); err != nil {
			t.Error(err)
		}
	})
	b := &testBundle{t: t, node: &testNode{machine: m}, loads: testLoads{}, reg: prometheus.NewRegistry()}
	b.node.status = cluster.Status{ID: "n1", ClusterID: "c1", Leader: "n1", State: "leader", Servers: []cluster.Server{{ID: "n1", Voter: true}}}
	b.hub = agentconn.New(agentconn.Config{Node: "n1", ToLeader: func(envs []wire.Envelope) {}})
	cfg := Config{Machine: m, Node: b.node, Scheduler: b.loads, Hub: b.hub, Version: "1.2.3", Gatherer: b.reg, Registerer: b.reg}
	for _, c := range change {
		c(&cfg)
	}
	b.API = New(cfg)
	t.Cleanup(b.Close)
	b.propose(&command.Migrate{To: fsm.NewestSchema}, &command.Init{ClusterID: "c1"})
	b.node.count = 0
	return b
}

// propose records commands and fails the test when one is refused.
func (b *testBundle) propose(commands ...command.Command) []command.Result {
	b.t.Helper()
	items := make([]command.Item, len(commands))
	for i, c := range commands {
		items[i].Command = c
	}
	results, err := b.node.Propose(b.t.Context(), items...)
	if err != nil {
		b.t.Fatal(err)
	}
	for i, r := range results {
		if r.Err != nil {
			b.t.Fatalf("%T: %v", commands[i], r.Err)
		}
	}
	return results
}

// submit records a job.
func (b *testBundle) submit(change ...func(*job.Spec)) job.ID {
	b.t.Helper()
	s := job.Spec{Type: "echo", Priority: job.DefaultPriority}
	s.Normalize()
	for _, c := range change {
		c(&s)
	}
	return b.propose(&command.Submit{Spec: s})[0].Job
}

// dispatch gives a job to an agent and returns the fence.
func (b *testBundle) dispatch(id job.ID) job.Fence {
	b.t.Helper()
	b.propose(&command.SetAgent{Agent: job.Agent{
		ID: "a1", Name: "a1", Slots: 4, Queues: []string{"default"}, Capabilities: []job.Capability{{Type: "echo"}},
		Status: job.AgentReady, Session: "s1", Node: "n1",
	}})
	return job.Fence(b.propose(&command.Dispatch{Job: id, Assign: command.Assign{Agent: "a1", Session: "s1", Node: "n1"}})[0].Index)
}

// finish ends a job.
func (b *testBundle) finish(id job.ID, fence job.Fence, state job.State) {
	b.t.Helper()
	c := &command.Finish{Job: id, Fence: fence, Next: state}
	switch state {
	case job.Completed:
		c.Outcome, c.Result = job.OutcomeCompleted, job.JSON(`{"ok":true}`)
	case job.TimedOut:
		c.Outcome, c.Error = job.OutcomeTimedOut, &job.Failure{Kind: "timeout", Message: "took too long"}
	default:
		c.Outcome, c.Error = job.OutcomeFailed, &job.Failure{Kind: "error", Message: "it broke"}
	}
	b.propose(c)
}

// die makes a dead letter.
func (b *testBundle) die(change ...func(*job.Spec)) job.ID {
	b.t.Helper()
	id := b.submit(change...)
	b.finish(id, b.dispatch(id), job.Failed)
	return id
}

// reply is an answer.
type reply struct {
	t      testing.TB
	status int
	header http.Header
	body   []byte
}

// send does a request. Headers are given as pairs.
func (b *testBundle) send(method, target, body string, headers ...string) *reply {
	b.t.Helper()
	r := httptest.NewRequestWithContext(b.t.Context(), method, target, strings.NewReader(body))
	r.Host = "127.0.0.1:7700"
	if body != "" {
		r.Header.Set("Content-Type", "application/json")
	}
	for i := 0; i < len(headers); i += 2 {
		switch {
		case headers[i] == "Host":
			r.Host = headers[i+1]
		case headers[i+1] == "":
			r.Header.Del(headers[i])
		default:
			r.Header.Add(headers[i], headers[i+1])
			if headers[i] == "Content-Type" {
				r.Header.Set(headers[i], headers[i+1])
			}
		}
	}
	w := httptest.NewRecorder()
	b.ServeHTTP(w, r)
	return &reply{b.t, w.Code, w.Header(), w.Body.Bytes()}
}

func (b *testBundle) get(target string, headers ...string) *reply {
	b.t.Helper()
	return b.send(http.MethodGet, target, "", headers...)
}

func (b *testBundle) post(target, body string, headers ...string) *reply {
	b.t.Helper()
	return b.send(http.MethodPost, target, body, headers...)
}

// want fails the test when the status is another one.
func (r *reply) want(status int) *reply {
	r.t.Helper()
	if r.status != status {
		r.t.Fatalf("status %d, want %d: %s", r.status, status, r.body)
	}
	return r
}

// into decodes the answer.
func (r *reply) into(v any) {
	r.t.Helper()
	if got := r.header.Get("Content-Type"); got != "application/json" {
		r.t.Fatalf("Content-Type %q: %s", got, r.body)
	}
	if err := json.Unmarshal(r.body, v); err != nil {
		r.t.Fatalf("%v: %s", err, r.body)
	}
}

func (r *reply) job() *job.Job {
	r.t.Helper()
	j := new(job.Job)
	r.into(j)
	return j
}

// problem checks that the answer is a problem and returns it.
func (r *reply) problem(status int, code string) *Problem {
	r.t.Helper()
	if r.status != status {
		r.t.Fatalf("status %d, want %d: %s", r.status, status, r.body)
	}
	if got := r.header.Get("Content-Type"); got != "application/problem+json" {
		r.t.Errorf("Content-Type %q, want a problem: %s", got, r.body)
	}
	p := new(Problem)
	d := json.NewDecoder(bytes.NewReader(r.body))
	d.DisallowUnknownFields()
	if err := d.Decode(p); err != nil {
		r.t.Fatalf("%v: %s", err, r.body)
	}
	if p.Code != code {
		r.t.Errorf("code %q, want %q: %s", p.Code, code, r.body)
	}
	if p.Status != status || p.Title != http.StatusText(status) || p.Type != "urn:orrery:problem:"+code || p.Detail == "" {
		r.t.Errorf("incomplete problem: %s", r.body)
	}
	return p
}
