package fsm

import (
	"encoding/binary"
	"errors"
	"hash/crc32"
)

// SQLite's pages have no checksum: a bit that the disk has turned inside a row would
// be read as if it had been written. So every document ends with one (CRC-32C, big
// endian), which is checked whenever the document is read.

// sealBytes is how long a seal is.
const sealBytes = 4

// errSeal says that a document is not what was written.
var errSeal = errors.New("the checksum of a row is wrong")

// seal ends a document.
func seal(doc []byte) []byte {
	return binary.BigEndian.AppendUint32(doc, crc32.Checksum(doc, crc32.MakeTable(crc32.Castagnoli)))
}

// unseal checks a document and returns it without its seal; nil stays nil.
func unseal(sealed []byte) ([]byte, error) {
	if sealed == nil {
		return nil, nil
	}
	n := len(sealed) - sealBytes
	if n < 0 || crc32.Checksum(sealed[:n], crc32.MakeTable(crc32.Castagnoli)) != binary.BigEndian.Uint32(sealed[n:]) {
		return nil, errSeal
	}
	return sealed[:n:n], nil
}
