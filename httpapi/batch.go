package httpapi

import (
	"bytes"
	"context"
	"fmt"
	"net/http"
	"strconv"
	"time"

	"github.com/orrery-io/orrery/command"
	"github.com/orrery-io/orrery/job"
)

// BatchAnswer says what became of each job of a batch.
type BatchAnswer struct {
	Items    []BatchItem `json:"items" doc:"One for each job, in order."`
	Accepted int         `json:"accepted" doc:"How many were recorded, or found by their idempotency keys."`
	Refused  int         `json:"refused"`
}

// BatchItem says what became of one job of a batch.
type BatchItem struct {
	Index    int      `json:"index" doc:"The place in the request, counted from 0."`
	Status   int      `json:"status" doc:"The HTTP status that the job alone would have had." example:"201"`
	ID       job.ID   `json:"id,omitempty"`
	Existing bool     `json:"existing,omitempty" doc:"The idempotency key was used before; this is the job of then."`
	Problem  *Problem `json:"problem,omitempty" doc:"Why the job was refused."`
}

// batch is a batch while it is being recorded.
type batch struct {
	answer BatchAnswer
	// submits are the good ones, places where they stand in the answer.
	submits []*command.Submit
	places  []int
}

func (b *batch) refuse(place int, p *Problem) {
	b.answer.Items[place] = BatchItem{Index: place, Status: p.Status, Problem: p}
	b.answer.Refused++
}

// submitBatch answers POST /v1/jobs/batch.
func (a *API) submitBatch(w *response, r *http.Request, q *query) error {
	atomic := q.boolean("atomic", false)
	if err := q.err(); err != nil {
		return err
	}
	if _, err := accept(r, typeJSON); err != nil {
		return err
	}
	if r.Header.Get("Idempotency-Key") != "" {
		return headerInvalid("Idempotency-Key", "is for one job; give each job of a batch its own idempotency_key, or send Orrery-Request-Id")
	}
	id, err := requestID(r)
	if err != nil {
		return err
	}
	limit := int64(maxBatch)
	if atomic {
		limit = maxAtomic
	}
	raw, err := a.readBatch(w, r, limit)
	if err != nil {
		return err
	}
	if len(raw) == 0 {
		return invalid("empty_batch", "the batch has no jobs")
	}
	b := &batch{}
	b.answer.Items = make([]BatchItem, len(raw))
	now := job.At(time.Now())
	var wrong []job.FieldError
	var first error
	for i := range raw {
		p := path{"", strconv.Itoa(i)}
		if !atomic {
			// Each job is answered for on its own: what is wrong with it stands at
			// its own pointers.
			p = path{}
		}
		submit, err := decodeBatchItem(p, raw[i], now)
		raw[i] = nil
		switch {
		case err == nil:
			b.submits, b.places = append(b.submits, submit), append(b.places, i)
		case atomic:
			if first == nil {
				first = err
			}
			wrong = append(wrong, fieldsOf(err, p)...)
		default:
			b.refuse(i, a.problem(r.Context(), err))
		}
	}
	if first != nil {
		return atomicRefusal(first, wrong)
	}
	if atomic {
		err = a.recordAll(r.Context(), w, b, id)
	} else {
		err = a.recordEach(r.Context(), w, b, id)
	}
	if err != nil {
		return err
	}
	return a.reply(w, http.StatusOK, &b.answer)
}

func decodeBatchItem(p path, raw []byte, now job.Time) (*command.Submit, error) {
	if f := checkJSON("the job", raw); f != nil {
		return nil, f
	}
	s, err := decodeSubmission(p, raw)
	if err != nil {
		return nil, err
	}
	return s.command(p, now)
}

// readBatch returns the text of each job. It comes from a buffer of its own.
func (a *API) readBatch(w *response, r *http.Request, limit int64) ([][]byte, error) {
	media, err := contentType(r, typeJSON, typeNDJSON)
	if err != nil {
		return nil, err
	}
	b, err := a.read(w, r, limit)
	if err != nil {
		return nil, err
	}
	// Not given back to the pool: what is returned points into it.
	body := b.Bytes()
	var items [][]byte
	if media == typeNDJSON {
		for line := range bytes.Lines(body) {
			if line = trim(line); len(line) > 0 {
				if items = append(items, line); len(items) > job.MaxBatch {
					return nil, errBatchSize()
				}
			}
		}
		return items, nil
	}
	if f := checkJSON("the body", body); f != nil {
		return nil, f
	}
	body = trim(body)
	if body[0] != '[' {
		return nil, invalidFields("wrong_type", []job.FieldError{{Pointer: "", Detail: "must be an array of jobs, not " + kindOf(body)}})
	}
	for _, item := range elements(body) {
		if items = append(items, item); len(items) > job.MaxBatch {
			return nil, errBatchSize()
		}
	}
	return items, nil
}

func errBatchSize() error {
	return errTooLarge("", fmt.Sprintf("has more than %d jobs, which is the limit", job.MaxBatch))
}

// fieldsOf makes entries for the answer to an atomic batch of what is wrong with
// the job at p.
func fieldsOf(err error, p path) []job.FieldError {
	problem, ok := problemOf(err)
	if !ok {
		return nil
	}
	if len(problem.Errors) == 0 {
		return []job.FieldError{{Pointer: p.String(), Detail: problem.Detail}}
	}
	return problem.Errors
}

// atomicRefusal refuses a batch as a whole. Its kind is that of the first mistake.
func atomicRefusal(first error, wrong []job.FieldError) error {
	problem, ok := problemOf(first)
	if !ok {
		return first
	}
	n := len(wrong)
	wrong = wrong[:min(n, maxFieldErrors)]
	e := job.Errorf(job.KindOf(first), problem.Code, "the batch has mistakes, and nothing of it was recorded: %d found", n)
	return &fault{public: e, fields: wrong}
}

// recordAll records all jobs in one command, or none.
func (a *API) recordAll(ctx context.Context, w *response, b *batch, id string) error {
	all := &command.SubmitAll{Jobs: make([]command.Submit, len(b.submits))}
	for i, s := range b.submits {
		all.Jobs[i] = *s
	}
	res, err := a.proposeOne(ctx, w, command.Item{RequestID: id, Command: all})
	if err != nil {
		return err
	}
	if len(res.Jobs) != len(b.submits) {
		return fmt.Errorf("atomic batch of %d: %d ids", len(b.submits), len(res.Jobs))
	}
	for i, jobID := range res.Jobs {
		b.answer.Items[i] = BatchItem{Index: i, Status: http.StatusCreated, ID: jobID}
	}
	b.answer.Accepted = len(res.Jobs)
	return nil
}

// recordEach records each job on its own.
func (a *API) recordEach(ctx context.Context, w *response, b *batch, id string) error {
	if len(b.submits) == 0 {
		return nil
	}
	items := make([]command.Item, len(b.submits))
	for i, s := range b.submits {
		items[i].Command = s
		if id != "" {
			items[i].RequestID = id + "/" + strconv.Itoa(b.places[i])
		}
	}
	results, err := a.propose(ctx, items...)
	if err != nil {
		return err
	}
	var last uint64
	for i, res := range results {
		place := b.places[i]
		if err := res.Error(); err != nil {
			b.refuse(place, a.problem(ctx, err))
			continue
		}
		item := BatchItem{Index: place, Status: http.StatusCreated, ID: res.Job, Existing: res.Existing}
		if res.Existing {
			item.Status = http.StatusOK
		}
		b.answer.Items[place] = item
		b.answer.Accepted++
		last = max(last, res.Index)
	}
	if last > 0 {
		w.index(last)
	}
	return a.machine.WaitApplied(ctx, last)
}
