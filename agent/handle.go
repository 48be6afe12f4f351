package agent

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/orrery-io/orrery/job"
	"github.com/orrery-io/orrery/wire"
)

// HandlerFunc executes one attempt of a job whose payload has not been decoded. It
// is what Middleware wraps. The value is encoded as the job's result: []byte as
// raw bytes, job.JSON and json.RawMessage as they are, nil as no result, anything
// else by encoding/json.
//
// ctx ends when the handler shall stop; context.Cause says why (ErrCancelled,
// ErrTimeout, ErrLeaseLost, ErrDropped, ErrStopped).
type HandlerFunc func(ctx context.Context, j *RawJob) (any, error)

// Middleware wraps the execution of every job. It may look at the job, change the
// context, the result and the error, or not call next at all.
type Middleware func(next HandlerFunc) HandlerFunc

// Handle registers the handler of a job type. In is what the payload is decoded
// into and Out what the result is encoded from, both by encoding/json. As In,
// []byte takes the raw bytes (or the JSON as it came), job.JSON and
// json.RawMessage the JSON as it came. An absent payload decodes to the zero In.
// A payload that doesn't fit In fails the job for good with the kind
// "bad_payload".
//
// Like http.Handle it panics on a type that is not a valid name or has a handler
// already, and after Run has begun.
func Handle[In, Out any](a *Agent, typ string, fn func(ctx context.Context, j *Job[In]) (Out, error)) {
	if fn == nil {
		panic("agent: Handle of " + typ + " without a function")
	}
	a.register(typ, func(ctx context.Context, raw *RawJob) (any, error) {
		j := &Job[In]{RawJob: raw}
		if err := decodePayload(raw, &j.Args); err != nil {
			return nil, Permanent(&Error{Kind: "bad_payload", Message: "the payload " + err.Error(), Err: err})
		}
		return fn(ctx, j)
	})
}

func (a *Agent) register(typ string, h HandlerFunc) {
	if detail := job.CheckName(typ); detail != "" {
		panic(fmt.Sprintf("agent: the job type %q %s", typ, detail))
	}
	a.setup.Lock()
	defer a.setup.Unlock()
	if a.begun {
		panic("agent: Handle after Run")
	}
	if _, ok := a.handlers[typ]; ok {
		panic("agent: two handlers for the job type " + typ)
	}
	a.handlers[typ] = h
}

// decodePayload fills in args, a pointer.
func decodePayload(j *RawJob, args any) error {
	switch p := args.(type) {
	case *[]byte:
		*p = j.PayloadBytes
		if *p == nil {
			*p = j.Payload
		}
		return nil
	case *job.JSON:
		*p = j.Payload
	case *json.RawMessage:
		*p = json.RawMessage(j.Payload)
	default:
		if len(j.Payload) > 0 {
			if err := json.Unmarshal(j.Payload, args); err != nil {
				return explainJSON(err)
			}
			return nil
		}
	}
	if len(j.PayloadBytes) > 0 {
		return errors.New("is raw bytes, and the handler wants JSON")
	}
	return nil
}

// explainJSON turns an error of encoding/json into one for the submitter, without
// Go's names.
func explainJSON(err error) error {
	if t, ok := errors.AsType[*json.UnmarshalTypeError](err); ok {
		if t.Field == "" {
			return fmt.Errorf("has a %s where the handler wants %s", t.Value, jsonKind(t.Type.Kind().String()))
		}
		return fmt.Errorf("has a %s in %q where the handler wants %s", t.Value, t.Field, jsonKind(t.Type.Kind().String()))
	}
	return fmt.Errorf("does not fit the handler: %w", err)
}

func jsonKind(kind string) string {
	switch kind {
	case "struct", "map":
		return "an object"
	case "slice", "array":
		return "an array"
	case "string":
		return "a string"
	case "bool":
		return "true or false"
	case "float32", "float64":
		return "a number"
	default:
		return "a fitting whole number"
	}
}

// encodeResult fills in what a handler returned, or says why it can't be told.
func encodeResult(r *wire.Result, out any) error {
	switch v := out.(type) {
	case nil:
		return nil
	case []byte:
		r.ResultBytes = v
	case job.JSON:
		r.Result = v
	case json.RawMessage:
		r.Result = job.JSON(v)
	default:
		var buf bytes.Buffer
		enc := json.NewEncoder(&buf)
		enc.SetEscapeHTML(false)
		if err := enc.Encode(out); err != nil {
			return Permanent(&Error{Kind: "bad_result", Message: "the result cannot be encoded: " + err.Error(), Err: err})
		}
		r.Result = bytes.TrimSuffix(buf.Bytes(), []byte("\n"))
	}
	if n := len(r.Result) + len(r.ResultBytes); n > job.MaxPayload {
		r.Result, r.ResultBytes = nil, nil
		return Permanent(&Error{Kind: "result_too_large", Message: fmt.Sprintf("the result is %d bytes; the limit is %d", n, job.MaxPayload)})
	}
	if len(r.Result) == 0 {
		return nil
	}
	// The encoder checks what a Marshaler returns; what comes as raw JSON nobody
	// has looked at. Neither bounds the depth, and a frame that is nested too
	// deep would be refused again and again.
	if !r.Result.Valid() {
		r.Result = nil
		return Permanent(&Error{Kind: "bad_result", Message: "the result is not valid JSON in UTF-8"})
	}
	if d := r.Result.Depth(); d > job.MaxDepth {
		r.Result = nil
		return Permanent(&Error{Kind: "bad_result", Message: fmt.Sprintf("the result is nested %d levels deep; the limit is %d", d, job.MaxDepth)})
	}
	return nil
}
