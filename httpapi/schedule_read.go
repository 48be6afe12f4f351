package httpapi

import (
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/orrery-io/orrery/internal/spelling"
	"github.com/orrery-io/orrery/job"
)

// ScheduleList is a page of schedules, by name.
type ScheduleList struct {
	Schedules  []*Schedule `json:"schedules"`
	NextCursor string      `json:"next_cursor,omitempty" doc:"Where the next page begins; absent on the last one."`
}

// NextTicks is what a schedule plans.
type NextTicks struct {
	Next []PlannedTime `json:"next" doc:"In order. Fewer than were asked for means that there are no more."`
	// Paused and PausedUntil are zero unless the schedule is paused.
	Paused      bool     `json:"paused,omitempty" doc:"It is paused: without an end, nothing of this fires before it is resumed."`
	PausedUntil job.Time `json:"paused_until,omitempty,omitzero" doc:"When the pause ends by itself; what is planned up to then is left out."`
}

// TickEntry is one entry of a schedule's history.
type TickEntry struct {
	job.Tick
	// Late is zero for what made no job.
	Late job.Duration `json:"late,omitempty" doc:"How long after its planned time the tick made its job; jitter counts."`
}

// TickList is a page of a schedule's history, newest first.
type TickList struct {
	Ticks      []TickEntry `json:"ticks"`
	NextCursor string      `json:"next_cursor,omitempty" doc:"Where the next page begins; absent on the last one."`
}

func (a *API) scheduleReadRoutes() []route {
	notFound := []int{http.StatusNotFound}
	return []route{
		{
			method: http.MethodGet, path: "/v1/schedules", id: "listSchedules", tag: "schedules",
			summary: "List schedules, by name",
			doc:     "All parameters of the filter must fit; values of one parameter, divided by commas, are alternatives.",
			params: slices.Concat([]param{
				{name: "state", kind: "list", doc: "Only schedules in one of these states.", values: scheduleStates(), example: "active,paused"},
				{name: "prefix", kind: "string", doc: "Only schedules whose name begins so."},
				{name: "text", kind: "string", doc: "Only schedules in whose name, description or type of job this text occurs."},
				{name: "type", kind: "list", doc: "Only schedules that make jobs of one of these types."},
				{name: "queue", kind: "list", doc: "Only schedules that make jobs in one of these queues."},
				{name: "tag", kind: "list", doc: "Only schedules whose jobs have all of these tags."},
			}, pageParams(), readParams()),
			answers: []answer{{status: http.StatusOK, doc: "One page. The Link header with rel=next is where the next one is.", body: typeOf[ScheduleList]()}},
			curl:    `"$ORRERY/v1/schedules?state=paused"`,
			handle:  a.listSchedules,
		},
		{
			method: http.MethodGet, path: "/v1/schedules/{name}", id: "getSchedule", tag: "schedules",
			summary: "Get a schedule",
			params:  readParams(),
			answers: oneSchedule("The schedule. ETag has its revision."), refusals: notFound,
			curl:   `$ORRERY/v1/schedules/nightly`,
			handle: a.getSchedule,
		},
		{
			method: http.MethodGet, path: "/v1/schedules/{name}/next", id: "getNextTicks", tag: "schedules",
			summary: "See when a schedule fires next",
			params: slices.Concat([]param{
				{name: "n", kind: "integer", def: 10, doc: "How many planned times at most, 1 to 1000."},
				{name: "from", kind: "moment", doc: "Begin at this time instead of now; a duration such as 24h counts from now on.", example: "2027-03-27T00:00:00Z"},
			}, readParams()),
			answers: []answer{{status: http.StatusOK, doc: "The planned times.", body: typeOf[NextTicks]()}}, refusals: notFound,
			curl:   `"$ORRERY/v1/schedules/nightly/next?n=3"`,
			handle: a.getNextTicks,
		},
		{
			method: http.MethodGet, path: "/v1/schedules/{name}/ticks", id: "listTicks", tag: "schedules",
			summary: "See what the ticks of a schedule did and why, newest first",
			doc:     "The newest 200 entries are kept. Ticks in a row that came to the same are one entry.",
			params:  slices.Concat(pageParams(), readParams()),
			answers: []answer{{status: http.StatusOK, doc: "One page. The Link header with rel=next is where the next one is.", body: typeOf[TickList]()}}, refusals: notFound,
			curl:   `"$ORRERY/v1/schedules/nightly/ticks?limit=10"`,
			handle: a.listTicks,
		},
	}
}

func (a *API) getSchedule(w *response, r *http.Request, q *query) error {
	name, err := pathName(r, "name", "a schedule")
	if err != nil {
		return err
	}
	if _, err := accept(r, typeJSON); err != nil {
		return err
	}
	if err := a.fresh(r.Context(), w, q, false); err != nil {
		return err
	}
	if _, err := a.scheduleNow(r.Context(), name); err != nil {
		return err
	}
	return a.replySchedule(w, http.StatusOK, name)
}

// scheduleFilter selects schedules. The zero filter selects all.
type scheduleFilter struct {
	states              []string
	prefix, text        string
	types, queues, tags []string
}

func (q *query) scheduleFilter() (f scheduleFilter) {
	for _, s := range q.list("state") {
		if !slices.Contains(scheduleStates(), s) {
			q.fail("invalid_value", "state", "%q is not a state of a schedule: active, paused, ended%s", clip(s), spelling.DidYouMean(s, scheduleStates()))
		}
		f.states = append(f.states, s)
	}
	f.prefix = q.value("prefix", job.MaxName)
	f.text = strings.ToLower(q.value("text", maxText))
	f.types, f.queues, f.tags = q.names("type"), q.names("queue"), q.list("tag")
	return f
}

func (f *scheduleFilter) keeps(s *job.Schedule) bool {
	t := &s.Template
	any := func(list []string, v string) bool { return len(list) == 0 || slices.Contains(list, v) }
	for _, tag := range f.tags {
		if !slices.Contains(t.Tags, tag) {
			return false
		}
	}
	in := func(s string) bool { return strings.Contains(strings.ToLower(s), f.text) }
	return strings.HasPrefix(s.Name, f.prefix) && any(f.types, t.Type) && any(f.queues, t.Queue) &&
		(len(f.states) == 0 || slices.Contains(f.states, scheduleState(s))) &&
		(f.text == "" || in(s.Name) || in(s.Description) || in(t.Type))
}

func (a *API) listSchedules(w *response, r *http.Request, q *query) error {
	if _, err := accept(r, typeJSON); err != nil {
		return err
	}
	f := q.scheduleFilter()
	limit, scope := int(q.number("limit", 50, 1, maxPage)), q.scope("schedules")
	after := ""
	if text, ok := q.text("cursor"); ok {
		if after, ok = decodeNameCursor(text, scope); !ok {
			q.badCursor()
		}
	}
	if err := a.fresh(r.Context(), w, q, false); err != nil {
		return err
	}
	all := a.machine.Schedules()
	from, found := slices.BinarySearchFunc(all, after, func(s *job.Schedule, name string) int { return strings.Compare(s.Name, name) })
	if found {
		from++
	}
	list := ScheduleList{Schedules: []*Schedule{}}
	now, size := job.At(time.Now()), 0
	for _, row := range all[from:] {
		if !f.keeps(row) {
			continue
		}
		if n := len(list.Schedules); n == limit || size >= maxPageBytes {
			list.NextCursor = encodeNameCursor(list.Schedules[n-1].Name, scope)
			link(w, r, list.NextCursor)
			break
		}
		list.Schedules = append(list.Schedules, a.show(row, now, false))
		size += 1024 + len(row.Template.Payload) + len(row.Template.PayloadBytes)
	}
	return a.reply(w, http.StatusOK, &list)
}

// badCursor notes that a cursor belongs elsewhere.
func (q *query) badCursor() {
	q.fail("invalid_cursor", "cursor", "is not a cursor of this list with these parameters; leave it out to begin at the top")
}

// maxNext bounds how many planned times one answer lists.
const maxNext = 1000

func (a *API) getNextTicks(w *response, r *http.Request, q *query) error {
	name, err := pathName(r, "name", "a schedule")
	if err != nil {
		return err
	}
	now := job.At(time.Now())
	n, from := int(q.number("n", 10, 1, maxNext)), q.ahead("from", now)
	if err := a.fresh(r.Context(), w, q, false); err != nil {
		return err
	}
	row, err := a.scheduleNow(r.Context(), name)
	if err != nil {
		return err
	}
	rule, err := ruleOf(row)
	if err != nil {
		return err
	}
	after := max(now, row.Cursor)
	if from != 0 {
		after = from - 1 // a tick at this very time counts
	}
	list := NextTicks{Paused: row.Paused, PausedUntil: row.PausedUntil}
	if row.Paused {
		after = max(after, row.PausedUntil)
	}
	list.Next = planned(rule, row.Name, &row.ScheduleSpec, after.Time(), n)
	return a.reply(w, http.StatusOK, &list)
}

// ahead returns a time: RFC 3339, or how long after now.
func (q *query) ahead(name string, now job.Time) job.Time {
	if v, ok := q.text(name); ok {
		if d, err := job.ParseDuration(v); err == nil {
			return now.Add(d)
		}
	}
	return q.moment(name, now)
}

func (a *API) listTicks(w *response, r *http.Request, q *query) error {
	name, err := pathName(r, "name", "a schedule")
	if err != nil {
		return err
	}
	if _, err := accept(r, typeJSON); err != nil {
		return err
	}
	p := q.page("ticks/" + name)
	if err := a.fresh(r.Context(), w, q, true); err != nil {
		return err
	}
	if _, err := a.scheduleNow(r.Context(), name); err != nil {
		return err
	}
	ticks, err := a.machine.Ticks(r.Context(), name, int64(p.after), p.limit+1)
	if err != nil {
		return err
	}
	list := TickList{Ticks: []TickEntry{}}
	for i, t := range ticks {
		if i == p.limit {
			list.NextCursor = encodeCursor(job.ID(ticks[i-1].Seq), p.scope)
			link(w, r, list.NextCursor)
			break
		}
		entry := TickEntry{Tick: *t}
		if t.Action == job.TickFired || t.Action == job.TickCaughtUp {
			entry.Late = max(0, t.At.Sub(t.Planned))
		}
		list.Ticks = append(list.Ticks, entry)
	}
	return a.reply(w, http.StatusOK, &list)
}
