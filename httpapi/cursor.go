package httpapi

import (
	"encoding/base64"
	"encoding/binary"
	"hash/crc32"

	"github.com/orrery-io/orrery/job"
)

// A cursor is where a list goes on. Clients treat it as opaque; it is the format
// byte, the id of the last job that was shown (8 bytes), and a checksum (4 bytes)
// over both and the query that it belongs to.
const (
	cursorFormat = 1
	cursorSize   = 1 + 8 + 4
)

// encodeCursor makes the cursor after id, for the list that scope names.
func encodeCursor(id job.ID, scope string) string {
	b := make([]byte, 0, cursorSize)
	b = append(b, cursorFormat)
	b = binary.BigEndian.AppendUint64(b, uint64(id)) //nolint:gosec // ids are positive
	b = binary.BigEndian.AppendUint32(b, cursorSum(b, scope))
	return base64.RawURLEncoding.EncodeToString(b)
}

// decodeCursor is the inverse of encodeCursor. The second result is false for
// what is no cursor, or one of another list.
func decodeCursor(text, scope string) (job.ID, bool) {
	b, err := base64.RawURLEncoding.Strict().DecodeString(text)
	if err != nil || len(b) != cursorSize || b[0] != cursorFormat {
		return 0, false
	}
	if binary.BigEndian.Uint32(b[9:]) != cursorSum(b[:9], scope) {
		return 0, false
	}
	id := job.ID(binary.BigEndian.Uint64(b[1:9])) //nolint:gosec // checked below
	return id, id > 0
}

func cursorSum(b []byte, scope string) uint32 {
	return crc32.Update(crc32.ChecksumIEEE(b), crc32.IEEETable, []byte(scope))
}

// A cursor in a list by name is the format byte, a checksum (4 bytes) and the name
// that was shown last.
const (
	nameCursorFormat = 2
	nameCursorHead   = 1 + 4
)

// encodeNameCursor makes the cursor after a name, for the list that scope names.
func encodeNameCursor(name, scope string) string {
	b := make([]byte, 0, nameCursorHead+len(name))
	b = append(b, nameCursorFormat)
	b = binary.BigEndian.AppendUint32(b, cursorSum([]byte(name), scope))
	return base64.RawURLEncoding.EncodeToString(append(b, name...))
}

// decodeNameCursor is the inverse of encodeNameCursor. The second result is false for
// what is no cursor, or one of another list.
func decodeNameCursor(text, scope string) (string, bool) {
	b, err := base64.RawURLEncoding.Strict().DecodeString(text)
	if err != nil || len(b) <= nameCursorHead || b[0] != nameCursorFormat {
		return "", false
	}
	name := b[nameCursorHead:]
	return string(name), binary.BigEndian.Uint32(b[1:]) == cursorSum(name, scope)
}
