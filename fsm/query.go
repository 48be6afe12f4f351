package fsm

import (
	"context"
	"database/sql"
)

// row is one row of a result.
type row struct{ *sql.Rows }

// scanDoc reads a row whose last column is a document. The document is valid
// until the next row.
func (r row) scanDoc(cols ...any) ([]byte, error) {
	var doc sql.RawBytes
	if err := r.Scan(append(cols, &doc)...); err != nil {
		return nil, err
	}
	return unseal(doc)
}

// each calls f for every row of a query, on the pool for lists.
func (s *store) each(ctx context.Context, query string, f func(row) error) error {
	return s.some(ctx, query, nil, func(r row) (bool, error) { return true, f(r) })
}

// some calls f for the rows of a query until it returns false.
func (s *store) some(ctx context.Context, query string, args []any, f func(row) (bool, error)) error {
	rows, err := s.lists.QueryContext(ctx, query, args...)
	if err != nil {
		return explain(s.path, err)
	}
	defer rows.Close()
	for rows.Next() {
		more, err := f(row{rows})
		if err != nil {
			return explain(s.path, err)
		}
		if !more {
			return rows.Close()
		}
	}
	if err := rows.Err(); err != nil {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		return explain(s.path, err)
	}
	return rows.Close()
}

// list reads a query for one of the machine's questions. f must not ask the
// machine anything.
func (m *Machine) list(ctx context.Context, query string, args []any, f func(row) (bool, error)) error {
	m.gate.RLock()
	defer m.gate.RUnlock()
	if err := m.store.some(ctx, query, args, f); err != nil {
		return m.readError(err)
	}
	return nil
}
