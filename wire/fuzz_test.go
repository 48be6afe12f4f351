package wire

import (
	"bytes"
	"errors"
	"reflect"
	"testing"
)

func fuzzFrame(f *testing.F, format Format) {
	for _, m := range everyKind() {
		b, err := AppendFrame(nil, format, []Message{m, {Ack: &Ack{Job: 1}}})
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	limits := Limits{Bytes: 1 << 16, Messages: 100, Values: 1000}
	f.Fuzz(func(t *testing.T, b []byte) {
		before := bytes.Clone(b)
		msgs, err := DecodeFrame(format, b, limits)
		if !bytes.Equal(b, before) {
			t.Fatal("the input was changed")
		}
		if err != nil {
			if !errors.Is(err, ErrTooLarge) && !errors.Is(err, ErrMalformed) {
				t.Fatalf("an error of no kind: %v", err)
			}
			return
		}
		if len(msgs) > limits.Messages {
			t.Fatalf("%d messages", len(msgs))
		}
		for i := range msgs {
			if msgs[i].Kind() == "" {
				t.Fatal("a message of no kind")
			}
		}
		// What was read can be written in its own format, and says the same again.
		// MessagePack can carry a result that isn't JSON; agentconn looks at that.
		out, err := AppendFrame(nil, format, msgs)
		if err != nil {
			t.Fatalf("write again: %v", err)
		}
		again, err := DecodeFrame(format, out, Limits{Bytes: 10 * MaxFrame, Values: 1 << 20})
		if err != nil {
			t.Fatalf("read again: %v", err)
		}
		twice, err := AppendFrame(nil, format, again)
		if err != nil {
			t.Fatalf("write twice: %v", err)
		}
		// Maps come in any order, so only JSON, which sorts them, is compared.
		if format == JSON && !bytes.Equal(out, twice) {
			t.Fatalf("changed on the way:\n%s\n%s", out, twice)
		}
		if len(again) != len(msgs) {
			t.Fatalf("%d messages became %d", len(msgs), len(again))
		}
	})
}

func FuzzFrameMsgpack(f *testing.F) { fuzzFrame(f, Msgpack) }

func FuzzFrameJSON(f *testing.F) { fuzzFrame(f, JSON) }

func FuzzEnvelopes(f *testing.F) {
	for _, e := range []Envelope{
		{Session: "s", Node: "n", Agent: "a", Up: everyKind()[0].Hello, Again: true, Sent: []Held{{Job: 1, Fence: 2}}},
		{Session: "s", Node: "n", Agent: "a", Down: &Error{Code: "c"}},
		{Session: "s", Node: "n", Agent: "a", Messages: everyKind()},
	} {
		b, err := AppendEnvelopes(nil, []Envelope{e, e})
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		envs, err := DecodeEnvelopes(b, Limits{Bytes: 1 << 16, Messages: 100, Values: 1000})
		if err != nil {
			if !errors.Is(err, ErrTooLarge) && !errors.Is(err, ErrMalformed) {
				t.Fatalf("an error of no kind: %v", err)
			}
			return
		}
		out, err := AppendEnvelopes(nil, envs)
		if err != nil {
			t.Fatal(err)
		}
		again, err := DecodeEnvelopes(out, Limits{Bytes: 10 * MaxFrame, Values: 1 << 20})
		if err != nil || len(again) != len(envs) {
			t.Fatalf("%d became %d, %v", len(envs), len(again), err)
		}
		for i := range envs {
			if again[i].Session != envs[i].Session || len(again[i].Messages) != len(envs[i].Messages) || !reflect.DeepEqual(again[i].Down, envs[i].Down) {
				t.Fatal("changed on the way")
			}
		}
	})
}
