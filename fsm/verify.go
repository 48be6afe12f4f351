package fsm

import (
	"bufio"
	"context"
	"crypto/sha256"
	"database/sql"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"sync"

	"github.com/orrery-io/orrery/job"
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

// logicalSchedules follow once the schema has them.
var logicalSchedules = [...]string{
	"SELECT name, doc FROM schedules ORDER BY name",
	"SELECT schedule, seq, doc FROM ticks ORDER BY schedule, seq",
}

// logicalOf are the logical rows of a schema.
func logicalOf(schema int) []string {
	if schema < schemaSchedules {
		return logical[:]
	}
	return slices.Concat(logical[:], logicalSchedules[:])
}

// keptHashes is how many verifications are remembered.
const keptHashes = 8

// hashes are the newest verifications of this machine.
type hashes struct {
	mu   sync.Mutex
	list []*hashing // oldest first
	more signal     // list has grown
}

// hashing is a verification under way, or over.
type hashing struct {
	index  uint64
	done   chan struct{} // closed when sum or err is there
	sum    []byte
	err    error
	cancel context.CancelFunc
}

// stop ends what is under way, and waits for it.
func (h *hashes) stop() {
	h.mu.Lock()
	list := slices.Clone(h.list)
	h.mu.Unlock()
	for _, x := range list {
		x.cancel()
		<-x.done
	}
}

// errNoHash is for a verification that this machine has not seen, or has forgotten.
var errNoHash = job.Errorf(job.NotFound, "hash_not_found", "this node has no hash of its rows at that entry; verify again")

// Hash returns the SHA-256 of all logical rows as they were after the entry of a
// Verify command, which must be one of the newest eight. It waits until the entry is
// applied here and the rows are read, which takes about two seconds for a million
// jobs. Nothing waits for it meanwhile, but a received snapshot ends it. A row that is
// damaged is an error of which Config.OnDamage is told.
func (m *Machine) Hash(ctx context.Context, index uint64) ([]byte, error) {
	for {
		more := m.hashes.more.wait()
		applied := m.applied.Load() // before the look at the list
		if x := m.hashes.find(index); x != nil {
			select {
			case <-x.done:
				return x.sum, x.err
			case <-ctx.Done():
				return nil, context.Cause(ctx)
			}
		}
		// The list grows a moment after applied.
		if applied > index {
			return nil, errNoHash
		}
		select {
		case <-more:
		case <-m.dead:
			return nil, m.failed()
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
}

func (h *hashes) find(index uint64) *hashing {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, x := range h.list {
		if x.index == index {
			return x
		}
	}
	return nil
}

// beginHash begins to hash the rows as SQLite has them, inside a read transaction, so
// that apply may go on. Apply calls it between two entries, and has flushed.
func (m *Machine) beginHash(index uint64) error {
	sum := sha256.New()
	w := &rowHash{w: bufio.NewWriterSize(sum, 64<<10)}
	var doc []byte
	var err error
	m.state.requests.each(func(r *requestRow) {
		if err == nil {
			doc, err = r.MarshalMsg(doc[:0])
			w.bytes('r', doc)
		}
	})
	if err != nil {
		return err
	}
	// A connection of its own: the pool's may be busy, and apply must not wait.
	address, err := readerDSN(m.store.path)
	if err != nil {
		return err
	}
	db, err := sql.Open("sqlite", address)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(context.Background())
	tx, err := db.BeginTx(ctx, nil)
	if err == nil {
		var at int64
		err = tx.QueryRowContext(ctx, "SELECT applied_index FROM meta").Scan(&at) // now it has its view
	}
	if err != nil {
		cancel()
		return errors.Join(explain(m.store.path, err), db.Close())
	}
	x := &hashing{index: index, done: make(chan struct{}), cancel: cancel}
	m.hashes.mu.Lock()
	if len(m.hashes.list) == keptHashes {
		m.hashes.list[0].cancel()
		m.hashes.list = m.hashes.list[1:]
	}
	m.hashes.list = append(m.hashes.list, x)
	m.hashes.mu.Unlock()
	m.hashes.more.broadcast()
	go func() {
		defer close(x.done)
		defer cancel()
		defer db.Close()
		defer func() { _ = tx.Rollback() }()
		if err := w.rows(ctx, tx); err != nil {
			x.err = m.readError(explain(m.store.path, err))
			return
		}
		x.sum = sum.Sum(nil)
	}()
	return nil
}

// rows hashes all logical rows.
func (h *rowHash) rows(ctx context.Context, tx *sql.Tx) error {
	var schema int
	if err := tx.QueryRowContext(ctx, "PRAGMA user_version").Scan(&schema); err != nil {
		return err
	}
	for i, query := range logicalOf(schema) {
		h.number('t', int64(i))
		h.to = h.to[:0]
		if err := h.table(ctx, tx, query); err != nil {
			return fmt.Errorf("%s: %w", query, err)
		}
	}
	return h.w.Flush()
}

func (h *rowHash) table(ctx context.Context, tx *sql.Tx, query string) error {
	rows, err := tx.QueryContext(ctx, query)
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		if err := h.row(row{rows}); err != nil {
			return err
		}
	}
	return rows.Err()
}

// rowHash feeds rows to a hash, every value with its length.
type rowHash struct {
	w      *bufio.Writer
	values []sql.RawBytes
	to     []any
	doc    int // which of them is the document, -1 for none
}

func (h *rowHash) row(r row) error {
	if len(h.to) == 0 {
		cols, err := r.Columns()
		if err != nil {
			return err
		}
		h.values, h.doc = make([]sql.RawBytes, len(cols)), slices.Index(cols, "doc")
		for i := range h.values {
			h.to = append(h.to, &h.values[i])
		}
	}
	if err := r.Scan(h.to...); err != nil {
		return err
	}
	if h.doc >= 0 {
		if _, err := unseal(h.values[h.doc]); err != nil {
			return err
		}
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
