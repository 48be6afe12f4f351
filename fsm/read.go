package fsm

import (
	"context"
	"database/sql"
	"errors"
	"fmt"

	"github.com/orrery-io/orrery/job"

	"github.com/tinylib/msgp/msgp"
)

// The by-id reads of the overlay tables.
const (
	sqlGetJob   = "SELECT doc FROM jobs WHERE id = ?"
	sqlGetKey   = "SELECT job, hash FROM keys WHERE key = ?"
	sqlGetHead  = "SELECT doc FROM log_heads WHERE job = ? AND fence = ?"
	sqlGetChunk = "SELECT doc FROM log_chunks WHERE id = ?"
)

// lookups are the prepared by-id reads.
type lookups struct{ job, key, head, chunk *sql.Stmt }

func (l *lookups) prepare(ctx context.Context, db *sql.DB) (err error) {
	for _, x := range []struct {
		to  **sql.Stmt
		sql string
	}{{&l.job, sqlGetJob}, {&l.key, sqlGetKey}, {&l.head, sqlGetHead}, {&l.chunk, sqlGetChunk}} {
		if *x.to, err = db.PrepareContext(ctx, x.sql); err != nil { //nolint:sqlclosecheck // by close
			return err
		}
	}
	return nil
}

func (l *lookups) close() {
	for _, s := range []*sql.Stmt{l.job, l.key, l.head, l.chunk} {
		if s != nil {
			_ = s.Close()
		}
	}
}

// getDoc reads one row that is a document, nil when there is none.
func getDoc[T any, P interface {
	*T
	msgp.Unmarshaler
}](ctx context.Context, s *sql.Stmt, args ...any) (*T, error) {
	var doc sql.RawBytes
	// A cancelable context would cost a goroutine per lookup of a few µs.
	rows, err := s.QueryContext(context.WithoutCancel(ctx), args...)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	if !rows.Next() {
		return nil, rows.Err()
	}
	if err := rows.Scan(&doc); err != nil {
		return nil, err
	}
	raw, err := unseal(doc)
	if err != nil {
		return nil, err
	}
	v, err := decodeDoc[T, P](raw)
	if err != nil {
		return nil, err
	}
	return v, rows.Close()
}

// decodeDoc decodes a row's document, which it does not keep.
func decodeDoc[T any, P interface {
	*T
	msgp.Unmarshaler
}](doc []byte) (*T, error) {
	v := P(new(T))
	if _, err := v.UnmarshalMsg(doc); err != nil {
		return nil, fmt.Errorf("decode %T: %w", v, err)
	}
	return (*T)(v), nil
}

func (s *store) job(ctx context.Context, id job.ID) (*job.Job, error) {
	j, err := getDoc[job.Job](ctx, s.get.job, int64(id))
	if err != nil {
		return nil, fmt.Errorf("read job %d: %w", id, explain(s.path, err))
	}
	return j, nil
}

func (s *store) key(ctx context.Context, key string) (*keyRow, error) {
	var row keyRow
	var id int64
	err := s.get.key.QueryRowContext(context.WithoutCancel(ctx), key).Scan(&id, &row.Hash)
	if errors.Is(err, sql.ErrNoRows) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read idempotency key: %w", explain(s.path, err))
	}
	row.Job = job.ID(id)
	return &row, nil
}

func (s *store) head(ctx context.Context, k attemptKey) (*logHead, error) {
	h, err := getDoc[logHead](ctx, s.get.head, int64(k.job), int64(k.fence)) //nolint:gosec // a log index
	if err != nil {
		return nil, fmt.Errorf("read log of job %d: %w", k.job, explain(s.path, err))
	}
	return h, nil
}

func (s *store) chunk(ctx context.Context, id int64) (*job.LogChunk, error) {
	c, err := getDoc[job.LogChunk](ctx, s.get.chunk, id)
	if err != nil {
		return nil, fmt.Errorf("read log chunk %d: %w", id, explain(s.path, err))
	}
	return c, nil
}
