package agentconn

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"
	"github.com/orrery-io/orrery/job"
	"github.com/orrery-io/orrery/wire"
)

func TestHandshake(t *testing.T) {
	upgrade := map[string]string{
		"Connection": "Upgrade", "Upgrade": "websocket", "Sec-WebSocket-Version": "13",
		"Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
	}
	ask := func(t *testing.T, url string, header map[string]string) (*http.Response, map[string]any) {
		t.Helper()
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
		if err != nil {
			t.Fatal(err)
		}
		for k, v := range header {
			req.Header.Set(k, v)
		}
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		var problem map[string]any
		if strings.HasPrefix(resp.Header.Get("Content-Type"), "application/problem+json") {
			if err := json.NewDecoder(resp.Body).Decode(&problem); err != nil {
				t.Error(err)
			}
		}
		return resp, problem
	}
	with := func(more ...string) map[string]string {
		h := map[string]string{}
		maps.Copy(h, upgrade)
		for i := 0; i < len(more); i += 2 {
			h[more[i]] = more[i+1]
		}
		return h
	}
	b := setup(t)
	for _, tt := range []struct {
		name   string
		header map[string]string
		status int
		code   any
	}{
		{"without an upgrade", nil, http.StatusUpgradeRequired, "websocket_required"},
		{"without a subprotocol", with(), http.StatusBadRequest, "subprotocol_required"},
		{"with other subprotocols", with("Sec-WebSocket-Protocol", "mqtt, graphql-ws"), http.StatusBadRequest, "subprotocol_required"},
		{"from a page elsewhere", with("Sec-WebSocket-Protocol", wire.SubprotocolJSON, "Origin", "https://evil.example"), http.StatusForbidden, nil},
		{"from a page without an origin", with("Sec-WebSocket-Protocol", wire.SubprotocolJSON, "Origin", "null"), http.StatusForbidden, nil},
		{"with a bad key", with("Sec-WebSocket-Protocol", wire.SubprotocolJSON, "Sec-WebSocket-Key", "x"), http.StatusBadRequest, nil},
	} {
		t.Run(strings.ReplaceAll(tt.name, " ", "_"), func(t *testing.T) {
			resp, problem := ask(t, b.url, tt.header)
			if resp.StatusCode != tt.status || tt.code != nil && problem["code"] != tt.code {
				t.Errorf("got %d %v, want %d %v", resp.StatusCode, problem, tt.status, tt.code)
			}
		})
	}

	t.Run("prefers_MessagePack", func(t *testing.T) {
		conn, _, err := websocket.Dial(t.Context(), b.url, &websocket.DialOptions{
			Subprotocols: []string{"x", wire.SubprotocolJSON, wire.SubprotocolMsgpack},
		})
		if err != nil {
			t.Fatal(err)
		}
		defer conn.CloseNow()
		if got := conn.Subprotocol(); got != wire.SubprotocolMsgpack {
			t.Errorf("got %s", got)
		}
	})

	t.Run("is_refused_when_the_node_is_full", func(t *testing.T) {
		b := setup(t, func(c *Config) { c.MaxSessions = 1 })
		b.connect(t, wire.JSON, "a1")
		resp, problem := ask(t, b.url, with("Sec-WebSocket-Protocol", wire.SubprotocolJSON))
		if resp.StatusCode != http.StatusServiceUnavailable || problem["code"] != "too_many_agents" || resp.Header.Get("Retry-After") == "" {
			t.Errorf("got %d %v", resp.StatusCode, problem)
		}
	})

	t.Run("is_refused_when_the_hub_does_not_run", func(t *testing.T) {
		srv := httptest.NewServer(New(Config{Node: "n1", ToLeader: func([]wire.Envelope) {}}))
		defer srv.Close()
		resp, problem := ask(t, srv.URL, with("Sec-WebSocket-Protocol", wire.SubprotocolJSON))
		if resp.StatusCode != http.StatusServiceUnavailable || problem["code"] != "shutting_down" {
			t.Errorf("got %d %v", resp.StatusCode, problem)
		}
	})
}

func TestSession(t *testing.T) {
	formats(t, func(t *testing.T, f wire.Format) {
		b := setup(t)
		p, up := b.connect(t, f, "a1")
		if up.Session == "" || up.Node != "n1" || up.Agent != "a1" {
			t.Errorf("up: %s", show(up))
		}
		want := hello("a1")
		want.Name, want.Queues = "a1", []string{"default"}
		equal(t, "hello with its defaults", up.Up, want)

		given := &wire.Welcome{Lease: 15000, Margin: 2000, Heartbeat: 5000, Drop: []wire.Held{{Job: 1, Fence: 2}}}
		b.to(up, wire.Message{Welcome: given})
		equal(t, "welcome", p.receive(t), []wire.Message{{Welcome: &wire.Welcome{
			Session: up.Session, Node: "n1", Cluster: "c1", Lease: 15000, Margin: 2000, Heartbeat: 5000,
			Nodes: []string{"http://127.0.0.1:7700"}, Drop: given.Drop,
		}}})
		if given.Session != "" {
			t.Error("the leader's own message was changed")
		}

		// What is delivered together comes in one frame, in order.
		down := []wire.Message{
			{Dispatch: &wire.Dispatch{Job: 1, Fence: 7, Type: "echo", Queue: "default", Attempt: 1, MaxAttempts: 5, Payload: job.JSON(`{"a":"<b>"}`)}},
			{Dispatch: &wire.Dispatch{Job: 2, Fence: 7, Type: "echo", Queue: "default", Attempt: 1, MaxAttempts: 5, PayloadBytes: []byte{0, 255}}},
			{Beat: &wire.Beat{Seq: 1}},
			{Cancel: &wire.Cancel{Job: 1, Fence: 7, Grace: 10}},
		}
		b.to(up, down...)
		equal(t, "frame", p.receive(t), down)

		// What comes in one frame goes on in one envelope.
		said := []wire.Message{
			{Ack: &wire.Ack{Job: 1, Fence: 7}},
			{Ack: &wire.Ack{Job: 2, Fence: 7}},
			{Start: &wire.Start{Job: 1, Fence: 7, Running: 1000}},
			{Result: &wire.Result{Job: 1, Fence: 7, Outcome: "completed", Result: job.JSON(`{"b":1}`)}},
			{Reject: &wire.Reject{Job: 2, Fence: 7, Reason: "no"}},
			{Heartbeat: &wire.Heartbeat{Seq: 2, Gauges: map[string]float64{"cpu": 0.5}}},
			{Drain: &wire.Drain{Reason: "enough"}},
		}
		p.send(t, said...)
		env := b.leader.next(t)
		equal(t, "envelope", env, wire.Envelope{Session: up.Session, Node: "n1", Agent: "a1", Messages: said})

		p.send(t, wire.Message{Bye: &wire.Bye{Reason: "done"}})
		equal(t, "bye", b.leader.next(t).Messages, []wire.Message{{Bye: &wire.Bye{Reason: "done"}}})
		if _, status := p.refused(t); status != websocket.StatusNormalClosure {
			t.Errorf("closed with %v", status)
		}
		if code := b.leader.ended(t); code != "bye" {
			t.Errorf("down with %s", code)
		}
	})

	t.Run("ends_when_the_agent_closes", func(t *testing.T) {
		b := setup(t)
		p, _ := b.connect(t, wire.JSON, "a1")
		p.conn.Close(websocket.StatusNormalClosure, "")
		if code := b.leader.ended(t); code != "closed" {
			t.Errorf("down with %s", code)
		}
	})

	t.Run("ends_when_the_connection_breaks", func(t *testing.T) {
		b := setup(t)
		p, _ := b.connect(t, wire.JSON, "a1")
		p.conn.CloseNow()
		if code := b.leader.ended(t); code != "lost" {
			t.Errorf("down with %s", code)
		}
	})

	t.Run("of_an_agent_that_falls_silent_ends", func(t *testing.T) {
		b := setup(t)
		p, up := b.connect(t, wire.JSON, "a1")
		b.to(up, wire.Message{Welcome: &wire.Welcome{Heartbeat: 5}})
		if e, _ := p.refused(t); e == nil || e.Code != "silent" || e.Fatal {
			t.Errorf("got %s", show(e))
		}
		if code := b.leader.ended(t); code != "silent" {
			t.Errorf("down with %s", code)
		}
	})

	t.Run("without_a_hello_ends", func(t *testing.T) {
		b := setup(t, func(c *Config) { c.HelloTimeout = 10 * time.Millisecond })
		if e, _ := b.dial(t, wire.JSON).refused(t); e == nil || e.Code != "hello_timeout" || e.Fatal {
			t.Errorf("got %s", show(e))
		}
	})

	t.Run("answers_pings", func(t *testing.T) {
		b := setup(t)
		p, _ := b.connect(t, wire.JSON, "a1")
		ctx := p.conn.CloseRead(t.Context())
		if err := p.conn.Ping(ctx); err != nil {
			t.Error(err)
		}
	})
}

func TestReplacedSession(t *testing.T) {
	b := setup(t)
	old, first := b.connect(t, wire.Msgpack, "a1")
	now, second := b.connect(t, wire.Msgpack, "a1")
	if first.Session == second.Session {
		t.Fatal("two connections have one session")
	}
	why := &wire.Error{Code: "replaced", Message: "the agent connected again", Fatal: true}
	b.hub.Deliver([]wire.Envelope{{Session: first.Session, Messages: []wire.Message{{Beat: &wire.Beat{Seq: 3}}}, Down: why}})
	if msgs := old.receive(t); len(msgs) != 2 || msgs[0].Beat == nil {
		t.Errorf("got %s before the end", show(msgs))
	} else {
		equal(t, "error", msgs[1].Error, why)
	}
	if _, err := old.read(t.Context()); websocket.CloseStatus(err) != websocket.StatusPolicyViolation {
		t.Errorf("the old connection ended with %v", err)
	}
	if code := b.leader.ended(t); code != "replaced" {
		t.Errorf("down with %s", code)
	}
	b.to(second, wire.Message{Beat: &wire.Beat{Seq: 4}})
	equal(t, "the new connection", now.receive(t), []wire.Message{{Beat: &wire.Beat{Seq: 4}}})
	b.to(first, wire.Message{Beat: &wire.Beat{Seq: 5}}) // to nobody
}

func TestShutdown(t *testing.T) {
	b := setup(t, func(c *Config) { c.CloseTimeout = time.Minute })
	var peers []*peer
	for i := range 20 {
		p, up := b.connect(t, wire.Format(i%2), fmt.Sprintf("a%d", i))
		b.to(up, wire.Message{Welcome: &wire.Welcome{Heartbeat: 5000}})
		p.receive(t) // or it may share its frame with the last words
		peers = append(peers, p)
	}
	silent := b.dial(t, wire.JSON) // has not said hello
	go func() {
		silent.read(context.Background()) //nolint:usetesting // the bye
		silent.conn.Close(websocket.StatusNormalClosure, "")
	}()
	follower := b.hub.FollowLog(1)
	b.stop()
	for _, p := range peers {
		equal(t, "last words", p.receive(t), []wire.Message{{Bye: &wire.Bye{Reason: "the node is shutting down", Reconnect: true}}})
		// A result that was under way is still taken.
		p.send(t, wire.Message{Result: &wire.Result{Job: 1, Fence: 2, Outcome: "completed"}})
		p.conn.Close(websocket.StatusNormalClosure, "")
	}
	<-b.done
	if _, ok := <-follower.C; ok {
		t.Error("the follower goes on")
	}
	results, downs := 0, 0
	for range 2 * len(peers) {
		env := b.leader.next(t)
		if env.Down != nil {
			downs++
			if env.Down.Code != "shutdown" {
				t.Errorf("down with %s", env.Down.Code)
			}
		}
		results += len(env.Messages)
	}
	if downs != len(peers) || results != len(peers) {
		t.Errorf("%d downs and %d results, want %d of each", downs, results, len(peers))
	}
	if n := len(b.hub.list()); n != 0 {
		t.Errorf("%d sessions are left", n)
	}
}

func TestShutdownDoesNotWaitForADeafAgent(t *testing.T) {
	b := setup(t, func(c *Config) { c.CloseTimeout = 300 * time.Millisecond })
	b.connect(t, wire.JSON, "a1") // and never reads
	p, _ := b.connect(t, wire.JSON, "a2")
	b.stop()
	equal(t, "last words", p.receive(t)[0].Bye, &wire.Bye{Reason: "the node is shutting down", Reconnect: true})
	if _, err := p.read(t.Context()); websocket.CloseStatus(err) != websocket.StatusGoingAway {
		t.Errorf("an agent that does not close was closed with %v", err)
	}
	<-b.done
	for range 2 {
		if code := b.leader.ended(t); code != "shutdown" {
			t.Errorf("down with %s", code)
		}
	}
}

func TestShutdownDoesNotWaitForASlowAgent(t *testing.T) {
	b := setup(t, func(c *Config) { c.CloseTimeout, c.WriteTimeout = 10*time.Millisecond, time.Hour })
	_, up := b.connect(t, wire.Msgpack, "a1") // and never reads
	b.to(up, wire.Message{Welcome: &wire.Welcome{}})
	for range 40 {
		b.to(up, wire.Message{Dispatch: &wire.Dispatch{Job: 1, Fence: 1, PayloadBytes: make([]byte, job.MaxPayload)}})
	}
	b.stop()
	<-b.done
	if code := b.leader.ended(t); code != "shutdown" {
		t.Errorf("down with %s", code)
	}
}

func TestLargeFrameIsASignOfLife(t *testing.T) {
	b := setup(t)
	p, up := b.connect(t, wire.Msgpack, "a1")
	b.to(up, wire.Message{Welcome: &wire.Welcome{Heartbeat: 400}})
	p.receive(t)
	frame, err := wire.AppendFrame(nil, wire.Msgpack, []wire.Message{{Result: &wire.Result{
		Job: 1, Fence: 2, Outcome: "completed", ResultBytes: make([]byte, job.MaxPayload),
	}}})
	if err != nil {
		t.Fatal(err)
	}
	// As on a slow line: the whole takes longer than three heartbeats, no part does.
	w, err := p.conn.Writer(t.Context(), websocket.MessageBinary)
	if err != nil {
		t.Fatal(err)
	}
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for len(frame) > 0 {
		n := min(len(frame), 80<<10)
		if _, err := w.Write(frame[:n]); err != nil {
			t.Fatal(err)
		}
		frame = frame[n:]
		<-tick.C
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if env := b.leader.next(t); len(env.Messages) != 1 {
		t.Errorf("got %s", show(env))
	}
}

func TestSlowAgent(t *testing.T) {
	big := wire.Message{Dispatch: &wire.Dispatch{Job: 1, Fence: 1, PayloadBytes: make([]byte, job.MaxPayload)}}
	t.Run("that_takes_no_frame_in_time_is_disconnected", func(t *testing.T) {
		b := setup(t, func(c *Config) { c.WriteTimeout = 20 * time.Millisecond })
		_, up := b.connect(t, wire.Msgpack, "a1")
		b.to(up, wire.Message{Welcome: &wire.Welcome{}})
		for range 40 { // more than the sockets' buffers hold
			b.to(up, big)
		}
		if code := b.leader.ended(t); code != "slow_agent" {
			t.Errorf("down with %s", code)
		}
	})

	t.Run("that_has_too_much_waiting_is_disconnected", func(t *testing.T) {
		b := setup(t, func(c *Config) { c.QueueMessages = 1000 })
		_, up := b.connect(t, wire.Msgpack, "a1")
		b.to(up, wire.Message{Welcome: &wire.Welcome{}})
		for range 40 {
			b.to(up, big)
		}
		for range 1100 {
			b.to(up, wire.Message{Beat: &wire.Beat{}})
		}
		if code := b.leader.ended(t); code != "slow_agent" {
			t.Errorf("down with %s", code)
		}
	})

	t.Run("does_not_fill_the_memory_with_dispatches", func(t *testing.T) {
		b := setup(t, func(c *Config) { c.QueueBytes = 3 << 20 })
		p, up := b.connect(t, wire.Msgpack, "a1")
		b.to(up, wire.Message{Welcome: &wire.Welcome{}})
		p.receive(t)
		for range 100 {
			b.to(up, big)
		}
		b.to(up, wire.Message{Beat: &wire.Beat{Seq: 9}})
		got := 0
		for {
			msgs := p.receive(t)
			if n := len(msgs); msgs[n-1].Beat != nil {
				got += n - 1
				break
			}
			got += len(msgs)
		}
		if got == 0 || got == 100 {
			t.Errorf("%d of 100 dispatches came", got)
		}
		// What was written makes room again.
		for range 10 {
			b.to(up, big)
			if msgs := p.receive(t); len(msgs) != 1 || msgs[0].Dispatch == nil {
				t.Fatalf("got %d messages", len(msgs))
			}
		}
	})
}
