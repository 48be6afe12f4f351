package client_test

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/orrery-io/orrery/client"
	"github.com/orrery-io/orrery/job"
)

// call is a request as the test node saw it.
type call struct {
	method, path string
	query        url.Values
	header       http.Header
	body         string
}

// bundle is a test node whose answers are scripted, and a client of it.
type bundle struct {
	client *client.Client
	server *httptest.Server

	mu    sync.Mutex
	calls []call
}

func (b *bundle) seen() []call {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.calls
}

// setup starts a node that answers the nth request with answers[n], and every
// further one with the last.
func setup(t *testing.T, answers ...http.HandlerFunc) *bundle {
	t.Helper()
	b := &bundle{}
	b.server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		b.mu.Lock()
		n := len(b.calls)
		b.calls = append(b.calls, call{r.Method, r.URL.EscapedPath(), r.URL.Query(), r.Header.Clone(), string(body)})
		b.mu.Unlock()
		answers[min(n, len(answers)-1)](w, r)
	}))
	t.Cleanup(b.server.Close)
	var err error
	if b.client, err = client.New(client.Config{Addr: b.server.URL, Token: "secret"}); err != nil {
		t.Fatal(err)
	}
	return b
}

func answer(status int, body string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		kind := "application/json"
		if status >= 400 {
			kind = "application/problem+json"
		}
		w.Header().Set("Content-Type", kind)
		w.WriteHeader(status)
		_, _ = io.WriteString(w, body)
	}
}

// drop closes the connection without an answer.
func drop(w http.ResponseWriter, _ *http.Request) {
	conn, _, err := http.NewResponseController(w).Hijack()
	if err == nil {
		_ = conn.Close()
	}
}

func closedAddr(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return "http://" + l.Addr().String()
}

func TestNew(t *testing.T) {
	tests := []struct {
		name string
		cfg  client.Config
		want string // addresses joined by a space
		err  string // part of the error
	}{
		{name: "nothing given", want: client.DefaultAddr},
		{name: "host and port", cfg: client.Config{Addr: "10.0.0.1:7700"}, want: "http://10.0.0.1:7700"},
		{name: "https with a prefix", cfg: client.Config{Addr: "https://example.org/orrery/"}, want: "https://example.org/orrery"},
		{name: "several, one twice", cfg: client.Config{Addr: "a:1", Addrs: []string{"http://a:1/", "b:2"}}, want: "http://a:1 http://b:2"},
		{name: "IPv6", cfg: client.Config{Addr: "[::1]:7700"}, want: "http://[::1]:7700"},
		{name: "wrong scheme", cfg: client.Config{Addr: "ftp://x"}, err: "speaks http or https"},
		{name: "no host", cfg: client.Config{Addr: "http://"}, err: "is not the address of a node"},
		{name: "only a port", cfg: client.Config{Addr: ":7700"}, err: "is not the address of a node"},
		{name: "password", cfg: client.Config{Addr: "http://u:p@x"}, err: "no user and password"},
		{name: "query", cfg: client.Config{Addr: "http://x?a=1"}, err: "no query"},
		{name: "garbage", cfg: client.Config{Addr: "http://%zz"}, err: "is not the address"},
		{name: "token with a line end", cfg: client.Config{Token: "a\nb"}, err: "one word"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c, err := client.New(tt.cfg)
			if tt.err != "" {
				if err == nil || !strings.Contains(err.Error(), tt.err) {
					t.Fatalf("error %v, want one with %q", err, tt.err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if got := strings.Join(c.Addrs(), " "); got != tt.want {
				t.Errorf("addresses %q, want %q", got, tt.want)
			}
		})
	}
}

func TestSubmit(t *testing.T) {
	b := setup(t, answer(201, `{"id":7,"type":"echo","queue":"default","state":"pending"}`))
	j, err := b.client.Submit(t.Context(), client.Submission{
		Type: "echo", Payload: json.RawMessage(`{"a":"<&>"}`), Priority: new(0), Delay: 90 * job.Second,
		RunAt: job.At(time.Unix(0, 0).Add(time.Second)), Tags: []string{"x"},
		Retry: job.Retry{Backoff: job.Fixed, Initial: job.Second},
	})
	if err != nil {
		t.Fatal(err)
	}
	if j.ID != 7 || j.State != job.Pending {
		t.Errorf("got job %d %s", j.ID, j.State)
	}
	c := b.seen()[0]
	want := `{"type":"echo","payload":{"a":"<&>"},"priority":0,"run_at":"1970-01-01T00:00:01.000Z","delay":"1m30s",` +
		`"retry":{"backoff":"fixed","initial":"1s"},"tags":["x"]}`
	if c.body != want {
		t.Errorf("body\n%s, want\n%s", c.body, want)
	}
	if c.method != "POST" || c.path != "/v1/jobs" || c.header.Get("Authorization") != "Bearer secret" ||
		c.header.Get("Orrery-Request-Id") == "" || c.header.Get("Prefer") != "" {
		t.Errorf("got %s %s with %v", c.method, c.path, c.header)
	}
}

func TestSubmit_bareTypeSendsNothingElse(t *testing.T) {
	b := setup(t, answer(201, `{"id":1}`))
	if _, err := b.client.Submit(t.Context(), client.Submission{Type: "echo"}); err != nil {
		t.Fatal(err)
	}
	if got := b.seen()[0].body; got != `{"type":"echo"}` {
		t.Errorf("body %s", got)
	}
}

func TestSubmit_unencodablePayload(t *testing.T) {
	b := setup(t, answer(201, `{}`))
	_, err := b.client.Submit(t.Context(), client.Submission{Type: "echo", Payload: func() {}})
	if err == nil || !strings.Contains(err.Error(), "encode") || len(b.seen()) != 0 {
		t.Errorf("error %v after %d requests", err, len(b.seen()))
	}
}

func TestRepeat(t *testing.T) {
	unavailable := answer(503, `{"status":503,"code":"no_leader","detail":"the cluster has no leader at the moment"}`)
	unknown := answer(504, `{"status":504,"code":"outcome_unknown","detail":"it may or may not have happened"}`)
	ok := answer(200, `{"id":7,"state":"pending"}`)
	submit := func(ctx context.Context, c *client.Client) error {
		_, err := c.Submit(ctx, client.Submission{Type: "echo"})
		return err
	}
	get := func(ctx context.Context, c *client.Client) error {
		_, err := c.Get(ctx, 7)
		return err
	}
	cancel := func(ctx context.Context, c *client.Client) error {
		_, err := c.Cancel(ctx, 7, "")
		return err
	}
	purge := func(ctx context.Context, c *client.Client) error {
		_, err := c.Purge(ctx, client.Selection{IDs: []job.ID{7}})
		return err
	}
	tests := []struct {
		name    string
		do      func(context.Context, *client.Client) error
		answers []http.HandlerFunc
		calls   int
		code    string // "" when it must succeed
	}{
		{"a submission after no leader", submit, []http.HandlerFunc{unavailable, ok}, 2, ""},
		{"a submission after a dropped connection", submit, []http.HandlerFunc{drop, ok}, 2, ""},
		{"a submission after an unknown outcome", submit, []http.HandlerFunc{unknown, ok}, 2, ""},
		{"a read after a dropped connection", get, []http.HandlerFunc{drop, ok}, 2, ""},
		{"once only", submit, []http.HandlerFunc{unavailable}, 2, "no_leader"},
		{"an action after a dropped connection", cancel, []http.HandlerFunc{drop, ok}, 2, ""},
		{"not a bulk operation after a dropped connection", purge, []http.HandlerFunc{drop, ok}, 1, client.CodeNoAnswer},
		{"not a bulk operation after no leader", purge, []http.HandlerFunc{unavailable, ok}, 1, "no_leader"},
		{"not what can never succeed", submit, []http.HandlerFunc{answer(422, `{"code":"invalid"}`), ok}, 1, "invalid"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			b := setup(t, tt.answers...)
			err := tt.do(t.Context(), b.client)
			e, _ := errors.AsType[*client.Error](err)
			switch {
			case tt.code == "" && err != nil:
				t.Error(err)
			case tt.code != "" && (e == nil || e.Code != tt.code):
				t.Errorf("error %v, want code %s", err, tt.code)
			}
			calls := b.seen()
			// The transport repeats a GET by itself when a kept connection was closed.
			if len(calls) != tt.calls {
				t.Fatalf("%d requests, want %d", len(calls), tt.calls)
			}
			first, last := calls[0].header.Get("Orrery-Request-Id"), calls[len(calls)-1].header.Get("Orrery-Request-Id")
			if first != last {
				t.Errorf("the repeated request has id %q, the first had %q", last, first)
			}
		})
	}
}

func TestGoesOnToTheNextNode(t *testing.T) {
	b := setup(t, answer(200, `{"id":7,"state":"cancelled"}`))
	c, err := client.New(client.Config{Addrs: []string{closedAddr(t), closedAddr(t), b.server.URL}})
	if err != nil {
		t.Fatal(err)
	}
	// Also what must not be repeated: the others were never reached.
	for range 2 {
		if _, err := c.Cancel(t.Context(), 7, "no longer needed"); err != nil {
			t.Fatal(err)
		}
	}
	if got := b.seen(); len(got) != 2 || got[0].body != `{"reason":"no longer needed"}` || got[0].path != "/v1/jobs/7/cancel" {
		t.Errorf("got %+v", got)
	}
}

func TestErrors(t *testing.T) {
	problem := `{"type":"about:blank","title":"Unprocessable","status":422,"code":"invalid","detail":"the submission is invalid",` +
		`"hint":"see /docs","errors":[{"pointer":"/type","detail":"is required"},{"pointer":"/priority","detail":"is 99; it must be 0 to 9"}]}`
	tests := []struct {
		name   string
		answer http.HandlerFunc
		want   string
		status int
	}{
		{"a problem with fields", answer(422, problem), "the submission is invalid: type is required; priority is 99; it must be 0 to 9 (see /docs)", 422},
		{"only a title", answer(409, `{"title":"Conflict"}`), "conflict", 409},
		{"an empty problem", answer(409, `{}`), "the node answered 409 Conflict", 409},
		{"unauthorized", answer(401, `{"detail":"a token is required"}`), "a token is required (give the node's token)", 401},
		{"something else answers", func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "text/html")
			w.WriteHeader(404)
			_, _ = io.WriteString(w, "<h1>nginx")
		}, " answered 404 Not Found, not as a node does (check that the address is that of an Orrery node)", 404},
		{"a redirect is not followed", func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "http://example.invalid/", http.StatusFound)
		}, "answered 302 Found, not as a node does", 302},
		{"a success that is no JSON", answer(200, `<html>`), "cannot be read", 200},
		{"a success that is cut off", func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Length", "100")
			_, _ = io.WriteString(w, `{"id":`)
			drop(w, r)
		}, "closed the connection without answering", 0},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			b := setup(t, tt.answer)
			_, err := b.client.Get(t.Context(), 7)
			e, ok := errors.AsType[*client.Error](err)
			if !ok {
				t.Fatalf("error %T %v", err, err)
			}
			if !strings.Contains(e.Error(), tt.want) || e.Status != tt.status {
				t.Errorf("status %d, error %q; want %d, %q", e.Status, e, tt.status, tt.want)
			}
		})
	}
}

func TestErrors_matchSentinels(t *testing.T) {
	b := setup(t, answer(404, `{"code":"job_not_found","detail":"there is no job 7"}`))
	_, err := b.client.Get(t.Context(), 7)
	if !errors.Is(err, job.ErrJobNotFound) || errors.Is(err, job.ErrQueueNotFound) {
		t.Errorf("%v does not match the sentinel", err)
	}
}

func TestErrors_retryAfter(t *testing.T) {
	b := setup(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Retry-After", "3")
		answer(429, `{"code":"overloaded"}`)(w, r)
	})
	_, err := b.client.Get(t.Context(), 7)
	if e, ok := errors.AsType[*client.Error](err); !ok || e.RetryAfter != 3*time.Second {
		t.Errorf("error %#v", err)
	}
}

func TestErrors_nobodyListens(t *testing.T) {
	addr := closedAddr(t)
	c, err := client.New(client.Config{Addr: addr})
	if err != nil {
		t.Fatal(err)
	}
	_, err = c.Get(t.Context(), 7)
	want := "no node listens at " + addr + ` (start one with "orrery dev", or give the address of a running one)`
	if err == nil || err.Error() != want {
		t.Errorf("error %v\nwant  %s", err, want)
	}
}

func TestErrors_slowNode(t *testing.T) {
	release := make(chan struct{})
	b := setup(t, func(http.ResponseWriter, *http.Request) { <-release })
	defer close(release)
	c, err := client.New(client.Config{Addr: b.server.URL, Timeout: 10 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	_, err = c.Get(t.Context(), 7)
	if err == nil || !strings.Contains(err.Error(), "did not answer in time") || len(b.seen()) != 1 {
		t.Errorf("error %v after %d requests", err, len(b.seen()))
	}
}

func TestErrors_cancelled(t *testing.T) {
	cause := errors.New("enough")
	ctx, cancel := context.WithCancelCause(t.Context())
	b := setup(t, func(_ http.ResponseWriter, r *http.Request) {
		cancel(cause)
		<-r.Context().Done()
	})
	if _, err := b.client.Get(ctx, 7); !errors.Is(err, cause) {
		t.Errorf("error %v, want the cause of the cancellation", err)
	}
}

func TestSubmitAndWait(t *testing.T) {
	b := setup(t,
		answer(201, `{"id":7,"state":"running"}`),
		answer(200, `{"id":7,"state":"running"}`),
		drop, drop, // one try and its repetition
		answer(200, `{"id":7,"state":"completed","result":{"n":1}}`),
	)
	j, err := b.client.SubmitAndWait(t.Context(), client.Submission{Type: "echo"})
	if err != nil {
		t.Fatal(err)
	}
	if j.State != job.Completed || string(j.Result) != `{"n":1}` {
		t.Errorf("got %s %s", j.State, j.Result)
	}
	calls := b.seen()
	if got := calls[0].header.Get("Prefer"); got != "wait=30" {
		t.Errorf("Prefer %q", got)
	}
	if got := calls[1].query["wait"]; len(got) != 1 || got[0] != "30s" {
		t.Errorf("wait %q", got)
	}
}

func TestSubmitAndWait_endsWithContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	b := setup(t, answer(201, `{"id":7,"state":"running"}`), func(_ http.ResponseWriter, r *http.Request) {
		cancel()
		<-r.Context().Done()
	})
	j, err := b.client.SubmitAndWait(ctx, client.Submission{Type: "echo"})
	if !errors.Is(err, context.Canceled) || j == nil || j.ID != 7 {
		t.Errorf("got %v, %v; want the job as last seen and the reason", j, err)
	}
}

func TestWait_unknownJob(t *testing.T) {
	b := setup(t, answer(404, `{"code":"job_not_found"}`))
	if _, err := b.client.Wait(t.Context(), 7); !errors.Is(err, job.ErrJobNotFound) || len(b.seen()) != 1 {
		t.Errorf("error %v after %d requests", err, len(b.seen()))
	}
}

func TestSubmitBatch(t *testing.T) {
	b := setup(t, answer(200, `{"items":[{"status":201,"job":{"id":7,"state":"pending"}},{"status":200,"id":3},`+
		`{"status":422,"problem":{"status":422,"code":"invalid","detail":"no"}}],"accepted":2,"refused":1}`))
	jobs := []client.Submission{{Type: "a"}, {Type: "b"}, {Type: "?"}}
	res, err := b.client.SubmitBatch(t.Context(), jobs, client.BatchOptions{Atomic: true})
	if err != nil {
		t.Fatal(err)
	}
	if res.Items[0].ID != 7 || res.Items[1].ID != 3 || res.Items[2].Problem.Code != "invalid" || res.Accepted != 2 {
		t.Errorf("got %+v", res)
	}
	if q := b.seen()[0].query; q["atomic"][0] != "true" {
		t.Errorf("query %v", q)
	}
	if res, err := b.client.SubmitBatch(t.Context(), nil, client.BatchOptions{}); err != nil || len(res.Items) != 0 || len(b.seen()) != 1 {
		t.Errorf("an empty batch: %v, %v, %d requests", res, err, len(b.seen()))
	}
	if _, err := b.client.SubmitBatch(t.Context(), jobs[:1], client.BatchOptions{}); err == nil {
		t.Error("an answer for another number of jobs was taken")
	}
}

func TestList(t *testing.T) {
	b := setup(t,
		answer(200, `{"jobs":[{"id":9,"state":"failed"},{"id":8,"state":"failed"}],"next_cursor":"c1"}`),
		answer(200, `{"jobs":[{"id":7,"state":"failed"}],"next_cursor":"c2"}`),
	)
	opts := client.ListOptions{
		Filter: client.Filter{
			States: []job.State{job.Failed, job.TimedOut}, Queues: []string{"a"}, Metadata: map[string]string{"env": "prod"},
			CreatedAfter: job.Time(1000),
		},
		Limit: 3, PageSize: 2, Linearizable: true,
	}
	var ids []job.ID
	for j, err := range b.client.List(t.Context(), opts) {
		if err != nil {
			t.Fatal(err)
		}
		ids = append(ids, j.ID)
	}
	if len(ids) != 3 || ids[2] != 7 {
		t.Errorf("ids %v", ids)
	}
	first, second := b.seen()[0].query, b.seen()[1].query
	for k, want := range map[string]string{
		"state": "failed,timed_out", "queue": "a", "meta.env": "prod", "created_after": "1970-01-01T00:00:01.000Z",
		"limit": "2", "consistency": "linearizable",
	} {
		if got := first[k]; len(got) != 1 || got[0] != want {
			t.Errorf("%s = %q, want %q", k, got, want)
		}
	}
	if second["cursor"][0] != "c1" || second["limit"][0] != "1" {
		t.Errorf("second page with %v", second)
	}
}

func TestList_endsWithAnError(t *testing.T) {
	b := setup(t, answer(200, `{"jobs":[{"id":9}],"next_cursor":"c1"}`), answer(400, `{"code":"bad_cursor"}`))
	n, last := 0, error(nil)
	for _, err := range b.client.List(t.Context(), client.ListOptions{}) {
		n, last = n+1, err
	}
	if n != 2 || last == nil {
		t.Errorf("%d items, then %v", n, last)
	}
	for range b.client.List(t.Context(), client.ListOptions{}) {
		break // must not panic by yielding once more
	}
}

func TestQueuesAndDeadLetters(t *testing.T) {
	b := setup(t,
		answer(200, `{"queues":[{"name":"a/b","paused":true,"reason":"r","counts":{"pending":3,"failed":1}}]}`),
		answer(200, `{}`),
		answer(200, `{"groups":[{"type":"x","error_kind":"panic","message":"m","count":2}],"jobs":[{"id":3,"state":"failed"}]}`),
		answer(200, `{"matched":2,"changed":0}`),
		answer(200, `{"matched":2,"changed":2}`),
	)
	qs, err := b.client.Queues(t.Context())
	if err != nil || qs[0].Name != "a/b" || qs[0].Counts[job.Pending] != 3 {
		t.Fatalf("queues %+v, %v", qs, err)
	}
	if err := b.client.PauseQueue(t.Context(), "a/b", "deploy"); err != nil {
		t.Fatal(err)
	}
	d, err := b.client.DeadLetters(t.Context(), client.DeadLetterOptions{Filter: client.Filter{Types: []string{"x"}}, Limit: 5, Linearizable: true})
	if err != nil || d.Groups[0].Count != 2 || d.Jobs[0].State != job.Failed {
		t.Fatalf("dead letters %+v, %v", d, err)
	}
	if a, err := b.client.Purge(t.Context(), client.Selection{Filter: &client.Filter{}, DryRun: true}); err != nil || a.Matched != 2 {
		t.Fatalf("preview %+v, %v", a, err)
	}
	if a, err := b.client.Redrive(t.Context(), client.Selection{IDs: []job.ID{3, 4}}); err != nil || a.Changed != 2 {
		t.Fatalf("redrive %+v, %v", a, err)
	}
	want := []string{
		"GET /v1/queues ", `POST /v1/queues/a%2Fb/pause {"reason":"deploy"}`, "GET /v1/dead-letters ",
		`POST /v1/dead-letters/purge {"filter":{}}`, `POST /v1/dead-letters/redrive {"ids":[3,4]}`,
	}
	for i, c := range b.seen() {
		if got := c.method + " " + c.path + " " + c.body; got != want[i] {
			t.Errorf("request %d is %s, want %s", i, got, want[i])
		}
	}
	if got := b.seen()[2].query.Encode(); got != "consistency=linearizable&limit=5&type=x" {
		t.Errorf("dead letters were asked for with %s", got)
	}
	if q := b.seen()[3].query["dry_run"]; len(q) != 1 || q[0] != "true" {
		t.Errorf("dry_run %v", q)
	}
}

func TestAgentsAndCluster(t *testing.T) {
	b := setup(t,
		answer(200, `{"agents":[{"id":"a1","name":"n","slots":4,"status":"ready","load":{"held":2,"slots":4}},{"id":"a2","status":"lost"}]}`),
		answer(200, `{"id":"x/y","status":"draining"}`),
		answer(200, `{"version":"v1","node":{"leader":"n1","term":3}}`),
	)
	as, err := b.client.Agents(t.Context())
	if err != nil || as[0].Load.Held != 2 || as[1].Load != nil || as[1].Status != job.AgentLost {
		t.Errorf("agents %+v, %v", as, err)
	}
	a, err := b.client.Agent(t.Context(), "x/y")
	if err != nil || a.ID != "x/y" || b.seen()[1].path != "/v1/agents/x%2Fy" {
		t.Errorf("agent %+v, %v, %s", a, err, b.seen()[1].path)
	}
	if cl, err := b.client.Cluster(t.Context()); err != nil || cl.Node.Leader != "n1" || cl.Node.Term != 3 {
		t.Errorf("cluster %+v, %v", cl, err)
	}
}
