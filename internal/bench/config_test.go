package bench

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/orrery-io/orrery/job"
)

func TestConfig(t *testing.T) {
	for _, tt := range []struct {
		name string
		cfg  Config
		want string // part of the error; "" when it is fine
	}{
		{"submit", Config{Mode: Submit}, ""},
		{"no mode", Config{}, "there is no mode"},
		{"a payload without room for the time", Config{Mode: Submit, Payload: 17}, "it must be 18 to"},
		{"a payload that no node takes", Config{Mode: Submit, Payload: job.MaxPayload + 1}, "it must be 18 to"},
		{"too large a batch", Config{Mode: Submit, Batch: job.MaxBatch + 1}, "it must be 1 to"},
		{"too large a request", Config{Mode: Submit, Batch: 1000, Payload: 100_000}, "larger than a request may be"},
		{"a window that no batch fits into", Config{Mode: EndToEnd, InFlight: 10}, "could never be sent"},
		{"a rate that is none", Config{Mode: Submit, Rate: -1}, "the rate is"},
		{"a rate where it means nothing", Config{Mode: Process, Rate: 1}, "has no rate"},
		{"less than no jobs", Config{Mode: Submit, Jobs: -1}, "number of jobs"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, err := tt.cfg.withDefaults()
			if (err == nil) != (tt.want == "") || err != nil && !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, want %q", err, tt.want)
			}
			if _, usage := errors.AsType[*UsageError](err); usage != (err != nil) {
				t.Errorf("not a usage error: %v", err)
			}
		})
	}
}

// TestRetentionDefault: what is counted at the end must still be there.
func TestRetentionDefault(t *testing.T) {
	c := Config{Mode: EndToEnd, Duration: time.Hour}.Defaults()
	if c.Retention < 2*time.Hour {
		t.Errorf("jobs of an hour are kept for %s", c.Retention)
	}
	if c := (Config{Mode: Submit, Keep: true}).Defaults(); c.Retention != 0 {
		t.Errorf("jobs that shall be kept are deleted after %s", c.Retention)
	}
}

// TestForm reads a rendered request as a node does.
func TestForm(t *testing.T) {
	f := newForm(formConfig{
		host: "node:7700", path: "/prefix", token: "secret", prefix: "bench-x-3", queue: "bench-x",
		retention: 90 * time.Second, jobs: 3, payload: 100, batch: true,
	})
	for _, due := range []time.Duration{0, 1, 20 * time.Second, 100 * 24 * time.Hour} {
		f.fill(42, due)
		req, err := http.ReadRequest(bufio.NewReader(bytes.NewReader(f.raw)))
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(req.Body)
		if err != nil {
			t.Fatal(err)
		}
		var jobs []struct {
			Type, Queue, Retention string
			Payload                job.JSON
		}
		if err := json.Unmarshal(body, &jobs); err != nil || len(jobs) != 3 {
			t.Fatalf("%d jobs, %v: %s", len(jobs), err, body)
		}
		for _, j := range jobs {
			at, ok := stampOf(j.Payload)
			if !ok || at != due || len(j.Payload) != 100 || j.Type != JobType || j.Queue != "bench-x" || j.Retention != "1m30s" {
				t.Errorf("job %+v; its time is %s, want %s", j, at, due)
			}
		}
		if req.URL.Path != "/prefix/v1/jobs/batch" || req.Host != "node:7700" || req.Header.Get("Authorization") != "Bearer secret" {
			t.Errorf("request %+v", req)
		}
		if id := req.Header.Get("Orrery-Request-Id"); id != "bench-x-3-0000000000000042" {
			t.Errorf("id %q", id)
		}
	}
}

func TestStampOfOthers(t *testing.T) {
	for _, payload := range []string{"", `""`, `"000000000000001`, `"00000000000000x1"`, `{"a":"0000000000000001"}`} {
		if at, ok := stampOf([]byte(payload)); ok {
			t.Errorf("%s has the time %s", payload, at)
		}
	}
}

func TestSpan(t *testing.T) {
	var s span
	if s.has(0) {
		t.Error("a time that has not begun has a moment")
	}
	s.set(10, 20)
	s.cut(30)
	for at, want := range map[time.Duration]bool{9: false, 10: true, 19: true, 20: false} {
		if s.has(at) != want {
			t.Errorf("%d: %v", at, s.has(at))
		}
	}
	if s.cut(5); s.length() != 0 {
		t.Errorf("cut before it began, it is %d long", s.length())
	}
}
