package cli

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"os"
	"strings"
	"testing"
)

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
	b.answer("GET /v1/events", 200, "event: job.failed\nid: 4.1\ndata: {\"id\":\"4.1\",\"time\":\"2027-01-31T08:00:00.000Z\",\"type\":\"job.failed\",\"job\":8,\"job_type\":\"fail\","+
		"\"queue\":\"q\",\"attempt\":1,\"agent\":\"a1\",\"detail\":\"no\"}\n\nevent: end\ndata: {}\n\n")
	code, out, errs := b.run("events", "--type", "job.failed")
	if code != 0 || !strings.HasPrefix(out, "4.1 ") || !strings.HasSuffix(out, "job.failed         job 8 fail in q attempt 1 on a1: no\n") {
		t.Errorf("exit code %d\n%s%s", code, out, errs)
	}
	if want := "GET /v1/events?after=oldest&follow=false&types=job.failed"; b.calls[0] != want {
		t.Errorf("asked %s, want %s", b.calls[0], want)
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
