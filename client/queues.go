package client

import (
	"context"
	"net/http"
	"net/url"
	"strconv"

	"github.com/orrery-io/orrery/job"
)

// Queue is a queue and how many jobs it holds.
type Queue struct {
	job.Queue
	// Counts has the number of jobs by state.
	Counts map[job.State]int64 `json:"counts"`
}

// Queues returns all queues, by name.
func (c *Client) Queues(ctx context.Context) ([]Queue, error) {
	var page struct {
		Queues []Queue `json:"queues"`
	}
	err := c.call(ctx, request{method: http.MethodGet, path: "/v1/queues"}, &page)
	return page.Queues, err
}

// Queue returns one queue. Linearizable counts everything that was acknowledged
// before the call, at a cost; otherwise the counts may be a fraction of a second old.
func (c *Client) Queue(ctx context.Context, name string, linearizable bool) (*Queue, error) {
	r := request{method: http.MethodGet, path: "/v1/queues/" + url.PathEscape(name)}
	if linearizable {
		r.query = url.Values{"consistency": {"linearizable"}}
	}
	q := new(Queue)
	if err := c.call(ctx, r, q); err != nil {
		return nil, err
	}
	return q, nil
}

// PauseQueue stops dispatching jobs of a queue; what runs goes on. The reason is
// kept and may be empty. The queue need not exist yet.
func (c *Client) PauseQueue(ctx context.Context, name, reason string) error {
	return c.setQueue(ctx, name, "pause", reasonBody{reason})
}

// ResumeQueue undoes PauseQueue.
func (c *Client) ResumeQueue(ctx context.Context, name string) error {
	return c.setQueue(ctx, name, "resume", nil)
}

func (c *Client) setQueue(ctx context.Context, name, verb string, body any) error {
	path := "/v1/queues/" + url.PathEscape(name) + "/" + verb
	return c.call(ctx, request{method: http.MethodPost, path: path, body: body, repeat: true}, nil)
}

// DeadGroup is a group of dead letters with the same type and kind of error.
type DeadGroup struct {
	Type      string `json:"type"`
	ErrorKind string `json:"error_kind"`
	// Message is that of one of them.
	Message string   `json:"message"`
	Count   int64    `json:"count"`
	Oldest  job.Time `json:"oldest,omitzero"`
	Newest  job.Time `json:"newest,omitzero"`
}

// DeadLetters are jobs that failed or timed out for good.
type DeadLetters struct {
	// Total is how many the filter selects.
	Total  int64       `json:"total"`
	Groups []DeadGroup `json:"groups"`
	// Jobs are the newest of them; List, with their states, yields all.
	Jobs []*job.Job `json:"jobs"`
	// NextCursor is empty when Jobs are all.
	NextCursor string `json:"next_cursor,omitempty"`
}

// DeadLetterOptions says which dead letters to look at.
type DeadLetterOptions struct {
	Filter
	// Limit is how many jobs come along with the groups; zero means 50.
	Limit int
	// Linearizable includes everything that was acknowledged before the call;
	// otherwise the answer may be a fraction of a second old.
	Linearizable bool
}

// DeadLetters returns the dead letters that a filter selects, grouped, and the
// newest of them.
func (c *Client) DeadLetters(ctx context.Context, opts DeadLetterOptions) (*DeadLetters, error) {
	q := opts.values()
	if opts.Limit > 0 {
		q.Set("limit", strconv.Itoa(opts.Limit))
	}
	if opts.Linearizable {
		q.Set("consistency", "linearizable")
	}
	d := new(DeadLetters)
	if err := c.call(ctx, request{method: http.MethodGet, path: "/v1/dead-letters", query: q}, d); err != nil {
		return nil, err
	}
	return d, nil
}

// Selection names dead letters: by id, or by filter. An empty Filter selects all
// of them.
type Selection struct {
	IDs    []job.ID
	Filter *Filter
	// DryRun counts and changes nothing.
	DryRun bool
}

// Affected says how many dead letters were selected, and how many changed.
type Affected struct {
	Matched int64 `json:"matched"`
	Changed int64 `json:"changed"`
}

// Redrive takes jobs out of the dead letters and runs them again, with a full set
// of attempts.
func (c *Client) Redrive(ctx context.Context, s Selection) (Affected, error) {
	return c.changeDead(ctx, "redrive", s)
}

// Purge removes jobs from the dead letters for good.
func (c *Client) Purge(ctx context.Context, s Selection) (Affected, error) {
	return c.changeDead(ctx, "purge", s)
}

func (c *Client) changeDead(ctx context.Context, verb string, s Selection) (Affected, error) {
	body := struct {
		IDs    []job.ID          `json:"ids,omitempty"`
		Filter map[string]string `json:"filter,omitzero"`
	}{IDs: s.IDs}
	if s.Filter != nil {
		body.Filter = s.Filter.body()
	}
	r := request{method: http.MethodPost, path: "/v1/dead-letters/" + verb, body: body, repeat: s.DryRun}
	if s.DryRun {
		r.query = url.Values{"dry_run": {"true"}}
	}
	var a Affected
	err := c.call(ctx, r, &a)
	return a, err
}
