package client

import (
	"context"
	"iter"
	"net/http"
	"net/url"
	"time"

	"github.com/orrery-io/orrery/job"
)

func jobPath(id job.ID) string { return "/v1/jobs/" + id.String() }

// Get returns a job as it is now.
func (c *Client) Get(ctx context.Context, id job.ID) (*job.Job, error) {
	return c.get(ctx, id, 0)
}

func (c *Client) get(ctx context.Context, id job.ID, wait time.Duration) (*job.Job, error) {
	r := request{method: http.MethodGet, path: jobPath(id), wait: wait}
	if wait > 0 {
		r.query = url.Values{"wait": {wait.String()}}
	}
	j := new(job.Job)
	if err := c.call(ctx, r, j); err != nil {
		return nil, err
	}
	return j, nil
}

// Wait returns the job once it has ended, well or badly; look at its State. It
// goes on through the restart of a node for up to a minute. When it ends with an
// error, the returned job is as it was last seen, nil when it never was.
func (c *Client) Wait(ctx context.Context, id job.ID) (*job.Job, error) {
	var last *job.Job
	patience := newPatience()
	for {
		began := time.Now()
		j, err := c.get(ctx, id, longPoll)
		if err != nil {
			if !patience.retry(ctx, err) {
				return last, err
			}
			continue
		}
		last = j
		if j.State.Terminal() {
			return j, nil
		}
		patience = newPatience()
		// A node that answers early must not be asked in a tight loop.
		if time.Since(began) < time.Second {
			if err := pause(ctx, 100*time.Millisecond); err != nil {
				return last, err
			}
		}
	}
}

// Cancel ends a waiting job, and asks a running one to stop; look at its State.
// The reason is kept with the job and may be empty.
func (c *Client) Cancel(ctx context.Context, id job.ID, reason string) (*job.Job, error) {
	return c.act(ctx, id, "cancel", reasonBody{reason})
}

// Retry makes an ended job run again, or one between two attempts run now.
func (c *Client) Retry(ctx context.Context, id job.ID) (*job.Job, error) {
	return c.act(ctx, id, "retry", nil)
}

// Promote makes a delayed job run now.
func (c *Client) Promote(ctx context.Context, id job.ID) (*job.Job, error) {
	return c.act(ctx, id, "promote", nil)
}

type reasonBody struct {
	Reason string `json:"reason,omitempty"`
}

func (c *Client) act(ctx context.Context, id job.ID, verb string, body any) (*job.Job, error) {
	j := new(job.Job)
	r := request{method: http.MethodPost, path: jobPath(id) + "/" + verb, body: body, repeat: true}
	if err := c.call(ctx, r, j); err != nil {
		return nil, err
	}
	return j, nil
}

// JobEvents returns what happened to one job, oldest first.
func (c *Client) JobEvents(ctx context.Context, id job.ID) ([]job.Event, error) {
	var page struct {
		Events []job.Event `json:"events"`
	}
	err := c.call(ctx, request{method: http.MethodGet, path: jobPath(id) + "/events"}, &page)
	return page.Events, err
}

// ListOptions says which jobs to list.
type ListOptions struct {
	Filter
	// Limit ends the list after so many jobs; zero lists all.
	Limit int
	// PageSize is how many are fetched at once; zero means 100.
	PageSize int
	// Linearizable makes the list contain everything that was acknowledged before
	// the call, at a cost; otherwise it may be a fraction of a second old.
	Linearizable bool
}

// List yields jobs newest first, fetching page after page. It ends after the
// first error.
func (c *Client) List(ctx context.Context, opts ListOptions) iter.Seq2[*job.Job, error] {
	type page struct {
		Jobs       []*job.Job `json:"jobs"`
		NextCursor string     `json:"next_cursor"`
	}
	q := opts.values()
	if opts.Linearizable {
		q.Set("consistency", "linearizable")
	}
	return paged(opts.Limit, opts.PageSize, q, func(q url.Values) ([]*job.Job, string, error) {
		var p page
		err := c.call(ctx, request{method: http.MethodGet, path: "/v1/jobs", query: q}, &p)
		return p.Jobs, p.NextCursor, err
	})
}
