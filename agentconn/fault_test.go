package agentconn

import (
	"fmt"
	"strings"
	"testing"

	"github.com/coder/websocket"
	"github.com/orrery-io/orrery/job"
	"github.com/orrery-io/orrery/wire"
)

func TestHelloIsRefused(t *testing.T) {
	labels := map[string]string{}
	for i := range job.MaxLabels + 1 {
		labels[fmt.Sprint("k", i)] = "v"
	}
	b := setup(t)
	for _, tt := range []struct {
		name   string
		change func(*wire.Hello)
		code   string
		says   string
	}{
		{"of_another_version", func(h *wire.Hello) { h.Protocol = 2 }, "protocol_version", "speaks version 1 of the agents' protocol, not 2"},
		{"without_a_version", func(h *wire.Hello) { h.Protocol = 0 }, "protocol_version", "not 0"},
		{"without_an_id", func(h *wire.Hello) { h.ID = "" }, "invalid_hello", "hello.id is required"},
		{"with_a_bad_id", func(h *wire.Hello) { h.ID = "a b" }, "invalid_hello", `hello.id has the character ' '`},
		{"with_a_long_id", func(h *wire.Hello) { h.ID = strings.Repeat("a", 201) }, "invalid_hello", "the limit is 200"},
		{"with_a_bad_name", func(h *wire.Hello) { h.Name = "\x00" }, "invalid_hello", "hello.name has the character"},
		{"with_a_bad_group", func(h *wire.Hello) { h.Group = "ä" }, "invalid_hello", "hello.group has the character"},
		{"without_slots", func(h *wire.Hello) { h.Slots = 0 }, "invalid_hello", "hello.slots is 0; it must be 1 to 10000"},
		{"with_negative_slots", func(h *wire.Hello) { h.Slots = -1 }, "invalid_hello", "hello.slots is -1"},
		{"with_absurd_slots", func(h *wire.Hello) { h.Slots = 10_001 }, "invalid_hello", "hello.slots is 10001"},
		{"with_too_many_labels", func(h *wire.Hello) { h.Labels = labels }, "invalid_hello", "hello.labels has 65 entries; the limit is 64"},
		{"with_a_bad_label", func(h *wire.Hello) { h.Labels = map[string]string{"": "x"} }, "invalid_hello", "hello.labels key"},
		{"with_too_many_capabilities", func(h *wire.Hello) { h.Capabilities = make([]job.Capability, 1001) }, "invalid_hello", "hello.capabilities has 1001 entries"},
		{"with_a_nameless_capability", func(h *wire.Hello) { h.Capabilities = make([]job.Capability, 1) }, "invalid_hello", "hello.capabilities[0].type is required"},
		{"with_a_bad_version", func(h *wire.Hello) { h.Capabilities[0].Version = "\n" }, "invalid_hello", "hello.capabilities[0].version"},
		{"with_too_many_queues", func(h *wire.Hello) { h.Queues = make([]string, 101) }, "invalid_hello", "hello.queues has 101 entries"},
		{"with_a_bad_queue", func(h *wire.Hello) { h.Queues = []string{"a", ""} }, "invalid_hello", "hello.queues[1] is required"},
		{"with_a_long_version", func(h *wire.Hello) { h.SDK = strings.Repeat("1", 101) }, "invalid_hello", "hello.version and sdk"},
		{"that_holds_nothing_by_name", func(h *wire.Hello) { h.Held = make([]wire.Held, 1) }, "invalid_hello", "hello.held"},
		{"that_has_results_of_nothing", func(h *wire.Hello) { h.Outbox = []wire.Held{{Job: 1}} }, "invalid_hello", "outbox"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			formats(t, func(t *testing.T, f wire.Format) {
				p := b.dial(t, f)
				h := hello("a1")
				tt.change(h)
				p.send(t, wire.Message{Hello: h})
				e, status := p.refused(t)
				if e == nil || e.Code != tt.code || !strings.Contains(e.Message, tt.says) || !e.Fatal {
					t.Errorf("got %s, want %s that says %q", show(e), tt.code, tt.says)
				}
				if status != websocket.StatusPolicyViolation {
					t.Errorf("closed with %v", status)
				}
			})
		})
	}
	// None of them was a session to the leader.
	_, up := b.connect(t, wire.JSON, "good")
	if up.Agent != "good" {
		t.Errorf("the leader was told of %s", show(up))
	}
}

func TestFaults(t *testing.T) {
	ack := wire.Message{Ack: &wire.Ack{Job: 1, Fence: 2}}
	frame := func(f wire.Format, msgs ...wire.Message) []byte {
		b, err := wire.AppendFrame(nil, f, msgs)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	for _, tt := range []struct {
		name   string
		format wire.Format
		first  bool // instead of the hello
		binary bool
		frame  []byte
		code   string
		says   string
		status websocket.StatusCode
	}{
		{"ack_first", wire.JSON, true, false, frame(wire.JSON, ack), "hello_expected", "was ack", websocket.StatusPolicyViolation},
		{"garbage_first", wire.JSON, true, false, []byte("GET / HTTP/1.1"), "malformed_frame", "array", websocket.StatusInvalidFramePayloadData},
		{"garbage_first", wire.Msgpack, true, true, []byte("GET / HTTP/1.1"), "malformed_frame", "13 bytes follow", websocket.StatusInvalidFramePayloadData},
		{"garbage", wire.JSON, false, false, []byte(`[{"ack":{"job":true}}]`), "malformed_frame", "message 0", websocket.StatusInvalidFramePayloadData},
		{"garbage", wire.Msgpack, false, true, []byte("\x91\x81\xa3ack\xc1"), "malformed_frame", "0xc1", websocket.StatusInvalidFramePayloadData},
		{"an_empty_frame", wire.Msgpack, false, true, nil, "malformed_frame", "middle", websocket.StatusInvalidFramePayloadData},
		{"binary_JSON", wire.JSON, false, true, frame(wire.JSON, ack), "wrong_frame_type", "text messages", websocket.StatusUnsupportedData},
		{"textual_MessagePack", wire.Msgpack, false, false, []byte("[]"), "wrong_frame_type", "binary messages", websocket.StatusUnsupportedData},
		{"an_oversize_frame", wire.JSON, false, false, make([]byte, wire.MaxFrame+1), "frame_too_large", "at most 2097152", websocket.StatusMessageTooBig},
		{"a_huge_frame", wire.Msgpack, false, true, make([]byte, 3*wire.MaxFrame), "frame_too_large", "at most 2097152", websocket.StatusMessageTooBig},
		{"a_second_hello", wire.JSON, false, false, frame(wire.JSON, wire.Message{Hello: hello("a2")}), "unexpected_message", "hello", websocket.StatusPolicyViolation},
		{"a_message_of_nodes", wire.JSON, false, false, frame(wire.JSON, wire.Message{Dispatch: &wire.Dispatch{Job: 1, Fence: 1}}), "unexpected_message", "dispatch", websocket.StatusPolicyViolation},
		{"an_attempt_of_no_job", wire.Msgpack, false, true, frame(wire.Msgpack, wire.Message{Result: &wire.Result{Fence: 1, Outcome: "completed"}}), "invalid_message", "result", websocket.StatusPolicyViolation},
		{"an_attempt_of_no_fence", wire.JSON, false, false, frame(wire.JSON, wire.Message{Ack: &wire.Ack{Job: 1}}), "invalid_message", "ack", websocket.StatusPolicyViolation},
		{"a_heartbeat_with_nothing_in_it", wire.JSON, false, false, []byte(`[{"heartbeat":{"seq":1,"held":[{}]}}]`), "invalid_message", "heartbeat", websocket.StatusPolicyViolation},
	} {
		t.Run(tt.name+"/"+tt.format.String(), func(t *testing.T) {
			b := setup(t)
			p := b.dial(t, tt.format)
			if !tt.first {
				p.send(t, wire.Message{Hello: hello("a1")})
				b.leader.up(t)
				// What came before the fault is not lost with it.
				p.send(t, ack)
				equal(t, "before", b.leader.next(t).Messages, []wire.Message{ack})
			}
			p.raw(t, tt.binary, tt.frame)
			e, status := p.refused(t)
			if e == nil || e.Code != tt.code || !strings.Contains(e.Message, tt.says) || !e.Fatal {
				t.Errorf("got %s, want %s that says %q", show(e), tt.code, tt.says)
			}
			if status != tt.status {
				t.Errorf("closed with %v, want %v", status, tt.status)
			}
			if !tt.first {
				if code := b.leader.ended(t); code != tt.code {
					t.Errorf("down with %s", code)
				}
			}
		})
	}

	t.Run("leave_what_came_before_in_the_frame", func(t *testing.T) {
		b := setup(t)
		p, _ := b.connect(t, wire.JSON, "a1")
		p.send(t, ack, wire.Message{Ack: &wire.Ack{}}, ack)
		equal(t, "before", b.leader.next(t).Messages, []wire.Message{ack})
		if e, _ := p.refused(t); e == nil || e.Code != "invalid_message" {
			t.Errorf("got %s", show(e))
		}
	})

	t.Run("are_not_what_is_merely_unknown", func(t *testing.T) {
		b := setup(t)
		p, _ := b.connect(t, wire.JSON, "a1")
		p.raw(t, false, []byte(`[{"twin":{"x":[1]}},{"ack":{"job":1,"fence":2,"mood":"good"}}]`))
		equal(t, "known", b.leader.next(t).Messages, []wire.Message{ack})
	})
}
