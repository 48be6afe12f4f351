package link

import (
	"bytes"
	"context"
	"errors"
	"math"
	"net"
	"net/http"
	"reflect"
	"testing"
	"testing/synctest"
	"time"

	"github.com/coder/websocket"
	"github.com/orrery-io/orrery/job"
)

func frameOf(tb testing.TB, msgs ...message) []byte {
	tb.Helper()
	b := beginFrame(nil)
	for i := range msgs {
		var err error
		if b, err = msgs[i].MarshalMsg(b); err != nil {
			tb.Fatal(err)
		}
	}
	return endFrame(b, len(msgs))
}

func decodeAll(b []byte) (msgs []message, err error) {
	err = decodeFrame(b, func(m *message) error { msgs = append(msgs, *m); return nil })
	return msgs, err
}

func sampleMessages() []message {
	return []message{
		{Kind: beat},
		{Kind: request, ID: 1, Method: "cluster.propose", Body: []byte("body")},
		{Kind: reply, ID: math.MaxUint64, Fault: &fault{Kind: job.Conflict, Code: "c", Message: "m", Hint: "h"}},
		{Kind: cancel, ID: 2},
		{Kind: send, Method: "note", Body: []byte{0}},
		{Kind: open, ID: 3, Method: "follow", Credit: 1 << 20},
		{Kind: item, ID: 3, Body: bytes.Repeat([]byte("x"), 70_000)},
		{Kind: end, ID: 3},
		{Kind: credit, ID: 3, Credit: math.MaxInt64},
		{Kind: 77, ID: 9},
	}
}

func TestFrame(t *testing.T) {
	want := sampleMessages()
	b := frameOf(t, want...)
	got, err := decodeAll(b)
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Fatalf("got %+v, %v", got, err)
	}
	for n := range len(b) - 1 {
		if n == 1000 {
			break // the rest of the large body
		}
		if _, err := decodeAll(b[:n]); !errors.Is(err, errMalformed) {
			t.Fatalf("the first %d bytes of a frame were taken: %v", n, err)
		}
	}
	if _, err := decodeAll(append(b, 0)); !errors.Is(err, errMalformed) {
		t.Error("bytes after a frame were taken")
	}
	// A million messages that are not there cost nothing.
	if _, err := decodeAll([]byte{0xdd, 0xff, 0xff, 0xff, 0xff}); !errors.Is(err, errMalformed) {
		t.Error("a frame without its messages was taken")
	}
	// Nesting without end.
	if _, err := decodeAll(append([]byte{0x91, 0x81, 0xa1, 'z'}, bytes.Repeat([]byte{0x91}, 8<<20)...)); !errors.Is(err, errMalformed) {
		t.Error("eight million levels were taken")
	}
}

func FuzzDecodeFrame(f *testing.F) {
	f.Add(frameOf(f, sampleMessages()...))
	f.Add(frameOf(f))
	f.Add([]byte{0x91, 0x81, 0xa1, 'z', 0xc0})
	f.Add([]byte("GET / HTTP/1.1\r\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		msgs, err := decodeAll(b)
		if err != nil {
			if !errors.Is(err, errMalformed) {
				t.Fatalf("an error of another kind: %v", err)
			}
			return
		}
		again, err := decodeAll(frameOf(t, msgs...))
		if err != nil || len(again) != len(msgs) {
			t.Fatalf("%d messages became %d, %v", len(msgs), len(again), err)
		}
	})
}

// TestGarbage is about a node that does not keep to the rules: it loses its
// connection, and nothing else happens.
func TestGarbage(t *testing.T) {
	large := frameOf(t, message{Kind: send, Method: "note", Body: make([]byte, 9<<20)})
	tests := []struct {
		name string
		typ  websocket.MessageType
		data []byte
	}{
		{"text", websocket.MessageText, []byte("[]")},
		{"nothing", websocket.MessageBinary, nil},
		{"no frame", websocket.MessageBinary, []byte("hello")},
		{"half a frame", websocket.MessageBinary, frameOf(t, sampleMessages()...)[:30]},
		{"too large", websocket.MessageBinary, large},
		{"an id twice", websocket.MessageBinary, frameOf(t, message{Kind: request, ID: 1, Method: "wait"}, message{Kind: request, ID: 1, Method: "wait"})},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				n, a, b := pair(t)
				b.Handle("wait", func(ctx context.Context, _ string, _ []byte) ([]byte, error) { <-ctx.Done(); return nil, ctx.Err() })
				run(t, a)
				run(t, b)
				ws, nc := rawDial(t, n, "x", newEpochs().next().String())
				defer nc.Close()
				go func() { _ = ws.Write(t.Context(), tt.typ, tt.data) }()
				for {
					if _, _, err := ws.Read(t.Context()); err != nil {
						break
					}
				}
				synctest.Wait()
				_ = nc.Close()
				if got := valueOf(t, b.metrics.ended.WithLabelValues("violation")); got != 1 {
					t.Errorf("%v violations were counted", got)
				}
				if _, err := a.Call(t.Context(), "b", "echo", nil); err != nil {
					t.Error(err)
				}
			})
		})
	}
}

// TestOddities are things that a node of another version may do.
func TestOddities(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n, _, b := pair(t)
		run(t, b)
		ws, nc := rawDial(t, n, "x", newEpochs().next().String())
		defer nc.Close()
		odd := frameOf(t,
			message{Kind: 200, ID: 4}, message{Kind: reply, ID: 4}, message{Kind: cancel, ID: 4},
			message{Kind: credit, ID: 4, Credit: -5}, message{Kind: send, Method: "unknown"}, message{},
			message{Kind: request, ID: 7, Method: "echo"},
		)
		if err := ws.Write(t.Context(), websocket.MessageBinary, odd); err != nil {
			t.Fatal(err)
		}
		for {
			_, got, err := ws.Read(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			msgs, err := decodeAll(got)
			if err != nil {
				t.Fatal(err)
			}
			if msgs[0].Kind == reply && msgs[0].ID == 7 && string(msgs[0].Body) == "x:" {
				return
			}
		}
	})
}

func TestRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n, _, b := pair(t)
		run(t, b)
		for name, tt := range map[string]struct {
			from, epoch, path string
			status            int
		}{
			"no epoch":   {"x", "", path, http.StatusBadRequest},
			"a stranger": {"", "x-1", path, http.StatusForbidden},
			"elsewhere":  {"x", "x-1", "/", http.StatusNotFound},
		} {
			nc, err := n.dial(tt.from)(t.Context(), "b")
			if err != nil {
				t.Fatal(err)
			}
			_, resp, err := websocket.Dial(t.Context(), "http://b"+tt.path, &websocket.DialOptions{
				HTTPClient: &http.Client{Transport: oneConn{nc}}, HTTPHeader: http.Header{epochHeader: {tt.epoch}}, Subprotocols: []string{subprotocol},
			})
			if err == nil || resp == nil || resp.StatusCode != tt.status {
				t.Errorf("%s: %v, %v", name, resp, err)
			}
			_ = nc.Close()
		}
		// An older connection of a process comes in after its newer one.
		e := newEpochs()
		older, newer := e.next(), e.next()
		wsNew, ncNew := rawDial(t, n, "x", newer.String())
		defer ncNew.Close()
		wsOld, ncOld := rawDial(t, n, "x", older.String())
		defer ncOld.Close()
		if _, _, err := wsOld.Read(t.Context()); err == nil {
			t.Error("the older connection was taken")
		}
		if err := wsNew.Write(t.Context(), websocket.MessageBinary, frameOf(t, message{Kind: request, ID: 1, Method: "echo"})); err != nil {
			t.Error(err)
		}
		if _, _, err := wsNew.Read(t.Context()); err != nil {
			t.Error(err)
		}
		// Neither a word after connecting.
		nc, err := n.dial("x")(t.Context(), "b")
		if err != nil {
			t.Fatal(err)
		}
		_ = nc.SetReadDeadline(time.Now().Add(time.Minute))
		if _, err := nc.Read(make([]byte, 1)); errors.Is(err, context.DeadlineExceeded) {
			t.Error("a connection that says nothing stays open")
		}
		_ = nc.Close()
	})
}

// rawDial connects to b without a mesh.
func rawDial(t *testing.T, n *network, from, epoch string) (*websocket.Conn, net.Conn) {
	t.Helper()
	nc, err := n.dial(from)(t.Context(), "b")
	if err != nil {
		t.Fatal(err)
	}
	ws, _, err := websocket.Dial(t.Context(), "http://b"+path, &websocket.DialOptions{
		HTTPClient: &http.Client{Transport: oneConn{nc}}, HTTPHeader: http.Header{epochHeader: {epoch}}, Subprotocols: []string{subprotocol},
		CompressionMode: websocket.CompressionDisabled,
	})
	if err != nil {
		t.Fatal(err)
	}
	return ws, nc
}
