package fsm

import (
	"bufio"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
)

// logical are the rows that must be equal on every node, each table in the order
// of its key. What a node knows for itself (applied index, marker, sizes) is not
// among them.
var logical = [...]string{
	"SELECT last_id, last_chunk, cluster_id, feed_trimmed FROM meta",
	"SELECT * FROM jobs ORDER BY id",
	"SELECT * FROM keys ORDER BY key",
	"SELECT * FROM log_heads ORDER BY job, fence",
	"SELECT * FROM log_chunks ORDER BY id",
	"SELECT * FROM queues ORDER BY name",
	"SELECT * FROM agents ORDER BY id",
	"SELECT * FROM feed ORDER BY idx",
}

// hash returns the SHA-256 of all logical rows as SQLite has them, and of the
// request ids that are remembered. Apply stands still meanwhile, and has flushed.
func (m *Machine) hash() ([]byte, error) {
	sum := sha256.New()
	w := &rowHash{w: bufio.NewWriterSize(sum, 64<<10)}
	for i, query := range logical {
		w.number('t', int64(i))
		if err := m.store.each(context.Background(), query, w.row); err != nil {
			return nil, fmt.Errorf("%s: %w", query, err)
		}
	}
	var doc []byte
	var err error
	m.state.requests.each(func(r *requestRow) {
		if err == nil {
			doc, err = r.MarshalMsg(doc[:0])
			w.bytes('r', doc)
		}
	})
	if err != nil {
		return nil, err
	}
	if err := w.w.Flush(); err != nil {
		return nil, err
	}
	return sum.Sum(nil), nil
}

// rowHash feeds rows to a hash, every value with its kind and length.
type rowHash struct {
	w      *bufio.Writer
	values []any
	to     []any
}

func (h *rowHash) row(r row) error {
	cols, err := r.Columns()
	if err != nil {
		return err
	}
	h.values = make([]any, len(cols))
	h.to = h.to[:0]
	for i := range h.values {
		h.to = append(h.to, &h.values[i])
	}
	if err := r.Scan(h.to...); err != nil {
		return err
	}
	h.number('w', int64(len(cols)))
	for i, v := range h.values {
		switch v := v.(type) {
		case nil:
			h.number('n', 0)
		case int64:
			h.number('i', v)
		case string:
			h.bytes('s', []byte(v))
		case []byte:
			h.bytes('b', v)
		default:
			return fmt.Errorf("column %s holds a %T", cols[i], v)
		}
	}
	return nil
}

// number and bytes ignore errors: bufio keeps the first one for Flush.
func (h *rowHash) number(kind byte, n int64) {
	var b [9]byte
	b[0] = kind
	binary.BigEndian.PutUint64(b[1:], uint64(n)) //nolint:gosec // the bits count
	_, _ = h.w.Write(b[:])
}

func (h *rowHash) bytes(kind byte, b []byte) {
	h.number(kind, int64(len(b)))
	_, _ = h.w.Write(b)
}
