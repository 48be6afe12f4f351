package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/orrery-io/orrery/job"
)

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
			"everything",
			[]string{
				"a", "--queue", "q", "--priority", "0", "--delay", "10m", "--max-attempts", "3", "--timeout", "30s", "--expires-in", "1d", "--lease", "5s",
				"--tag", "x,y", "--meta", "k=v=w", "--meta", "l=a,b", "--key", "k1", "--correlation-id", "c", "--retention", "7d",
			},
			"",
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
			"failed", failed, nil, exitJob, "job 8 failed after 1s\n",
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
		{"runs again", job.Job{State: job.Running, Lost: 1, Error: &job.Failure{Message: "of the first attempt"}}, "1 attempt lost"},
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
