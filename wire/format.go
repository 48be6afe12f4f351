package wire

import "strings"

// Format is how the messages of a frame are written.
type Format uint8

// The formats. The zero value is MessagePack.
const (
	Msgpack Format = iota
	JSON
)

// Subprotocols lists the names that a WebSocket handshake offers or accepts, the
// preferred one first.
func Subprotocols() []string { return []string{SubprotocolMsgpack, SubprotocolJSON} }

// FormatOf returns the format of a negotiated subprotocol, and false for one that
// is not Orrery's. As in the handshake, case does not matter.
func FormatOf(subprotocol string) (Format, bool) {
	switch {
	case strings.EqualFold(subprotocol, SubprotocolMsgpack):
		return Msgpack, true
	case strings.EqualFold(subprotocol, SubprotocolJSON):
		return JSON, true
	default:
		return 0, false
	}
}

// Subprotocol is the name of the format in a WebSocket handshake.
func (f Format) Subprotocol() string {
	if f == JSON {
		return SubprotocolJSON
	}
	return SubprotocolMsgpack
}

// Binary reports whether a frame is a binary WebSocket message; otherwise it is a
// text message.
func (f Format) Binary() bool { return f != JSON }

// String returns "json" or "msgpack".
func (f Format) String() string {
	if f == JSON {
		return "json"
	}
	return "msgpack"
}
