package link

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/tinylib/msgp/msgp"
)

// softFrame is where the writer begins a new frame when much waits: large enough for
// the cost of a frame not to matter, small enough not to hold up what comes after.
const softFrame = 128 << 10

// frameHeader is the size of an array header that can count any number of messages.
const frameHeader = 5

var errMalformed = errors.New("the frame is malformed")

// beginFrame returns b, emptied, with room for a frame's header.
func beginFrame(b []byte) []byte { return append(b[:0], 0xdd, 0, 0, 0, 0) }

// endFrame writes how many messages follow the header.
func endFrame(b []byte, count int) []byte {
	binary.BigEndian.PutUint32(b[1:frameHeader], uint32(count))
	return b
}

// decodeFrame gives each message of a frame to take, until it returns an error. The
// messages' bodies refer to b. It is safe on hostile input: it makes nothing in
// proportion to what the sender only claims.
func decodeFrame(b []byte, take func(*message) error) error {
	n, b, err := msgp.ReadArrayHeaderBytes(b)
	if err != nil {
		return fmt.Errorf("%w: it is no array", errMalformed)
	}
	for i := range n {
		var m message
		if b, err = m.UnmarshalMsg(b); err != nil {
			return fmt.Errorf("%w: message %d of %d: %w", errMalformed, i, n, err)
		}
		if err := take(&m); err != nil {
			return err
		}
	}
	if len(b) > 0 {
		return fmt.Errorf("%w: %d bytes follow its end", errMalformed, len(b))
	}
	return nil
}
