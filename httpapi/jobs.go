package httpapi

import (
	"context"
	"net/http"
	"slices"
	"time"

	"github.com/orrery-io/orrery/command"
	"github.com/orrery-io/orrery/fsm"
	"github.com/orrery-io/orrery/job"
)

// JobList is a page of jobs, newest first.
type JobList struct {
	Jobs       []*job.Job `json:"jobs"`
	NextCursor string     `json:"next_cursor,omitempty" doc:"Where the next page begins; absent on the last one."`
}

// Reason is the body of requests that may say why.
type Reason struct {
	Reason string `json:"reason,omitempty" doc:"Why, in a sentence." maxLength:"500"`
}

// maxReason bounds a reason, in bytes.
const maxReason = 500

func (a *API) submitRoutes() []route {
	key := param{name: "Idempotency-Key", in: "header", kind: "string", doc: "The same as the field idempotency_key."}
	request := requestParam()
	return []route{
		{
			method: http.MethodPost, path: "/v1/jobs", id: "submitJob", tag: "jobs",
			summary: "Submit a job",
			doc:     "The job is durable when the answer comes. With Prefer: wait=30, or wait=30s, the answer comes when the job has ended, or as it is when that takes longer.",
			params: []param{
				{name: "wait", kind: "duration", doc: "Wait for the end of the job for up to this long, at most 10m.", example: "30s"},
				{name: "Prefer", in: "header", kind: "string", doc: "wait=30 waits for the end of the job for up to 30 seconds.", example: "wait=30"},
				key, request,
				{name: "traceparent", in: "header", kind: "string", doc: "W3C trace context, kept with the job and given to the handler."},
			},
			body: typeOf[Submission](),
			answers: []answer{
				{status: http.StatusCreated, doc: "The job was recorded. Location says where it is.", body: typeOf[job.Job]()},
				{status: http.StatusOK, doc: "The idempotency key was used before with the same body: the job of then.", body: typeOf[job.Job]()},
			},
			refusals: []int{http.StatusRequestEntityTooLarge, http.StatusUnsupportedMediaType, http.StatusUnprocessableEntity, http.StatusTooManyRequests, http.StatusGatewayTimeout},
			curl:     `$ORRERY/v1/jobs -H 'Prefer: wait=30' --json '{"type":"echo","payload":{"hello":"world"}}'`,
			handle:   a.submitJob,
		},
		{
			method: http.MethodPost, path: "/v1/jobs/batch", id: "submitBatch", tag: "jobs",
			summary: "Submit many jobs",
			doc:     "Up to 10,000 jobs and 16 MiB, as an array or as NDJSON. Each job is recorded or refused on its own, and answered for in order; with atomic=true all are recorded (up to 4 MiB) or, when one is refused, none.",
			params: []param{
				{name: "atomic", kind: "boolean", def: false, doc: "All jobs or none."},
				request,
			},
			body: typeOf[[]Submission](), bodyTypes: []string{typeJSON, typeNDJSON},
			answers:  []answer{{status: http.StatusOK, doc: "What became of each job.", body: typeOf[BatchAnswer]()}},
			refusals: []int{http.StatusRequestEntityTooLarge, http.StatusUnsupportedMediaType, http.StatusUnprocessableEntity, http.StatusTooManyRequests, http.StatusGatewayTimeout},
			curl:     `$ORRERY/v1/jobs/batch --json '[{"type":"echo","payload":1},{"type":"echo","payload":2}]'`,
			handle:   a.submitBatch,
		},
	}
}

func (a *API) jobRoutes() []route {
	oneJob := []answer{{status: http.StatusOK, doc: "The job as it is now.", body: typeOf[job.Job]()}}
	return []route{
		{
			method: http.MethodGet, path: "/v1/jobs", id: "listJobs", tag: "jobs",
			summary: "List jobs, newest first",
			doc:     "All parameters of the filter must fit; values of one parameter, divided by commas, are alternatives.",
			params:  slices.Concat(filterParams(), pageParams(), readParams()),
			answers: []answer{{status: http.StatusOK, doc: "One page. The Link header with rel=next is where the next one is.", body: typeOf[JobList]()}},
			curl:    `"$ORRERY/v1/jobs?state=failed,timed_out&created_after=24h&limit=20"`,
			handle:  a.listJobs,
		},
		{
			method: http.MethodGet, path: "/v1/jobs/{id}", id: "getJob", tag: "jobs",
			summary: "Get a job, now or when something has happened to it",
			doc:     "With wait alone, the answer comes when the job has ended. With wait and min_index, it comes when the job has changed at that log index or later, or has ended. When the time passes, it comes with the job as it is.",
			params: slices.Concat([]param{
				{name: "wait", kind: "duration", doc: "How long to wait, at most 10m.", example: "30s"},
			}, readParams()),
			answers: oneJob, refusals: []int{http.StatusNotFound},
			curl:   `"$ORRERY/v1/jobs/42?wait=30s"`,
			handle: a.getJob,
		},
		{
			method: http.MethodPost, path: "/v1/jobs/{id}/cancel", id: "cancelJob", tag: "jobs",
			summary: "Cancel a job",
			doc:     "A waiting job is cancelled at once. For a running one the agent is asked to stop: cancel_requested is set, and the job ends as cancelled when the agent has stopped, or its time for that has passed.",
			body:    typeOf[Reason](), optional: true,
			answers: oneJob, refusals: []int{http.StatusNotFound, http.StatusConflict},
			curl:   `$ORRERY/v1/jobs/42/cancel --json '{"reason":"not needed any more"}'`,
			handle: a.cancelJob,
		},
		{
			method: http.MethodPost, path: "/v1/jobs/{id}/retry", id: "retryJob", tag: "jobs",
			summary: "Run an ended job again, or the next attempt now",
			doc:     "A job without attempts left gets a full set again.",
			answers: oneJob, refusals: []int{http.StatusNotFound, http.StatusConflict},
			curl:   `-X POST $ORRERY/v1/jobs/42/retry`,
			handle: a.act(func(id job.ID) command.Command { return &command.Retry{Job: id} }),
		},
		{
			method: http.MethodPost, path: "/v1/jobs/{id}/promote", id: "promoteJob", tag: "jobs",
			summary: "Run a delayed job now",
			answers: oneJob, refusals: []int{http.StatusNotFound, http.StatusConflict},
			curl:   `-X POST $ORRERY/v1/jobs/42/promote`,
			handle: a.act(func(id job.ID) command.Command { return &command.Promote{Job: id} }),
		},
	}
}

func (a *API) getJob(w *response, r *http.Request, q *query) error {
	id, err := pathID(r)
	if err != nil {
		return err
	}
	if _, err := accept(r, typeJSON); err != nil {
		return err
	}
	wait := q.wait("wait")
	least := uint64(q.number("min_index", 0, 0, 1<<62)) //nolint:gosec // not negative
	if err := q.err(); err != nil {
		return err
	}
	if wait > 0 && least > 0 {
		// The wait is for the job's change, not for the node to catch up.
		delete(q.values, "min_index")
	}
	if err := a.fresh(r.Context(), w, q, false); err != nil {
		return err
	}
	j, err := a.jobNow(r.Context(), id)
	switch {
	case err != nil:
	case wait > 0 && least > 0:
		j, err = a.await(r.Context(), id, wait, false, func(j *job.Job) (bool, error) {
			return lastChange(j) >= least || j.State.Terminal(), nil
		})
	case wait > 0 && !j.State.Terminal():
		j, err = a.awaitEnd(r.Context(), id, wait)
	}
	if err != nil {
		return unknownJob(id, err)
	}
	if wait > 0 {
		w.index(lastChange(j))
	}
	return a.replyJob(w, http.StatusOK, j)
}

// replyJob answers with a row. It may be newer than the index that the answer was to
// include: whoever reads on at Orrery-Index must not see an older one.
func (a *API) replyJob(w *response, status int, j *job.Job) error {
	w.coversAtLeast(lastChange(j))
	return a.reply(w, status, j)
}

// lastChange is the log index at which the job changed last.
func lastChange(j *job.Job) uint64 {
	if n := len(j.Trail); n > 0 {
		return j.Trail[n-1]
	}
	return 0
}

func (a *API) listJobs(w *response, r *http.Request, q *query) error {
	if _, err := accept(r, typeJSON); err != nil {
		return err
	}
	f := q.filter(job.At(time.Now()))
	p := q.page("jobs")
	if err := a.fresh(r.Context(), w, q, true); err != nil {
		return err
	}
	jobs, next, err := a.jobsPage(r.Context(), f, p.after, p.limit)
	if err != nil {
		return err
	}
	list := JobList{Jobs: jobs}
	if next != 0 {
		list.NextCursor = encodeCursor(next, p.scope)
		link(w, r, list.NextCursor)
	}
	return a.reply(w, http.StatusOK, &list)
}

// maxPageBytes ends a page early, so that large payloads don't add up.
const maxPageBytes = 4 << 20

// jobsPage returns up to limit jobs, fewer when they are large, and after which id
// the next page goes on; 0 at the end.
func (a *API) jobsPage(ctx context.Context, f fsm.JobFilter, after job.ID, limit int) ([]*job.Job, job.ID, error) {
	const chunk = 50
	jobs := []*job.Job{}
	size := 0
	for {
		some, next, err := a.machine.Jobs(ctx, f, after, min(chunk, limit-len(jobs)))
		if err != nil {
			return nil, 0, err
		}
		for i, j := range some {
			jobs = append(jobs, j)
			size += jobSize(j)
			if size >= maxPageBytes && (next != 0 || i < len(some)-1) {
				return jobs, j.ID, nil
			}
		}
		after = next
		if next == 0 || len(jobs) >= limit {
			return jobs, next, nil
		}
	}
}

// jobSize is about how many bytes a job is as JSON.
func jobSize(j *job.Job) int {
	n := 512 + len(j.Payload) + len(j.PayloadBytes) + len(j.Result) + len(j.ResultBytes)
	for i := range j.Attempts {
		n += 200
		if e := j.Attempts[i].Error; e != nil {
			n += len(e.Message) + len(e.Stack)
		}
	}
	return n
}

// act answers requests that do one thing to one job and have no body.
func (a *API) act(make func(job.ID) command.Command) handler {
	return func(w *response, r *http.Request, _ *query) error {
		err := a.object(w, r, maxSmall, true, nil, func(*decoder, path, string, []byte) {})
		if err != nil {
			return err
		}
		return a.actOn(w, r, make)
	}
}

func (a *API) cancelJob(w *response, r *http.Request, _ *query) error {
	reason, err := a.readReason(w, r)
	if err != nil {
		return err
	}
	return a.actOn(w, r, func(id job.ID) command.Command { return &command.Cancel{Job: id, Reason: reason} })
}

func (a *API) actOn(w *response, r *http.Request, make func(job.ID) command.Command) error {
	id, err := pathID(r)
	if err != nil {
		return err
	}
	request, err := requestID(r)
	if err != nil {
		return err
	}
	if _, err := a.proposeOne(r.Context(), w, command.Item{RequestID: request, Command: make(id)}); err != nil {
		return unknownJob(id, err)
	}
	j, err := a.machine.Job(r.Context(), id)
	if err != nil {
		return unknownJob(id, err)
	}
	return a.replyJob(w, http.StatusOK, j)
}

// readReason reads an optional body of type Reason.
func (a *API) readReason(w *response, r *http.Request) (reason string, err error) {
	err = a.object(w, r, maxSmall, true, []string{"reason"}, func(d *decoder, p path, _ string, value []byte) {
		reason = d.reason(p, value)
	})
	return reason, err
}
