package agent

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/coder/websocket"

	"github.com/orrery-io/orrery/job"
	"github.com/orrery-io/orrery/wire"
)

// wsNode is a node over real connections. A test gets each of them and speaks.
type wsNode struct {
	*httptest.Server
	t     *testing.T
	links chan *wsLink
	// before, when set, answers the handshake; false means that it has.
	before func(http.ResponseWriter, *http.Request) bool
}

type wsLink struct {
	t      *testing.T
	ws     *websocket.Conn
	format wire.Format
	rest   []wire.Message
	done   chan struct{}
}

func newWSNode(t *testing.T, serve func(http.Handler) *httptest.Server) *wsNode {
	t.Helper()
	n := &wsNode{t: t, links: make(chan *wsLink, 10)}
	n.Server = serve(http.HandlerFunc(n.handle))
	t.Cleanup(n.Close)
	return n
}

func (n *wsNode) handle(w http.ResponseWriter, r *http.Request) {
	if r.URL.Path != wire.Path {
		n.t.Errorf("the agent asks for %s", r.URL.Path)
	}
	if n.before != nil && !n.before(w, r) {
		return
	}
	ws, err := websocket.Accept(w, r, &websocket.AcceptOptions{Subprotocols: wire.Subprotocols()})
	if err != nil {
		n.t.Error(err)
		return
	}
	ws.SetReadLimit(wire.MaxFrame)
	format, _ := wire.FormatOf(ws.Subprotocol())
	l := &wsLink{t: n.t, ws: ws, format: format, done: make(chan struct{})}
	n.links <- l
	<-l.done
	_ = ws.CloseNow()
}

// next returns the next message.
func (l *wsLink) next() wire.Message {
	l.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second) //nolint:usetesting // used in cleanups
	defer cancel()
	for len(l.rest) == 0 {
		typ, b, err := l.ws.Read(ctx)
		if err != nil {
			l.t.Fatalf("read: %v", err)
		}
		if (typ == websocket.MessageBinary) != l.format.Binary() {
			l.t.Errorf("a frame of %s is a %s message", l.format, typ)
		}
		if l.rest, err = wire.DecodeFrame(l.format, b, wire.Limits{}); err != nil {
			l.t.Fatalf("decode: %v", err)
		}
	}
	m := l.rest[0]
	l.rest = l.rest[1:]
	return m
}

// result returns the next result.
func (l *wsLink) result() *wire.Result {
	l.t.Helper()
	for {
		if m := l.next(); m.Result != nil {
			return m.Result
		}
	}
}

func (l *wsLink) send(msgs ...wire.Message) {
	l.t.Helper()
	b, err := wire.AppendFrame(nil, l.format, msgs)
	if err != nil {
		l.t.Fatal(err)
	}
	typ := websocket.MessageText
	if l.format.Binary() {
		typ = websocket.MessageBinary
	}
	if err := l.ws.Write(context.Background(), typ, b); err != nil { //nolint:usetesting // used in cleanups
		l.t.Fatalf("write: %v", err)
	}
}

// welcomed waits for a connection and welcomes it.
func (n *wsNode) welcomed() (*wsLink, *wire.Hello) {
	n.t.Helper()
	l := <-n.links
	hello := l.next().Hello
	if hello == nil {
		n.t.Fatal("the first message is no hello")
	}
	l.send(wire.Message{Welcome: welcome()})
	return l, hello
}

// cut breaks the connection.
func (l *wsLink) cut() { close(l.done) }

// runAgent runs an agent until the test ends, and returns what Run will return.
func runAgent(t *testing.T, cfg Config, begin func(*Agent)) <-chan error {
	t.Helper()
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	a, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	begin(a)
	ended := make(chan error, 1)
	go func() { ended <- a.Run(context.Background()) }() //nolint:usetesting // Close ends it
	t.Cleanup(func() { _ = a.Close() })
	return ended
}

func echoHandler(a *Agent) {
	Handle(a, "echo", func(_ context.Context, j *Job[[]byte]) (any, error) {
		if j.PayloadBytes != nil {
			return j.PayloadBytes, nil
		}
		return j.Payload, nil
	})
}

func TestWebSocket(t *testing.T) {
	for _, format := range []wire.Format{wire.Msgpack, wire.JSON} {
		t.Run("a job in "+format.String(), func(t *testing.T) {
			n := newWSNode(t, httptest.NewServer)
			n.before = func(_ http.ResponseWriter, r *http.Request) bool {
				if got := r.Header.Get("Authorization"); got != "Bearer tok" {
					t.Errorf("Authorization: %q", got)
				}
				return true
			}
			runAgent(t, Config{
				Addrs: []string{n.URL}, Token: "tok", ID: "a1", Name: "box", Group: "g", Slots: 3, Format: format,
				Labels: map[string]string{"gpu": "a100"}, Queues: []string{"q1", "q2"}, Version: "1.2",
			}, echoHandler)
			l, hello := n.welcomed()
			defer l.cut()
			got, _ := json.Marshal(hello)
			want := `{"protocol":1,"id":"a1","name":"box","group":"g","labels":{"gpu":"a100"},"capabilities":[{"type":"echo"}],"queues":["q1","q2"],"slots":3,"version":"1.2","sdk":"orrery-go"}`
			expect(t, "hello", string(got), want)
			l.send(dispatch(1, 7, "echo", payload(`{"a":"<é>"}`)))
			expect(t, "ack", l.next().Ack.Job, 1)
			expect(t, "result", string(l.result().Result), `{"a":"<é>"}`)
			l.send(dispatch(2, 8, "echo", func(d *wire.Dispatch) { d.PayloadBytes = []byte{0, 255} }))
			expect(t, "bytes", string(l.result().ResultBytes), "\x00\xff")
		})
		t.Run("payloads and results of the largest size in "+format.String(), func(t *testing.T) {
			n := newWSNode(t, httptest.NewServer)
			runAgent(t, Config{Addrs: []string{n.URL}, Format: format}, echoHandler)
			l, _ := n.welcomed()
			defer l.cut()
			raw := bytes.Repeat([]byte{0xff}, job.MaxPayload)
			l.send(dispatch(1, 7, "echo", func(d *wire.Dispatch) { d.PayloadBytes = raw }))
			if r := l.result(); !bytes.Equal(r.ResultBytes, raw) {
				t.Errorf("%d bytes came back", len(r.ResultBytes))
			}
			text := `"` + strings.Repeat("x", job.MaxPayload-2) + `"`
			l.send(dispatch(2, 8, "echo", payload(text)))
			if r := l.result(); string(r.Result) != text {
				t.Errorf("%d bytes came back", len(r.Result))
			}
		})
	}
	t.Run("TLS", func(t *testing.T) {
		n := newWSNode(t, httptest.NewTLSServer)
		runAgent(t, Config{Addrs: []string{"wss" + strings.TrimPrefix(n.URL, "https")}, HTTP: n.Client()}, echoHandler)
		l, _ := n.welcomed()
		l.cut()
	})
	t.Run("a result survives the connection on which it was lost", func(t *testing.T) {
		n := newWSNode(t, httptest.NewServer)
		runAgent(t, Config{Addrs: []string{n.URL}}, echoHandler)
		l, _ := n.welcomed()
		l.send(dispatch(1, 7, "echo", payload(`1`)))
		l.result()
		l.cut()
		l2, hello := n.welcomed()
		defer l2.cut()
		expectAll(t, "outbox", hello.Outbox, wire.Held{Job: 1, Fence: 7})
		expect(t, "again", string(l2.result().Result), "1")
	})
	t.Run("a node that is down is passed over", func(t *testing.T) {
		n := newWSNode(t, httptest.NewServer)
		dead, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		addr := dead.Addr().String()
		_ = dead.Close()
		runAgent(t, Config{Addrs: []string{addr, n.URL}}, echoHandler)
		l, _ := n.welcomed()
		l.cut()
		l2, _ := n.welcomed()
		l2.cut()
	})
	t.Run("frames that are no frames end the connection", func(t *testing.T) {
		n := newWSNode(t, httptest.NewServer)
		runAgent(t, Config{Addrs: []string{n.URL}}, echoHandler)
		l, _ := n.welcomed()
		_ = l.ws.Write(t.Context(), websocket.MessageBinary, []byte("\xc1nonsense"))
		l2, _ := n.welcomed()
		l.cut()
		l2.cut()
	})
}

// lines is a log to read along.
type lines chan string

func (l lines) Write(p []byte) (int, error) {
	l <- string(p)
	return len(p), nil
}

func TestHandshakeRefused(t *testing.T) {
	problem := func(w http.ResponseWriter, status int) {
		w.Header().Set("Content-Type", "application/problem+json")
		w.WriteHeader(status)
		_, _ = w.Write([]byte(`{"title":"Unauthorized","code":"bad_token","detail":"the token is not known","hint":"look at --token-file"}`))
	}
	t.Run("a wrong token ends Run with the node's words", func(t *testing.T) {
		n := newWSNode(t, httptest.NewServer)
		n.before = func(w http.ResponseWriter, _ *http.Request) bool { problem(w, http.StatusUnauthorized); return false }
		err := <-runAgent(t, Config{Addrs: []string{n.URL}}, echoHandler)
		refused, ok := errors.AsType[*RefusedError](err)
		if !ok || refused.Code != "bad_token" || refused.Message != "Unauthorized: the token is not known; look at --token-file" {
			t.Errorf("Run returned %v", err)
		}
	})
	t.Run("so does one without words", func(t *testing.T) {
		n := newWSNode(t, httptest.NewServer)
		n.before = func(w http.ResponseWriter, _ *http.Request) bool { w.WriteHeader(http.StatusForbidden); return false }
		err := <-runAgent(t, Config{Addrs: []string{n.URL}}, echoHandler)
		if err == nil || err.Error() != "agent: "+n.URL+" refuses the agent: 403 Forbidden (forbidden)" {
			t.Errorf("Run returned %v", err)
		}
	})
	t.Run("a token that is refused after a welcome is tried again", func(t *testing.T) {
		n := newWSNode(t, httptest.NewServer)
		var tries atomic.Int32
		n.before = func(w http.ResponseWriter, _ *http.Request) bool {
			if tries.Add(1) == 2 {
				problem(w, http.StatusUnauthorized)
				return false
			}
			return true
		}
		runAgent(t, Config{Addrs: []string{n.URL}}, echoHandler)
		l, _ := n.welcomed()
		l.cut()
		l2, _ := n.welcomed()
		l2.cut()
	})
	t.Run("a node that is busy is tried again", func(t *testing.T) {
		n := newWSNode(t, httptest.NewServer)
		var tries atomic.Int32
		n.before = func(w http.ResponseWriter, _ *http.Request) bool {
			if tries.Add(1) == 1 {
				problem(w, http.StatusServiceUnavailable)
				return false
			}
			return true
		}
		log := make(lines, 100)
		runAgent(t, Config{Addrs: []string{n.URL}, Log: slog.New(slog.NewTextHandler(log, nil))}, echoHandler)
		l, _ := n.welcomed()
		defer l.cut()
		if line := <-log; !strings.Contains(line, "the answer is 503, Unauthorized: the token is not known") {
			t.Errorf("log: %s", line)
		}
	})
}
