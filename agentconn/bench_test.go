package agentconn

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"runtime"
	"sync/atomic"
	"testing"

	"github.com/coder/websocket"
	"github.com/orrery-io/orrery/job"
	"github.com/orrery-io/orrery/wire"
)

// BenchmarkRelay passes jobs through one connection: dispatch, acknowledgement,
// result, acknowledgement of the result. The leader keeps so many in flight.
func BenchmarkRelay(b *testing.B) {
	for _, f := range []wire.Format{wire.Msgpack, wire.JSON} {
		for _, inFlight := range []int{1, 16, 256} {
			b.Run(fmt.Sprintf("format=%s/in_flight=%d", f, inFlight), func(b *testing.B) { benchmarkRelay(b, f, inFlight) })
		}
	}
}

func benchmarkRelay(b *testing.B, f wire.Format, inFlight int) {
	results := make(chan int, inFlight)
	hub := New(Config{Node: "n1", Log: slog.New(slog.DiscardHandler), ToLeader: func(envs []wire.Envelope) {
		n := 0
		for i := range envs {
			for j := range envs[i].Messages {
				if envs[i].Messages[j].Result != nil {
					n++
				}
			}
			if envs[i].Up != nil {
				n = -1
			}
		}
		if n != 0 {
			results <- n
		}
	}})
	ctx, cancel := context.WithCancel(b.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		hub.Run(ctx)
	}()
	srv := httptest.NewServer(hub)
	defer func() {
		cancel()
		<-done
		srv.Close()
	}()
	conn := dialBench(b, srv.URL, f)
	go echoAgent(conn, f)
	if <-results != -1 {
		b.Fatal("no Up")
	}
	var session string
	for _, s := range hub.list() {
		session = s.id
	}

	payload := job.JSON(fmt.Sprintf(`{"data":"%0188d"}`, 0))
	next := job.ID(0)
	send := func(n int) {
		msgs := make([]wire.Message, 0, 2*n)
		for range n {
			if next >= job.ID(inFlight) {
				msgs = append(msgs, wire.Message{ResultAck: &wire.ResultAck{Job: next - job.ID(inFlight) + 1, Fence: 1, Accepted: true}})
			}
			next++
			msgs = append(msgs, wire.Message{Dispatch: &wire.Dispatch{
				Job: next, Fence: 1, Type: "echo", Queue: "default", Attempt: 1, MaxAttempts: 5, Payload: payload, CreatedAt: 1,
			}})
		}
		hub.Deliver([]wire.Envelope{{Session: session, Messages: msgs}})
	}
	hub.Deliver([]wire.Envelope{{Session: session, Messages: []wire.Message{{Welcome: &wire.Welcome{}}}}})
	b.ReportAllocs()
	send(inFlight)
	ready := 0
	for b.Loop() {
		if ready == 0 {
			ready = <-results
			send(ready)
		}
		ready--
	}
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "jobs/s")
}

func dialBench(b *testing.B, url string, f wire.Format) *websocket.Conn {
	for {
		conn, resp, err := websocket.Dial(b.Context(), url, &websocket.DialOptions{Subprotocols: []string{f.Subprotocol()}})
		if err == nil {
			conn.SetReadLimit(wire.MaxFrame)
			return conn
		}
		if resp == nil || resp.StatusCode != http.StatusServiceUnavailable { // Run has not begun
			b.Fatal(err)
		}
	}
}

// echoAgent answers every dispatch at once.
func echoAgent(conn *websocket.Conn, f wire.Format) {
	ctx := context.Background()
	defer conn.CloseNow()
	typ := websocket.MessageText
	if f.Binary() {
		typ = websocket.MessageBinary
	}
	out := []wire.Message{{Hello: hello("a1")}}
	var buf []byte
	for {
		var err error
		if buf, err = wire.AppendFrame(buf[:0], f, out); err != nil {
			return
		}
		if len(out) > 0 {
			if err := conn.Write(ctx, typ, buf); err != nil {
				return
			}
		}
		_, b, err := conn.Read(ctx)
		if err != nil {
			return
		}
		msgs, err := wire.DecodeFrame(f, b, wire.Limits{})
		if err != nil {
			return
		}
		out = out[:0]
		for _, m := range msgs {
			if d := m.Dispatch; d != nil {
				out = append(out,
					wire.Message{Ack: &wire.Ack{Job: d.Job, Fence: d.Fence}},
					wire.Message{Result: &wire.Result{Job: d.Job, Fence: d.Fence, Outcome: "completed", Result: d.Payload}})
			}
		}
	}
}

// BenchmarkIdleAgent measures the memory of a connected agent that has nothing to
// do. The agent's side is a bare connection, so that it counts for little.
func BenchmarkIdleAgent(b *testing.B) {
	const agents = 1000
	var ups atomic.Int64
	all := make(chan struct{})
	hub := New(Config{Node: "n1", ToLeader: func(envs []wire.Envelope) {
		for i := range envs {
			if envs[i].Up != nil && ups.Add(1) == agents {
				close(all)
			}
		}
	}})
	ctx, cancel := context.WithCancel(b.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		hub.Run(ctx)
	}()
	srv := httptest.NewServer(hub)
	defer func() {
		cancel()
		<-done
		srv.Close()
	}()
	probe := dialBench(b, srv.URL, wire.Msgpack)
	probe.CloseNow()
	var conns []net.Conn
	defer func() {
		for _, c := range conns {
			c.Close()
		}
	}()
	before := inUse()
	for i := range agents {
		conns = append(conns, bareAgent(b, srv.Listener.Addr().String(), fmt.Sprint("agent-", i)))
	}
	<-all
	for _, s := range hub.list() {
		s.deliver([]wire.Message{{Welcome: &wire.Welcome{Lease: 15000, Margin: 3000, Heartbeat: 5000}}})
	}
	buf := make([]byte, 200)
	for _, c := range conns {
		if _, err := io.ReadAtLeast(c, buf, 20); err != nil {
			b.Fatal(err)
		}
	}
	used := float64(inUse() - before)
	for b.Loop() { //nolint:revive // what is measured is memory
	}
	b.ReportMetric(used/agents, "B/agent")
	b.ReportMetric(0, "ns/op")
}

// inUse returns the bytes of heap and stacks after a collection.
func inUse() int64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapInuse + m.StackInuse)
}

func bareAgent(b *testing.B, addr, id string) net.Conn {
	b.Helper()
	c, err := net.Dial("tcp", addr)
	if err != nil {
		b.Fatal(err)
	}
	fmt.Fprintf(c, "GET / HTTP/1.1\r\nHost: %s\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"+
		"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Protocol: %s\r\n\r\n", addr, wire.SubprotocolMsgpack)
	r := bufio.NewReader(c)
	resp, err := http.ReadResponse(r, nil)
	if err != nil || resp.StatusCode != http.StatusSwitchingProtocols {
		b.Fatal("not upgraded", err)
	}
	resp.Body.Close()
	frame, err := wire.AppendFrame(nil, wire.Msgpack, []wire.Message{{Hello: hello(id)}})
	if err != nil {
		b.Fatal(err)
	}
	// One masked binary message; the mask is zero.
	if len(frame) > 125 {
		b.Fatal("the hello is too long for this")
	}
	if _, err := c.Write(append([]byte{0x82, 0x80 | byte(len(frame)), 0, 0, 0, 0}, frame...)); err != nil {
		b.Fatal(err)
	}
	return c
}
