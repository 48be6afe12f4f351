package fsm

import (
	"bufio"
	"context"
	"crypto/sha256"
	"database/sql"
	"encoding/binary"
	"fmt"
)

// logical are the rows that must be equal on every node, each table in the order
// of its key. What a node knows for itself (applied index, marker, sizes) is not
// among them, and neither are columns that are projected from the document.
var logical = [...]string{
	"SELECT last_id, last_chunk, cluster_id, feed_trimmed FROM meta",
	"SELECT id, doc FROM jobs ORDER BY id",
	"SELECT key, job, hash FROM keys ORDER BY key",
	"SELECT job, fence, doc FROM log_heads ORDER BY job, fence",
	"SELECT id, doc FROM log_chunks ORDER BY id",
	"SELECT name, doc FROM queues ORDER BY name",
	"SELECT id, doc FROM agents ORDER BY id",
	"SELECT idx, doc FROM feed ORDER BY idx",
}

// hash returns the SHA-256 of all logical rows as SQLite has them, and of the
// request ids that are remembered. Apply stands still meanwhile, and has flushed.
func (m *Machine) hash() ([]byte, error) {
	sum := sha256.New()
	w := &rowHash{w: bufio.NewWriterSize(sum, 64<<10)}
	for i, query := range logical {
		w.number('t', int64(i))
		w.to = w.to[:0]
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

// rowHash feeds rows to a hash, every value with its length.
type rowHash struct {
	w      *bufio.Writer
	values []sql.RawBytes
	to     []any
}

func (h *rowHash) row(r row) error {
	if len(h.to) == 0 {
		cols, err := r.Columns()
		if err != nil {
			return err
		}
		h.values = make([]sql.RawBytes, len(cols))
		for i := range h.values {
			h.to = append(h.to, &h.values[i])
		}
	}
	if err := r.Scan(h.to...); err != nil {
		return err
	}
	for _, v := range h.values {
		if v == nil {
			h.number('n', 0)
		} else {
			h.bytes('v', v)
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
