package client_test

import (
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"

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

func TestQueue(t *testing.T) {
	b := setup(t, answer(200, `{"name":"a/b","counts":{"completed":3}}`), answer(200, `{"name":"c"}`))
	if q, err := b.client.Queue(t.Context(), "a/b", true); err != nil || q.Name != "a/b" || q.Counts[job.Completed] != 3 {
		t.Fatalf("queue %+v, %v", q, err)
	}
	if q, err := b.client.Queue(t.Context(), "c", false); err != nil || q.Name != "c" {
		t.Fatalf("queue %+v, %v", q, err)
	}
	seen := b.seen()
	if seen[0].path != "/v1/queues/a%2Fb" || seen[0].query.Get("consistency") != "linearizable" || len(seen[1].query) != 0 {
		t.Errorf("requests %+v", seen)
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

func TestAgents(t *testing.T) {
	b := setup(t,
		answer(200, `{"agents":[{"id":"a1","name":"n","slots":4,"status":"ready","load":{"held":2,"slots":4}},{"id":"a2","status":"lost"}]}`),
		answer(200, `{"id":"x/y","status":"draining"}`),
	)
	as, err := b.client.Agents(t.Context())
	if err != nil || as[0].Load.Held != 2 || as[1].Load != nil || as[1].Status != job.AgentLost {
		t.Errorf("agents %+v, %v", as, err)
	}
	a, err := b.client.Agent(t.Context(), "x/y")
	if err != nil || a.ID != "x/y" || b.seen()[1].path != "/v1/agents/x%2Fy" {
		t.Errorf("agent %+v, %v, %s", a, err, b.seen()[1].path)
	}
}
