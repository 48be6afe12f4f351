package wire

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/tinylib/msgp/msgp"
)

// MaxFrame bounds a frame in bytes, in both directions: one payload or result of
// the largest size (job.MaxPayload), the failure that may come with it, and the
// framing. A WebSocket's read limit is set to it.
const MaxFrame = 2 << 20

// SoftFrame is where a sender begins a new frame when it has many messages: large
// enough for the cost of a frame not to matter, small enough not to delay others.
const SoftFrame = 128 << 10

// Limits bounds what a decoder takes. They are checked before memory is given out
// in proportion to what the sender claims. Zero fields mean the defaults.
type Limits struct {
	// Bytes of the whole frame; MaxFrame by default.
	Bytes int
	// Messages in the frame; 10,000 by default.
	Messages int
	// Values bounds what a frame is made of: about one for every map, array, key and
	// scalar, those inside a payload or result not counted. 262,144 by default.
	Values int
	// Depth of nesting, likewise without payloads and results; 32 by default, which
	// is the most that can be asked for.
	Depth int
}

const maxDepth = 32

func (l Limits) withDefaults() Limits {
	l.Bytes = cmp.Or(l.Bytes, MaxFrame)
	l.Messages = cmp.Or(l.Messages, 10_000)
	l.Values = cmp.Or(l.Values, 1<<18)
	l.Depth = min(cmp.Or(l.Depth, maxDepth), maxDepth)
	return l
}

// What is wrong with a frame. DecodeFrame wraps one of them with the details.
var (
	ErrTooLarge  = errors.New("passes a limit")
	ErrMalformed = errors.New("is malformed")
)

// AppendFrame appends one frame with all of msgs to b. It fails on a message that
// cannot be written, such as one whose payload is not JSON, and then b is
// returned as it was.
func AppendFrame(b []byte, format Format, msgs []Message) ([]byte, error) {
	if format == JSON {
		return appendJSON(b, msgs)
	}
	out := msgp.AppendArrayHeader(b, uint32(len(msgs)))
	for i := range msgs {
		var err error
		if out, err = msgs[i].MarshalMsg(out); err != nil {
			return b, fmt.Errorf("message %d (%s): %w", i, msgs[i].Kind(), err)
		}
	}
	return out, nil
}

func appendJSON(b []byte, msgs []Message) ([]byte, error) {
	buf := bytes.NewBuffer(b)
	enc := json.NewEncoder(buf)
	enc.SetEscapeHTML(false) // the user's JSON goes through untouched
	buf.WriteByte('[')
	for i := range msgs {
		if i > 0 {
			buf.WriteByte(',')
		}
		if err := enc.Encode(&msgs[i]); err != nil {
			return b, fmt.Errorf("message %d (%s): %w", i, msgs[i].Kind(), err)
		}
		buf.Truncate(buf.Len() - 1) // the newline that Encode adds
	}
	buf.WriteByte(']')
	return buf.Bytes(), nil
}

// DecodeFrame reads one frame. It is safe on hostile input and keeps no reference
// to b. Messages of kinds that this program does not know are left out, unknown
// fields are ignored; anything else that is not right is an error, which wraps
// ErrTooLarge or ErrMalformed and can be shown to the sender.
func DecodeFrame(format Format, b []byte, limits Limits) ([]Message, error) {
	l := limits.withDefaults()
	if len(b) > l.Bytes {
		return nil, fmt.Errorf("the frame %w: %d bytes, at most %d", ErrTooLarge, len(b), l.Bytes)
	}
	if format == JSON {
		return decodeJSON(b, l)
	}
	return decodeMsgpack(b, l)
}

func decodeMsgpack(b []byte, l Limits) ([]Message, error) {
	if err := checkMsgpack(b, l); err != nil {
		return nil, err
	}
	n, b, err := msgp.ReadArrayHeaderBytes(b)
	if err != nil {
		return nil, fmt.Errorf("the frame %w: it must be an array of messages", ErrMalformed)
	}
	if int64(n) > int64(l.Messages) {
		return nil, fmt.Errorf("the frame %w: %d messages, at most %d", ErrTooLarge, n, l.Messages)
	}
	msgs := make([]Message, 0, n)
	for i := range n {
		var m Message
		if b, err = m.UnmarshalMsg(b); err != nil {
			return nil, fmt.Errorf("message %d of the frame %w: %w", i, ErrMalformed, err)
		}
		if msgs, err = keep(msgs, &m, int(i)); err != nil {
			return nil, err
		}
	}
	return msgs, nil
}

func decodeJSON(b []byte, l Limits) ([]Message, error) {
	s := splitter{b: b, limits: l}
	if err := s.open(); err != nil {
		return nil, err
	}
	var msgs []Message
	for i := 0; ; i++ {
		raw, err := s.next()
		if err != nil {
			return nil, err
		}
		if raw == nil {
			return msgs, nil
		}
		if i >= l.Messages {
			return nil, fmt.Errorf("the frame %w: at most %d messages", ErrTooLarge, l.Messages)
		}
		var m Message
		if err := json.Unmarshal(raw, &m); err != nil {
			return nil, fmt.Errorf("message %d of the frame %w: %w", i, ErrMalformed, err)
		}
		if msgs, err = keep(msgs, &m, i); err != nil {
			return nil, err
		}
	}
}

// keep appends m, message i of the frame, when its kind is known.
func keep(msgs []Message, m *Message, i int) ([]Message, error) {
	switch kind, n := m.kinds(); n {
	case 0:
		return msgs, nil
	case 1:
		return append(msgs, *m), nil
	default:
		return nil, fmt.Errorf("message %d of the frame %w: it must have one kind, and has %d (%s, …)", i, ErrMalformed, n, kind)
	}
}

// AppendEnvelopes appends an array of envelopes to b. It fails on one with a message
// that cannot be written, and then b is returned as it was.
func AppendEnvelopes(b []byte, envs []Envelope) ([]byte, error) {
	out := msgp.AppendArrayHeader(b, uint32(len(envs)))
	for i := range envs {
		var err error
		if out, err = envs[i].MarshalMsg(out); err != nil {
			return b, fmt.Errorf("envelope %d of session %s: %w", i, envs[i].Session, err)
		}
	}
	return out, nil
}

// DecodeEnvelopes reads what AppendEnvelopes wrote, with the care that DecodeFrame
// takes: Limits.Messages bounds the messages of each envelope, and the envelopes.
func DecodeEnvelopes(b []byte, limits Limits) ([]Envelope, error) {
	l := limits.withDefaults()
	if len(b) > l.Bytes {
		return nil, fmt.Errorf("the envelopes %w: %d bytes, at most %d", ErrTooLarge, len(b), l.Bytes)
	}
	if err := checkMsgpack(b, l); err != nil {
		return nil, err
	}
	n, b, err := msgp.ReadArrayHeaderBytes(b)
	if err != nil {
		return nil, fmt.Errorf("the envelopes %w: they must be an array", ErrMalformed)
	}
	if int64(n) > int64(l.Messages) {
		return nil, fmt.Errorf("the envelopes %w: %d, at most %d", ErrTooLarge, n, l.Messages)
	}
	envs := make([]Envelope, n)
	for i := range envs {
		if b, err = envs[i].UnmarshalMsg(b); err != nil {
			return nil, fmt.Errorf("envelope %d %w: %w", i, ErrMalformed, err)
		}
		if n := len(envs[i].Messages); n > l.Messages {
			return nil, fmt.Errorf("envelope %d %w: %d messages, at most %d", i, ErrTooLarge, n, l.Messages)
		}
	}
	return envs, nil
}

// Batch returns how many of msgs, at least one of a non-empty slice, go into the
// next frame so that it stays near SoftFrame. The estimate is on the high side.
func Batch(msgs []Message) int {
	size := 0
	for i := range msgs {
		size += msgs[i].Msgsize()
		if size > SoftFrame && i > 0 {
			return i
		}
	}
	return len(msgs)
}
