package fsm

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"strings"

	"github.com/orrery-io/orrery/job"

	"modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"
)

// store is one open database: a connection that writes, and pools that read.
type store struct {
	path    string
	version int   // of the schema; changed by the flusher only, under the machine's gate
	stamp   stamp // of the newest transaction; the flusher's

	writer *sql.DB
	conn   *sql.Conn // the writer's only connection
	raw    driver.Conn
	stmts  statements
	jobs   jobWriter

	trimmed uint64 // entries up to it are gone from feed; the flusher's

	keyed *sql.DB // by-id reads, also those of apply; never long
	lists *sql.DB // everything else
	get   lookups
}

// The shape of the pools. Lists may take long; they must not keep apply from
// reading a row.
const (
	keyedConns = 2
	listConns  = 4
)

// dsn is the address of a database file for the driver. PRAGMAs belong here: as
// statements they would reach one pooled connection only.
func dsn(path, mode string, pragmas ...string) (string, error) {
	abs, err := filepath.Abs(path)
	if err != nil {
		return "", err
	}
	q := url.Values{"mode": {mode}, "_pragma": pragmas}
	u := url.URL{Scheme: "file", Path: abs, RawQuery: q.Encode()}
	return u.String(), nil
}

func writerDSN(path string) (string, error) {
	return dsn(
		path, "rwc",
		"busy_timeout(10000)",
		"cache_size(-8000)",
		"foreign_keys(0)",
		"journal_mode(WAL)",
		"journal_size_limit(67108864)",
		"synchronous(NORMAL)",
		"temp_store(MEMORY)",
		"wal_autocheckpoint(4000)",
	)
}

func readerDSN(path string) (string, error) {
	return dsn(path, "rw", "busy_timeout(10000)", "cache_size(-2000)", "foreign_keys(0)", "query_only(1)", "temp_store(MEMORY)")
}

// openStore opens the database at path and makes one there when the file is
// missing. It refuses what is damaged, foreign or newer.
func openStore(ctx context.Context, path string, list []migration) (_ *store, err error) {
	if err := probe(path); err != nil {
		return nil, err
	}
	if err := checkLog(path); err != nil {
		return nil, err
	}
	s := &store{path: path}
	defer func() {
		if err != nil {
			s.close()
		}
	}()
	wdsn, err := writerDSN(path)
	if err != nil {
		return nil, err
	}
	rdsn, err := readerDSN(path)
	if err != nil {
		return nil, err
	}
	if s.writer, err = sql.Open("sqlite", wdsn); err != nil {
		return nil, err
	}
	s.writer.SetMaxOpenConns(1)
	if s.conn, err = s.writer.Conn(ctx); err != nil {
		return nil, explain(path, err)
	}
	if s.version, err = s.checkSchema(ctx, list); err != nil {
		return nil, explain(path, err)
	}
	if err = s.checkPages(ctx); err != nil {
		return nil, explain(path, err)
	}
	if err = s.readStamp(ctx); err != nil {
		return nil, explain(path, err)
	}
	if err = s.conn.Raw(func(c any) error {
		s.raw = c.(driver.Conn)
		return s.stmts.prepare(ctx, s.raw, s.version)
	}); err != nil {
		return nil, explain(path, err)
	}
	if s.keyed, err = openReaders(rdsn, keyedConns); err != nil {
		return nil, err
	}
	if s.lists, err = openReaders(rdsn, listConns); err != nil {
		return nil, err
	}
	if err = s.get.prepare(ctx, s.keyed); err != nil {
		return nil, explain(path, err)
	}
	return s, nil
}

func openReaders(rdsn string, n int) (*sql.DB, error) {
	db, err := sql.Open("sqlite", rdsn)
	if err != nil {
		return nil, err
	}
	db.SetMaxOpenConns(n)
	db.SetMaxIdleConns(n)
	return db, nil
}

// probe finds out, before SQLite opens the file, whether it can be opened at all:
// SQLite says "out of memory" and the like for that.
func probe(path string) error {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return job.Errorf(job.Unavailable, "database_unreadable",
			"the database %s cannot be opened (%s); make the data folder readable and writable for the user that runs this node", path, pathReason(err))
	}
	return f.Close()
}

func pathReason(err error) string {
	if pe, ok := errors.AsType[*fs.PathError](err); ok {
		return pe.Err.Error()
	}
	return err.Error()
}

// checkSchema makes an empty database ours, and returns the version of its schema.
func (s *store) checkSchema(ctx context.Context, list []migration) (int, error) {
	var app, version, objects int
	for _, q := range []struct {
		sql string
		to  *int
	}{
		{"PRAGMA application_id", &app},
		{"PRAGMA user_version", &version},
		{"SELECT count(*) FROM sqlite_schema", &objects},
	} {
		if err := s.conn.QueryRowContext(ctx, q.sql).Scan(q.to); err != nil {
			return 0, err
		}
	}
	if objects == 0 && version == 0 {
		return 1, s.create(ctx, list)
	}
	if app != applicationID {
		return 0, job.Errorf(job.Unavailable, "database_foreign",
			"%s is a SQLite database of another program; point the data folder elsewhere", s.path)
	}
	if version > newest(list) {
		return 0, errNewerSchema(version, newest(list))
	}
	return version, nil
}

// create makes the tables of version 1 in one transaction.
func (s *store) create(ctx context.Context, list []migration) error {
	return s.transaction(ctx, func() error {
		if _, err := s.conn.ExecContext(ctx, fmt.Sprintf("PRAGMA application_id = %d", applicationID)); err != nil {
			return err
		}
		err := migrateTo(func(query string) error {
			_, err := s.conn.ExecContext(ctx, query)
			return err
		}, list, 0, 1)
		if err != nil {
			return err
		}
		first := newStamp()
		_, err = s.conn.ExecContext(ctx, sqlStamp, first[:])
		return err
	})
}

// transaction runs f between BEGIN IMMEDIATE and COMMIT on the writer.
func (s *store) transaction(ctx context.Context, f func() error) error {
	if _, err := s.conn.ExecContext(ctx, "BEGIN IMMEDIATE"); err != nil {
		return err
	}
	err := f()
	if err == nil {
		_, err = s.conn.ExecContext(ctx, "COMMIT")
	}
	if err != nil {
		_, _ = s.conn.ExecContext(context.WithoutCancel(ctx), "ROLLBACK") // may have happened by itself
	}
	return err
}

// settle fsyncs what the process before this one may have left to the system: a
// commit with synchronous=FULL syncs the write-ahead log as a whole.
func (s *store) settle(ctx context.Context) error {
	if _, err := s.conn.ExecContext(ctx, "PRAGMA synchronous = FULL"); err != nil {
		return explain(s.path, err)
	}
	next := s.stamp.next()
	err := s.transaction(ctx, func() error {
		_, err := s.conn.ExecContext(ctx, sqlStamp, next[:])
		return err
	})
	if err != nil {
		return explain(s.path, err)
	}
	s.stamp = next
	_, err = s.conn.ExecContext(ctx, "PRAGMA synchronous = NORMAL")
	return err
}

// cheapCheck is up to which size a database is checked page by page when it is
// opened. Beyond it the check would delay the start by more than it is worth.
const cheapCheck = 16 << 20

func (s *store) checkPages(ctx context.Context) error {
	info, err := os.Stat(s.path)
	if err != nil || info.Size() > cheapCheck {
		return err
	}
	return quickCheck(ctx, s.conn, s.path)
}

// quickCheck reads every page of a database.
func quickCheck(ctx context.Context, c *sql.Conn, path string) error {
	var answer string
	if err := c.QueryRowContext(ctx, "PRAGMA quick_check(1)").Scan(&answer); err != nil {
		return err
	}
	if answer != "ok" {
		return errDamaged(path, answer)
	}
	return nil
}

func (s *store) close() {
	if s.conn != nil {
		if s.raw != nil {
			_ = s.conn.Raw(func(any) error { s.stmts.close(); return nil })
		}
		_ = s.conn.Close()
	}
	s.get.close()
	for _, db := range []*sql.DB{s.keyed, s.lists, s.writer} {
		if db != nil {
			_ = db.Close()
		}
	}
}

func errDamaged(path, detail string) error {
	return job.Errorf(job.Unavailable, "database_damaged",
		"the database %s is damaged (%s); restore the data folder from a backup, or remove this node and let it join again with an empty one", path, strings.Join(strings.Fields(detail), " "))
}

// explain turns what SQLite says into a sentence with a remedy. Other errors stay
// as they are.
func explain(path string, err error) error {
	if errors.Is(err, errSeal) {
		return errDamaged(path, err.Error())
	}
	e, ok := errors.AsType[*sqlite.Error](err)
	if !ok {
		return err
	}
	text := strings.TrimSpace(e.Error())
	switch e.Code() & 0xff {
	case sqlite3.SQLITE_FULL:
		return fmt.Errorf("%w (%s)", errDiskFull(path), text)
	case sqlite3.SQLITE_IOERR:
		// With its own files SQLite says so when there is no room for the shared
		// memory of the write-ahead log.
		if diskFull(path) {
			return fmt.Errorf("%w (%s)", errDiskFull(path), text)
		}
		return fmt.Errorf("%w (%s)", job.Errorf(job.Unavailable, "disk_error",
			"the disk that holds %s reports an error; check the disk and start this node again", path), text)
	case sqlite3.SQLITE_NOTADB:
		return job.Errorf(job.Unavailable, "database_damaged",
			"%s is not a SQLite database; restore the data folder from a backup, or point it elsewhere", path)
	case sqlite3.SQLITE_CORRUPT:
		return errDamaged(path, text)
	case sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_PERM, sqlite3.SQLITE_READONLY:
		return job.Errorf(job.Unavailable, "database_unreadable",
			"the database %s cannot be opened for writing (%s); make the data folder readable and writable for the user that runs this node", path, text)
	case sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED:
		return job.Errorf(job.Unavailable, "database_locked",
			"the database %s is in use by another program; stop that one first", path)
	default:
		return err
	}
}

func errDiskFull(path string) *job.Error {
	return job.Errorf(job.Unavailable, "disk_full",
		"the disk that holds %s is full; free some space and start this node again, nothing was damaged", path)
}
