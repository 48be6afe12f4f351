package httpapi

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/orrery-io/orrery/cluster"
	"github.com/orrery-io/orrery/job"
)

// testCluster notes what is asked of it.
type testCluster struct {
	mu    sync.Mutex
	calls []string
	err   error
	// content is what Backup gives; restored what Restore got.
	content  []byte
	restored []byte
	path     string
	// restoring is called by Restore; nil does nothing.
	restoring func(ctx context.Context)
	// backup replaces Backup; nil gives content.
	backup func() (*os.File, error)
}

func newTestCluster() *testCluster { return &testCluster{content: []byte("a database")} }

func (c *testCluster) call(format string, args ...any) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.calls = append(c.calls, fmt.Sprintf(format, args...))
	return c.err
}

func (c *testCluster) seen() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return strings.Join(c.calls, ", ")
}

func (c *testCluster) Members(context.Context) ([]cluster.Member, error) {
	return []cluster.Member{
		{Server: cluster.Server{ID: "n1", Address: "10.0.0.1:7701", Voter: true}, Leader: true, HTTP: "http://10.0.0.1:7700", Version: "1.2.3", Alive: true, Applied: 7},
		{Server: cluster.Server{ID: "n2", Address: "10.0.0.2:7701"}, Alive: true, LastContact: time.Now(), Lag: 3, Installing: &cluster.Installing{Bytes: 1, Size: 4}},
	}, c.err
}
func (c *testCluster) Join(_ context.Context, addr string) error { return c.call("join %s", addr) }
func (c *testCluster) Remove(_ context.Context, id string, force bool) error {
	return c.call("remove %s %t", id, force)
}

func (c *testCluster) Transfer(_ context.Context, to string) (string, error) {
	return "n2", c.call("transfer %q", to)
}

func (c *testCluster) Drain(_ context.Context, id string, on bool) error {
	return c.call("drain %s %t", id, on)
}

func (c *testCluster) Verify(context.Context) (cluster.Verification, error) {
	return cluster.Verification{Index: 7, Equal: true, Hashes: map[string]string{"n1": "ab", "n2": "ab"}, Missing: []string{"n3"}}, c.call("verify")
}
func (c *testCluster) Snapshot(context.Context) (uint64, error) { return 7, c.call("snapshot") }
func (c *testCluster) Backup(context.Context) (*os.File, error) {
	if c.backup != nil {
		return c.backup()
	}
	f, err := os.CreateTemp("", "test-backup") //nolint:usetesting // it is removed below
	if err != nil {
		return nil, err
	}
	_, err = f.Write(c.content)
	_, err2 := f.Seek(0, 0)
	return f, errors.Join(err, err2, os.Remove(f.Name()), c.call("backup"))
}

func (c *testCluster) Restore(ctx context.Context, path string) error {
	if c.restoring != nil {
		c.restoring(ctx)
	}
	b, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	c.restored, c.path = b, path
	return c.call("restore")
}

func withCluster(t *testing.T) (*testBundle, *testCluster) {
	t.Helper()
	c := newTestCluster()
	dir := t.TempDir()
	return setup(t, func(cfg *Config) { cfg.Cluster, cfg.Scratch = c, dir }), c
}

func TestCluster_asks_what_is_asked_for(t *testing.T) {
	b, c := withCluster(t)
	for _, tt := range []struct{ path, body, want, answer string }{
		{"join", `{"address":"10.0.0.2:7701"}`, "join 10.0.0.2:7701", `"members":[`},
		{"remove", `{"id":"n2"}`, "remove n2 false", `"members":[`},
		{"remove", `{"id":"n2","force":true}`, "remove n2 true", `"members":[`},
		{"transfer", ``, `transfer ""`, `"leader":"n2"`},
		{"transfer", `{"to":"n2"}`, `transfer "n2"`, `"leader":"n2"`},
		{"drain", `{"id":"n2"}`, "drain n2 true", `"members":[`},
		{"drain", `{"id":"n2","on":false}`, "drain n2 false", `"members":[`},
		{"verify", ``, "verify", `"equal":true`},
		{"snapshot", ``, "snapshot", `"index":7`},
	} {
		c.calls = nil
		r := b.post("/v1/cluster/"+tt.path, tt.body).want(200)
		if c.seen() != tt.want || !strings.Contains(string(r.body), tt.answer) {
			t.Errorf("%s %s: asked %s, answered %s", tt.path, tt.body, c.seen(), r.body)
		}
	}
	var info ClusterInfo
	r := b.get("/v1/cluster").want(200)
	r.into(&info)
	if len(info.Members) != 2 || info.MembersError != "" || info.Members[1].Installing.Size != 4 || r.header.Get("Orrery-Index") == "" {
		t.Errorf("%s %v", r.body, r.header)
	}
}

func TestCluster_refuses_what_is_wrong(t *testing.T) {
	b, c := withCluster(t)
	for _, tt := range []struct{ path, body, code, pointer string }{
		{"join", `{"address":"here"}`, "invalid_value", "/address"},
		{"join", `{"address":":7701"}`, "invalid_value", "/address"},
		{"join", `{"adress":"a:1"}`, "unknown_field", "/adress"},
		{"join", `{}`, "invalid_value", "/address"},
		{"remove", `{}`, "missing_field", "/id"},
		{"remove", `{"id":"a b"}`, "invalid_value", "/id"},
		{"remove", `{"id":7}`, "wrong_type", "/id"},
		{"remove", `{"id":"a","force":"yes"}`, "wrong_type", "/force"},
		{"drain", `{"id":""}`, "invalid_value", "/id"},
		{"drain", `{"on":false}`, "missing_field", "/id"},
		{"transfer", `{"to":""}`, "invalid_value", "/to"},
		{"verify", `{"all":true}`, "unknown_field", "/all"},
	} {
		p := b.post("/v1/cluster/"+tt.path, tt.body).problem(400, tt.code)
		if len(p.Errors) != 1 || p.Errors[0].Pointer != tt.pointer {
			t.Errorf("%s %s: %+v", tt.path, tt.body, p)
		}
	}
	if c.seen() != "" {
		t.Errorf("asked %s", c.seen())
	}
	b.post("/v1/cluster/remove", "").problem(415, "unsupported_media_type")
}

func TestCluster_says_what_went_wrong(t *testing.T) {
	b, c := withCluster(t)
	c.err = job.Errorf(job.Conflict, "last_voter", "this is the only voter")
	for _, path := range []string{"join", "remove", "transfer", "drain", "verify", "snapshot"} {
		body := map[string]string{"join": `{"address":"a:1"}`, "remove": `{"id":"n2"}`, "drain": `{"id":"n2"}`}[path]
		b.post("/v1/cluster/"+path, body).problem(409, "last_voter")
	}
	b.get("/v1/cluster/backup").problem(409, "last_voter")
	b.post("/v1/cluster/restore?confirm=true", "x", "Content-Type", typeBinary).problem(409, "last_voter")

	// How the cluster looks can be seen all the same.
	var info ClusterInfo
	b.get("/v1/cluster").want(200).into(&info)
	if info.MembersError != "this is the only voter" || info.Members != nil || len(info.Servers) != 1 {
		t.Errorf("%+v", info)
	}
	c.err = fmt.Errorf("%w: an election", job.ErrOutcomeUnknown)
	if p := b.post("/v1/cluster/restore?confirm=true", "x", "Content-Type", typeBinary).problem(504, "outcome_unknown"); !strings.Contains(p.Hint, "does no harm") {
		t.Error(p.Hint)
	}
	c.err = errors.New("a secret")
	b.post("/v1/cluster/verify", "").problem(500, "internal")
	r := b.get("/v1/cluster").want(200)
	if strings.Contains(string(r.body), "secret") {
		t.Errorf("%s", r.body)
	}
}

func TestCluster_of_a_node_without_one(t *testing.T) {
	b := setup(t)
	for _, path := range []string{"join", "remove", "transfer", "drain", "verify", "snapshot", "restore"} {
		b.post("/v1/cluster/"+path, "").problem(409, "node_alone")
	}
	b.get("/v1/cluster/backup").problem(409, "node_alone")
	b.get("/v1/cluster").want(200)
}

func TestReady(t *testing.T) {
	draining := false
	b := setup(t, func(c *Config) {
		c.Draining = func() bool { return draining }
		c.Waiting = func() string { return "waiting for 2 more nodes" }
	})
	b.get("/readyz").want(200)
	healthy := b.node.status

	b.node.status.Installing = &cluster.Installing{Bytes: 500_000_000, Size: 2_000_000_000}
	if p := b.get("/readyz").problem(503, "receiving_database"); !strings.Contains(p.Detail, "500 MB of 2.0 GB (25 %)") {
		t.Error(p.Detail)
	}
	b.node.status = cluster.Status{ID: "n1", State: "starting"}
	if p := b.get("/readyz").problem(503, "no_cluster"); !strings.Contains(p.Detail, "waiting for 2 more nodes") {
		t.Error(p.Detail)
	}
	var info ClusterInfo
	if b.get("/v1/cluster").want(200).into(&info); info.Waiting == "" {
		t.Errorf("%+v", info)
	}
	b.node.status.Refetching = true
	b.get("/readyz").problem(503, "database_lost")
	var lost ClusterInfo
	if b.get("/v1/cluster").want(200).into(&lost); !lost.Refetching || lost.Waiting != "" {
		t.Errorf("%+v", lost)
	}
	b.node.status = healthy
	b.node.status.Leader = ""
	b.get("/readyz").problem(503, "no_leader")
	b.node.status = healthy

	draining = true
	b.get("/readyz").problem(503, "draining")
	draining = false

	// A follower that doesn't get abreast of the leader in time, and one that the
	// leader doesn't answer.
	b.node.onRead = func(ctx context.Context) error { return context.DeadlineExceeded }
	r := b.get("/readyz")
	r.problem(503, "behind")
	if r.header.Get("Retry-After") != "1" {
		t.Errorf("%v", r.header)
	}
	b.node.onRead = func(ctx context.Context) error {
		return job.Errorf(job.Unavailable, "node_unreachable", "n2 is not reached")
	}
	b.get("/readyz").problem(503, "node_unreachable")
}

func TestOverloaded_asks_to_come_back(t *testing.T) {
	b := setup(t)
	b.node.fail(job.Errorf(job.Overloaded, "overloaded", "a follower is far behind"))
	r := b.post("/v1/jobs", `{"type":"echo"}`)
	r.problem(429, "overloaded")
	if r.header.Get("Retry-After") != "1" {
		t.Errorf("%v", r.header)
	}
}

// TestReads_on_a_follower: what was recorded through another node a moment ago is
// found, and a read can ask for everything that was.
func TestReads_on_a_follower(t *testing.T) {
	b := setup(t)
	late := job.ID(0)
	b.node.onRead = func(context.Context) error {
		if late == 0 {
			late = b.submit() // arrives while the leader is asked how far the log is
		}
		return nil
	}
	id := b.submit() + 1
	if j := b.get(fmt.Sprintf("/v1/jobs/%d", id)).want(200).job(); j.ID != id || late != id {
		t.Errorf("job %d, late %d", j.ID, late)
	}
	reads := b.node.reads
	b.get(fmt.Sprintf("/v1/jobs/%d", id)).want(200)
	if b.node.reads != reads {
		t.Error("the leader was asked about a job that is known")
	}
	b.get("/v1/jobs/99").problem(404, "job_not_found")
	b.get("/v1/jobs/99/logs").problem(404, "job_not_found")
	b.get("/v1/jobs/99/events").problem(404, "job_not_found")

	// Whether there is such a job is not known without a leader.
	b.node.fail(job.ErrNotLeader)
	b.get("/v1/jobs/99").problem(503, "no_leader")
	b.get(fmt.Sprintf("/v1/jobs/%d", id)).want(200)
	b.post("/v1/dead-letters/purge", `{"filter":{}}`).problem(503, "no_leader")
	b.node.fail(nil)

	for _, target := range []string{
		"/v1/jobs", fmt.Sprintf("/v1/jobs/%d", id), fmt.Sprintf("/v1/jobs/%d/logs", id), fmt.Sprintf("/v1/jobs/%d/events", id),
		"/v1/queues", "/v1/queues/default", "/v1/dead-letters", "/v1/agents", "/v1/events",
	} {
		before := b.node.reads
		r := b.get(target + "?consistency=linearizable").want(200)
		if b.node.reads != before+1 || r.header.Get("Orrery-Index") == "" {
			t.Errorf("%s: %d reads, %v", target, b.node.reads-before, r.header)
		}
		if b.get(target+"?min_index=1").want(200).header.Get("Orrery-Index") == "" {
			t.Errorf("%s: no Orrery-Index", target)
		}
		b.get(target+"?consistency=fast").problem(400, "invalid_value")
	}
}

// leftOver fails the test when a folder isn't empty.
func leftOver(t *testing.T, dir string) {
	t.Helper()
	names, err := filepath.Glob(filepath.Join(dir, "*"))
	if err != nil || len(names) > 0 {
		t.Errorf("left over: %v %v", names, err)
	}
}
