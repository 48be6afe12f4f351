package builtin

import (
	"strings"
	"testing"

	"github.com/orrery-io/orrery/wire"
)

func attempt(n int) func(*wire.Dispatch) { return func(d *wire.Dispatch) { d.Attempt = n } }

func scheduled(name string, tick int64) func(*wire.Dispatch) {
	return func(d *wire.Dispatch) { d.Schedule, d.Tick = name, tick }
}

func rawBytes(b string) func(*wire.Dispatch) {
	return func(d *wire.Dispatch) { d.Payload, d.PayloadBytes = nil, []byte(b) }
}

func TestHandlers(t *testing.T) {
	n := setup(t)
	for _, tt := range []struct {
		name, typ, payload string
		mod                func(*wire.Dispatch)
		result, bytes      string
		kind, message      string // of a failure; message is a part
		permanent          bool
	}{
		{name: "echo returns JSON as it came", typ: "echo", payload: `{"a": [1,  2]}`, result: `{"a": [1,  2]}`},
		{name: "echo returns bytes as they came", typ: "echo", mod: rawBytes("\x00x"), bytes: "\x00x"},
		{name: "echo of nothing", typ: "echo"},
		{name: "sleep", typ: "sleep", payload: `{"for":"1ms"}`, result: `{"slept":"1ms"}`},
		{name: "sleep for nothing", typ: "sleep", payload: `{}`, kind: "bad_payload", message: `must say for how long, as in {"for":"2s"}`, permanent: true},
		{name: "sleep for a word", typ: "sleep", payload: `{"for":"long"}`, kind: "bad_payload", message: `"long" is not a duration`, permanent: true},
		{name: "sleep for a number", typ: "sleep", payload: `{"for":7}`, kind: "bad_payload", message: `has a number as "for"`, permanent: true},
		{name: "an unknown field", typ: "sleep", payload: `{"four":"2s"}`, kind: "bad_payload", message: `unknown field "four"; the fields are for`, permanent: true},
		{name: "more than one value", typ: "sleep", payload: `{"for":"1ms"}`, mod: func(d *wire.Dispatch) { d.Payload = []byte(`{"for":"1ms"} {}`) }, kind: "bad_payload", message: "more follows", permanent: true},
		{name: "an array", typ: "sleep", payload: `[]`, kind: "bad_payload", message: "is a array; it must be an object", permanent: true},
		{name: "bytes", typ: "sleep", mod: rawBytes("x"), kind: "bad_payload", message: "raw bytes", permanent: true},
		{name: "fail always", typ: "fail", mod: attempt(99), kind: "error", message: "failed as the payload asks"},
		{name: "fail in its own words", typ: "fail", payload: `{"message":"no disk","kind":"disk","permanent":true}`, kind: "disk", message: "no disk", permanent: true},
		{name: "fail the second time", typ: "fail", payload: `{"times":2}`, mod: attempt(2), kind: "error"},
		{name: "not the third time", typ: "fail", payload: `{"times":2}`, mod: attempt(3), result: `{"attempt":3}`},
		{name: "fail a negative number of times", typ: "fail", payload: `{"times":-1}`, kind: "bad_payload", message: "-1", permanent: true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			mod := tt.mod
			if mod == nil {
				mod = func(*wire.Dispatch) {}
			}
			n.t = t
			o := n.run(tt.typ, tt.payload, mod)
			if tt.kind == "" {
				if o.Error != nil {
					t.Fatalf("failure: %+v", o.Error)
				}
				if string(o.Result.Result) != tt.result || string(o.ResultBytes) != tt.bytes {
					t.Errorf("result: got %q and bytes %q", o.Result.Result, o.ResultBytes)
				}
				return
			}
			if o.Error == nil {
				t.Fatalf("got the result %q, want a failure", o.Result.Result)
			}
			if o.Error.Kind != tt.kind || !strings.Contains(o.Error.Message, tt.message) || o.Error.Permanent != tt.permanent {
				t.Errorf("failure: got %+v, want %s, %q, permanent %t", o.Error, tt.kind, tt.message, tt.permanent)
			}
		})
	}
}

func TestSleepTellsItsProgressAndStops(t *testing.T) {
	n := setup(t)
	id := n.submit("sleep", `{"for":"1h"}`)
	asked := false
	// An hour's progress comes every 36 s; the start is told after one second.
	o := n.wait(func(m wire.Message) {
		if m.Ack != nil && !asked {
			asked = true
			n.cancel(id)
		}
	})
	if o.Outcome != "cancelled" || o.Error.Message != "the job was cancelled: enough" {
		t.Errorf("got %s, %+v", o.Outcome, o.Error)
	}
	o = n.run("sleep", `{"for":"250ms"}`)
	if len(o.progress) == 0 || o.progress[len(o.progress)-1].Percent != 100 {
		t.Errorf("progress: %+v", o.progress)
	}
}
