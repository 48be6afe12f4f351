package httpapi

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"

	"github.com/orrery-io/orrery/internal/obs"
	"github.com/orrery-io/orrery/job"
)

// Problem is the body of every answer that is not a success: RFC 9457.
type Problem struct {
	Type   string `json:"type" doc:"A URN that names the code." example:"urn:orrery:problem:job_not_found"`
	Title  string `json:"title" doc:"The HTTP status in words." example:"Not Found"`
	Status int    `json:"status" doc:"The HTTP status." example:"404"`
	Detail string `json:"detail" doc:"What is wrong, in one sentence." example:"there is no such job"`
	Code   string `json:"code" doc:"A stable word for programs." example:"job_not_found"`
	Hint   string `json:"hint,omitempty" doc:"What to do next."`
	// Errors is empty unless something of the request itself is wrong.
	Errors []job.FieldError `json:"errors,omitempty" doc:"Everything that is wrong with the request."`
	// Reference is set for faults of Orrery's own, and is in the node's log.
	Reference string `json:"reference,omitempty" doc:"Names the entry in the node's log that says more."`
}

// fault is an error that knows more than a job.Error: which fields are wrong, or
// a status that belongs to HTTP alone.
type fault struct {
	public *job.Error
	// status overrides the one of the kind; zero means that of the kind.
	status int
	fields []job.FieldError
	// allow goes into the Allow header.
	allow string
}

// Error returns the message.
func (f *fault) Error() string { return f.public.Error() }

// Unwrap makes errors.As find the job.Error.
func (f *fault) Unwrap() error { return f.public }

// statusOf is the only place where kinds become HTTP statuses.
func statusOf(k job.ErrorKind) int {
	switch k {
	case job.Invalid:
		return http.StatusBadRequest
	case job.NotFound:
		return http.StatusNotFound
	case job.Conflict:
		return http.StatusConflict
	case job.Mismatch:
		return http.StatusUnprocessableEntity
	case job.TooLarge:
		return http.StatusRequestEntityTooLarge
	case job.Unauthorized:
		return http.StatusUnauthorized
	case job.Forbidden:
		return http.StatusForbidden
	case job.Unavailable:
		return http.StatusServiceUnavailable
	case job.Overloaded:
		return http.StatusTooManyRequests
	case job.Unknown:
		return http.StatusGatewayTimeout
	case job.Internal:
	}
	return http.StatusInternalServerError
}

// hintOf is what to do next about codes that come from further down, where the
// API is not known.
func hintOf(code string) string {
	switch code {
	case job.ErrJobNotFound.Code:
		return "jobs are deleted some time after they ended; GET /v1/jobs lists those that there are"
	case job.ErrAgentNotFound.Code:
		return "GET /v1/agents lists those that there are"
	case job.ErrQueueNotFound.Code:
		return "a queue exists from the first job in it; GET /v1/queues lists those that there are"
	case job.ErrScheduleNotFound.Code:
		return "GET /v1/schedules lists those that there are"
	case "events_trimmed":
		return "read on with after=oldest, and fetch what you need of the jobs themselves"
	case "wrong_state":
		return "GET the job to see where it stands"
	}
	return ""
}

// invalid is a request that can never succeed as it is.
func invalid(code, format string, args ...any) *fault {
	return &fault{public: job.Errorf(job.Invalid, code, format, args...)}
}

// invalidFields is a request with mistakes in it. There must be at least one.
func invalidFields(code string, fields []job.FieldError) *fault {
	detail := "one thing in the request is wrong"
	if n := len(fields); n > 1 {
		detail = fmt.Sprintf("%d things in the request are wrong", n)
	}
	if len(fields) == maxFieldErrors {
		detail = "at least " + detail // the decoder says no more
	}
	return &fault{public: job.Errorf(job.Invalid, code, "%s", detail), fields: fields}
}

func errTooLarge(pointer, detail string) *fault {
	return &fault{
		public: job.Errorf(job.TooLarge, "too_large", "the request is too large"),
		fields: []job.FieldError{{Pointer: pointer, Detail: detail}},
	}
}

func errNoRoute(method, path, near string) *fault {
	e := job.Errorf(job.NotFound, "no_such_route", "there is no %s %s", method, clip(path))
	if near != "" {
		e = e.WithHint("did you mean %s? GET /openapi.json lists every route", near)
	} else {
		e = e.WithHint("GET /openapi.json lists every route, /docs shows them")
	}
	return &fault{public: e}
}

func errMethod(method, path, allow string) *fault {
	return &fault{
		public: job.Errorf(job.Invalid, "method_not_allowed", "%s cannot be used with %s", clip(method), clip(path)).WithHint("allowed: %s", allow),
		status: http.StatusMethodNotAllowed,
		allow:  allow,
	}
}

func errNotAcceptable(offers []string) *fault {
	return &fault{
		public: job.Errorf(job.Invalid, "not_acceptable", "this is not available in any format of the Accept header").WithHint("available: %s", strings.Join(offers, ", ")),
		status: http.StatusNotAcceptable,
	}
}

func errMediaType(got string, want []string) *fault {
	detail := fmt.Sprintf("a body of type %s is not understood here", clip(got))
	if got == "" {
		detail = "the request does not say what type its body has"
	}
	return &fault{
		public: job.Errorf(job.Invalid, "unsupported_media_type", "%s", detail).WithHint("send Content-Type: %s; with curl, use --json instead of -d", strings.Join(want, " or ")),
		status: http.StatusUnsupportedMediaType,
	}
}

func errEncoding(got string) *fault {
	return &fault{
		public: job.Errorf(job.Invalid, "unsupported_content_encoding", "a body in the encoding %s is not understood", clip(got)).WithHint("send it without Content-Encoding"),
		status: http.StatusUnsupportedMediaType,
	}
}

// problemOf makes the public form of err. The second result is false for a fault
// of our own, whose text must not reach a client.
func problemOf(err error) (*Problem, bool) {
	p := &Problem{}
	f, isFault := errors.AsType[*fault](err)
	e, ok := errors.AsType[*job.Error](err)
	switch {
	case ok:
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, context.Canceled):
		e = job.Errorf(job.Unavailable, "timeout", "the request was not done in time").WithHint("try again; for a submission, with the same idempotency key")
	default:
		return nil, false
	}
	if e.Kind == job.Internal {
		return nil, false
	}
	p.Status, p.Code, p.Detail, p.Hint = statusOf(e.Kind), e.Code, e.Message, e.Hint
	if isFault {
		p.Errors = f.fields
		if f.status != 0 {
			p.Status = f.status
		}
	}
	if p.Code == "" {
		p.Code = "error"
	}
	if p.Hint == "" {
		p.Hint = hintOf(p.Code)
	}
	p.fill()
	return p, true
}

func (p *Problem) fill() {
	p.Type = "urn:orrery:problem:" + p.Code
	p.Title = http.StatusText(p.Status)
}

// conceal logs err under a new reference and returns what the client is told.
func (a *API) conceal(ctx context.Context, err error, attrs ...any) *Problem {
	p := &Problem{
		Status:    http.StatusInternalServerError,
		Code:      "internal",
		Reference: strings.ToLower(rand.Text()[:10]),
	}
	p.Detail = "something went wrong inside the node; its log says more under reference " + p.Reference
	p.fill()
	a.log.ErrorContext(ctx, "request failed", append([]any{reference(p.Reference), obs.Err(err)}, attrs...)...)
	return p
}

// problem makes the public form of any error.
func (a *API) problem(ctx context.Context, err error) *Problem {
	if p, ok := problemOf(err); ok {
		return p
	}
	return a.conceal(ctx, err)
}

// retryAfter is how many seconds a client is asked to wait before it tries again.
const retryAfter = "1"

// refuse answers with err.
func (a *API) refuse(w *response, r *http.Request, err error) {
	if r.Context().Err() != nil && errors.Is(err, context.Canceled) {
		// The client is gone: nobody reads an answer.
		w.status = statusClientGone
		return
	}
	if w.status != 0 {
		// The answer has begun; all that is left is to end it.
		a.log.DebugContext(r.Context(), "answer broke off", obs.Err(err))
		return
	}
	p, ok := problemOf(err)
	if !ok {
		p = a.conceal(r.Context(), err, method(r.Method), urlPath(r.URL.Path))
	}
	h := w.Header()
	switch p.Status {
	case http.StatusTooManyRequests, http.StatusServiceUnavailable:
		h.Set("Retry-After", retryAfter)
	case http.StatusUnauthorized:
		h.Set("WWW-Authenticate", `Bearer realm="orrery"`)
	}
	if f, isFault := errors.AsType[*fault](err); isFault && f.allow != "" {
		h.Set("Allow", f.allow)
	}
	for _, name := range []string{"Content-Length", "Content-Encoding", "Cache-Control", "ETag", "Last-Modified"} {
		h.Del(name)
	}
	h.Set("Content-Type", "application/problem+json")
	body, err := json.Marshal(p)
	if err != nil {
		// A Problem holds strings and a number: this cannot happen.
		body = []byte(`{}`)
	}
	w.WriteHeader(p.Status)
	_, _ = w.Write(append(body, '\n'))
}

// clip shortens what a user sent so that it can stand in a message.
func clip(s string) string {
	const most = 64
	if len(s) > most {
		s = s[:most] + "…"
	}
	return strings.ToValidUTF8(s, "?")
}
