package cli

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
)

// bundle is a test node with scripted answers, and command lines that speak with
// it.
type bundle struct {
	t   *testing.T
	mux *http.ServeMux
	url string
	env map[string]string
	in  io.Reader

	mu    sync.Mutex
	calls []string
}

func setup(t *testing.T) *bundle {
	t.Helper()
	b := &bundle{t: t, mux: http.NewServeMux(), env: map[string]string{}, in: strings.NewReader("")}
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		b.mu.Lock()
		b.calls = append(b.calls, strings.TrimSpace(fmt.Sprintf("%s %s %s", r.Method, r.URL.RequestURI(), body)))
		b.mu.Unlock()
		b.mux.ServeHTTP(w, r)
	}))
	t.Cleanup(srv.Close)
	b.url = srv.URL
	b.env["ORRERY_ADDR"] = srv.URL
	return b
}

// seen are the requests so far; forget begins anew.
func (b *bundle) seen() []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return slices.Clone(b.calls)
}

func (b *bundle) forget() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.calls = nil
}

// answer makes the node answer a pattern of http.ServeMux.
func (b *bundle) answer(pattern string, status int, body string) {
	b.mux.HandleFunc(pattern, func(w http.ResponseWriter, _ *http.Request) {
		kind := "application/json"
		switch {
		case status >= 400:
			kind = "application/problem+json"
		case strings.HasPrefix(body, "event:"):
			kind = "text/event-stream"
		}
		w.Header().Set("Content-Type", kind)
		w.WriteHeader(status)
		_, _ = io.WriteString(w, body)
	})
}

// run runs a command line.
func (b *bundle) run(args ...string) (code int, out, errs string) {
	b.t.Helper()
	var o, e bytes.Buffer
	code = Run(b.t.Context(), Env{In: b.in, Out: &o, Err: &e, Getenv: func(k string) string { return b.env[k] }}, args)
	return code, o.String(), e.String()
}

const (
	completed = `{"id":7,"type":"echo","queue":"default","state":"completed","priority":4,"max_attempts":5,"failures":0,"lost":0,` +
		`"created_at":"2027-01-31T08:00:00.000Z","finished_at":"2027-01-31T08:00:00.120Z",` +
		`"attempts":[{"number":1,"fence":9,"agent":"a1","dispatched_at":"2027-01-31T08:00:00.010Z","finished_at":"2027-01-31T08:00:00.110Z","outcome":"completed"}],` +
		`"payload":{"a":1},"result":{"b":2}}`
	failed = `{"id":8,"type":"fail","queue":"default","state":"failed","priority":4,"max_attempts":1,"failures":1,"lost":0,` +
		`"created_at":"2027-01-31T08:00:00.000Z","finished_at":"2027-01-31T08:00:01.000Z",` +
		`"error":{"kind":"exit","message":"exit code 3\u001b[31m","exit_code":3}}`
)

func TestUsage(t *testing.T) {
	tests := []struct {
		name string
		args []string
		want string // part of stderr
	}{
		{"an unknown command with a near one", []string{"jbo"}, "did you mean `orrery job`?"},
		{"an unknown subcommand with a near one", []string{"job", "submti"}, "did you mean `orrery job submit`?"},
		{"an unknown subcommand", []string{"queue", "xyzzy"}, "`orrery queue --help` lists them"},
		{"an unknown word after agents", []string{"agents", "lss"}, "did you mean `orrery agents ls`?"},
		{"an unknown flag", []string{"job", "ls", "--staet"}, "`orrery job ls --help` lists the flags"},
		{"no type", []string{"job", "submit"}, "takes the type of the job"},
		{"two types", []string{"job", "submit", "a", "b"}, `not also "b"`},
		{"an id that is none", []string{"job", "show", "seven"}, `"seven" is not the id of a job`},
		{"a negative id", []string{"job", "show", "--", "-1"}, `"-1" is not the id of a job`},
		{"a payload that is not JSON", []string{"job", "submit", "a", "--payload", "{a}"}, "the payload is not JSON"},
		{"an empty payload", []string{"job", "submit", "a", "--payload", ""}, "it is empty"},
		{"a payload and a command", []string{"job", "submit", "exec", "--payload", "1", "--", "ls"}, "not both"},
		{"no command after the dashes", []string{"job", "submit", "exec", "--"}, "a command is missing after --"},
		{"an unknown state", []string{"job", "ls", "--state", "done"}, `"done" is not a state; the states are scheduled`},
		{"a bad duration", []string{"job", "submit", "a", "--delay", "soon"}, "is not a duration such as"},
		{"a bad time", []string{"job", "submit", "a", "--run-at", "noon"}, "is not an RFC 3339 time"},
		{"delay and time", []string{"job", "submit", "a", "--delay", "1s", "--run-at", "1h"}, "give --delay or --run-at, not both"},
		{"metadata without a value", []string{"job", "submit", "a", "--meta", "x"}, `"x" is not key=value`},
		{"a negative limit", []string{"job", "ls", "--limit", "-3"}, "it must be 0 (all) or more"},
		{"an unknown event", []string{"events", "--type", "completed"}, "did you mean job.completed?"},
		{"an id of an event that is none", []string{"events", "--after", "x"}, `"x" is not an event id`},
		{"no selection", []string{"dead", "purge"}, "which dead letters?"},
		{"two selections", []string{"dead", "purge", "7", "--all"}, "only one of them"},
		{"an address that is none", []string{"job", "ls", "--addr", "ftp://x"}, "a node speaks http or https"},
		{"an unknown level", []string{"dev", "--log-level", "loud"}, "it must be debug, info, warn or error"},
		{"a node without a cluster that shall join one", []string{"server", "--join", "a:1"}, "hint: add --cluster :7701"},
		{"a size that is none", []string{"server", "--snapshot-threshold", "much"}, `"much" is not a size such as 64MiB`},
		{"a size below one", []string{"server", "--snapshot-threshold", "0"}, `"0" is not a size`},
		{"a size beyond all", []string{"server", "--snapshot-threshold", "9999999999TiB"}, "is not a size"},
		{"a time that is none", []string{"server", "--backup-every", "sometimes"}, "is not a duration such as"},
		{"no time at all", []string{"server", "--cleanup-after", "0s"}, "off turns it off"},
		{"a file that is not there", []string{"server", "--config", "no/such.yaml"}, "no/such.yaml"},
		{"no address to join", []string{"cluster", "join"}, "takes the address of a node's cluster port"},
		{"no node to remove", []string{"cluster", "remove"}, "takes the id of a node"},
		{"a wrong word for the cluster", []string{"cluster", "stauts"}, "did you mean `orrery cluster status`?"},
		{"a backup to nowhere", []string{"backup"}, "takes the name of a file, or -"},
		{"an unknown format", []string{"server", "--log-format", "xml"}, "it must be text or json"},
		{"arguments where none belong", []string{"version", "now"}, "takes no arguments"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			code, out, errs := setup(t).run(tt.args...)
			if code != exitUsage || out != "" || !strings.Contains(errs, tt.want) || !strings.HasPrefix(errs, "orrery: ") {
				t.Errorf("exit code %d\n%s%s\nwant 2 and %q", code, out, errs, tt.want)
			}
		})
	}
}

func TestHelp(t *testing.T) {
	b := setup(t)
	for _, args := range [][]string{{}, {"job"}, {"job", "submit", "--help"}, {"demo", "--help"}, {"help", "dead"}, {"completion", "bash"}} {
		code, out, errs := b.run(args...)
		if code != exitOK || out == "" || errs != "" {
			t.Errorf("%v: exit code %d\n%s%s", args, code, out, errs)
		}
		if strings.Contains(out, "demo-agent") && len(args) == 0 {
			t.Error("the agent of the demonstration is shown")
		}
	}
}

func TestVersion(t *testing.T) {
	b := setup(t)
	if code, out, _ := b.run("version"); code != 0 || !strings.HasPrefix(out, "orrery ") {
		t.Errorf("%d %s", code, out)
	}
	var v map[string]any
	if code, out, _ := b.run("version", "--json"); code != 0 || json.Unmarshal([]byte(out), &v) != nil || v["go"] == "" {
		t.Errorf("%d %s", code, out)
	}
}

func TestNoNode(t *testing.T) {
	b := setup(t)
	code, out, errs := b.run("job", "ls", "--addr", "127.0.0.1:1")
	want := "orrery: no node listens at http://127.0.0.1:1\nhint: start a node with `orrery dev`, or name a running one with --addr or ORRERY_ADDR\n"
	if code != exitFailure || out != "" || errs != want {
		t.Errorf("exit code %d\n%s%s", code, out, errs)
	}
}

func TestToken(t *testing.T) {
	b := setup(t)
	var got string
	b.mux.HandleFunc("GET /v1/queues", func(w http.ResponseWriter, r *http.Request) {
		got = r.Header.Get("Authorization")
		_, _ = io.WriteString(w, `{"queues":[]}`)
	})
	file := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(file, []byte("from-a-file-0123456789\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		name string
		env  map[string]string
		args []string
		want string
	}{
		{"none", nil, nil, ""},
		{"environment", map[string]string{"ORRERY_TOKEN": "from-env"}, nil, "Bearer from-env"},
		{"file of the environment", map[string]string{"ORRERY_TOKEN": "from-env", "ORRERY_TOKEN_FILE": file}, nil, "Bearer from-a-file-0123456789"},
		{"flag", map[string]string{"ORRERY_TOKEN": "from-env"}, []string{"--token-file", file}, "Bearer from-a-file-0123456789"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			b.env = map[string]string{"ORRERY_ADDR": b.url}
			maps.Copy(b.env, tt.env)
			if code, _, errs := b.run(append([]string{"queue", "ls"}, tt.args...)...); code != 0 || got != tt.want {
				t.Errorf("exit code %d, sent %q, want %q\n%s", code, got, tt.want, errs)
			}
		})
	}
	if code, _, errs := b.run("queue", "ls", "--token-file", file+"x"); code != exitFailure || !strings.Contains(errs, "no such file") {
		t.Errorf("a missing file: %d %s", code, errs)
	}
}
