package client

import (
	"context"
	"iter"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/orrery-io/orrery/job"
)

// ScheduleDefinition is what a user says of a schedule. Expressions and the type of
// the template are required; a zero field means the node's default.
type ScheduleDefinition struct {
	Description string `json:"description,omitempty"`
	// Expressions say when: cron with 5 or 6 fields, "@daily" and the like, "@every
	// 90s", "@at 2027-01-31T08:00:00Z". docs/schedules.md has the language.
	Expressions []string `json:"expressions"`
	// Timezone is the IANA name of the zone in which they are read; "" means UTC.
	Timezone string `json:"timezone,omitempty"`
	// Start and End bound the planned times, Start included, End not; zero means no
	// bound.
	Start job.Time `json:"start,omitzero"`
	End   job.Time `json:"end,omitzero"`
	// Exclude takes dates and weekly windows out.
	Exclude []string `json:"exclude,omitempty"`
	// Jitter delays each tick by something below it.
	Jitter job.Duration `json:"jitter,omitempty"`
	// CatchUp says what becomes of ticks that could not fire in their time.
	CatchUp job.CatchUp `json:"catch_up,omitzero"`
	// Overlap says what a tick does while jobs of the schedule have not ended.
	Overlap job.OverlapPolicy `json:"overlap,omitempty"`
	// Template is the job that each tick makes; RunAt and IdempotencyKey are not set.
	Template Submission `json:"template"`
}

// Schedule is a schedule: its definition, where it stands, and what that means.
type Schedule struct {
	job.Schedule
	// State is "active", "paused" or "ended".
	State string `json:"state"`
	// NextAt is the planned time of the next tick; zero when there is none, and while
	// the schedule is paused without an end.
	NextAt job.Time `json:"next_at,omitzero"`
	// Summary says when it fires, in plain words.
	Summary string `json:"summary"`
	// Warnings are what one should know before one relies on it. Lists leave them out.
	Warnings []string `json:"warnings,omitempty"`
}

// PlannedTime is one planned time of a schedule.
type PlannedTime struct {
	PlannedAt job.Time `json:"planned_at"`
	// FiresAt is later by the jitter.
	FiresAt job.Time `json:"fires_at"`
	// Local is PlannedAt as a clock in the schedule's zone shows it (RFC 3339), Zone
	// what the zone is called then.
	Local string `json:"local"`
	Zone  string `json:"zone"`
}

// NextTicks is what a schedule plans.
type NextTicks struct {
	// Next has fewer than were asked for when there are no more.
	Next []PlannedTime `json:"next"`
	// Paused without an end means that nothing of this fires before the schedule is
	// resumed. What is planned up to PausedUntil is left out.
	Paused      bool     `json:"paused,omitempty"`
	PausedUntil job.Time `json:"paused_until,omitzero"`
}

// SchedulePreview says what a schedule would do.
type SchedulePreview struct {
	// Summary says when it would fire, in plain words; Plain are the expressions with
	// numbers for names, and in place of H what it stands for.
	Summary  string        `json:"summary"`
	Plain    []string      `json:"plain"`
	Warnings []string      `json:"warnings"`
	Next     []PlannedTime `json:"next"`
}

// Tick is one entry of a schedule's history.
type Tick struct {
	job.Tick
	// Late is how long after its planned time the tick made its job; zero for what
	// made none.
	Late job.Duration `json:"late,omitempty"`
}

func schedulePath(name, verb string) string {
	path := "/v1/schedules/" + url.PathEscape(name)
	if verb != "" {
		path += "/" + verb
	}
	return path
}

// ScheduleOptions says which schedules to list. The zero value lists all.
type ScheduleOptions struct {
	// States are "active", "paused" and "ended".
	States []string
	// Prefix is how the name begins; Text occurs in name, description or type of job.
	Prefix, Text        string
	Types, Queues, Tags []string
	// Limit ends the list after so many schedules; zero lists all.
	Limit int
	// PageSize is how many are fetched at once; zero means 100.
	PageSize int
	// Linearizable makes the list contain everything that was acknowledged before
	// the call, at a cost; otherwise it may be a fraction of a second old.
	Linearizable bool
}

func (o *ScheduleOptions) values() url.Values {
	q := url.Values{}
	for key, value := range map[string]string{
		"state": strings.Join(o.States, ","), "prefix": o.Prefix, "text": o.Text,
		"type": strings.Join(o.Types, ","), "queue": strings.Join(o.Queues, ","), "tag": strings.Join(o.Tags, ","),
	} {
		if value != "" {
			q.Set(key, value)
		}
	}
	if o.Linearizable {
		q.Set("consistency", "linearizable")
	}
	return q
}

// Schedules yields schedules by name, fetching page after page. It ends after the
// first error.
func (c *Client) Schedules(ctx context.Context, opts ScheduleOptions) iter.Seq2[*Schedule, error] {
	type page struct {
		Schedules  []*Schedule `json:"schedules"`
		NextCursor string      `json:"next_cursor"`
	}
	return paged(opts.Limit, opts.PageSize, opts.values(), func(q url.Values) ([]*Schedule, string, error) {
		var p page
		err := c.call(ctx, request{method: http.MethodGet, path: "/v1/schedules", query: q}, &p)
		return p.Schedules, p.NextCursor, err
	})
}

// Schedule returns a schedule as it is now.
func (c *Client) Schedule(ctx context.Context, name string) (*Schedule, error) {
	return c.schedule(ctx, request{method: http.MethodGet, path: schedulePath(name, "")})
}

func (c *Client) schedule(ctx context.Context, r request) (*Schedule, error) {
	s := new(Schedule)
	if err := c.call(ctx, r, s); err != nil {
		return nil, err
	}
	return s, nil
}

// Condition says of which revision a schedule must be to be changed. The zero value
// takes any.
type Condition struct {
	// Revision is that of the schedule as it was read; zero means any.
	Revision uint64
	// Absent means that there must be none yet. Only PutSchedule knows it.
	Absent bool
}

func (w Condition) header() http.Header {
	h := http.Header{}
	if w.Revision != 0 {
		h.Set("If-Match", `"`+strconv.FormatUint(w.Revision, 10)+`"`)
	}
	if w.Absent {
		h.Set("If-None-Match", "*")
	}
	return h
}

// CodePreconditionFailed is the code of the error when a Condition does not hold.
const CodePreconditionFailed = "precondition_failed"

// PutSchedule makes a schedule or gives it another definition. A pause and the history
// stay. When the times change it starts counting from now on.
func (c *Client) PutSchedule(ctx context.Context, name string, d ScheduleDefinition, when Condition) (*Schedule, error) {
	return c.PutScheduleBody(ctx, name, d, when)
}

// PutScheduleBody is PutSchedule with a body of any kind that encodes as the JSON of a
// definition, such as a json.RawMessage.
func (c *Client) PutScheduleBody(ctx context.Context, name string, body any, when Condition) (*Schedule, error) {
	return c.schedule(ctx, request{method: http.MethodPut, path: schedulePath(name, ""), body: body, header: when.header(), repeat: true})
}

// PatchSchedule changes some fields of a schedule: patch encodes as a JSON merge patch
// (RFC 7396) on a ScheduleDefinition.
func (c *Client) PatchSchedule(ctx context.Context, name string, patch any, when Condition) (*Schedule, error) {
	return c.schedule(ctx, request{method: http.MethodPatch, path: schedulePath(name, ""), body: patch, header: when.header(), repeat: true})
}

// DeleteSchedule removes a schedule with its history. Jobs that it made stay.
func (c *Client) DeleteSchedule(ctx context.Context, name string, when Condition) error {
	return c.call(ctx, request{method: http.MethodDelete, path: schedulePath(name, ""), header: when.header(), repeat: true}, nil)
}

// RunSchedule makes a job of a schedule now, beside the planned ones, and returns it
// as recorded. The reason is kept in the history and may be empty.
func (c *Client) RunSchedule(ctx context.Context, name, reason string) (*job.Job, error) {
	j := new(job.Job)
	r := request{method: http.MethodPost, path: schedulePath(name, "run"), body: reasonBody{reason}, repeat: true}
	if err := c.call(ctx, r, j); err != nil {
		return nil, err
	}
	return j, nil
}

// PauseSchedule has nothing fire until the schedule is resumed or, unless it is zero,
// until a time. The reason is shown with the schedule and may be empty.
func (c *Client) PauseSchedule(ctx context.Context, name, reason string, until job.Time) (*Schedule, error) {
	body := struct {
		Reason string   `json:"reason,omitempty"`
		Until  job.Time `json:"until,omitzero"`
	}{reason, until}
	return c.schedule(ctx, request{method: http.MethodPost, path: schedulePath(name, "pause"), body: body, repeat: true})
}

// ResumeSchedule undoes PauseSchedule. What was planned meanwhile does not fire.
func (c *Client) ResumeSchedule(ctx context.Context, name string) (*Schedule, error) {
	return c.schedule(ctx, request{method: http.MethodPost, path: schedulePath(name, "resume"), repeat: true})
}

// Backfill says for which range of the past jobs are made.
type Backfill struct {
	// From is the first planned time that counts. To itself does not count; zero
	// means now.
	From job.Time `json:"from"`
	To   job.Time `json:"to,omitzero"`
	// Reason is kept in the history and may be empty.
	Reason string `json:"reason,omitempty"`
	// DryRun only counts.
	DryRun bool `json:"dry_run,omitempty"`
}

// Backfilled says what a backfill did.
type Backfilled struct {
	// Count is how many planned times there are in the range, from First to Last.
	Count int      `json:"count"`
	First job.Time `json:"first,omitzero"`
	Last  job.Time `json:"last,omitzero"`
	// Jobs are those that were made, in the order of the planned times.
	Jobs []job.ID `json:"jobs"`
	// DryRun means that nothing was made.
	DryRun bool `json:"dry_run,omitempty"`
}

// BackfillSchedule makes one job for each planned time of a range of the past, up to
// job.MaxBackfill, all of them or none.
func (c *Client) BackfillSchedule(ctx context.Context, name string, b Backfill) (*Backfilled, error) {
	res := new(Backfilled)
	r := request{method: http.MethodPost, path: schedulePath(name, "backfill"), body: b, repeat: true}
	if err := c.call(ctx, r, res); err != nil {
		return nil, err
	}
	return res, nil
}

// NextTicks returns up to n planned times of a schedule, from a moment on; zero means
// now, and an n of zero 10.
func (c *Client) NextTicks(ctx context.Context, name string, n int, from time.Time) (*NextTicks, error) {
	q := url.Values{}
	if n > 0 {
		q.Set("n", strconv.Itoa(n))
	}
	if !from.IsZero() {
		q.Set("from", job.At(from).String())
	}
	next := new(NextTicks)
	if err := c.call(ctx, request{method: http.MethodGet, path: schedulePath(name, "next"), query: q}, next); err != nil {
		return nil, err
	}
	return next, nil
}

// PreviewOptions says what to look at in a preview.
type PreviewOptions struct {
	// Name is what the schedule will be called: hashed expressions and jitter depend
	// on it.
	Name string
	// N is how many planned times; zero means 10. From is where they begin; zero means
	// now.
	N    int
	From time.Time
}

// PreviewSchedule says what a schedule would do, without saving it. It refuses what
// PutSchedule refuses.
func (c *Client) PreviewSchedule(ctx context.Context, d ScheduleDefinition, opts PreviewOptions) (*SchedulePreview, error) {
	body := struct {
		ScheduleDefinition
		Name string   `json:"name,omitempty"`
		N    int      `json:"n,omitempty"`
		From job.Time `json:"from,omitzero"`
	}{d, opts.Name, opts.N, job.At(opts.From)}
	p := new(SchedulePreview)
	r := request{method: http.MethodPost, path: "/v1/schedules/preview", body: body, repeat: true}
	if err := c.call(ctx, r, p); err != nil {
		return nil, err
	}
	return p, nil
}

// TickOptions says which entries of a history to list.
type TickOptions struct {
	// Limit ends the list after so many entries; zero lists all that are kept.
	Limit int
	// PageSize is how many are fetched at once; zero means 100.
	PageSize int
	// Linearizable makes the list contain everything that was acknowledged before
	// the call, at a cost; otherwise it may be a fraction of a second old.
	Linearizable bool
}

// Ticks yields the history of a schedule, newest first: what each tick did and why. It
// ends after the first error.
func (c *Client) Ticks(ctx context.Context, name string, opts TickOptions) iter.Seq2[*Tick, error] {
	type page struct {
		Ticks      []*Tick `json:"ticks"`
		NextCursor string  `json:"next_cursor"`
	}
	q := url.Values{}
	if opts.Linearizable {
		q.Set("consistency", "linearizable")
	}
	return paged(opts.Limit, opts.PageSize, q, func(q url.Values) ([]*Tick, string, error) {
		var p page
		err := c.call(ctx, request{method: http.MethodGet, path: schedulePath(name, "ticks"), query: q}, &p)
		return p.Ticks, p.NextCursor, err
	})
}
