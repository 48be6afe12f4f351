package httpapi

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"testing"

	"github.com/orrery-io/orrery/job"
)

// BenchmarkSubmit is the whole handler of POST /v1/jobs with a machine that has
// the job already: what HTTP costs on top of consensus.
func BenchmarkSubmit(b *testing.B) {
	for _, bb := range []struct{ name, body string }{
		{"small", `{"type":"email.send","queue":"mail","payload":{"to":"ada@example.org","subject":"hello"}}`},
		{"200B", `{"type":"email.send","queue":"mail","payload":{"to":"ada@example.org","subject":"hello","text":"` + strings.Repeat("x", 120) + `"},"priority":7,"max_attempts":3,"tags":["a","b"],"metadata":{"env":"prod"}}`},
		{"key", `{"type":"email.send","idempotency_key":"k","payload":{"to":"ada@example.org","subject":"hello"}}`},
	} {
		b.Run(bb.name, func(b *testing.B) {
			t := setup(b)
			id := t.submit()
			t.API.node = fixedNode{id, t.node.index}
			w := &discardWriter{header: http.Header{}}
			b.ReportAllocs()
			for b.Loop() {
				r := benchRequest(bb.body)
				clear(w.header)
				t.ServeHTTP(w, r)
				if w.status != 201 {
					b.Fatal(w.status)
				}
			}
		})
	}
}

func BenchmarkDecodeSubmission(b *testing.B) {
	raw := []byte(`{"type":"email.send","queue":"mail","payload":{"to":"ada@example.org","subject":"hello"},"priority":7,"tags":["a","b"],"metadata":{"env":"prod"}}`)
	b.ReportAllocs()
	b.SetBytes(int64(len(raw)))
	for b.Loop() {
		if checkJSON("the body", raw) != nil {
			b.Fatal("not JSON")
		}
		if _, err := decodeSubmission(path{}, raw); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkBatch(b *testing.B) {
	t := setup(b)
	raw := []byte("[" + strings.Repeat(`{"type":"email.send","queue":"mail","payload":{"to":"ada@example.org","subject":"hello"}},`, 999) + `{"type":"x"}]`)
	id := t.submit()
	t.API.node = fixedNode{id, t.node.index}
	w := &discardWriter{header: http.Header{}}
	b.ReportAllocs()
	for b.Loop() {
		r := benchRequest(string(raw))
		r.URL.Path, r.RequestURI = "/v1/jobs/batch", "/v1/jobs/batch"
		t.ServeHTTP(w, r)
		if w.status != 200 {
			b.Fatal(w.status)
		}
	}
	b.ReportMetric(float64(b.N)*1000/b.Elapsed().Seconds(), "jobs/s")
}

func BenchmarkEncodeJob(b *testing.B) {
	t := setup(b)
	j, err := t.machine.Job(b.Context(), t.submit(func(s *job.Spec) { s.Payload = job.JSON(`{"to":"ada@example.org","subject":"hello"}`) }))
	if err != nil {
		b.Fatal(err)
	}
	var buf bytes.Buffer
	b.ReportAllocs()
	for b.Loop() {
		buf.Reset()
		if err := encode(&buf, j); err != nil {
			b.Fatal(err)
		}
	}
	if !json.Valid(buf.Bytes()) {
		b.Fatal("not JSON")
	}
}

// BenchmarkSubmitHTTP is POST /v1/jobs over 64 loopback connections, client
// included.
func BenchmarkSubmitHTTP(b *testing.B) {
	t := setup(b)
	id := t.submit()
	t.API.node = fixedNode{id, t.node.index}
	srv := httptest.NewServer(t)
	defer srv.Close()
	const text = `{"type":"email.send","queue":"mail","payload":{"to":"ada@example.org","subject":"hello"}}`
	request := fmt.Sprintf("POST /v1/jobs HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s", len(text), text)
	b.SetParallelism(64 / runtime.GOMAXPROCS(0))
	b.ReportAllocs()
	b.ResetTimer()
	b.RunParallel(func(pb *testing.PB) {
		c, err := net.Dial("tcp", srv.Listener.Addr().String())
		if err != nil {
			b.Error(err)
			return
		}
		defer c.Close()
		r := bufio.NewReader(c)
		for pb.Next() {
			if _, err := io.WriteString(c, request); err != nil {
				b.Error(err)
				return
			}
			resp, err := http.ReadResponse(r, nil)
			if err != nil || resp.StatusCode != 201 {
				b.Error(resp, err)
				return
			}
			_, _ = io.Copy(io.Discard, resp.Body)
			resp.Body.Close()
		}
	})
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "requests/s")
}

func BenchmarkParseFilter(b *testing.B) {
	const raw = "state=failed,timed_out&queue=mail&type=email.send&meta.env=prod&tag=a&created_after=24h&limit=50"
	names := append(filterNames(), "limit")
	b.ReportAllocs()
	for b.Loop() {
		q, err := parseQuery(raw, names)
		if err != nil {
			b.Fatal(err)
		}
		if f := q.filter(1_700_000_000_000); len(f.States) != 2 || q.err() != nil {
			b.Fatal(f, q.err())
		}
	}
}
