package httpapi

import (
	"context"
	"errors"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/orrery-io/orrery/command"
	"github.com/orrery-io/orrery/job"
)

// proposeTime bounds how long a request waits until its commands are recorded.
const proposeTime = 30 * time.Second

// propose records commands on behalf of a request.
func (a *API) propose(ctx context.Context, items ...command.Item) ([]command.Result, error) {
	limit, cancel := context.WithTimeout(ctx, proposeTime)
	defer cancel()
	results, err := a.node.Propose(limit, items...)
	if err != nil {
		if errors.Is(err, context.DeadlineExceeded) && ctx.Err() == nil {
			return nil, job.ErrOutcomeUnknown
		}
		return nil, err
	}
	return results, nil
}

// proposeOne records one command, waits until this node has applied it, and says
// so in the answer's header.
func (a *API) proposeOne(ctx context.Context, w *response, item command.Item) (command.Result, error) {
	results, err := a.propose(ctx, item)
	if err != nil {
		return command.Result{}, err
	}
	res := results[0]
	if err := res.Error(); err != nil {
		return res, err
	}
	if err := a.machine.WaitApplied(ctx, res.Index); err != nil {
		return res, err
	}
	w.index(res.Index)
	return res, nil
}

// maxRequestID leaves room for what commands of one request are told apart by.
const maxRequestID = 100

// requestID returns the id by which the cluster recognises a repeated request.
func requestID(r *http.Request) (string, error) {
	id := r.Header.Get("Orrery-Request-Id")
	if len(id) > maxRequestID || strings.ContainsFunc(id, func(c rune) bool { return c <= ' ' || c >= 0x7f }) {
		return "", headerInvalid("Orrery-Request-Id", "must be 1 to "+strconv.Itoa(maxRequestID)+" printable ASCII characters without blanks")
	}
	return id, nil
}

func headerInvalid(name, detail string) error {
	return invalidFields("invalid_header", []job.FieldError{{Pointer: name, Detail: detail}})
}

// submitJob answers POST /v1/jobs: the hot path.
func (a *API) submitJob(w *response, r *http.Request, q *query) error {
	wait, prefer := prefersWait(r)
	if d := q.wait("wait"); d > 0 {
		wait, prefer = d, false
	}
	if err := q.err(); err != nil {
		return err
	}
	s, id, err := a.readSubmission(w, r)
	if err != nil {
		return err
	}
	submit, err := s.command(path{}, job.At(time.Now()))
	if err != nil {
		return err
	}
	res, err := a.proposeOne(r.Context(), w, command.Item{RequestID: id, Command: submit})
	if err != nil {
		return err
	}
	var j *job.Job
	if wait > 0 {
		j, err = a.awaitEnd(r.Context(), res.Job, wait)
	} else {
		j, err = a.machine.Job(r.Context(), res.Job)
	}
	if err != nil {
		return err
	}
	h := w.Header()
	if prefer {
		h.Set("Preference-Applied", "wait="+strconv.Itoa(int(wait/time.Second)))
	}
	location := "/v1/jobs/" + res.Job.String()
	code := http.StatusCreated
	if res.Existing {
		code = http.StatusOK
		h.Set("Content-Location", location)
	} else {
		h.Set("Location", location)
	}
	return a.replyJob(w, code, j)
}

// readSubmission reads the body of POST /v1/jobs and the headers that belong to
// it. Nothing of what it returns is in the request's buffers.
func (a *API) readSubmission(w *response, r *http.Request) (*submission, string, error) {
	if _, err := accept(r, typeJSON); err != nil {
		return nil, "", err
	}
	if _, err := contentType(r, typeJSON); err != nil {
		return nil, "", err
	}
	id, err := requestID(r)
	if err != nil {
		return nil, "", err
	}
	b, err := a.read(w, r, maxSubmission)
	if err != nil {
		return nil, "", err
	}
	defer a.buffers.put(b)
	if f := checkJSON("the body", b.Bytes()); f != nil {
		return nil, "", f
	}
	s, err := decodeSubmission(path{}, b.Bytes())
	if err != nil {
		return nil, "", err
	}
	if err := s.headers(r); err != nil {
		return nil, "", err
	}
	return s, id, nil
}

// headers takes over what may be given as a header instead of a field.
func (s *submission) headers(r *http.Request) error {
	if keys := r.Header.Values("Idempotency-Key"); len(keys) > 0 {
		// The draft standard wants quotes around the key; most leave them out.
		key := strings.TrimSpace(keys[0])
		if n := len(key); n >= 2 && key[0] == '"' && key[n-1] == '"' {
			key = key[1 : n-1]
		}
		switch {
		case len(keys) > 1 || key == "":
			return headerInvalid("Idempotency-Key", "must be there once, with one key")
		case s.spec.IdempotencyKey != "" && s.spec.IdempotencyKey != key:
			return invalidFields("idempotency_key_differs", []job.FieldError{
				{Pointer: "/idempotency_key", Detail: "differs from the header Idempotency-Key; give one of them, or the same"},
			})
		}
		s.spec.IdempotencyKey = key
	}
	if s.spec.Traceparent == "" {
		// One that is malformed is as if it were absent (W3C Trace Context 3.2.2).
		if tp := r.Header.Get("Traceparent"); validTraceparent(tp) {
			s.spec.Traceparent = tp
		}
	}
	return nil
}

// validTraceparent reports whether s is version-traceid-parentid-flags in
// hexadecimal.
func validTraceparent(s string) bool {
	if len(s) != 55 || s[2] != '-' || s[35] != '-' || s[52] != '-' {
		return false
	}
	for i, c := range []byte(s) {
		if i != 2 && i != 35 && i != 52 && (c < '0' || c > '9') && (c < 'a' || c > 'f') {
			return false
		}
	}
	return s[:2] != "ff"
}
