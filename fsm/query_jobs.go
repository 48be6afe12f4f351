package fsm

import (
	"bytes"
	"cmp"
	"context"
	"database/sql"
	"slices"
	"strconv"
	"strings"

	"github.com/orrery-io/orrery/job"
)

// JobFilter says which jobs a question is about. Every field that is set must
// match; within one, any of the values (but all of Tags and Metadata). The zero
// filter matches everything.
type JobFilter struct {
	States        []job.State
	Queues        []string
	Types         []string
	Tags          []string // all of them
	Agents        []string
	Metadata      job.Labels // all of them
	CorrelationID string
	// The times bound half-open intervals: after <= t < before. Zero is no bound.
	CreatedAfter, CreatedBefore   job.Time
	FinishedAfter, FinishedBefore job.Time
	ErrorKinds                    []string
	// Schedules are the names of those that made the jobs.
	Schedules []string
	// Text is looked for in type, queue, tags, metadata, correlation id, error
	// message and payload, without regard to case.
	Text string
}

// counted reports whether the maintained counters can answer for the filter.
func (f *JobFilter) counted() bool {
	return len(f.Types)+len(f.Tags)+len(f.Agents)+len(f.Metadata)+len(f.ErrorKinds)+len(f.Schedules) == 0 && f.CorrelationID == "" && f.Text == "" &&
		f.CreatedAfter == 0 && f.CreatedBefore == 0 && f.FinishedAfter == 0 && f.FinishedBefore == 0
}

// inDoc reports whether the filter needs the document of a row.
func (f *JobFilter) inDoc() bool { return len(f.Metadata) > 0 || f.Text != "" }

// open returns the states as a set for the index over jobs that are not
// completed; false when completed ones are asked for too.
func (f *JobFilter) open() ([]job.State, bool) {
	if len(f.States) == 0 || slices.Contains(f.States, job.Completed) {
		return nil, false
	}
	states := slices.Clone(f.States)
	slices.Sort(states)
	return slices.Compact(states), true
}

// where is the part of the filter that SQL can decide, but for the states, as
// conditions joined by AND.
func (f *JobFilter) where() (sqlText string, args []any) {
	var b strings.Builder
	in := func(column string, values []string) {
		if len(values) == 0 {
			return
		}
		b.WriteString(" AND " + column + " IN (" + strings.Repeat("?, ", len(values)-1) + "?)")
		for _, v := range values {
			args = append(args, v)
		}
	}
	cond := func(on bool, text string, arg any) {
		if on {
			b.WriteString(" AND " + text)
			args = append(args, arg)
		}
	}
	in("queue", f.Queues)
	in("type", f.Types)
	in("agent", f.Agents)
	in("error_kind", f.ErrorKinds)
	for _, t := range f.Tags {
		cond(true, "instr(tags, ?) > 0", "|"+t+"|")
	}
	cond(f.CorrelationID != "", "correlation_id = ?", f.CorrelationID)
	cond(f.CreatedAfter != 0, "created_at >= ?", int64(f.CreatedAfter))
	cond(f.CreatedBefore != 0, "created_at < ?", int64(f.CreatedBefore))
	cond(f.FinishedAfter != 0, "finished_at >= ?", int64(f.FinishedAfter))
	cond(f.FinishedBefore != 0, "finished_at < ?", int64(f.FinishedBefore))
	return b.String(), args
}

// matches is the part of the filter that needs the row itself.
func (f *JobFilter) matches(j *job.Job) bool {
	for _, want := range f.Metadata {
		if v, ok := j.Metadata.Get(want.Key); !ok || v != want.Value {
			return false
		}
	}
	return f.Text == "" || hasText(j, strings.ToLower(f.Text))
}

// hasText looks for a text in lower case.
func hasText(j *job.Job, text string) bool {
	in := func(s string) bool { return strings.Contains(strings.ToLower(s), text) }
	if in(j.Type) || in(j.Queue) || in(j.CorrelationID) || slices.ContainsFunc(j.Tags, in) {
		return true
	}
	if j.Error != nil && (in(j.Error.Message) || in(j.Error.Kind)) {
		return true
	}
	for _, l := range j.Metadata {
		if in(l.Key) || in(l.Value) {
			return true
		}
	}
	return bytes.Contains(bytes.ToLower(j.Payload), []byte(text))
}

// The parts of the list queries. A list of the jobs of schedules walks their index,
// once per schedule; one over open states walks the index of open jobs, once per
// state; any other walks the table.
const (
	sqlSelect       = "SELECT id, type, error_kind, finished_at, doc"
	sqlSelectNo     = "SELECT id, type, error_kind, finished_at, NULL"
	sqlFromSchedule = " FROM jobs INDEXED BY jobs_schedule WHERE schedule = ? AND "
	sqlFromOpen     = " FROM jobs INDEXED BY jobs_open WHERE state <> 5 AND state = "
	sqlFromAll      = " FROM jobs NOT INDEXED WHERE "
	sqlJobsOrder    = " AND id < ? ORDER BY id DESC LIMIT ?"
)

// source is the part of a query that says where the filter's jobs are looked for.
type source struct {
	sql  string
	args []any
}

// sources are to be asked each on its own. Jobs of schedules there are since a version
// of the schema.
func (f *JobFilter) sources(schema int) []source {
	if len(f.Schedules) > 0 {
		if schema < schemaSchedules {
			return nil
		}
		names := slices.Clone(f.Schedules)
		slices.Sort(names)
		var list []source
		for _, name := range slices.Compact(names) {
			list = append(list, source{sqlFromSchedule + stateList(f.States), []any{name}})
		}
		return list
	}
	states, open := f.open()
	if !open {
		return []source{{sql: sqlFromAll + stateList(f.States)}}
	}
	list := make([]source, len(states))
	for i, s := range states {
		list[i] = source{sql: sqlFromOpen + strconv.Itoa(int(s))}
	}
	return list
}

// Jobs lists jobs, newest first: at most limit that match, before the job after
// (0 for the beginning). next is where to go on, 0 at the end.
func (m *Machine) Jobs(ctx context.Context, f JobFilter, after job.ID, limit int) (jobs []*job.Job, next job.ID, err error) {
	limit = max(limit, 1)
	if after <= 0 {
		after = 1<<63 - 1
	}
	sources := f.sources(m.SchemaVersion())
	for _, from := range sources {
		if jobs, err = m.scanJobs(ctx, &f, jobs, from, after, limit+1); err != nil {
			return nil, 0, err
		}
	}
	if len(sources) > 1 {
		slices.SortFunc(jobs, func(a, b *job.Job) int { return cmp.Compare(b.ID, a.ID) })
	}
	if len(jobs) > limit {
		jobs = jobs[:limit]
		next = jobs[limit-1].ID
	}
	return jobs, next, nil
}

// stateList is a condition; the numbers are ours, so they may stand in the text.
func stateList(states []job.State) string {
	if len(states) == 0 {
		return "state > 0"
	}
	text := make([]string, len(states))
	for i, s := range states {
		text[i] = strconv.Itoa(int(s))
	}
	return "state IN (" + strings.Join(text, ", ") + ")"
}

// scanJobs appends up to limit matching rows below an id, newest first.
func (m *Machine) scanJobs(ctx context.Context, f *JobFilter, jobs []*job.Job, from source, before job.ID, limit int) ([]*job.Job, error) {
	most := limit
	if f.inDoc() {
		most = -1 // SQL cannot tell how many rows it takes
	}
	where, args := f.where()
	args = slices.Concat(from.args, args, []any{int64(before), most})
	full := len(jobs) + limit
	err := m.list(ctx, sqlSelect+from.sql+where+sqlJobsOrder, args, func(r row) (bool, error) {
		var c candidate
		j, err := c.scan(r)
		if err != nil {
			return false, err
		}
		if f.matches(j) {
			jobs = append(jobs, j)
		}
		return len(jobs) < full, nil
	})
	return jobs, err
}

// candidate is a row for which SQL's part of a filter holds.
type candidate struct {
	id         int64
	jobType    string
	errorKind  sql.NullString
	finishedAt sql.NullInt64
}

// scan reads the row, and its document when the query asked for it.
func (c *candidate) scan(r row) (*job.Job, error) {
	doc, err := r.scanDoc(&c.id, &c.jobType, &c.errorKind, &c.finishedAt)
	if err != nil || doc == nil {
		return nil, err
	}
	return decodeDoc[job.Job](doc)
}

// scan calls each for every row that matches, in no order.
func (m *Machine) scan(ctx context.Context, f *JobFilter, each func(*candidate)) error {
	where, args := f.where()
	sel := sqlSelectNo
	if f.inDoc() {
		sel = sqlSelect
	}
	for _, from := range f.sources(m.SchemaVersion()) {
		err := m.list(ctx, sel+from.sql+where, slices.Concat(from.args, args), func(r row) (bool, error) {
			var c candidate
			j, err := c.scan(r)
			if err == nil && (j == nil || f.matches(j)) {
				each(&c)
			}
			return true, err
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// CountJobs counts jobs. It costs nothing when the filter names states and queues
// only, and a scan otherwise.
func (m *Machine) CountJobs(ctx context.Context, f JobFilter) (n int64, err error) {
	if f.counted() {
		return m.countFromCounters(&f), nil
	}
	err = m.scan(ctx, &f, func(*candidate) { n++ })
	return n, err
}

func (m *Machine) countFromCounters(f *JobFilter) (n int64) {
	for _, q := range m.Queues() {
		if len(f.Queues) > 0 && !slices.Contains(f.Queues, q.Name) {
			continue
		}
		for s, count := range q.Counts {
			if len(f.States) == 0 || slices.Contains(f.States, job.State(s)) { //nolint:gosec // an index of ten
				n += count
			}
		}
	}
	return n
}

// DeadGroup is a kind of dead letter: jobs of one type that failed in one way.
type DeadGroup struct {
	Type      string
	ErrorKind string
	// Message is that of the newest.
	Message string
	Count   int64
	// Oldest and Newest are when the first and the last of them ended.
	Oldest, Newest job.Time
	// Last is the newest of them.
	Last job.ID
}

// DeadLetterGroups groups the dead letters that match, by type and error kind,
// the largest group first. Of the filter's states only those of dead letters
// count; none means all of them.
func (m *Machine) DeadLetterGroups(ctx context.Context, f JobFilter) ([]DeadGroup, error) {
	asked := f.States
	f.States = nil
	for _, s := range []job.State{job.Failed, job.TimedOut} {
		if len(asked) == 0 || slices.Contains(asked, s) {
			f.States = append(f.States, s)
		}
	}
	if len(f.States) == 0 {
		return nil, nil
	}
	groups := make(map[[2]string]*DeadGroup)
	err := m.scan(ctx, &f, func(c *candidate) {
		key := [2]string{c.jobType, c.errorKind.String}
		g := groups[key]
		if g == nil {
			g = &DeadGroup{Type: c.jobType, ErrorKind: c.errorKind.String, Oldest: job.Time(c.finishedAt.Int64)}
			groups[key] = g
		}
		g.add(job.ID(c.id), job.Time(c.finishedAt.Int64))
	})
	if err != nil {
		return nil, err
	}
	list := make([]DeadGroup, 0, len(groups))
	for _, g := range groups {
		if j, err := m.Job(ctx, g.Last); err == nil && j.Error != nil {
			g.Message = j.Error.Message
		}
		list = append(list, *g)
	}
	slices.SortFunc(list, func(a, b DeadGroup) int {
		return cmp.Or(cmp.Compare(b.Count, a.Count), cmp.Compare(a.Type, b.Type), cmp.Compare(a.ErrorKind, b.ErrorKind))
	})
	return list, nil
}

func (g *DeadGroup) add(id job.ID, at job.Time) {
	g.Count++
	g.Oldest = min(g.Oldest, at)
	if at > g.Newest || at == g.Newest && id > g.Last {
		g.Newest, g.Last = at, id
	}
}
