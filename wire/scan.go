package wire

import (
	"bytes"
	"encoding/binary"
	"fmt"
)

// checkMsgpack walks over b, which must be one MessagePack value, and refuses what
// is cut off, goes on after its end, is too deep or has too many values. It
// allocates nothing, so that what the sender merely claims costs nothing.
func checkMsgpack(b []byte, l Limits) error {
	var left [maxDepth + 1]uint64 // values still to come at each depth
	left[0] = 1
	depth, values := 0, 0
	for {
		for left[depth] == 0 {
			if depth == 0 {
				if len(b) > 0 {
					return fmt.Errorf("the frame %w: %d bytes follow its end", ErrMalformed, len(b))
				}
				return nil
			}
			depth--
		}
		left[depth]--
		if values++; values > l.Values {
			return fmt.Errorf("the frame %w: more than %d values", ErrTooLarge, l.Values)
		}
		size, inner, err := msgpackValue(b)
		if err != nil {
			return err
		}
		if uint64(len(b)) < size || uint64(len(b))-size < inner {
			return errCutOff
		}
		b = b[size:]
		if inner > 0 {
			if depth++; depth > l.Depth {
				return fmt.Errorf("the frame %w: nested more than %d levels deep", ErrTooLarge, l.Depth)
			}
			left[depth] = inner
		}
	}
}

var errCutOff = fmt.Errorf("the frame %w: it ends in the middle", ErrMalformed)

// msgpackValue returns how many bytes the value at the start of b takes (for a map
// or array: its header) and how many values follow inside it.
func msgpackValue(b []byte) (size, inner uint64, err error) {
	if len(b) == 0 {
		return 0, 0, errCutOff
	}
	c := b[0]
	switch {
	case c <= 0x7f || c >= 0xe0: // small integers
		return 1, 0, nil
	case c <= 0x8f:
		return 1, 2 * uint64(c&0x0f), nil
	case c <= 0x9f:
		return 1, uint64(c & 0x0f), nil
	case c <= 0xbf:
		return 1 + uint64(c&0x1f), 0, nil
	}
	v := msgpackKinds[c-0xc0]
	if v.head == 0 {
		return 0, 0, fmt.Errorf("the frame %w: byte 0x%02x begins no value", ErrMalformed, c)
	}
	if len(b) < int(v.head) {
		return 0, 0, errCutOff
	}
	var n uint64
	switch v.length {
	case 1:
		n = uint64(b[1])
	case 2:
		n = uint64(binary.BigEndian.Uint16(b[1:]))
	case 4:
		n = uint64(binary.BigEndian.Uint32(b[1:]))
	}
	if v.inner > 0 {
		return uint64(v.head), n * uint64(v.inner), nil
	}
	return uint64(v.head) + n, 0, nil
}

// msgpackKinds describes the values whose first byte is 0xc0 to 0xdf: the size of
// head and fixed data, how many bytes after the first give a length, and how many
// values follow inside for each of that length (0: it counts bytes).
var msgpackKinds = [32]struct{ head, length, inner uint8 }{
	{1, 0, 0}, {}, {1, 0, 0}, {1, 0, 0}, // nil, never used, false, true
	{2, 1, 0}, {3, 2, 0}, {5, 4, 0}, // bin
	{3, 1, 0}, {4, 2, 0}, {6, 4, 0}, // ext
	{5, 0, 0}, {9, 0, 0}, // float
	{2, 0, 0}, {3, 0, 0}, {5, 0, 0}, {9, 0, 0}, // uint
	{2, 0, 0}, {3, 0, 0}, {5, 0, 0}, {9, 0, 0}, // int
	{3, 0, 0}, {4, 0, 0}, {6, 0, 0}, {10, 0, 0}, {18, 0, 0}, // fixext
	{2, 1, 0}, {3, 2, 0}, {5, 4, 0}, // str
	{3, 2, 1}, {5, 4, 1}, // array
	{3, 2, 2}, {5, 4, 2}, // map
}

// splitter cuts a JSON frame into its messages without building anything. It
// checks only what it needs to find the cuts; encoding/json checks the rest.
type splitter struct {
	b      []byte
	limits Limits
	values int
	begun  bool
}

// open reads the bracket that begins the frame.
func (s *splitter) open() error {
	s.space()
	if len(s.b) == 0 || s.b[0] != '[' {
		return fmt.Errorf("the frame %w: it must be an array of messages", ErrMalformed)
	}
	s.b = s.b[1:]
	return nil
}

// next returns the bytes of the next message, nil after the last.
func (s *splitter) next() ([]byte, error) {
	s.space()
	if len(s.b) > 0 && s.b[0] == ']' {
		s.b = s.b[1:]
		s.space()
		if len(s.b) > 0 {
			return nil, fmt.Errorf("the frame %w: %d bytes follow its end", ErrMalformed, len(s.b))
		}
		return nil, nil
	}
	if s.begun {
		if len(s.b) == 0 {
			return nil, errCutOff
		}
		if s.b[0] != ',' {
			return nil, fmt.Errorf("the frame %w: a comma must stand between messages", ErrMalformed)
		}
		s.b = s.b[1:]
		s.space()
	}
	s.begun = true
	if len(s.b) == 0 || s.b[0] != '{' {
		return nil, fmt.Errorf("the frame %w: a message must be an object", ErrMalformed)
	}
	n, err := s.object()
	if err != nil {
		return nil, err
	}
	raw := s.b[:n]
	s.b = s.b[n:]
	return raw, nil
}

// object returns the length of the object at the start of b. What a result or a
// dispatch carries is the user's: encoding/json copies it as it is, so neither its
// values nor its depth count.
func (s *splitter) object() (int, error) {
	free := holdsJSON(s.b)
	depth := 1 // of the frame's array
	for i := 0; i < len(s.b); i++ {
		count := 0
		switch s.b[i] {
		case '"':
			end := stringEnd(s.b[i+1:])
			if end < 0 {
				return 0, errCutOff
			}
			i += end
		case '{', '[':
			depth++
			count = 1
		case ',':
			free = free && depth > 2 // a second kind is none of the user's
			count = 1
		case ':':
			count = 1
		case '}', ']':
			if depth--; depth == 1 {
				return i + 1, nil
			}
		}
		if free {
			continue
		}
		if s.values += count; s.values > s.limits.Values {
			return 0, fmt.Errorf("the frame %w: more than %d values", ErrTooLarge, s.limits.Values)
		}
		if depth > s.limits.Depth {
			return 0, fmt.Errorf("the frame %w: nested more than %d levels deep", ErrTooLarge, s.limits.Depth)
		}
	}
	return 0, errCutOff
}

// holdsJSON reports whether the message at the start of b is of a kind that carries
// JSON of the user's.
func holdsJSON(b []byte) bool {
	return bytes.HasPrefix(b, []byte(`{"result":`)) || bytes.HasPrefix(b, []byte(`{"dispatch":`))
}

// stringEnd returns the offset just past the quote that ends the string in b,
// which begins after its first quote; -1 when there is none.
func stringEnd(b []byte) int {
	for i := 0; i < len(b); i++ {
		switch b[i] {
		case '\\':
			i++
		case '"':
			return i + 1
		}
	}
	return -1
}

func (s *splitter) space() {
	for len(s.b) > 0 {
		switch s.b[0] {
		case ' ', '\t', '\r', '\n':
			s.b = s.b[1:]
		default:
			return
		}
	}
}
