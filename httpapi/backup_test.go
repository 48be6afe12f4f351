package httpapi

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
)

func sumText(b []byte) string {
	sum := sha256.Sum256(b)
	return "sha-256=:" + base64.StdEncoding.EncodeToString(sum[:]) + ":"
}

func TestBackup(t *testing.T) {
	b, c := withCluster(t)
	c.content = bytes.Repeat([]byte("0123456789"), 300_000)
	r := b.get("/v1/cluster/backup").want(200)
	if !bytes.Equal(r.body, c.content) {
		t.Errorf("%d bytes, want %d", len(r.body), len(c.content))
	}
	h := r.header
	if h.Get("Content-Type") != typeBinary || h.Get("Orrery-Index") == "" || h.Get("Content-Length") != strconv.Itoa(len(c.content)) || h.Get("Repr-Digest") != sumText(c.content) ||
		!strings.HasPrefix(h.Get("Content-Disposition"), `attachment; filename="orrery-2`) {
		t.Errorf("%v", h)
	}
	if r := b.send("HEAD", "/v1/cluster/backup", "").want(200); len(r.body) != 0 || r.header.Get("Content-Length") == "" {
		t.Errorf("%d bytes, %v", len(r.body), r.header)
	}
	b.get("/v1/cluster/backup", "Accept", "application/json").problem(406, "not_acceptable")
	b.get("/v1/cluster/backup?x=1").problem(400, "unknown_parameter")
}

// TestBackup_that_breaks_off is seen by the client as an answer that broke off.
func TestBackup_that_breaks_off(t *testing.T) {
	b, c := withCluster(t)
	path := filepath.Join(t.TempDir(), "b")
	c.backup = func() (*os.File, error) {
		if err := os.WriteFile(path, make([]byte, 64<<20), 0o600); err != nil {
			return nil, err
		}
		return os.Open(path)
	}
	srv := httptest.NewServer(b)
	defer srv.Close()
	conn, err := net.Dial("tcp", srv.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	req, err := http.NewRequest("GET", srv.URL+"/v1/cluster/backup", nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := req.Write(conn); err != nil {
		t.Fatal(err)
	}
	// What the kernel holds between the two is far less than the file: when the head
	// is here, the most of it is still to be read.
	piece := make([]byte, 1000)
	if _, err := io.ReadFull(conn, piece); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(path, 0); err != nil {
		t.Fatal(err)
	}
	resp, err := http.ReadResponse(bufio.NewReader(io.MultiReader(bytes.NewReader(piece), conn)), req)
	if err != nil || resp.StatusCode != 200 || resp.ContentLength != 64<<20 {
		t.Fatalf("%v %v", resp, err)
	}
	defer resp.Body.Close()
	n, err := io.Copy(io.Discard, resp.Body)
	if !errors.Is(err, io.ErrUnexpectedEOF) && !errors.Is(err, syscall.ECONNRESET) || n >= 64<<20 {
		t.Errorf("%d bytes and %v, want a broken answer", n, err)
	}
}

func TestRestore(t *testing.T) {
	b, c := withCluster(t)
	file := bytes.Repeat([]byte("abcdefghij"), 200_000)
	const target = "/v1/cluster/restore?confirm=true"
	post := func(target string, headers ...string) *reply {
		return b.post(target, string(file), append([]string{"Content-Type", typeBinary}, headers...)...)
	}
	post(target).want(200)
	if !bytes.Equal(c.restored, file) || filepath.Dir(c.path) != b.scratch {
		t.Errorf("%d bytes in %s", len(c.restored), c.path)
	}
	leftOver(t, b.scratch)
	post(target, "Repr-Digest", sumText(file)).want(200)
	post(target, "Repr-Digest", "sha-512=:AA==:, "+sumText(file)).want(200)
	b.post(target, string(file), "Content-Type", "").want(200) // curl -T
	c.calls = nil

	post("/v1/cluster/restore").problem(400, "not_confirmed")
	post("/v1/cluster/restore?confirm=no").problem(400, "invalid_value")
	post(target, "Repr-Digest", sumText([]byte("x"))).problem(400, "digest_mismatch")
	post(target, "Repr-Digest", "sha-256=:x:").problem(400, "invalid_header")
	post(target, "Content-Digest", "sha-256=:AAAA:").problem(400, "invalid_header")
	b.post(target, "{}").problem(415, "unsupported_media_type")
	b.post(target, "", "Content-Type", typeBinary).problem(400, "no_body")
	if c.seen() != "" {
		t.Errorf("asked %s", c.seen())
	}
	leftOver(t, b.scratch)
}

// TestRestore_is_one_at_a_time and goes on when the client leaves.
func TestRestore_is_one_at_a_time(t *testing.T) {
	b, c := withCluster(t)
	entered, leave := make(chan struct{}), make(chan struct{})
	c.restoring = func(ctx context.Context) {
		close(entered)
		<-leave
		if ctx.Err() != nil {
			t.Error("the restore ended with the client")
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		r := httptest.NewRequestWithContext(ctx, "POST", "/v1/cluster/restore?confirm=true", strings.NewReader("x"))
		r.Host = "localhost"
		b.ServeHTTP(httptest.NewRecorder(), r)
	}()
	<-entered
	b.post("/v1/cluster/restore?confirm=true", "x", "Content-Type", typeBinary).problem(409, "restore_runs")
	cancel()
	close(leave)
	<-done
	if c.seen() != "restore" {
		t.Errorf("asked %s", c.seen())
	}
	leftOver(t, b.scratch)
}

func TestRestore_of_a_body_that_breaks_off(t *testing.T) {
	b, c := withCluster(t)
	done := make(chan struct{})
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		defer close(done)
		b.ServeHTTP(w, r)
	}))
	defer srv.Close()
	for _, head := range []string{"Content-Length: 100", "Transfer-Encoding: chunked"} {
		done = make(chan struct{})
		conn, err := net.Dial("tcp", srv.Listener.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		_, err = io.WriteString(conn, "POST /v1/cluster/restore?confirm=true HTTP/1.1\r\nHost: localhost\r\n"+head+"\r\n\r\n5\r\nabcde\r\n")
		if err != nil {
			t.Fatal(err)
		}
		if err := conn.Close(); err != nil {
			t.Fatal(err)
		}
		<-done
	}
	if c.seen() != "" {
		t.Errorf("asked %s", c.seen())
	}
	leftOver(t, b.scratch)
}

func TestRestore_leaves_room_on_the_disk(t *testing.T) {
	b, c := withCluster(t)
	r := httptest.NewRequestWithContext(t.Context(), "POST", "/v1/cluster/restore?confirm=true", strings.NewReader("x"))
	r.Host, r.ContentLength = "localhost", 1<<40 // more than the disk has
	w := httptest.NewRecorder()
	b.ServeHTTP(w, r)
	(&reply{t, w.Code, w.Header(), w.Body.Bytes()}).problem(507, "disk_full")
	r.ContentLength++
	w = httptest.NewRecorder()
	b.ServeHTTP(w, r)
	(&reply{t, w.Code, w.Header(), w.Body.Bytes()}).problem(413, "too_large")
	if c.seen() != "" {
		t.Errorf("asked %s", c.seen())
	}
	leftOver(t, b.scratch)
}

func TestByteText(t *testing.T) {
	for n, want := range map[int64]string{0: "0 B", 999: "999 B", 1000: "1.0 kB", 12_345: "12 kB", 1_500_000: "1.5 MB", 2_000_000_000: "2.0 GB", 1 << 60: "1.2 EB"} {
		if got := byteText(n); got != want {
			t.Errorf("%d: %s, want %s", n, got, want)
		}
	}
}
