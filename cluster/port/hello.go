package port

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"unicode"
	"unicode/utf8"
)

// maxHello is the largest hello in bytes, without its length. maxName bounds each text
// in it.
const (
	maxHello = 2048
	maxName  = 255
)

// hello is what each side says first, the one who has connected before the other: two
// bytes of length, most significant first, and this as JSON. Unknown fields are
// ignored.
type hello struct {
	Node    string `json:"node"`
	Cluster string `json:"cluster,omitempty"`
	Version string `json:"version,omitempty"`
	// Refused says why there will be no connection, as one of the refusals; empty
	// means that there is one.
	Refused string `json:"refused,omitempty"`
}

// Refusals that a hello may carry.
const (
	refusedForeign  = "foreign_cluster"
	refusedBusy     = "busy"
	refusedStopping = "stopping"
)

var errHello = errors.New("malformed hello")

// writeHello sends a hello.
func writeHello(w io.Writer, h hello) error {
	body, err := json.Marshal(h)
	if err != nil {
		return err
	}
	if len(body) > maxHello {
		return fmt.Errorf("%w: %d bytes, at most %d are allowed", errHello, len(body), maxHello)
	}
	frame := binary.BigEndian.AppendUint16(nil, uint16(len(body))) //nolint:gosec // bounded above
	_, err = w.Write(append(frame, body...))
	return err
}

// readHello reads no byte behind the hello, and never more than maxHello.
func readHello(r io.Reader) (hello, error) {
	var size [2]byte
	if _, err := io.ReadFull(r, size[:]); err != nil {
		return hello{}, err
	}
	n := binary.BigEndian.Uint16(size[:])
	if n > maxHello {
		return hello{}, fmt.Errorf("%w: %d bytes, at most %d are allowed", errHello, n, maxHello)
	}
	body := make([]byte, n)
	if _, err := io.ReadFull(r, body); err != nil {
		return hello{}, err
	}
	var h hello
	if err := json.Unmarshal(body, &h); err != nil {
		return hello{}, fmt.Errorf("%w: %w", errHello, err)
	}
	for _, s := range []string{h.Node, h.Cluster, h.Version, h.Refused} {
		if len(s) > maxName || !utf8.ValidString(s) || strings.ContainsFunc(s, unicode.IsControl) {
			return hello{}, fmt.Errorf("%w: a name is too long or contains control characters", errHello)
		}
	}
	if h.Node == "" {
		return hello{}, fmt.Errorf("%w: no node id", errHello)
	}
	return h, nil
}
