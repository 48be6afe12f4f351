package httpapi

import (
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/orrery-io/orrery/job"
	"github.com/orrery-io/orrery/wire"
)

func TestGuard_host(t *testing.T) {
	b := setup(t, func(c *Config) { c.Hosts = []string{"orrery.test"} })
	for _, host := range []string{
		"127.0.0.1", "127.0.0.1:7700", "127.9.9.9:80", "localhost", "LOCALHOST:7700", "dev.localhost:1", "localhost.", "[::1]:7700", "[::1]",
		"[::ffff:127.0.0.1]:7700", "orrery.test", "Orrery.Test:7700",
	} {
		r := b.get("/v1/queues", "Host", host)
		if r.status != 200 {
			t.Errorf("%q is refused: %s", host, r.body)
		}
	}
	for _, host := range []string{
		"evil.example", "evil.example:7700", "127.0.0.1.evil.example", "localhost.evil.example", "evillocalhost", "192.168.1.7:7700", "[fe80::1]:7700", "", "0.0.0.0", "2130706433",
	} {
		for _, path := range []string{"/v1/queues", "/healthz", "/docs", "/nowhere", "/metrics"} {
			r := b.get(path, "Host", host)
			if r.status != 403 {
				t.Errorf("%q gets %s: %d", host, path, r.status)
				continue
			}
			r.problem(403, "foreign_host")
		}
	}
	// With a token, whoever knows it may come from anywhere.
	b = setup(t, func(c *Config) { c.Token = "secret" })
	b.get("/v1/queues", "Host", "cluster.example", "Authorization", "Bearer secret").want(200)
}

func TestGuard_cross_origin(t *testing.T) {
	b := setup(t)
	const good = `{"type":"echo"}`
	refused := [][]string{
		{"Sec-Fetch-Site", "cross-site"},
		{"Sec-Fetch-Site", "same-site"},
		{"Origin", "https://evil.example"},
		{"Origin", "http://127.0.0.1:9999"},
		{"Origin", "null"},
	}
	for _, headers := range refused {
		b.post("/v1/jobs", good, headers...).problem(403, "cross_origin")
		b.post("/v1/queues/default/pause", "", headers...).problem(403, "cross_origin")
		// An upgrade is a GET that does things.
		b.get(wire.Path, headers...).problem(403, "cross_origin")
		// A body that needs no preflight does not help.
		b.post("/v1/jobs", good, append([]string{"Content-Type", "text/plain"}, headers...)...).problem(403, "cross_origin")
	}
	if n := b.node.proposed(); n != 0 {
		t.Errorf("%d commands were proposed", n)
	}
	for _, headers := range [][]string{{"Sec-Fetch-Site", "same-origin"}, {"Sec-Fetch-Site", "none"}, {"Origin", "http://127.0.0.1:7700"}, {}} {
		b.post("/v1/jobs", good, headers...).want(201)
	}
}

func TestGuard_token(t *testing.T) {
	b := setup(t, func(c *Config) { c.Token = "secret" })
	tests := []struct{ name, header, code string }{
		{"none", "", "no_token"},
		{"basic", "Basic c2VjcmV0", "no_token"},
		{"no word", "Bearer", "no_token"},
		{"empty", "Bearer ", "no_token"},
		{"wrong", "Bearer secre", "wrong_token"},
		{"longer", "Bearer secret2", "wrong_token"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			for _, path := range []string{"/v1/jobs", "/v1/cluster", "/metrics", "/nowhere", wire.Path} {
				r := b.get(path, "Authorization", tt.header)
				r.t = t
				r.problem(401, tt.code)
				if got := r.header.Get("WWW-Authenticate"); !strings.HasPrefix(got, "Bearer") {
					t.Errorf("WWW-Authenticate %q", got)
				}
			}
		})
	}
	for _, path := range []string{"/healthz", "/readyz", "/docs", "/openapi.json"} {
		b.get(path).want(200)
	}
	for _, header := range []string{"Bearer secret", "bearer secret", "Bearer  secret"} {
		b.get("/v1/jobs", "Authorization", header).want(200)
	}
	b.post("/v1/jobs", `{"type":"echo"}`, "Sec-Fetch-Site", "cross-site", "Authorization", "Bearer secret").problem(403, "cross_origin")
}

func TestInternalErrorsAreConcealed(t *testing.T) {
	var log strings.Builder
	b := setup(t, func(c *Config) { c.Log = textLog(&log) })
	for _, err := range []error{
		errors.New("disk /var/secret is full"),
		fmt.Errorf("wrapped: %w", errors.New("/var/secret")),
		&job.Error{Kind: job.Internal, Code: "x", Message: "/var/secret"},
	} {
		log.Reset()
		b.node.fail(err)
		r := b.post("/v1/jobs", `{"type":"echo"}`)
		p := r.problem(500, "internal")
		if strings.Contains(string(r.body), "secret") {
			t.Errorf("the client reads %s", r.body)
		}
		if p.Reference == "" || !strings.Contains(log.String(), p.Reference) || !strings.Contains(log.String(), "/var/secret") {
			t.Errorf("reference %q, log %s", p.Reference, log.String())
		}
	}
}

func TestPanicsAreAnswered(t *testing.T) {
	var log strings.Builder
	b := setup(t, func(c *Config) { c.Log = textLog(&log) })
	b.register(b.mux, []route{{method: "GET", path: "/boom", handle: func(*response, *http.Request, *query) error { panic("secret") }}})
	r := b.get("/boom")
	r.problem(500, "internal")
	if strings.Contains(string(r.body), "secret") || !strings.Contains(log.String(), "secret") {
		t.Errorf("client: %s; log: %s", r.body, log.String())
	}
	// Half an answer is cut off rather than ended well.
	b.register(b.mux, []route{{method: "GET", path: "/half", handle: func(w *response, _ *http.Request, _ *query) error {
		_, _ = w.Write([]byte("{"))
		panic("later")
	}}})
	defer func() {
		if v := recover(); v != http.ErrAbortHandler { //nolint:errorlint // a panic's value
			t.Errorf("panicked with %v", v)
		}
	}()
	b.get("/half")
}

func TestStatusOfEveryKind(t *testing.T) {
	want := map[job.ErrorKind]int{
		job.Internal: 500, job.Invalid: 400, job.NotFound: 404, job.Conflict: 409, job.Mismatch: 422, job.TooLarge: 413,
		job.Unauthorized: 401, job.Forbidden: 403, job.Unavailable: 503, job.Overloaded: 429, job.Unknown: 504,
	}
	for k := job.Internal; k <= job.Unknown; k++ {
		if got := statusOf(k); got != want[k] {
			t.Errorf("kind %d: %d, want %d", k, got, want[k])
		}
	}
}

func TestMetrics(t *testing.T) {
	b := setup(t)
	b.post("/v1/jobs", `{"type":"echo"}`).want(201)
	b.post("/v1/jobs", `{`).want(400)
	b.get("/v1/jobs/7").want(404)
	b.get("/some/scanner/path")
	text := string(b.get("/metrics").want(200).body)
	for _, line := range []string{
		`orrery_httpapi_requests_total{route="POST /v1/jobs",status="201"} 1`,
		`orrery_httpapi_requests_total{route="POST /v1/jobs",status="400"} 1`,
		`orrery_httpapi_requests_total{route="GET /v1/jobs/{id}",status="404"} 1`,
		`orrery_httpapi_requests_total{route="none",status="404"} 1`,
		`orrery_httpapi_request_duration_seconds_count{route="POST /v1/jobs"} 2`,
	} {
		if !strings.Contains(text, line+"\n") {
			t.Errorf("no %s in\n%s", line, text)
		}
	}
}

func TestHealth(t *testing.T) {
	b := setup(t)
	var h Health
	b.get("/healthz").want(200).into(&h)
	if h.Status != "ok" || h.Version != "1.2.3" {
		t.Errorf("%+v", h)
	}
	b.get("/readyz").want(200)
	b.node.status.Leader = ""
	r := b.get("/readyz")
	r.problem(503, "no_leader")
	if r.header.Get("Retry-After") == "" {
		t.Error("no Retry-After")
	}
	b.get("/healthz").want(200)
	b.node.status.Leader = "n1"
	b.Close()
	b.get("/readyz").problem(503, "shutting_down")
	var c ClusterInfo
	b.get("/v1/cluster").want(200).into(&c)
	if c.Node != "n1" || c.Leader != "n1" || len(c.Servers) != 1 || c.Version != "1.2.3" {
		t.Errorf("%+v", c)
	}
}
