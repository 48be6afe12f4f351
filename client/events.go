package client

import (
	"context"
	"encoding/json"
	"iter"
	"net/http"
	"net/url"
	"strings"

	"github.com/orrery-io/orrery/job"
)

// EventOptions says which events to read.
type EventOptions struct {
	// After starts behind that event; nil starts with what happens from now on.
	// The zero EventID starts with the oldest event that is kept.
	After *job.EventID
	// Types selects events of these types; empty means all.
	Types []job.EventType
	// Queues selects events about these queues and their jobs; Jobs and JobTypes
	// those about jobs with these ids and types; Schedules those about schedules with
	// these names. Empty means all.
	Queues    []string
	Jobs      []job.ID
	JobTypes  []string
	Schedules []string
	// Stored ends behind the newest event that there was at the call, instead of
	// following.
	Stored bool
}

const (
	oldest = "oldest"
	latest = "latest"
)

// values is the query, without where to begin.
func (o EventOptions) values() url.Values {
	q := url.Values{}
	set := func(name string, values []string) {
		if len(values) > 0 {
			q.Set(name, strings.Join(values, ","))
		}
	}
	set("types", texts(o.Types))
	set("queue", o.Queues)
	set("job", texts(o.Jobs))
	set("job_type", o.JobTypes)
	set("schedule", o.Schedules)
	if o.Stored {
		q.Set("follow", "false")
	}
	return q
}

// Events yields the feed of everything that happens, in its one order, each event
// once. When the connection breaks it is taken up again behind the last event,
// on another node if need be, for up to a minute. It ends after the first error,
// such as one with the code "events_trimmed" when After is older than what is
// kept.
func (c *Client) Events(ctx context.Context, opts EventOptions) iter.Seq2[job.Event, error] {
	return func(yield func(job.Event, error) bool) {
		if opts.Stored && opts.After == nil {
			return // nothing has happened after now
		}
		if err := c.followEvents(ctx, opts, yield); err != errDone { //nolint:errorlint // it is never wrapped
			yield(job.Event{}, err)
		}
	}
}

// newest fetches the place of the newest event, and what happened while it was
// asked for.
func (c *Client) newest(ctx context.Context, q url.Values) (events []job.Event, next string, err error) {
	q.Set("after", latest)
	var page struct {
		Events []job.Event `json:"events"`
		Next   string      `json:"next"`
	}
	err = c.call(ctx, request{method: http.MethodGet, path: "/v1/events", query: q}, &page)
	return page.Events, page.Next, err
}

// followEvents yields what happens behind a place. The error is never nil.
func (c *Client) followEvents(ctx context.Context, opts EventOptions, yield func(job.Event, error) bool) error {
	var last job.EventID
	q := opts.values()
	if opts.After == nil {
		// The place is fetched first: a stream that broke off before its first
		// event would otherwise be taken up too late.
		events, next, err := c.newest(ctx, opts.values())
		if err != nil {
			return err
		}
		for _, e := range events {
			last = e.ID
			if !yield(e, nil) {
				return errDone
			}
		}
		q.Set("after", next)
	} else {
		last = *opts.After
		q.Set("after", place(last))
	}
	each := func(ev sseEvent) (bool, error) {
		switch ev.Name {
		case "error":
			return false, problem(ev.Data)
		case "end":
			return false, nil
		}
		var e job.Event
		if err := json.Unmarshal(ev.Data, &e); err != nil {
			return false, badStream(err)
		}
		if !last.Less(e.ID) {
			return true, nil
		}
		last = e.ID
		return yield(e, nil), nil
	}
	r := request{method: http.MethodGet, path: "/v1/events", query: q, stream: true}
	return c.follow(ctx, r, each)
}

// place writes where to begin.
func place(id job.EventID) string {
	if id == (job.EventID{}) {
		return oldest
	}
	return id.String()
}

// problem makes an Error of one that came inside a stream.
func problem(data []byte) error {
	e := &Error{}
	if err := json.Unmarshal(data, e); err != nil {
		return badStream(err)
	}
	return e
}
