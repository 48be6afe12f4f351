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
	// Jobs, Queues and JobTypes select events about them; empty means all.
	Jobs     []job.ID
	Queues   []string
	JobTypes []string
	// Stored ends after the newest event that is there, instead of following.
	Stored bool
}

func (o EventOptions) values() url.Values {
	q := url.Values{}
	if o.After != nil {
		q.Set("after", o.After.String())
	}
	types := make([]string, len(o.Types))
	for i, t := range o.Types {
		types[i] = t.String()
	}
	jobs := make([]string, len(o.Jobs))
	for i, id := range o.Jobs {
		jobs[i] = id.String()
	}
	for k, v := range map[string][]string{"type": types, "job": jobs, "queue": o.Queues, "job_type": o.JobTypes} {
		if len(v) > 0 {
			q.Set(k, strings.Join(v, ","))
		}
	}
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
		var last job.EventID
		if opts.After != nil {
			last = *opts.After
		}
		each := func(ev sseEvent) (bool, error) {
			switch ev.Name {
			case "end":
				return false, nil
			case "error":
				return false, problem(ev.Data)
			}
			var e job.Event
			if err := json.Unmarshal(ev.Data, &e); err != nil {
				return false, badStream(err)
			}
			if e.Type == 0 || !last.Less(e.ID) {
				return true, nil
			}
			last = e.ID
			return yield(e, nil), nil
		}
		r := request{method: http.MethodGet, path: "/v1/events", query: opts.values(), stream: true}
		if err := c.follow(ctx, r, "", each); err != nil {
			yield(job.Event{}, err)
		}
	}
}

// problem makes an Error of one that came inside a stream.
func problem(data []byte) error {
	e := &Error{}
	if err := json.Unmarshal(data, e); err != nil {
		return badStream(err)
	}
	return e
}
