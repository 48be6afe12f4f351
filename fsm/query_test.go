package fsm

import (
	"cmp"
	"context"
	"database/sql/driver"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"testing"

	"github.com/orrery-io/orrery/command"
	"github.com/orrery-io/orrery/job"
)

func ids(jobs []*job.Job) []job.ID {
	list := make([]job.ID, len(jobs))
	for i, j := range jobs {
		list[i] = j.ID
	}
	return list
}

// zoo is a database with jobs of all kinds, among them many of each state.
func zoo(t *testing.T) *bundle {
	b := setup(t, Config{})
	for i := range 3 {
		for _, s := range job.States {
			b.now += 1000
			j := b.in(s)
			_ = j
			_ = i
		}
	}
	id := b.do(submission(func(x *job.Spec) {
		x.Type, x.Queue, x.Tags, x.CorrelationID = "report.make", "reports", []string{"big", "q3"}, "order-7"
		x.Metadata = job.Labels{{Key: "env", Value: "prod"}, {Key: "team", Value: "Blue"}}
		x.Payload = job.JSON(`{"title":"Quarterly Figures"}`)
	})).Job
	b.dispatch(id)
	b.finish(id, job.OutcomeFailed, job.Failed, func(c *command.Finish) {
		c.Error = &job.Failure{Kind: "exit", Message: "Printer on fire"}
	})
	b.flush()
	return b
}

func TestJobs(t *testing.T) {
	b := zoo(t)
	const last = 28
	all := make(map[job.ID]*job.Job)
	for id := job.ID(1); id <= last; id++ {
		all[id] = b.job(id)
	}
	tests := []struct {
		name  string
		f     JobFilter
		match func(*job.Job) bool
	}{
		{"everything", JobFilter{}, func(*job.Job) bool { return true }},
		{"one open state", JobFilter{States: []job.State{job.Pending}}, func(j *job.Job) bool { return j.State == job.Pending }},
		{"completed", JobFilter{States: []job.State{job.Completed}}, func(j *job.Job) bool { return j.State == job.Completed }},
		{"several open states", JobFilter{States: []job.State{job.Failed, job.Pending, job.Failed}}, func(j *job.Job) bool { return j.State == job.Failed || j.State == job.Pending }},
		{"open and completed", JobFilter{States: []job.State{job.Completed, job.Running}}, func(j *job.Job) bool { return j.State == job.Completed || j.State == job.Running }},
		{"queue", JobFilter{Queues: []string{"reports", "none"}}, func(j *job.Job) bool { return j.Queue == "reports" }},
		{"queue and state", JobFilter{Queues: []string{"default"}, States: []job.State{job.Failed}}, func(j *job.Job) bool { return j.Queue == "default" && j.State == job.Failed }},
		{"type", JobFilter{Types: []string{"report.make"}}, func(j *job.Job) bool { return j.Type == "report.make" }},
		{"agent", JobFilter{Agents: []string{"agent-1"}}, func(j *job.Job) bool { return j.Agent == "agent-1" }},
		{"a tag", JobFilter{Tags: []string{"big"}}, func(j *job.Job) bool { return j.ID == last }},
		{"both tags", JobFilter{Tags: []string{"q3", "big"}}, func(j *job.Job) bool { return j.ID == last }},
		{"part of a tag", JobFilter{Tags: []string{"bi"}}, func(*job.Job) bool { return false }},
		{"a tag too many", JobFilter{Tags: []string{"big", "q4"}}, func(*job.Job) bool { return false }},
		{"metadata", JobFilter{Metadata: job.Labels{{Key: "env", Value: "prod"}}}, func(j *job.Job) bool { return j.ID == last }},
		{"other metadata", JobFilter{Metadata: job.Labels{{Key: "env", Value: "prod"}, {Key: "team", Value: "blue"}}}, func(*job.Job) bool { return false }},
		{"correlation id", JobFilter{CorrelationID: "order-7"}, func(j *job.Job) bool { return j.ID == last }},
		{"error kind", JobFilter{ErrorKinds: []string{"exit"}}, func(j *job.Job) bool { return j.ID == last }},
		{"text of the payload", JobFilter{Text: "quarterly FIG"}, func(j *job.Job) bool { return j.ID == last }},
		{"text of the error", JobFilter{Text: "on fire", States: []job.State{job.Failed, job.Completed}}, func(j *job.Job) bool { return j.ID == last }},
		{"text of the metadata", JobFilter{Text: "blue"}, func(j *job.Job) bool { return j.ID == last }},
		{"no such text", JobFilter{Text: "nowhere"}, func(*job.Job) bool { return false }},
		{"created", JobFilter{CreatedAfter: all[5].CreatedAt, CreatedBefore: all[9].CreatedAt}, func(j *job.Job) bool { return j.ID >= 5 && j.ID < 9 }},
		{"finished", JobFilter{FinishedAfter: all[6].FinishedAt, FinishedBefore: all[15].FinishedAt}, func(j *job.Job) bool {
			return j.FinishedAt >= all[6].FinishedAt && j.FinishedAt < all[15].FinishedAt
		}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var want []job.ID
			for id := job.ID(last); id > 0; id-- {
				if tt.match(all[id]) {
					want = append(want, id)
				}
			}
			for _, limit := range []int{1, 2, 5, 100} {
				var got []job.ID
				after := job.ID(0)
				for pages := 0; ; pages++ {
					jobs, next, err := b.m.Jobs(t.Context(), tt.f, after, limit)
					if err != nil {
						t.Fatal(err)
					}
					if len(jobs) > limit || pages > last {
						t.Fatalf("page %d has %d jobs, the limit is %d", pages, len(jobs), limit)
					}
					got = append(got, ids(jobs)...)
					if next == 0 {
						break
					}
					after = next
				}
				if !slices.Equal(got, want) {
					t.Errorf("limit %d: got %v, want %v", limit, got, want)
				}
			}
			if n, err := b.m.CountJobs(t.Context(), tt.f); err != nil || n != int64(len(want)) {
				t.Errorf("counted %d, %v; want %d", n, err, len(want))
			}
		})
	}
	t.Run("a cancelled question", func(t *testing.T) {
		gone := errors.New("gone")
		ctx, cancel := context.WithCancelCause(t.Context())
		cancel(gone)
		if _, _, err := b.m.Jobs(ctx, JobFilter{}, 0, 10); err == nil {
			t.Error("was answered")
		}
	})
}

func TestDeadLetterGroups(t *testing.T) {
	b := zoo(t)
	for range 2 { // more of the same kind; the newest one's message is shown
		j := b.in(job.Pending)
		b.dispatch(j.ID)
		b.finish(j.ID, job.OutcomeFailed, job.Failed, func(c *command.Finish) {
			c.Error = &job.Failure{Kind: "error", Message: fmt.Sprint("message ", j.ID)}
		})
	}
	b.flush()
	groups, err := b.m.DeadLetterGroups(t.Context(), JobFilter{})
	if err != nil || len(groups) != 3 {
		t.Fatalf("%+v, %v", groups, err)
	}
	if g := groups[0]; g.Type != "email.send" || g.ErrorKind != "" || g.Count != 6 || g.Oldest >= g.Newest {
		t.Errorf("first %+v", g)
	}
	if g := groups[1]; g.ErrorKind != "error" || g.Count != 2 || g.Message != fmt.Sprint("message ", g.Last) {
		t.Errorf("second %+v", g)
	}
	for _, tt := range []struct {
		name string
		f    JobFilter
		want int64
	}{
		{"by type", JobFilter{Types: []string{"report.make"}}, 1},
		{"by text", JobFilter{Text: "printer"}, 1},
		{"timed out", JobFilter{States: []job.State{job.TimedOut, job.Pending}}, 3},
		{"no dead letters", JobFilter{States: []job.State{job.Pending}}, 0},
	} {
		groups, err := b.m.DeadLetterGroups(t.Context(), tt.f)
		var n int64
		for _, g := range groups {
			n += g.Count
		}
		if err != nil || n != tt.want {
			t.Errorf("%s: %d, %v; want %d", tt.name, n, err, tt.want)
		}
	}
}

func TestReadyJobs(t *testing.T) {
	b := setup(t, Config{})
	for i := range 60 {
		b.do(submission(func(x *job.Spec) {
			x.Priority = i % 4
			x.Type = []string{"a", "b"}[i%3%2]
			if i%5 == 0 {
				x.Queue = "other"
			}
		}))
	}
	b.do(submission(func(x *job.Spec) { x.RunAt = b.now.Add(job.Hour); x.Type = "delayed" }))
	b.flush()
	want := func(queue, typ string) []job.ID {
		var list []*job.Job
		for id := job.ID(1); id <= 60; id++ {
			if j := b.job(id); j.State == job.Pending && j.Queue == queue && j.Type == typ {
				list = append(list, j)
			}
		}
		slices.SortFunc(list, func(x, y *job.Job) int {
			return cmp.Or(y.Priority-x.Priority, cmp.Compare(x.ReadyAt, y.ReadyAt), cmp.Compare(x.ID, y.ID))
		})
		return ids(list)
	}
	check := func(t *testing.T) {
		t.Helper()
		for _, g := range []ReadyGroup{{"default", "a"}, {"default", "b"}, {"other", "a"}, {"other", "none"}} {
			for _, limit := range []int{1, 3, 100} {
				var got []job.ID
				var after ReadyPos
				for {
					jobs, err := b.m.ReadyJobs(t.Context(), g.Queue, g.Type, after, limit)
					if err != nil || len(jobs) > limit {
						t.Fatalf("%d jobs, %v", len(jobs), err)
					}
					got = append(got, ids(jobs)...)
					if len(jobs) < limit {
						break
					}
					after = PosOf(jobs[len(jobs)-1])
				}
				if !slices.Equal(got, want(g.Queue, g.Type)) {
					t.Errorf("%v, limit %d: got %v, want %v", g, limit, got, want(g.Queue, g.Type))
				}
			}
		}
	}
	t.Run("in the order of priority, then age", check)
	t.Run("the groups that wait", func(t *testing.T) {
		groups, err := b.m.ReadyGroups(t.Context())
		if err != nil || !slices.Equal(groups, []ReadyGroup{{"default", "a"}, {"default", "b"}, {"other", "a"}, {"other", "b"}}) {
			t.Errorf("got %v, %v", groups, err)
		}
	})
	t.Run("without those that were dispatched since the flush", func(t *testing.T) {
		b.stop() // nothing is flushed from here on
		b.stop = func() {}
		for id := job.ID(1); id < 40; id++ {
			b.dispatch(id)
		}
		check(t)
	})
	t.Run("the rows that were read are in memory for apply", func(t *testing.T) {
		b := setup(t, Config{})
		for range 100 {
			b.do(submission(nil))
		}
		b.reopen()
		if _, err := b.m.ReadyJobs(t.Context(), "default", "email.send", ReadyPos{}, 100); err != nil {
			t.Fatal(err)
		}
		_, before := b.m.cacheCounts()
		for id := job.ID(1); id <= 100; id++ {
			b.dispatch(id)
		}
		if _, after := b.m.cacheCounts(); after != before {
			t.Errorf("%d rows were read again", after-before)
		}
	})
}

func TestDueJobs(t *testing.T) {
	b := setup(t, Config{})
	base := b.now.Add(job.Hour)
	for i := range 10 {
		b.do(submission(func(x *job.Spec) { x.RunAt = base + job.Time(10*((i*7)%10)) }))
	}
	b.flush()
	due, next, err := b.m.DueJobs(t.Context(), base+35, 100)
	if err != nil || len(due) != 4 || next != base+40 {
		t.Errorf("due %v, next %d, %v", due, next-base, err)
	}
	if !slices.IsSortedFunc(due, func(x, y job.ID) int { return cmp.Compare(b.job(x).ReadyAt, b.job(y).ReadyAt) }) {
		t.Errorf("not in order: %v", due)
	}
	if due, next, _ := b.m.DueJobs(t.Context(), base+35, 2); len(due) != 2 || next != base+20 {
		t.Errorf("limited: due %v, next %d", due, next-base)
	}
	b.do(&command.Promote{Job: due[0]}) // not flushed, perhaps
	if again, _, _ := b.m.DueJobs(t.Context(), base+35, 100); slices.Contains(again, due[0]) {
		t.Errorf("a promoted job is due: %v", again)
	}
	if due, next, err := b.m.DueJobs(t.Context(), base+1000, 100); err != nil || len(due) != 9 || next != 0 {
		t.Errorf("due %v, next %d, %v", due, next, err)
	}
	if _, next, _ := b.m.DueJobs(t.Context(), 0, 100); next == 0 {
		t.Error("nothing is next")
	}
}

func TestExpiringJobs(t *testing.T) {
	b := setup(t, Config{})
	at := b.now.Add(job.Hour)
	submit := func(when job.Time) job.ID {
		return b.do(submission(func(x *job.Spec) { x.ExpiresAt = when })).Job
	}
	first, second, begun, revoked, later := submit(at), submit(at+1), submit(at+2), submit(at+3), submit(at+100)
	submit(0)
	b.dispatch(begun)
	b.finish(begun, job.OutcomeFailed, job.Pending, nil)
	b.dispatch(revoked)
	b.finish(revoked, job.OutcomeRevoked, job.Pending, nil)
	b.flush()
	got, next, err := b.m.ExpiringJobs(t.Context(), at+50, 100)
	if err != nil || !slices.Equal(got, []job.ID{first, second, revoked}) || next != at+100 {
		t.Errorf("got %v, next %d, %v", got, next-at, err)
	}
	_ = later
}

func TestActiveAndEndedJobs(t *testing.T) {
	b := zoo(t)
	var active, ended []job.ID
	for id := job.ID(1); id <= 28; id++ {
		switch s := b.job(id).State; {
		case s.Active():
			active = append(active, id)
		case s.Terminal():
			ended = append(ended, id)
		}
	}
	for _, limit := range []int{1, 2, 100} {
		var got []job.ID
		after := job.ID(0)
		for {
			jobs, err := b.m.ActiveJobs(t.Context(), after, limit)
			if err != nil {
				t.Fatal(err)
			}
			if len(jobs) == 0 {
				break
			}
			got = append(got, ids(jobs)...)
			after = got[len(got)-1]
		}
		if !slices.Equal(got, active) {
			t.Errorf("limit %d: active %v, want %v", limit, got, active)
		}
		got, after = nil, 0
		for {
			rows, next, err := b.m.EndedJobs(t.Context(), after, limit)
			if err != nil {
				t.Fatal(err)
			}
			for _, e := range rows {
				j := b.job(e.ID)
				if e.State != j.State || e.FinishedAt != j.FinishedAt || e.Retention != j.Retention {
					t.Errorf("row %+v of job %+v", e, j)
				}
				got = append(got, e.ID)
			}
			if next == 0 {
				break
			}
			after = next
		}
		if !slices.Equal(got, ended) {
			t.Errorf("limit %d: ended %v, want %v", limit, got, ended)
		}
	}
}

// TestCounters compares the maintained counters with a count of the rows.
func TestCounters(t *testing.T) {
	b := zoo(t)
	for range 2 {
		for _, q := range b.m.Queues() {
			for _, s := range job.States {
				var n int64
				err := b.m.store.lists.QueryRowContext(t.Context(), "SELECT count(*) FROM jobs WHERE queue = ? AND state = ?", q.Name, s).Scan(&n)
				if err != nil || n != q.Counts[s] {
					t.Errorf("queue %s: %d jobs are %s, counted %d, %v", q.Name, n, s, q.Counts[s], err)
				}
			}
		}
		b.reopen()
	}
	s := b.m.Stats()
	if s.Queues != 2 || s.Jobs[job.Failed] != 4 || s.Applied != b.index || s.Flushed != b.index || s.DatabaseBytes == 0 || s.SchemaVersion != 1 {
		t.Errorf("stats %+v", s)
	}
}

// TestProjection compares the columns of every job with what its document says.
func TestProjection(t *testing.T) {
	for _, version := range []int{1, NewestSchema} {
		t.Run(fmt.Sprint("schema ", version), func(t *testing.T) {
			b := zoo(t)
			b.do(&command.Migrate{To: version})
			if version >= schemaSchedules {
				b.do(&command.SetSchedule{Name: "nightly", Spec: job.ScheduleSpec{Expressions: []string{"@daily"}, Template: job.Template{Spec: submission(nil).Spec}}})
				b.do(&command.RunSchedule{Schedule: "nightly", Times: []job.Time{5, 6}})
				b.do(&command.RunSchedule{Schedule: "nightly"})
			}
			b.flush()
			compareProjection(t, b, 28+3*(version-1))
		})
	}
}

func compareProjection(t *testing.T, b *bundle, rows int) {
	t.Helper()
	n, jobColumns := 0, b.m.store.stmts.jobColumns
	err := b.m.store.each(t.Context(), "SELECT * FROM jobs ORDER BY id", func(r row) error {
		n++
		got := make([]any, jobColumns)
		to := make([]any, jobColumns)
		for i := range got {
			to[i] = &got[i]
		}
		if err := r.Scan(to...); err != nil {
			return err
		}
		doc, _ := got[14].([]byte)
		j, err := decodeDoc[job.Job](doc)
		if err != nil {
			return err
		}
		want := make([]driver.NamedValue, jobColumns)
		bindJob(want, j, doc)
		for i := range want {
			if !reflect.DeepEqual(any(want[i].Value), got[i]) {
				t.Errorf("job %d, column %d: %v, want %v", j.ID, i, got[i], want[i].Value)
			}
		}
		return nil
	})
	if err != nil || n != rows {
		t.Errorf("%d rows, want %d, %v", n, rows, err)
	}
}

func TestJobs_of_schedules(t *testing.T) {
	b := zoo(t)
	list := func(f JobFilter, after job.ID, limit int) ([]job.ID, job.ID) {
		t.Helper()
		b.flush()
		jobs, next, err := b.m.Jobs(t.Context(), f, after, limit)
		if err != nil {
			t.Fatal(err)
		}
		return ids(jobs), next
	}
	if got, _ := list(JobFilter{Schedules: []string{"a"}}, 0, 9); len(got) != 0 {
		t.Errorf("before there were schedules: %v", got)
	}
	if n, err := b.m.CountJobs(t.Context(), JobFilter{Schedules: []string{"a"}}); n != 0 || err != nil {
		t.Errorf("before there were schedules: %d, %v", n, err)
	}
	b.do(&command.Migrate{To: NewestSchema})
	made := map[string][]job.ID{}
	for _, name := range []string{"a", "b", "c"} {
		b.do(&command.SetSchedule{Name: name, Spec: job.ScheduleSpec{Expressions: []string{"@daily"}, Template: job.Template{Spec: submission(nil).Spec}}})
	}
	for range 3 {
		for _, name := range []string{"a", "b", "c"} {
			made[name] = append(made[name], b.do(&command.RunSchedule{Schedule: name, Times: []job.Time{5, 6}}).Jobs...)
		}
		b.do(submission(nil))
	}
	for _, x := range made {
		slices.Reverse(x)
	}
	both := slices.Concat(made["a"], made["c"])
	slices.SortFunc(both, func(x, y job.ID) int { return cmp.Compare(y, x) })
	b.do(&command.Cancel{Job: made["a"][2]})
	tests := []struct {
		name   string
		filter JobFilter
		want   []job.ID
	}{
		{"one", JobFilter{Schedules: []string{"a"}}, made["a"]},
		{"two, one of them twice", JobFilter{Schedules: []string{"c", "a", "c"}}, both},
		{"with a state", JobFilter{Schedules: []string{"a"}, States: []job.State{job.Cancelled, job.Running}}, made["a"][2:3]},
		{"with a queue in which there are none", JobFilter{Schedules: []string{"a"}, Queues: []string{"nowhere"}}, nil},
		{"one that made none", JobFilter{Schedules: []string{"d"}}, nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got, next := list(tt.filter, 0, 100); !slices.Equal(got, tt.want) || next != 0 {
				t.Errorf("got %v, next %d, want %v", got, next, tt.want)
			}
			var paged []job.ID
			for after := job.ID(0); ; {
				got, next := list(tt.filter, after, 2)
				paged = append(paged, got...)
				if after = next; next == 0 {
					break
				}
			}
			if !slices.Equal(paged, tt.want) {
				t.Errorf("in pages %v, want %v", paged, tt.want)
			}
			if n, err := b.m.CountJobs(t.Context(), tt.filter); err != nil || n != int64(len(tt.want)) {
				t.Errorf("counted %d, %v, want %d", n, err, len(tt.want))
			}
		})
	}
}
