package client

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/orrery-io/orrery/job"
)

// Submission asks for a job. Only Type is required; a zero field means the
// node's default.
type Submission struct {
	// Type selects the handler.
	Type string `json:"type"`
	// Queue defaults to "default".
	Queue string `json:"queue,omitempty"`
	// Payload is encoded with encoding/json; a json.RawMessage or a job.JSON is
	// sent as it is. PayloadBytes are raw bytes. At most one is set.
	Payload      any    `json:"payload,omitempty"`
	PayloadBytes []byte `json:"payload_bytes,omitempty"`
	// Priority is 0 to 9, higher first; nil means 4.
	Priority *int `json:"priority,omitempty"`
	// RunAt is when the job may first run, Delay how long from now. At most one is
	// set.
	RunAt job.Time     `json:"run_at,omitzero"`
	Delay job.Duration `json:"delay,omitempty"`
	// MaxAttempts counts executions that failed or timed out; zero means 5.
	MaxAttempts int       `json:"max_attempts,omitempty"`
	Retry       job.Retry `json:"retry,omitzero"`
	// Timeout bounds one attempt; zero means no limit.
	Timeout job.Duration `json:"timeout,omitempty"`
	// ExpiresIn ends the job as expired when it was not started by then.
	ExpiresIn job.Duration `json:"expires_in,omitempty"`
	// Lease is how long an agent may be silent before its attempt counts as lost,
	// when that shall be longer than the node's own lease (15 s).
	Lease         job.Duration      `json:"lease,omitempty"`
	Tags          []string          `json:"tags,omitempty"`
	Metadata      map[string]string `json:"metadata,omitempty"`
	CorrelationID string            `json:"correlation_id,omitempty"`
	Traceparent   string            `json:"traceparent,omitempty"`
	// IdempotencyKey makes a repeated submission return the first job. The same
	// key with a different body is refused.
	IdempotencyKey string `json:"idempotency_key,omitempty"`
	// Retention is how long the job is kept after it ended.
	Retention job.Duration `json:"retention,omitempty"`
}

// longPoll is how long a node is asked to wait in one request. It stays under
// the idle limits of common proxies.
const longPoll = 30 * time.Second

// Submit submits a job and returns it as recorded. When it returns without an
// error, the job is durable.
func (c *Client) Submit(ctx context.Context, s Submission) (*job.Job, error) {
	return c.submit(ctx, s, 0)
}

// SubmitAndWait submits a job and waits until it has ended, well or badly; look
// at its State. When ctx ends first, the returned job is as it was last seen and
// the error says why.
func (c *Client) SubmitAndWait(ctx context.Context, s Submission) (*job.Job, error) {
	j, err := c.submit(ctx, s, longPoll)
	if err != nil || j.State.Terminal() {
		return j, err
	}
	ended, err := c.Wait(ctx, j.ID)
	if ended != nil {
		j = ended
	}
	return j, err
}

func (c *Client) submit(ctx context.Context, s Submission, wait time.Duration) (*job.Job, error) {
	r := request{method: http.MethodPost, path: "/v1/jobs", body: s, wait: wait, repeat: true}
	if wait > 0 {
		r.header = http.Header{"Prefer": {"wait=" + strconv.Itoa(int(wait/time.Second))}}
	}
	j := new(job.Job)
	if err := c.call(ctx, r, j); err != nil {
		return nil, err
	}
	return j, nil
}

// BatchOptions says how a batch is submitted.
type BatchOptions struct {
	// Atomic submits all jobs or, when one is refused, none.
	Atomic bool
}

// BatchResult says what became of each job of a batch, in order.
type BatchResult struct {
	Items    []BatchItem `json:"items"`
	Accepted int         `json:"accepted"`
	Refused  int         `json:"refused"`
}

// BatchItem says what became of one job of a batch.
type BatchItem struct {
	// Status is the HTTP status that the job alone would have had: 201 for a new
	// job, 200 for one that its idempotency key found.
	Status int `json:"status"`
	// ID is that of the job; zero when it was refused.
	ID job.ID `json:"id,omitempty"`
	// Job is the job, when the node sends it along.
	Job *job.Job `json:"job,omitempty"`
	// Problem says why the job was refused; nil when it was not.
	Problem *Error `json:"problem,omitempty"`
}

// SubmitBatch submits up to job.MaxBatch jobs at once. The error is about the
// batch as a whole; a job that was refused on its own has a Problem in its item.
func (c *Client) SubmitBatch(ctx context.Context, jobs []Submission, opts BatchOptions) (*BatchResult, error) {
	if len(jobs) == 0 {
		return &BatchResult{}, nil
	}
	r := request{method: http.MethodPost, path: "/v1/jobs/batch", body: jobs, repeat: true}
	if opts.Atomic {
		r.query = url.Values{"atomic": {"true"}}
	}
	res := new(BatchResult)
	if err := c.call(ctx, r, res); err != nil {
		return nil, err
	}
	if len(res.Items) != len(jobs) {
		return nil, &Error{
			Code:   CodeBadAnswer,
			Detail: fmt.Sprintf("the node answered for %d jobs of a batch of %d", len(res.Items), len(jobs)),
		}
	}
	for i := range res.Items {
		it := &res.Items[i]
		if it.ID == 0 && it.Job != nil {
			it.ID = it.Job.ID
		}
	}
	return res, nil
}
