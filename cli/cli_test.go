package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/orrery-io/orrery/job"
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
			for k, v := range tt.env {
				b.env[k] = v
			}
			if code, _, errs := b.run(append([]string{"queue", "ls"}, tt.args...)...); code != 0 || got != tt.want {
				t.Errorf("exit code %d, sent %q, want %q\n%s", code, got, tt.want, errs)
			}
		})
	}
	if code, _, errs := b.run("queue", "ls", "--token-file", file+"x"); code != exitFailure || !strings.Contains(errs, "no such file") {
		t.Errorf("a missing file: %d %s", code, errs)
	}
}

func TestJobSubmit(t *testing.T) {
	file := filepath.Join(t.TempDir(), "p.json")
	if err := os.WriteFile(file, []byte(`{"from":"file"}`), 0o600); err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		name string
		args []string
		in   string
		want string // request body
	}{
		{"bare", []string{"echo"}, "", `{"type":"echo"}`},
		{"payload", []string{"echo", "--payload", `{"a": 1}`}, "", `{"type":"echo","payload":{"a":1}}`},
		{"payload from a file", []string{"echo", "--payload", "@" + file}, "", `{"type":"echo","payload":{"from":"file"}}`},
		{"payload from stdin", []string{"echo", "--payload", "-"}, "[1,2]\n", `{"type":"echo","payload":[1,2]}`},
		{"a command", []string{"exec", "--", "sh", "-c", "echo $HOME"}, "", `{"type":"exec","payload":{"argv":["sh","-c","echo $HOME"]}}`},
		{"flags before a command", []string{"exec", "--queue", "q", "--", "ls", "--queue"}, "", `{"type":"exec","queue":"q","payload":{"argv":["ls","--queue"]}}`},
		{
			"everything", []string{
				"a", "--queue", "q", "--priority", "0", "--delay", "10m", "--max-attempts", "3", "--timeout", "30s", "--expires-in", "1d", "--lease", "5s",
				"--tag", "x,y", "--meta", "k=v=w", "--meta", "l=a,b", "--key", "k1", "--correlation-id", "c", "--retention", "7d",
			}, "",
			`{"type":"a","queue":"q","priority":0,"delay":"10m","max_attempts":3,"timeout":"30s","expires_in":"24h","lease":"5s","tags":["x","y"],` +
				`"metadata":{"k":"v=w","l":"a,b"},"correlation_id":"c","idempotency_key":"k1","retention":"168h"}`,
		},
		{"a fixed time", []string{"a", "--run-at", "2027-01-31T09:00:00+01:00"}, "", `{"type":"a","run_at":"2027-01-31T08:00:00.000Z"}`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			b := setup(t)
			b.in = strings.NewReader(tt.in)
			b.answer("POST /v1/jobs", 201, `{"id":7,"type":"echo","queue":"default","state":"pending"}`)
			code, out, errs := b.run(append([]string{"job", "submit"}, tt.args...)...)
			if code != 0 || out != "job 7 pending: echo in queue default\n" || errs != "" {
				t.Errorf("exit code %d\n%s%s", code, out, errs)
			}
			if got := strings.TrimPrefix(b.calls[0], "POST /v1/jobs "); got != tt.want {
				t.Errorf("sent %s\nwant %s", got, tt.want)
			}
		})
	}
}

func TestJobSubmit_tooLarge(t *testing.T) {
	b := setup(t)
	b.in = strings.NewReader(`"` + strings.Repeat("x", job.MaxPayload) + `"`)
	if code, _, errs := b.run("job", "submit", "a", "--payload", "-"); code != exitFailure || !strings.Contains(errs, "more than 1048576 bytes") || len(b.calls) != 0 {
		t.Errorf("exit code %d\n%s", code, errs)
	}
}

func TestJobSubmit_wait(t *testing.T) {
	tests := []struct {
		name, answer string
		args         []string
		code         int
		out, errs    string
	}{
		{"completed", completed, nil, 0, "job 7 completed after 120ms\n{\n  \"b\": 2\n}\n", ""},
		{
			"failed", failed, nil, exitJob, "job 8 failed after 1.0s\n",
			"orrery: job 8 failed with exit: exit code 3·[31m\nhint: `orrery job logs 8` shows its log, `orrery job retry 8` runs it again\n",
		},
		{"only the id", completed, []string{"-q"}, 0, "7\n", ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			b := setup(t)
			b.answer("POST /v1/jobs", 201, tt.answer)
			code, out, errs := b.run(append([]string{"job", "submit", "x", "--wait"}, tt.args...)...)
			if code != tt.code || out != tt.out || errs != tt.errs {
				t.Errorf("exit code %d\n%s%s\nwant %d\n%s%s", code, out, errs, tt.code, tt.out, tt.errs)
			}
		})
	}
}

func TestJobSubmit_follow(t *testing.T) {
	b := setup(t)
	b.answer("POST /v1/jobs", 201, `{"id":7,"type":"exec","queue":"default","state":"pending"}`)
	b.answer("GET /v1/jobs/7/logs", 200, "event: log\ndata: {\"attempt\":1,\"fence\":9,\"seq\":1,\"time\":\"2027-01-31T08:00:00.000Z\",\"level\":\"stdout\",\"text\":\"Linux\"}\n\nevent: end\ndata: {}\n\n")
	b.answer("GET /v1/jobs/7", 200, completed)
	code, out, errs := b.run("job", "submit", "exec", "--follow", "--", "uname")
	if code != 0 || !strings.Contains(out, "stdout Linux\n") || !strings.HasSuffix(out, "\"b\": 2\n}\n") || errs != "" {
		t.Errorf("exit code %d\n%s%s", code, out, errs)
	}
}

func TestJobWait_interrupted(t *testing.T) {
	b := setup(t)
	ctx, cancel := context.WithCancelCause(t.Context())
	first := true
	b.mux.HandleFunc("GET /v1/jobs/7", func(w http.ResponseWriter, r *http.Request) {
		if first {
			first = false
			_, _ = io.WriteString(w, `{"id":7,"state":"running"}`)
			return
		}
		cancel(errInterrupted)
		<-r.Context().Done()
	})
	var out, errs bytes.Buffer
	code := Run(ctx, Env{In: b.in, Out: &out, Err: &errs, Getenv: func(k string) string { return b.env[k] }}, []string{"job", "wait", "7"})
	if code != exitInterrupted || !strings.Contains(errs.String(), "interrupted; job 7 is running and goes on") {
		t.Errorf("exit code %d\n%s", code, errs.String())
	}
}

func TestJobWait_timeout(t *testing.T) {
	b := setup(t)
	b.mux.HandleFunc("GET /v1/jobs/7", func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() })
	code, _, errs := b.run("job", "wait", "7", "--timeout", "20ms")
	if code != exitFailure || !strings.Contains(errs, "job 7 has not ended within 20ms") {
		t.Errorf("exit code %d\n%s", code, errs)
	}
}

func TestJobLs(t *testing.T) {
	b := setup(t)
	b.answer("GET /v1/jobs", 200, `{"jobs":[`+failed+`,`+completed+`]}`)
	code, out, errs := b.run("job", "ls", "--limit", "1", "--type", "a,b", "--state", "failed", "--state", "completed", "--meta", "k=v")
	rows := strings.Split(out, "\n")
	if code != 0 || !strings.HasPrefix(rows[0], "ID  TYPE  QUEUE") || !strings.HasPrefix(rows[1], "8   fail  default  failed") || len(rows) != 3 {
		t.Errorf("exit code %d\n%s", code, out)
	}
	if errs != "there are more; --limit 0 shows all\n" {
		t.Errorf("stderr %q", errs)
	}
	if want := "GET /v1/jobs?consistency=linearizable&limit=2&meta.k=v&state=failed%2Ccompleted&type=a%2Cb"; b.calls[0] != want {
		t.Errorf("asked %s\nwant  %s", b.calls[0], want)
	}
	code, out, errs = b.run("job", "ls", "--json", "--limit", "0")
	if rows := strings.Split(strings.TrimSpace(out), "\n"); code != 0 || len(rows) != 2 || !json.Valid([]byte(rows[0])) || errs != "" {
		t.Errorf("exit code %d\n%s%s", code, out, errs)
	}
}

func TestJobLs_none(t *testing.T) {
	b := setup(t)
	b.answer("GET /v1/jobs", 200, `{"jobs":[]}`)
	if code, out, errs := b.run("job", "ls", "--type", "a"); code != 0 || out != "" || errs != "no jobs like that\n" {
		t.Errorf("exit code %d\n%s%s", code, out, errs)
	}
}

func TestJobShow(t *testing.T) {
	b := setup(t)
	b.answer("GET /v1/jobs/7", 200, completed)
	b.answer("GET /v1/jobs/9", 404, `{"status":404,"code":"job_not_found","detail":"there is no job 9","hint":"GET /v1/jobs lists those that there are"}`)
	code, out, _ := b.run("job", "show", "7")
	for _, want := range []string{"state     completed\n", "\nTRY  OUTCOME    AGENT", "1    completed  a1 ", "\npayload\n  {\n    \"a\": 1\n  }\n", "\nresult\n"} {
		if code != 0 || !strings.Contains(out, want) {
			t.Errorf("exit code %d, no %q in\n%s", code, want, out)
		}
	}
	if code, out, _ := b.run("job", "show", "7", "--json"); code != 0 || !json.Valid([]byte(out)) {
		t.Errorf("exit code %d\n%s", code, out)
	}
	if code, _, errs := b.run("job", "show", "9"); code != exitFailure || errs != "orrery: there is no job 9\nhint: jobs are deleted some time after they ended; `orrery job ls` lists those that there are\n" {
		t.Errorf("exit code %d\n%s", code, errs)
	}
}

func TestJobLogs(t *testing.T) {
	b := setup(t)
	b.answer("GET /v1/jobs/7/logs", 200, `{"lines":[{"attempt":1,"fence":9,"seq":1,"time":"2027-01-31T08:00:00.000Z","level":"info","text":"a\u001b[2Jb"}]}`)
	if code, out, _ := b.run("job", "logs", "7"); code != 0 || !strings.HasSuffix(out, " info   a·[2Jb\n") {
		t.Errorf("exit code %d %q", code, out)
	}
	if code, out, _ := b.run("job", "logs", "7", "--raw"); code != 0 || out != "a\x1b[2Jb\n" {
		t.Errorf("exit code %d %q", code, out)
	}
}

func TestJobCancel(t *testing.T) {
	b := setup(t)
	b.answer("POST /v1/jobs/7/cancel", 200, `{"id":7,"state":"running","cancel_requested":true}`)
	b.answer("POST /v1/jobs/8/cancel", 409, `{"status":409,"code":"wrong_state","detail":"job 8 is completed and cannot be cancelled"}`)
	code, out, errs := b.run("job", "cancel", "8", "7", "--reason", "no longer needed")
	if code != exitFailure || out != "job 7 is running, asked to stop\n" || !strings.HasPrefix(errs, "orrery: job 8: job 8 is completed and cannot be cancelled\n") {
		t.Errorf("exit code %d\n%s%s", code, out, errs)
	}
	if b.calls[1] != `POST /v1/jobs/7/cancel {"reason":"no longer needed"}` {
		t.Errorf("sent %s", b.calls[1])
	}
}

func TestQueue(t *testing.T) {
	b := setup(t)
	b.answer("GET /v1/queues", 200, `{"queues":[{"name":"mail","paused":true,"reason":"provider is down","counts":{"pending":3,"running":1,"dispatched":1,"failed":2}}]}`)
	b.answer("POST /v1/queues/mail/pause", 200, `{"name":"mail"}`)
	code, out, _ := b.run("queue", "ls")
	if rows := strings.Split(out, "\n"); code != 0 || strings.Join(strings.Fields(rows[1]), " ") != "mail 0 3 2 0 2 0 (provider is down)" {
		t.Errorf("exit code %d\n%s", code, out)
	}
	if code, out, _ := b.run("queue", "pause", "mail", "--reason", "x"); code != 0 || out != "queue mail is paused\n" {
		t.Errorf("exit code %d %s", code, out)
	}
}

func TestDeadPurge(t *testing.T) {
	tests := []struct {
		name  string
		args  []string
		in    string
		code  int
		out   string
		calls []string
	}{
		{"asked and confirmed", []string{"--type", "a"}, "y\n", 0, "2 dead letters removed for good\n", []string{`POST /v1/dead-letters/purge?dry_run=true {"filter":{"type":"a"}}`, `POST /v1/dead-letters/purge {"filter":{"type":"a"}}`}},
		{"asked and denied", []string{"--type", "a"}, "n\n", exitFailure, "", []string{`POST /v1/dead-letters/purge?dry_run=true {"filter":{"type":"a"}}`}},
		{"asked and no answer", []string{"--all"}, "", exitFailure, "", []string{`POST /v1/dead-letters/purge?dry_run=true {"filter":{}}`}},
		{"not asked", []string{"--all", "--yes"}, "", 0, "2 dead letters removed for good\n", []string{`POST /v1/dead-letters/purge {"filter":{}}`}},
		{"by id", []string{"7", "8"}, "", 0, "2 dead letters removed for good\n", []string{`POST /v1/dead-letters/purge {"ids":[7,8]}`}},
		{"some ids are none", []string{"7", "8", "9"}, "", exitFailure, "2 dead letters removed for good\n", []string{`POST /v1/dead-letters/purge {"ids":[7,8,9]}`}},
		{"only counted", []string{"--all", "--dry-run"}, "", 0, "2 dead letters would be removed for good\n", []string{`POST /v1/dead-letters/purge?dry_run=true {"filter":{}}`}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			b := setup(t)
			b.in = strings.NewReader(tt.in)
			b.mux.HandleFunc("POST /v1/dead-letters/purge", func(w http.ResponseWriter, r *http.Request) {
				if r.URL.Query().Has("dry_run") {
					_, _ = io.WriteString(w, `{"matched":2,"changed":0}`)
					return
				}
				_, _ = io.WriteString(w, `{"matched":2,"changed":2}`)
			})
			code, out, errs := b.run(append([]string{"dead", "purge"}, tt.args...)...)
			if code != tt.code || out != tt.out {
				t.Errorf("exit code %d\n%s%s", code, out, errs)
			}
			if strings.Join(b.calls, "\n") != strings.Join(tt.calls, "\n") {
				t.Errorf("sent\n%s", strings.Join(b.calls, "\n"))
			}
		})
	}
}

func TestDeadPurge_nobodyToAsk(t *testing.T) {
	b := setup(t)
	b.answer("POST /v1/dead-letters/purge", 200, `{"matched":2,"changed":0}`)
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	defer w.Close()
	b.in = r
	if code, _, errs := b.run("dead", "purge", "--all"); code != exitUsage || !strings.Contains(errs, "--yes goes on without asking") {
		t.Errorf("exit code %d\n%s", code, errs)
	}
}

func TestDeadLs(t *testing.T) {
	b := setup(t)
	b.answer("GET /v1/dead-letters", 200, `{"groups":[{"type":"fail","error_kind":"exit","message":"exit code 3","count":12}],"total":12,"jobs":[`+failed+`]}`)
	code, out, _ := b.run("dead", "ls", "--since", "1h")
	if code != 0 || !strings.Contains(out, "fail  exit   12 ") || !strings.Contains(out, "\n12 dead letters; the newest:\n") || !strings.Contains(out, "exit: exit code 3") {
		t.Errorf("exit code %d\n%s", code, out)
	}
	if !strings.HasPrefix(b.calls[0], "GET /v1/dead-letters?consistency=linearizable&created_after=20") {
		t.Errorf("asked %s", b.calls[0])
	}
}

func TestAgents(t *testing.T) {
	b := setup(t)
	b.answer("GET /v1/agents", 200, `{"agents":[{"id":"a1","name":"n","status":"ready","slots":4,"queues":["default"],"capabilities":[{"type":"echo"},{"type":"exec"}],`+
		`"load":{"held":3,"waiting":1,"slots":4}},{"id":"a2","status":"lost","slots":2}]}`)
	code, out, _ := b.run("agents")
	rows := strings.Split(out, "\n")
	if code != 0 || strings.Join(strings.Fields(rows[1]), " ") != "a1 n - ready 2/4 +1 default echo,exec -" || !strings.Contains(rows[2], "lost    -/2") {
		t.Errorf("exit code %d\n%s", code, out)
	}
}

func TestEvents(t *testing.T) {
	b := setup(t)
	b.answer("GET /v1/events", 200, `{"events":[{"id":"4.1","time":"2027-01-31T08:00:00.000Z","type":"job.failed","job":8,"job_type":"fail","queue":"q","attempt":1,"agent":"a1","detail":"no"}],"next":"4.1"}`)
	code, out, errs := b.run("events", "--type", "job.failed")
	if code != 0 || !strings.HasPrefix(out, "4.1 ") || !strings.HasSuffix(out, "job.failed         job 8 fail in q attempt 1 on a1: no\n") {
		t.Errorf("exit code %d\n%s%s", code, out, errs)
	}
	if want := "GET /v1/events?after=oldest&limit=1000&types=job.failed"; b.calls[1] != want {
		t.Errorf("asked %s, want %s", b.calls[1], want)
	}
}

func TestEvents_interruptedIsFine(t *testing.T) {
	b := setup(t)
	ctx, cancel := context.WithCancelCause(t.Context())
	b.mux.HandleFunc("GET /v1/events", func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Query().Get("after") == "latest" {
			_, _ = io.WriteString(w, `{"events":[],"next":"4.1"}`)
			return
		}
		w.Header().Set("Content-Type", "text/event-stream")
		_ = http.NewResponseController(w).Flush()
		cancel(errInterrupted)
		<-r.Context().Done()
	})
	var out, errs bytes.Buffer
	code := Run(ctx, Env{In: b.in, Out: &out, Err: &errs, Getenv: func(k string) string { return b.env[k] }}, []string{"events", "--follow"})
	if code != 0 || errs.String() != "" {
		t.Errorf("exit code %d\n%s", code, errs.String())
	}
}

func TestNote(t *testing.T) {
	now := time.UnixMilli(1_800_000_000_000)
	tests := []struct {
		name string
		job  job.Job
		want string
	}{
		{"delayed", job.Job{State: job.Scheduled, ReadyAt: job.At(now.Add(5 * time.Minute))}, "runs in 5m"},
		{"between attempts", job.Job{State: job.Scheduled, ReadyAt: job.At(now.Add(9 * time.Second)), Error: &job.Failure{Message: "no"}}, "runs again in 9s; no"},
		{"asked to stop", job.Job{State: job.Running, CancelRequested: true}, "asked to stop"},
		{"step", job.Job{State: job.Running, Progress: &job.Progress{Step: 2, Steps: 5, Message: "copy"}}, "step 2 of 5: copy"},
		{"percent", job.Job{State: job.Running, Progress: &job.Progress{Percent: 42}}, "42 %"},
		{"failed", job.Job{State: job.Failed, Error: &job.Failure{Message: "no"}}, "no"},
		{"was lost once", job.Job{State: job.Completed, Lost: 1}, "1 attempt lost"},
		{"nothing to say", job.Job{State: job.Completed, Error: &job.Failure{Message: "of the first attempt"}}, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := note(&tt.job, now); got != tt.want {
				t.Errorf("%q, want %q", got, tt.want)
			}
		})
	}
}
