package wire

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"testing"

	"github.com/orrery-io/orrery/job"
	"github.com/tinylib/msgp/msgp"
)

func formats(t *testing.T, run func(t *testing.T, f Format)) {
	for _, f := range []Format{Msgpack, JSON} {
		t.Run(f.String(), func(t *testing.T) { run(t, f) })
	}
}

// everyKind has one message of each kind with all its fields set.
func everyKind() []Message {
	code := 3
	held := []Held{{Job: 1, Fence: 2}, {Job: 3, Fence: 1 << 63, Waiting: true}}
	return []Message{
		{Hello: &Hello{
			Protocol: 1, ID: "a1", Name: "Anna's laptop", Group: "g", Labels: map[string]string{"env": "prod"},
			Capabilities: []job.Capability{{Type: "email.send", Version: "2"}, {Type: "echo"}}, Queues: []string{"default"},
			Slots: 4, Version: "1.2", SDK: "go/1", Held: held, Outbox: held[:1], Draining: true,
		}},
		{Ack: &Ack{Job: 1, Fence: 2}},
		{Reject: &Reject{Job: 1, Fence: 2, Reason: "no room"}},
		{Start: &Start{Job: 1, Fence: 2, Running: 1000}},
		{Progress: &Progress{Job: 1, Fence: 2, Percent: 12.5, Step: 1, Steps: 8, Message: "läuft"}},
		{Log: &Log{Job: 1, Fence: 2, Lines: []LogLine{{Seq: 1, Time: 1700000000000, Level: "info", Text: "a \"b\"\n<c>"}}}},
		{Result: &Result{Job: 1, Fence: 2, Outcome: "completed", Result: job.JSON(`{"a":[1,2,{"b":"<&>"}]}`)}},
		{Result: &Result{Job: 1, Fence: 2, Outcome: "completed", ResultBytes: []byte{0, 1, 0xff}}},
		{Result: &Result{Job: 1, Fence: 2, Outcome: "failed", Error: &Failure{
			Kind: "exit", Message: "m", Stack: "s", ExitCode: &code, Permanent: true, RetryAfter: 5000,
		}}},
		{Heartbeat: &Heartbeat{Seq: 9, Held: held, Gauges: map[string]float64{"cpu": 0.5}}},
		{Welcome: &Welcome{
			Session: "s", Node: "n", Cluster: "c", Lease: 15000, Margin: 2000, Heartbeat: 5000,
			Nodes: []string{"http://127.0.0.1:7700"}, Drop: held,
		}},
		{Dispatch: &Dispatch{
			Job: 1, Fence: 2, Type: "echo", Queue: "default", Attempt: 1, MaxAttempts: 5, Priority: 4, Payload: job.JSON(`"x"`),
			CreatedAt: 5, Timeout: 6, Lease: 7, Metadata: map[string]string{"k": "v"}, Tags: []string{"t"},
			CorrelationID: "c", Traceparent: "00-1-2-01", Schedule: "nightly", Tick: 1798761600000,
		}},
		{Dispatch: &Dispatch{Job: 1, Fence: 2, Type: "echo", Queue: "default", Attempt: 1, MaxAttempts: 5, PayloadBytes: []byte("raw")}},
		{ResultAck: &ResultAck{Job: 1, Fence: 2, Accepted: true, Reason: "r"}},
		{Cancel: &Cancel{Job: 1, Fence: 2, Reason: "r", Grace: 10000, Drop: true}},
		{Beat: &Beat{Seq: 9, Drop: held}},
		{Nodes: &Nodes{Nodes: []string{"a", "b"}}},
		{Error: &Error{Code: "c", Message: "m", Fatal: true}},
		{Drain: &Drain{Reason: "r"}},
		{Bye: &Bye{Reason: "r", Reconnect: true}},
	}
}

func TestFrame(t *testing.T) {
	t.Run("comes_back_as_it_was", func(t *testing.T) {
		formats(t, func(t *testing.T, f Format) {
			want := everyKind()
			b, err := AppendFrame([]byte("before"), f, want)
			if err != nil {
				t.Fatal(err)
			}
			got, err := DecodeFrame(f, bytes.TrimPrefix(b, []byte("before")), Limits{})
			if err != nil {
				t.Fatal(err)
			}
			if len(got) != len(want) {
				t.Fatalf("%d messages, want %d", len(got), len(want))
			}
			for i := range want {
				if !reflect.DeepEqual(got[i], want[i]) {
					t.Errorf("message %d (%s):\n got %s\nwant %s", i, want[i].Kind(), show(got[i]), show(want[i]))
				}
			}
		})
	})

	t.Run("test_covers_every_kind", func(t *testing.T) {
		seen := map[string]bool{}
		for _, m := range everyKind() {
			seen[m.Kind()] = true
		}
		typ := reflect.TypeFor[Message]()
		for field := range typ.Fields() {
			name, _, _ := strings.Cut(field.Tag.Get("json"), ",")
			if !seen[name] {
				t.Errorf("no message of kind %s, or Kind does not know it", name)
			}
			if msg, _, _ := strings.Cut(field.Tag.Get("msg"), ","); msg != name {
				t.Errorf("kind %s is called %s in MessagePack", name, msg)
			}
		}
	})

	t.Run("names_are_the_same_in_both_formats", func(t *testing.T) {
		want := everyKind()
		b, err := AppendFrame(nil, Msgpack, want)
		if err != nil {
			t.Fatal(err)
		}
		var out bytes.Buffer
		if _, err := msgp.UnmarshalAsJSON(&out, b); err != nil {
			t.Fatal(err)
		}
		var a, c any
		if err := json.Unmarshal(out.Bytes(), &a); err != nil {
			t.Fatal(err)
		}
		b, _ = AppendFrame(nil, JSON, want)
		if err := json.Unmarshal(b, &c); err != nil {
			t.Fatal(err)
		}
		if p := difference("", a, c); p != "" {
			t.Errorf("the formats differ at %s", p)
		}
	})

	t.Run("may_be_empty", func(t *testing.T) {
		formats(t, func(t *testing.T, f Format) {
			b, err := AppendFrame(nil, f, nil)
			if err != nil {
				t.Fatal(err)
			}
			if got, err := DecodeFrame(f, b, Limits{}); err != nil || len(got) != 0 {
				t.Errorf("got %v, %v", got, err)
			}
		})
	})

	t.Run("skips_unknown_kinds_and_fields", func(t *testing.T) {
		in := []byte(`[{"twin":{"a":[1,{"b":null}],"c":1.5}},{"ack":{"job":7,"fence":8,"later":{"x":[true]}}},{},{"ack":null}]`)
		formats(t, func(t *testing.T, f Format) {
			got, err := DecodeFrame(f, transcode(t, f, in), Limits{})
			if err != nil {
				t.Fatal(err)
			}
			if len(got) != 1 || got[0].Ack == nil || *got[0].Ack != (Ack{Job: 7, Fence: 8}) {
				t.Errorf("got %s", show(got))
			}
		})
	})

	t.Run("leaves_the_users_JSON_untouched", func(t *testing.T) {
		const payload = `{"z":1,"a":"<&>","n":12345678901234567890.5}`
		formats(t, func(t *testing.T, f Format) {
			b, err := AppendFrame(nil, f, []Message{{Dispatch: &Dispatch{Payload: job.JSON(payload)}}})
			if err != nil {
				t.Fatal(err)
			}
			got, err := DecodeFrame(f, b, Limits{})
			if err != nil || string(got[0].Dispatch.Payload) != payload {
				t.Errorf("got %s, %v", show(got), err)
			}
		})
	})

	t.Run("keeps_no_reference_to_its_input", func(t *testing.T) {
		formats(t, func(t *testing.T, f Format) {
			b, err := AppendFrame(nil, f, everyKind())
			if err != nil {
				t.Fatal(err)
			}
			got, err := DecodeFrame(f, b, Limits{})
			if err != nil {
				t.Fatal(err)
			}
			for i := range b {
				b[i] = 'x'
			}
			if !reflect.DeepEqual(got, everyKind()) {
				t.Error("the messages changed with the buffer")
			}
		})
	})

	t.Run("that_cannot_be_written_is_an_error", func(t *testing.T) {
		b, err := AppendFrame([]byte("x"), JSON, []Message{{Ack: &Ack{}}, {Result: &Result{Result: job.JSON(`{`)}}})
		if err == nil || !strings.Contains(err.Error(), "message 1 (result)") || string(b) != "x" {
			t.Errorf("got %q, %v", b, err)
		}
	})
}

func TestDecodeFrameRefuses(t *testing.T) {
	deep := strings.Repeat("[", 100_000)
	for _, tt := range []struct {
		name   string
		format Format
		in     string
		limits Limits
		want   error
		says   string
	}{
		{"nothing", JSON, "", Limits{}, ErrMalformed, "array"},
		{"nothing at all", Msgpack, "", Limits{}, ErrMalformed, "ends in the middle"},
		{"an object", JSON, `{"ack":{}}`, Limits{}, ErrMalformed, "array"},
		{"a map", Msgpack, "\x80", Limits{}, ErrMalformed, "array"},
		{"text instead of messages", JSON, `["ack"]`, Limits{}, ErrMalformed, "object"},
		{"numbers instead of messages", Msgpack, "\x91\x01", Limits{}, ErrMalformed, "message 0"},
		{"half a frame", JSON, `[{"ack":{"job":1`, Limits{}, ErrMalformed, "ends in the middle"},
		{"an open string", JSON, `[{"ack`, Limits{}, ErrMalformed, "ends in the middle"},
		{"an open escape", JSON, `[{"ack\`, Limits{}, ErrMalformed, "ends in the middle"},
		{"half a value", Msgpack, "\x91\x81\xa3ac", Limits{}, ErrMalformed, "ends in the middle"},
		{"half a header", Msgpack, "\xdd\x00\x00", Limits{}, ErrMalformed, "ends in the middle"},
		{"something after the frame", JSON, `[] x`, Limits{}, ErrMalformed, "1 bytes follow"},
		{"something after the end", Msgpack, "\x90\xc0", Limits{}, ErrMalformed, "1 bytes follow"},
		{"no comma", JSON, `[{} {}]`, Limits{}, ErrMalformed, "comma"},
		{"a comma at the end", JSON, `[{},]`, Limits{}, ErrMalformed, "object"},
		{"no bracket at the end", JSON, `[{}`, Limits{}, ErrMalformed, "ends in the middle"},
		{"JSON that is not", JSON, `[{"ack":{"job":tru}}]`, Limits{}, ErrMalformed, "message 0"},
		{"mixed brackets", JSON, `[{"ack":[}]]`, Limits{}, ErrMalformed, "message 0"},
		{"another type", JSON, `[{},{"ack":{"job":"x"}}]`, Limits{}, ErrMalformed, "message 1"},
		{"another type", Msgpack, "\x91\x81\xa3ack\x81\xa3job\xa1x", Limits{}, ErrMalformed, "Ack/Job"},
		{"a byte that begins nothing", Msgpack, "\x91\xc1", Limits{}, ErrMalformed, "0xc1"},
		{"two kinds at once", JSON, `[{"ack":{},"drain":{}}]`, Limits{}, ErrMalformed, "has 2 (ack"},
		{"a claim of 4 billion messages", Msgpack, "\xdd\xff\xff\xff\xff", Limits{}, ErrMalformed, "ends in the middle"},
		{"a claim of 4 billion pairs", Msgpack, "\x91\xdf\xff\xff\xff\xff", Limits{}, ErrMalformed, "ends in the middle"},
		{"a claim of 4 GB of text", Msgpack, "\x91\x81\xdb\xff\xff\xff\xff", Limits{}, ErrMalformed, "ends in the middle"},
		{"too many bytes", JSON, `[{"ack":{}}]`, Limits{Bytes: 5}, ErrTooLarge, "12 bytes, at most 5"},
		{"too many messages", JSON, `[{},{},{}]`, Limits{Messages: 2}, ErrTooLarge, "at most 2 messages"},
		{"too many messages", Msgpack, "\x93\x80\x80\x80", Limits{Messages: 2}, ErrTooLarge, "3 messages, at most 2"},
		{"too many values", JSON, `[{"log":{"lines":[{},{},{},{},{},{}]}}]`, Limits{Values: 10}, ErrTooLarge, "more than 10 values"},
		{"too many values", Msgpack, "\xdc\x00\x0c" + strings.Repeat("\x80", 12), Limits{Values: 10}, ErrTooLarge, "more than 10 values"},
		{"too many values behind a result", JSON, `[{"result":{},"log":{"lines":[{},{},{},{},{},{}]}}]`, Limits{Values: 8}, ErrTooLarge, "more than 8 values"},
		{"deep nesting of an unknown kind", JSON, `[{"new":` + deep, Limits{}, ErrTooLarge, "levels deep"},
		{"deep nesting of an unknown kind", Msgpack, "\x91\x81\xa3new" + strings.Repeat("\x91", 100_000) + "\x01", Limits{}, ErrTooLarge, "levels deep"},
		{"a result nested deeper than encoding/json takes", JSON, `[{"result":{"result":` + deep + strings.Repeat("]", 100_000) + `}}]`, Limits{}, ErrMalformed, "depth"},
		{"too many entries", Msgpack, "\x91\x81\xa9heartbeat\x81\xa4held\xdd\x00\x05\x00\x00" + strings.Repeat("\x80", 0x50000), Limits{}, ErrTooLarge, "values"},
	} {
		t.Run(tt.format.String()+"/"+tt.name, func(t *testing.T) {
			msgs, err := DecodeFrame(tt.format, []byte(tt.in), tt.limits)
			if !errors.Is(err, tt.want) || !strings.Contains(fmt.Sprint(err), tt.says) {
				t.Errorf("got %v, %v; want an error that says %q", msgs, err, tt.says)
			}
			if len(fmt.Sprint(err)) > 300 {
				t.Errorf("the error is %d bytes long", len(fmt.Sprint(err)))
			}
		})
	}
}

func TestDecodeFrameTakesTheLargestPayload(t *testing.T) {
	formats(t, func(t *testing.T, f Format) {
		for _, m := range []Message{
			{Dispatch: &Dispatch{Job: 1, Payload: job.JSON(`"` + strings.Repeat("x", job.MaxPayload-2) + `"`)}},
			{Dispatch: &Dispatch{Job: 1, PayloadBytes: make([]byte, job.MaxPayload)}},
			{Result: &Result{Job: 1, Result: job.JSON(`"` + strings.Repeat("x", job.MaxPayload-2) + `"`)}},
			{Result: &Result{Job: 1, ResultBytes: make([]byte, job.MaxPayload)}},
		} {
			b, err := AppendFrame(nil, f, []Message{m})
			if err != nil {
				t.Fatal(err)
			}
			if got, err := DecodeFrame(f, b, Limits{}); err != nil || len(got) != 1 {
				t.Errorf("%s: %d messages, %v", m.Kind(), len(got), err)
			}
		}
	})
}

func TestDecodeFrameTakesAResultOfAnyShape(t *testing.T) {
	for name, result := range map[string]string{
		"many_values": "[" + strings.Repeat("0,", job.MaxPayload/2-2) + "0]",
		"deep":        strings.Repeat("[", 5000) + strings.Repeat("]", 5000),
		"brackets":    `"]}[{\"\\"`,
	} {
		t.Run(name, func(t *testing.T) {
			b, err := AppendFrame(nil, JSON, []Message{{Result: &Result{Result: job.JSON(result)}}, {Ack: &Ack{Job: 1}}})
			if err != nil {
				t.Fatal(err)
			}
			got, err := DecodeFrame(JSON, b, Limits{})
			if err != nil || len(got) != 2 || string(got[0].Result.Result) != result {
				t.Errorf("got %d messages, %v", len(got), err)
			}
		})
	}
}

func TestEnvelopes(t *testing.T) {
	want := []Envelope{
		{
			Session: "s", Node: "n", Agent: "a", Up: everyKind()[0].Hello, Again: true,
			Sent: []Held{{Job: 1, Fence: 2}}, Down: &Error{Code: "gone", Message: "m"}, Messages: everyKind(),
		},
		{Session: "t", Node: "n", Agent: "b"},
	}
	b, err := AppendEnvelopes([]byte("x"), want)
	if err != nil || b[0] != 'x' {
		t.Fatal(err)
	}
	b = b[1:]
	got, err := DecodeEnvelopes(b, Limits{})
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("got %s, %v", show(got), err)
	}
	for i := range b {
		if _, err := DecodeEnvelopes(b[:i], Limits{}); !errors.Is(err, ErrMalformed) {
			t.Fatalf("cut at %d: %v", i, err)
		}
	}
	for name, l := range map[string]Limits{"messages": {Messages: 3}, "envelopes": {Messages: 1}, "bytes": {Bytes: 10}, "values": {Values: 20}} {
		if _, err := DecodeEnvelopes(b, l); !errors.Is(err, ErrTooLarge) {
			t.Errorf("too many %s: %v", name, err)
		}
	}
	if _, err := DecodeEnvelopes([]byte{0x80}, Limits{}); !errors.Is(err, ErrMalformed) {
		t.Errorf("no array: %v", err)
	}
}

func TestBatch(t *testing.T) {
	big := Message{Result: &Result{ResultBytes: make([]byte, SoftFrame)}}
	ack := Message{Ack: &Ack{}}
	for _, tt := range []struct {
		name string
		in   []Message
		want int
	}{
		{"nothing", nil, 0},
		{"a few go together", []Message{ack, ack, ack}, 3},
		{"a big one goes alone", []Message{big, ack}, 1},
		{"what came before a big one goes first", []Message{ack, ack, big}, 2},
		{"many are cut", make([]Message, 10_000), 970},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := Batch(tt.in); got != tt.want {
				t.Errorf("got %d, want %d", got, tt.want)
			}
		})
	}
}

func TestFormatOf(t *testing.T) {
	for _, f := range []Format{Msgpack, JSON} {
		if got, ok := FormatOf(f.Subprotocol()); !ok || got != f {
			t.Errorf("%v comes back as %v", f, got)
		}
	}
	if _, ok := FormatOf("mqtt"); ok {
		t.Error("mqtt was taken")
	}
	if f, _ := FormatOf(Subprotocols()[0]); f != Msgpack {
		t.Error("MessagePack is not preferred")
	}
}

func show(v any) string {
	b, err := json.Marshal(v)
	if err != nil {
		return err.Error()
	}
	return string(b)
}

// difference returns the path of the first difference between two values of
// encoding/json. Binary values and the user's JSON are text of different kinds in
// the two formats, so leaves are not compared.
func difference(path string, a, b any) string {
	am, ok := a.(map[string]any)
	bm, ok2 := b.(map[string]any)
	if ok && ok2 {
		for k := range am {
			if _, ok := bm[k]; !ok {
				return path + "/" + k
			}
			if k == "result" && am["outcome"] != nil || k == "payload" {
				continue
			}
			if p := difference(path+"/"+k, am[k], bm[k]); p != "" {
				return p
			}
		}
		for k := range bm {
			if _, ok := am[k]; !ok {
				return path + "/" + k
			}
		}
		return ""
	}
	as, ok := a.([]any)
	bs, ok2 := b.([]any)
	if ok && ok2 {
		if len(as) != len(bs) {
			return path
		}
		for i := range as {
			if p := difference(fmt.Sprintf("%s/%d", path, i), as[i], bs[i]); p != "" {
				return p
			}
		}
		return ""
	}
	if ok != ok2 {
		return path
	}
	return ""
}

// transcode writes a JSON frame in format f, also what Message does not know.
func transcode(t *testing.T, f Format, in []byte) []byte {
	if f == JSON {
		return in
	}
	d := json.NewDecoder(bytes.NewReader(in))
	d.UseNumber()
	var v any
	if err := d.Decode(&v); err != nil {
		t.Fatal(err)
	}
	b, err := msgp.AppendIntf(nil, numbers(v))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func numbers(v any) any {
	switch v := v.(type) {
	case json.Number:
		if i, err := v.Int64(); err == nil {
			return i
		}
		f, _ := v.Float64()
		return f
	case []any:
		for i := range v {
			v[i] = numbers(v[i])
		}
		return v
	case map[string]any:
		for k := range v {
			v[k] = numbers(v[k])
		}
		return v
	default:
		return v
	}
}
