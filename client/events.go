package client

import (
	"context"
	"encoding/json"
	"iter"
	"net/http"
	"net/url"
	"strconv"
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
	// Queues selects events about these queues and their jobs; empty means all.
	Queues []string
	// Job selects events about one job; zero means all.
	Job job.ID
	// Stored ends behind the newest event that there was at the call, instead of
	// following.
	Stored bool
}

const (
	oldest = "oldest"
	latest = "latest"
	// eventPage is how many stored events are fetched at once.
	eventPage = 1000
)

// values is the query, without where to begin.
func (o EventOptions) values() url.Values {
	q := url.Values{}
	types := make([]string, len(o.Types))
	for i, t := range o.Types {
		types[i] = t.String()
	}
	if len(types) > 0 {
		q.Set("types", strings.Join(types, ","))
	}
	if len(o.Queues) > 0 {
		q.Set("queue", strings.Join(o.Queues, ","))
	}
	if o.Job != 0 {
		q.Set("job", o.Job.String())
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
		err := errDone
		switch {
		case opts.Stored && opts.After != nil:
			err = c.storedEvents(ctx, opts, yield)
		case !opts.Stored:
			err = c.followEvents(ctx, opts, yield)
		}
		if err != nil && err != errDone { //nolint:errorlint // it is never wrapped
			yield(job.Event{}, err)
		}
	}
}

// events fetches one page of stored events. An empty page's next is the place of
// the newest event.
func (c *Client) events(ctx context.Context, q url.Values, after string, limit int) (events []job.Event, next string, err error) {
	q.Set("after", after)
	q.Set("limit", strconv.Itoa(limit))
	var page struct {
		Events []job.Event `json:"events"`
		Next   string      `json:"next"`
	}
	err = c.call(ctx, request{method: http.MethodGet, path: "/v1/events", query: q}, &page)
	return page.Events, page.Next, err
}

// storedEvents yields what is kept now.
func (c *Client) storedEvents(ctx context.Context, opts EventOptions, yield func(job.Event, error) bool) error {
	_, text, err := c.events(ctx, url.Values{}, latest, 1)
	if err != nil {
		return err
	}
	end, err := job.ParseEventID(text)
	if err != nil {
		return badStream(err)
	}
	after := place(*opts.After)
	for {
		events, next, err := c.events(ctx, opts.values(), after, eventPage)
		if err != nil {
			return err
		}
		for _, e := range events {
			if end.Less(e.ID) || !yield(e, nil) {
				return errDone
			}
		}
		reached, err := job.ParseEventID(next)
		switch {
		case err != nil:
			return badStream(err)
		case next == after, !reached.Less(end):
			return nil
		}
		after = next
	}
}

// followEvents yields what happens behind a place.
func (c *Client) followEvents(ctx context.Context, opts EventOptions, yield func(job.Event, error) bool) error {
	var last job.EventID
	q := opts.values()
	if opts.After == nil {
		// The place is fetched first: a stream that broke off before its first
		// event would otherwise be taken up too late.
		events, next, err := c.events(ctx, opts.values(), latest, eventPage)
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
		if ev.Name == "error" {
			return false, problem(ev.Data)
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
