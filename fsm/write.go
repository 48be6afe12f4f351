package fsm

import (
	"context"
	"database/sql/driver"
	"fmt"
	"strings"

	"github.com/orrery-io/orrery/job"
)

// The statements of the flusher. Rows are replaced whole; jobs, which are the
// bulk, go in many at once.
const (
	sqlPutJob   = "INSERT OR REPLACE INTO jobs (id, state, queue, type, priority, ready_at, created_at, finished_at, expires_at, retention, agent, error_kind, tags, correlation_id, doc"
	jobsAtOnce  = 16
	sqlDropJob  = "DELETE FROM jobs WHERE id = ?"
	sqlPutKey   = "INSERT OR REPLACE INTO keys (key, job, hash) VALUES (?, ?, ?)"
	sqlDropKey  = "DELETE FROM keys WHERE key = ?"
	sqlPutHead  = "INSERT OR REPLACE INTO log_heads (job, fence, doc) VALUES (?, ?, ?)"
	sqlDropHead = "DELETE FROM log_heads WHERE job = ? AND fence = ?"

	sqlPutChunk  = "INSERT OR REPLACE INTO log_chunks (id, doc) VALUES (?, ?)"
	sqlDropChunk = "DELETE FROM log_chunks WHERE id = ?"
	sqlPutQueue  = "INSERT OR REPLACE INTO queues (name, doc) VALUES (?, ?)"
	sqlPutAgent  = "INSERT OR REPLACE INTO agents (id, doc) VALUES (?, ?)"
	sqlDropAgent = "DELETE FROM agents WHERE id = ?"

	sqlPutSchedule  = "INSERT OR REPLACE INTO schedules (name, doc) VALUES (?, ?)"
	sqlDropSchedule = "DELETE FROM schedules WHERE name = ?"
	sqlPutTick      = "INSERT OR REPLACE INTO ticks (schedule, seq, doc) VALUES (?, ?, ?)"
	sqlDropTick     = "DELETE FROM ticks WHERE schedule = ? AND seq = ?"

	sqlPutFeed      = "INSERT INTO feed (idx, doc) VALUES (?, ?)"
	sqlTrimFeed     = "DELETE FROM feed WHERE idx <= ?"
	sqlPutRequests  = "INSERT INTO requests (idx, doc) VALUES (?, ?)"
	sqlTrimRequests = "DELETE FROM requests WHERE idx <= ?"
	sqlPutMeta      = "UPDATE meta SET applied_index = ?, applied_term = ?, last_time = ?, last_id = ?, last_chunk = ?, cluster_id = ?, feed_trimmed = ?, feed_bytes = ?, conf_index = ?, conf = ?, stamp = ?"
	sqlPutMarker    = "UPDATE meta SET marker_index = ?, marker_term = ?, marker_conf_index = ?, marker_conf = ?"
)

// statements are the prepared ones on the writer's connection.
type statements struct {
	all []driver.Stmt

	// jobColumns is how many arguments of putJobs are one job.
	jobColumns                int
	putJob, putJobs, dropJob  *statement
	putKey, dropKey           *statement
	putHead, dropHead         *statement
	putChunk, dropChunk       *statement
	putQueue                  *statement
	putAgent, dropAgent       *statement
	putFeed, trimFeed         *statement
	putRequests, trimRequests *statement
	putMeta, putMarker        *statement
	begin, commit, rollback   *statement

	// Of schema 2; nil until they are needed (prepareSchedules).
	putSchedule, dropSchedule, putTick, dropTick *statement
}

// statement is one prepared statement with room for its arguments. database/sql
// would lock, copy and convert for every row.
type statement struct {
	stmt driver.StmtExecContext
	args []driver.NamedValue
}

// preparation is a statement to be prepared.
type preparation struct {
	to  **statement
	sql string
}

// prepare prepares the statements that go with a version of the schema.
func (s *statements) prepare(ctx context.Context, raw driver.Conn, version int) error {
	if err := s.prepareJobs(ctx, raw, version); err != nil {
		return err
	}
	return s.prepareAll(ctx, raw, []preparation{
		{&s.dropJob, sqlDropJob},
		{&s.putKey, sqlPutKey},
		{&s.dropKey, sqlDropKey},
		{&s.putHead, sqlPutHead},
		{&s.dropHead, sqlDropHead},
		{&s.putChunk, sqlPutChunk},
		{&s.dropChunk, sqlDropChunk},
		{&s.putQueue, sqlPutQueue},
		{&s.putAgent, sqlPutAgent},
		{&s.dropAgent, sqlDropAgent},
		{&s.putFeed, sqlPutFeed},
		{&s.trimFeed, sqlTrimFeed},
		{&s.putRequests, sqlPutRequests},
		{&s.trimRequests, sqlTrimRequests},
		{&s.putMeta, sqlPutMeta},
		{&s.putMarker, sqlPutMarker},
		{&s.begin, "BEGIN IMMEDIATE"},
		{&s.commit, "COMMIT"},
		{&s.rollback, "ROLLBACK"},
	})
}

// prepareJobs prepares the statements that write jobs, whose columns have become more.
func (s *statements) prepareJobs(ctx context.Context, raw driver.Conn, version int) error {
	columns := sqlPutJob
	if version >= schemaSchedules {
		columns += ", schedule"
	}
	s.jobColumns = strings.Count(columns, ",") + 1
	row := "(" + strings.Repeat("?, ", s.jobColumns-1) + "?)"
	columns += ") VALUES "
	return s.prepareAll(ctx, raw, []preparation{
		{&s.putJob, columns + row},
		{&s.putJobs, columns + strings.Repeat(row+", ", jobsAtOnce-1) + row},
	})
}

// prepareSchedules prepares the statements that need the tables of schema 2.
func (s *statements) prepareSchedules(ctx context.Context, raw driver.Conn) error {
	if s.dropTick != nil {
		return nil
	}
	return s.prepareAll(ctx, raw, []preparation{
		{&s.putSchedule, sqlPutSchedule},
		{&s.dropSchedule, sqlDropSchedule},
		{&s.putTick, sqlPutTick},
		{&s.dropTick, sqlDropTick},
	})
}

func (s *statements) prepareAll(ctx context.Context, raw driver.Conn, list []preparation) error {
	c, ok := raw.(driver.ConnPrepareContext)
	if !ok {
		return fmt.Errorf("the SQLite driver's %T cannot prepare", raw)
	}
	for _, x := range list {
		stmt, err := c.PrepareContext(ctx, x.sql)
		if err != nil {
			return fmt.Errorf("prepare %.40s: %w", x.sql, err)
		}
		s.all = append(s.all, stmt)
		exec, ok := stmt.(driver.StmtExecContext)
		if !ok {
			return fmt.Errorf("the SQLite driver's %T cannot execute", stmt)
		}
		n := strings.Count(x.sql, "?")
		args := make([]driver.NamedValue, n)
		for i := range args {
			args[i].Ordinal = i + 1
		}
		*x.to = &statement{stmt: exec, args: args}
	}
	return nil
}

func (s *statements) close() {
	for _, x := range s.all {
		_ = x.Close()
	}
	s.all = nil
}

// exec runs the statement. Values are int64, string, []byte or nil: never a
// time.Time, whose text differs between nodes.
func (s *statement) exec(values ...driver.Value) error {
	for i, v := range values {
		s.args[i].Value = v
	}
	_, err := s.stmt.ExecContext(context.Background(), s.args)
	return err
}

// jobWriter collects the rows of jobs into statements of many rows.
type jobWriter struct {
	s    *statements
	n    int
	docs [jobsAtOnce][]byte // buffers, used again
}

func (w *jobWriter) put(j *job.Job) error {
	doc, err := j.MarshalMsg(w.docs[w.n][:0])
	if err != nil {
		return fmt.Errorf("encode job %d: %w", j.ID, err)
	}
	doc = seal(doc)
	w.docs[w.n] = doc
	columns := w.s.jobColumns
	bindJob(w.s.putJobs.args[w.n*columns:][:columns], j, doc)
	if w.n++; w.n < jobsAtOnce {
		return nil
	}
	w.n = 0
	return w.s.putJobs.exec()
}

// finish writes what is left.
func (w *jobWriter) finish() error {
	columns := w.s.jobColumns
	for i := range w.n {
		from := w.s.putJobs.args[i*columns:][:columns]
		for k := range from {
			w.s.putJob.args[k].Value = from[k].Value
		}
		if err := w.s.putJob.exec(); err != nil {
			return err
		}
	}
	w.n = 0
	for i, doc := range w.docs {
		if cap(doc) > 64<<10 {
			w.docs[i] = nil
		}
	}
	return nil
}

// bindJob projects the columns of a job in the order of sqlPutJob.
func bindJob(args []driver.NamedValue, j *job.Job, doc []byte) {
	args[0].Value = int64(j.ID)
	args[1].Value = int64(j.State)
	args[2].Value = j.Queue
	args[3].Value = j.Type
	args[4].Value = int64(j.Priority)
	args[5].Value = int64(j.ReadyAt)
	args[6].Value = int64(j.CreatedAt)
	args[7].Value = orNull(int64(j.FinishedAt))
	args[8].Value = orNull(int64(deadline(j)))
	args[9].Value = orNull(int64(j.Retention))
	args[10].Value = orNull(j.Agent)
	args[11].Value, args[12].Value = nil, nil
	if j.Error != nil {
		args[11].Value = orNull(j.Error.Kind)
	}
	if len(j.Tags) > 0 {
		args[12].Value = "|" + strings.Join(j.Tags, "|") + "|"
	}
	args[13].Value = orNull(j.CorrelationID)
	args[14].Value = doc
	if len(args) > 15 { // since schema 2; before it no schedule has made a job
		args[15].Value = orNull(j.Schedule)
	}
}

// deadline is when a job expires, 0 when no deadline counts (any more).
func deadline(j *job.Job) job.Time {
	if j.ExpiresAt == 0 || !j.State.Waiting() || j.Begun() {
		return 0
	}
	return j.ExpiresAt
}

// orNull is nil for the zero value: NULL takes no room in a row.
func orNull[T int64 | string](v T) driver.Value {
	var zero T
	if v == zero {
		return nil
	}
	return v
}
