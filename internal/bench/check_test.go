package bench

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/orrery-io/orrery/job"
)

func TestCompare(t *testing.T) {
	type counts = map[job.State]int64
	for _, tt := range []struct {
		name     string
		check    Check
		complete bool
		want     string // part of the problem
	}{
		{"all are there", Check{Acked: 3, Server: counts{job.Pending: 3}}, false, ""},
		{"one is missing", Check{Acked: 3, Server: counts{job.Pending: 2}}, false, "acknowledged 3 jobs and has 2"},
		{"one is too much", Check{Acked: 3, Server: counts{job.Pending: 4}}, false, "has 4 jobs, and acknowledged 3"},
		{"one more without an answer", Check{Acked: 3, Unknown: 1, Server: counts{job.Pending: 4}}, false, ""},
		{"deleted ones count", Check{Acked: 3, Recorded: 3, Deleted: 2, Server: counts{job.Completed: 1}}, true, ""},
		{"all are completed", Check{Acked: 3, Recorded: 3, Server: counts{job.Completed: 3}}, true, ""},
		{"one is not", Check{Acked: 3, Recorded: 2, Server: counts{job.Completed: 2, job.Running: 1}}, true, "only 2 are completed"},
		{"one is not, and need not be", Check{Acked: 3, Recorded: 2, Server: counts{job.Completed: 2, job.Running: 1}}, false, ""},
		{"a result that nobody has", Check{Acked: 3, Recorded: 3, Server: counts{job.Completed: 2, job.Failed: 1}}, false, "3 recorded results, and has 2"},
		{"a result of which the agent was told to forget it", Check{Acked: 3, Recorded: 2, Untold: 1, Server: counts{job.Completed: 3}}, true, ""},
		{"a job that was executed again", Check{Acked: 3, Recorded: 3, Untold: 1, Repeated: 1, Server: counts{job.Completed: 3}}, true, ""},
		{"a result of which nobody was told", Check{Acked: 3, Recorded: 2, Server: counts{job.Completed: 3}}, true, "told the agents of 2"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got := tt.check.compare(tt.complete)
			if (got == "") != (tt.want == "") || !strings.Contains(got, tt.want) {
				t.Errorf("got %q, want %q", got, tt.want)
			}
		})
	}
}

// scripted is a node that takes every job, and says whatever the test wants of them.
type scripted struct {
	counts map[job.State]int64
	took   atomic.Int64
	// deleted are the deleted jobs that the metrics tell of, one time after the other;
	// the last for ever.
	deleted []int
	mu      sync.Mutex
	tokens  atomic.Int64 // requests without the token
}

func (n *scripted) start(t *testing.T) string {
	t.Helper()
	mux := http.NewServeMux()
	text := func(s string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, s) }
	}
	mux.HandleFunc("GET /v1/cluster", text(`{"cluster_id":"c","version":"v1.2.3","servers":[{"id":"a"},{"id":"b"}]}`))
	mux.HandleFunc("GET /v1/queues", text(`{"queues":[{"name":"mail","counts":{"running":2}}]}`))
	mux.HandleFunc("GET /v1/queues/{name}", func(w http.ResponseWriter, r *http.Request) {
		_ = json.NewEncoder(w).Encode(map[string]any{"name": r.PathValue("name"), "counts": n.counts})
	})
	mux.HandleFunc("GET /metrics", func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprint(w, exposition)
		n.mu.Lock()
		defer n.mu.Unlock()
		if len(n.deleted) > 0 {
			fmt.Fprintf(w, "# TYPE orrery_scheduler_deleted_jobs_total counter\norrery_scheduler_deleted_jobs_total %d\n", n.deleted[0])
			n.deleted = n.deleted[min(1, len(n.deleted)-1):]
		}
	})
	mux.HandleFunc("POST /v1/jobs", func(w http.ResponseWriter, _ *http.Request) {
		n.took.Add(1)
		w.WriteHeader(http.StatusCreated)
		fmt.Fprint(w, `{"id":1}`)
	})
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") != "Bearer secret" {
			n.tokens.Add(1)
		}
		mux.ServeHTTP(w, r)
	}))
	t.Cleanup(srv.Close)
	return srv.URL
}

const exposition = `# HELP process_cpu_seconds_total x
# TYPE process_cpu_seconds_total counter
process_cpu_seconds_total 12.5
# TYPE process_resident_memory_bytes gauge
process_resident_memory_bytes 5.0331648e+07
# TYPE orrery_cluster_is_leader gauge
orrery_cluster_is_leader 1
# TYPE orrery_cluster_log_file_bytes gauge
orrery_cluster_log_file_bytes 4096
# TYPE orrery_agentconn_messages_total counter
orrery_agentconn_messages_total{direction="in"} 7
orrery_agentconn_messages_total{direction="out"} 100
# TYPE orrery_cluster_log_write_seconds histogram
orrery_cluster_log_write_seconds_bucket{le="+Inf"} 1
orrery_cluster_log_write_seconds_sum 1
orrery_cluster_log_write_seconds_count 1
`

// TestMismatch measures a node that has lost a job it acknowledged. The figures come,
// and an error with them.
func TestMismatch(t *testing.T) {
	n := &scripted{counts: map[job.State]int64{job.Completed: 9}}
	rep, err := Run(t.Context(), Config{Mode: Submit, Addrs: []string{n.start(t)}, Token: "secret", Jobs: 10, Connections: 2})
	if !errors.Is(err, ErrMismatch) || !strings.Contains(err.Error(), "acknowledged 10 jobs and has 9") {
		t.Errorf("the error is %v", err)
	}
	if rep == nil || rep.Check.Agrees || rep.Check.Problem == "" || rep.Jobs != 10 || n.took.Load() != 10 {
		t.Errorf("the node took %d jobs; report %+v", n.took.Load(), rep)
	}
	if n.tokens.Load() != 0 {
		t.Errorf("%d requests came without the token", n.tokens.Load())
	}
}

func TestNotes(t *testing.T) {
	n := &scripted{counts: map[job.State]int64{job.Completed: 10}}
	rep, err := Run(t.Context(), Config{Mode: Submit, Addrs: []string{n.start(t)}, Token: "secret", Jobs: 10, Connections: 2})
	if err != nil {
		t.Fatal(err)
	}
	for _, part := range []string{"has 2 servers, and 1 of them were named", "executing 2 other jobs"} {
		if !slices.ContainsFunc(rep.Notes, func(note string) bool { return strings.Contains(note, part) }) {
			t.Errorf("no note says %q: %q", part, rep.Notes)
		}
	}
	if rep.Version != "v1.2.3" || rep.Servers != 2 {
		t.Errorf("version %q, %d servers", rep.Version, rep.Servers)
	}
}

// TestDeleted counts while the cluster deletes jobs at the end of their retention: it
// has to wait until the two counts are of one moment.
func TestDeleted(t *testing.T) {
	n := &scripted{counts: map[job.State]int64{job.Completed: 6}, deleted: []int{6, 7, 9}}
	to, err := newTarget(n.start(t))
	if err != nil {
		t.Fatal(err)
	}
	r, err := newRun(Config{Mode: Submit, Addrs: []string{to.base}, Token: "secret", Retention: time.Nanosecond})
	if err != nil {
		t.Fatal(err)
	}
	r.before.deleted = 5
	r.counters.acked.Store(10)
	rep := r.report()
	if err := r.check(t.Context(), rep, true); err != nil || rep.Check.Deleted != 4 || !rep.Check.Agrees {
		t.Errorf("%+v, %v", rep.Check, err)
	}
}

func TestScrape(t *testing.T) {
	to, err := newTarget((&scripted{}).start(t))
	if err != nil {
		t.Fatal(err)
	}
	w := newWatcher([]target{to}, "secret")
	got := w.look(t.Context(), func() time.Duration { return 3 * time.Second })[0]
	want := sampled{3 * time.Second, Sample{CPU: 12.5, RSS: 50331648, Log: 4096, leader: true, messages: 7}}
	if got != want || w.trouble() != nil {
		t.Errorf("got %+v\nwant %+v; trouble %v", got, want, w.trouble())
	}
}

func TestScrapeFails(t *testing.T) {
	srv := httptest.NewServer(http.NotFoundHandler())
	to, err := newTarget(srv.URL)
	if err != nil {
		t.Fatal(err)
	}
	w := newWatcher([]target{to}, "")
	w.nodes[0].mark(sampled{time.Second, Sample{CPU: 1}}, true)
	w.nodes[0].mark(w.look(t.Context(), func() time.Duration { return 1 })[0], true)
	if w.trouble() == nil || !strings.Contains(w.trouble().Error(), "404") || w.nodes[0].begin.CPU != 1 {
		t.Errorf("trouble %v, mark %+v", w.trouble(), w.nodes[0].begin)
	}
	srv.Close()
}

func TestSurvey(t *testing.T) {
	type queues = map[string]map[job.State]int64
	for _, tt := range []struct {
		name          string
		before, after queues
		want          []string
	}{
		{"nothing else", queues{"a": {job.Completed: 5}}, queues{"a": {job.Completed: 5}, "own": {job.Completed: 100}}, nil},
		{"old jobs were forgotten", queues{"a": {job.Completed: 5}}, queues{"a": {job.Completed: 2}}, nil},
		{"jobs were running", queues{"a": {job.Running: 1, job.Dispatched: 2}}, queues{"a": {job.Running: 1, job.Dispatched: 2}}, []string{"executing 3 other jobs"}},
		{"jobs were executed", queues{"a": {job.Pending: 5}}, queues{"a": {job.Pending: 1, job.Completed: 4}}, []string{"at least 4 jobs"}},
		{"a new queue", queues{}, queues{"b": {job.Pending: 7}}, []string{"at least 7 jobs"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got := survey{queues: tt.before}.compare(survey{queues: tt.after}, "own")
			if len(got) != len(tt.want) {
				t.Fatalf("notes %q", got)
			}
			for i := range got {
				if !strings.Contains(got[i], tt.want[i]) {
					t.Errorf("note %q, want %q", got[i], tt.want[i])
				}
			}
		})
	}
}
