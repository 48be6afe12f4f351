package fsm

import (
	"bytes"
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
	// Text is looked for in type, queue, tags, metadata, correlation id, error
	// message and payload, without regard to case.
	Text string
}

// counted reports whether the maintained counters can answer for the filter.
func (f *JobFilter) counted() bool {
	return len(f.Types)+len(f.Tags)+len(f.Agents)+len(f.Metadata)+len(f.ErrorKinds) == 0 && f.CorrelationID == "" && f.Text == "" &&
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
	// A unary plus keeps the planner from an index that would have to be sorted.
	in("+queue", f.Queues)
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

// The heads of the list queries. A list over open states walks the index of open
// jobs, once per state, newest first; any other walks the table.
const (
	sqlJobsOpen  = "SELECT id, doc FROM jobs INDEXED BY jobs_open WHERE state <> 5 AND state = "
	sqlJobsAll   = "SELECT id, doc FROM jobs NOT INDEXED WHERE "
	sqlJobsOrder = " AND id < ? ORDER BY id DESC LIMIT ?"

	sqlCountOpen = "SELECT id, doc FROM jobs INDEXED BY jobs_open WHERE state <> 5 AND state = "
)

// Jobs lists jobs, newest first: at most limit that match, before the job after
// (0 for the beginning). next is where to go on, 0 at the end.
func (m *Machine) Jobs(ctx context.Context, f JobFilter, after job.ID, limit int) (jobs []*job.Job, next job.ID, err error) {
	limit = max(limit, 1)
	if after <= 0 {
		after = 1<<63 - 1
	}
	states, open := f.open()
	if !open {
		jobs, err = m.scanJobs(ctx, &f, sqlJobsAll+stateList(f.States), after, limit+1)
	} else {
		for _, s := range states {
			part, err := m.scanJobs(ctx, &f, sqlJobsOpen+strconv.Itoa(int(s)), after, limit+1)
			if err != nil {
				return nil, 0, err
			}
			jobs = append(jobs, part...)
		}
		slices.SortFunc(jobs, func(a, b *job.Job) int { return int(b.ID - a.ID) })
	}
	if err != nil {
		return nil, 0, err
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

// scanJobs reads up to limit matching rows below an id, newest first.
func (m *Machine) scanJobs(ctx context.Context, f *JobFilter, head string, before job.ID, limit int) ([]*job.Job, error) {
	var jobs []*job.Job
	most := limit
	if f.inDoc() {
		most = -1 // SQL cannot tell how many rows it takes
	}
	where, args := f.where()
	args = append(args, int64(before), most)
	err := m.list(ctx, head+where+sqlJobsOrder, args, func(r row) (bool, error) {
		j, err := r.scanJob()
		if err != nil {
			return false, err
		}
		if f.matches(j) {
			jobs = append(jobs, j)
		}
		return len(jobs) < limit, nil
	})
	return jobs, err
}

// scanJob reads a row of an id and a document.
func (r row) scanJob() (*job.Job, error) {
	var id int64
	doc, err := r.scanDoc(&id)
	if err != nil {
		return nil, err
	}
	return decodeDoc[job.Job](doc)
}

// CountJobs counts jobs. It costs nothing when the filter names states and queues
// only, and a scan otherwise.
func (m *Machine) CountJobs(ctx context.Context, f JobFilter) (int64, error) {
	if f.counted() {
		return m.countFromCounters(&f), nil
	}
	var n int64
	where, args := f.where()
	heads := []string{sqlJobsAll + stateList(f.States)}
	if states, open := f.open(); open {
		heads = heads[:0]
		for _, s := range states {
			heads = append(heads, sqlCountOpen+strconv.Itoa(int(s)))
		}
	}
	for _, head := range heads {
		if !f.inDoc() {
			head = strings.Replace(head, "id, doc", "id, NULL", 1)
		}
		err := m.list(ctx, head+where, args, func(r row) (bool, error) {
			if !f.inDoc() {
				n++
				return true, nil
			}
			j, err := r.scanJob()
			if err == nil && f.matches(j) {
				n++
			}
			return true, err
		})
		if err != nil {
			return 0, err
		}
	}
	return n, nil
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

const sqlDead = "SELECT id, type, coalesce(error_kind, ''), coalesce(finished_at, 0), doc FROM jobs INDEXED BY jobs_open WHERE state <> 5 AND state = "

// DeadLetterGroups groups the dead letters that match, by type and error kind,
// the largest group first. States of the filter are not looked at.
func (m *Machine) DeadLetterGroups(ctx context.Context, f JobFilter) ([]DeadGroup, error) {
	groups := make(map[[2]string]*DeadGroup)
	where, args := f.where()
	for _, s := range []job.State{job.Failed, job.TimedOut} {
		err := m.list(ctx, sqlDead+strconv.Itoa(int(s))+where, args, func(r row) (bool, error) {
			return true, f.group(r, groups)
		})
		if err != nil {
			return nil, err
		}
	}
	list := make([]DeadGroup, 0, len(groups))
	for _, g := range groups {
		if j, err := m.Job(ctx, g.Last); err == nil && j.Error != nil {
			g.Message = j.Error.Message
		}
		list = append(list, *g)
	}
	slices.SortFunc(list, func(a, b DeadGroup) int {
		if a.Count != b.Count {
			return int(b.Count - a.Count)
		}
		return strings.Compare(a.Type+"\x00"+a.ErrorKind, b.Type+"\x00"+b.ErrorKind)
	})
	return list, nil
}

// group counts one row.
func (f *JobFilter) group(r row, groups map[[2]string]*DeadGroup) error {
	var id, at int64
	var key [2]string
	var doc sql.RawBytes
	if err := r.Scan(&id, &key[0], &key[1], &at, &doc); err != nil {
		return err
	}
	if f.inDoc() {
		j, err := decodeDoc[job.Job](doc)
		if err != nil || !f.matches(j) {
			return err
		}
	}
	g := groups[key]
	if g == nil {
		g = &DeadGroup{Type: key[0], ErrorKind: key[1], Oldest: job.Time(at)}
		groups[key] = g
	}
	g.Count++
	g.Oldest = min(g.Oldest, job.Time(at))
	if t := job.Time(at); t > g.Newest || t == g.Newest && job.ID(id) > g.Last {
		g.Newest, g.Last = t, job.ID(id)
	}
	return nil
}
