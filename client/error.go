package client

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net"
	"net/http"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/orrery-io/orrery/job"
)

// The codes of errors that come from the client itself, not from a node.
const (
	// CodeUnreachable means that no node could be connected to.
	CodeUnreachable = "unreachable"
	// CodeNoAnswer means that a node took the request and did not answer: what it
	// asked for may have happened.
	CodeNoAnswer = "no_answer"
	// CodeBadAnswer means that what answered is not a node, or not one that this
	// version understands.
	CodeBadAnswer = "bad_answer"
)

// Error is every failure of a request. It is decoded from a node's
// application/problem+json (RFC 9457), or says why no node answered.
type Error struct {
	// Status is the HTTP status; zero when no node answered.
	Status int    `json:"status,omitempty"`
	Type   string `json:"type,omitempty"`
	Title  string `json:"title,omitempty"`
	// Detail says what is wrong, in a sentence.
	Detail string `json:"detail,omitempty"`
	// Code is a stable word for programs, such as "job_not_found".
	Code string `json:"code,omitempty"`
	// Hint says what to do next. It may be empty.
	Hint string `json:"hint,omitempty"`
	// Errors says which fields are wrong.
	Errors []job.FieldError `json:"errors,omitempty"`
	// RetryAfter is how long the node asks to be left alone; zero when it did not
	// say.
	RetryAfter time.Duration `json:"-"`

	cause error
}

// Message says what is wrong without the hint, in one line.
func (e *Error) Message() string {
	text := e.Detail
	if text == "" {
		text = strings.ToLower(e.Title)
	}
	if text == "" {
		text = fmt.Sprintf("the node answered %d %s", e.Status, http.StatusText(e.Status))
	}
	for i, f := range e.Errors {
		sep := "; "
		if i == 0 {
			sep = ": "
		}
		if f.Pointer == "" || f.Pointer == "/" {
			text += sep + f.Detail
			continue
		}
		text += sep + strings.TrimLeft(f.Pointer, "/?") + " " + f.Detail
	}
	return text
}

// Error returns the message and, in parentheses, the hint.
func (e *Error) Error() string {
	if e.Hint == "" {
		return e.Message()
	}
	return e.Message() + " (" + e.Hint + ")"
}

// Unwrap returns what went wrong below, when no node answered.
func (e *Error) Unwrap() error { return e.cause }

// Is makes errors.Is match the sentinels of package job, and another *Error, by
// code.
func (e *Error) Is(target error) bool {
	switch t := target.(type) { //nolint:errorlint // Is is called by errors.Is for each link of the chain
	case *job.Error:
		return e.Code != "" && t.Code == e.Code
	case *Error:
		return e.Code != "" && t.Code == e.Code
	}
	return false
}

// maxProblem bounds what is read of a refusal, in bytes.
const maxProblem = 1 << 20

// refusal makes an Error of an answer that is not a success. It reads the body
// and does not close it.
func refusal(addr string, resp *http.Response) *Error {
	e := &Error{}
	body, _ := io.ReadAll(io.LimitReader(resp.Body, maxProblem))
	kind, _, _ := mime.ParseMediaType(resp.Header.Get("Content-Type"))
	isProblem := kind == "application/problem+json" || kind == "application/json"
	if !isProblem || json.Unmarshal(body, e) != nil {
		e = &Error{
			Code:   CodeBadAnswer,
			Detail: fmt.Sprintf("%s answered %s, not as a node does", addr, resp.Status),
			Hint:   "check that the address is that of an Orrery node",
		}
	}
	e.Status = resp.StatusCode
	if s, err := strconv.Atoi(resp.Header.Get("Retry-After")); err == nil && s >= 0 && s < 1<<20 {
		e.RetryAfter = time.Duration(s) * time.Second
	}
	if e.Status == http.StatusUnauthorized && e.Hint == "" {
		e.Hint = "give the node's token"
	}
	return e
}

// unanswered makes an Error of a request that failed before an answer came.
func unanswered(addr string, err error) *Error {
	e := &Error{Code: CodeNoAnswer, cause: err}
	var cert *net.OpError
	switch {
	case errors.Is(err, errSlow):
		e.Detail = fmt.Sprintf("%s did not answer in time", addr)
		e.Hint = "the node may be overloaded or cut off; what was asked for may still happen"
	case errors.Is(err, syscall.ECONNREFUSED):
		e.Code = CodeUnreachable
		e.Detail = fmt.Sprintf("no node listens at %s", addr)
		e.Hint = `start one with "orrery dev", or give the address of a running one`
	case errors.As(err, &cert) && cert.Op == "dial":
		e.Code = CodeUnreachable
		e.Detail = fmt.Sprintf("%s cannot be reached: %s", addr, rootText(err))
		e.Hint = "check the address and the network"
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, syscall.ECONNRESET):
		e.Detail = fmt.Sprintf("%s closed the connection without answering", addr)
		e.Hint = "the node may have stopped; what was asked for may have happened"
	default:
		e.Detail = fmt.Sprintf("%s: %s", addr, rootText(err))
	}
	return e
}

// rootText is the text of the innermost error: the outer ones repeat method,
// address and each other.
func rootText(err error) string {
	for {
		inner := errors.Unwrap(err)
		if inner == nil {
			return err.Error()
		}
		err = inner
	}
}

// beforeSending reports whether the request certainly reached nobody.
func (e *Error) beforeSending() bool { return e.Code == CodeUnreachable }
