package builtin

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/orrery-io/orrery/agent"
	"github.com/orrery-io/orrery/job"
)

// decode reads a payload strictly into v, a pointer to a struct with the given
// fields. An absent payload is an empty object.
func decode(payload job.JSON, v any, fields ...string) error {
	if len(payload) == 0 {
		return nil
	}
	dec := json.NewDecoder(bytes.NewReader(payload))
	dec.DisallowUnknownFields()
	err := dec.Decode(v)
	if err == nil {
		if _, err = dec.Token(); errors.Is(err, io.EOF) {
			return nil
		}
		err = errors.New("more follows the object")
	}
	if t, ok := errors.AsType[*json.UnmarshalTypeError](err); ok {
		if t.Field == "" {
			return badPayload("is a %s; it must be an object with the fields %s", t.Value, strings.Join(fields, ", "))
		}
		return badPayload("has a %s as %q, which does not fit", t.Value, t.Field)
	}
	if name, ok := strings.CutPrefix(err.Error(), "json: unknown field "); ok {
		return badPayload("has the unknown field %s; the fields are %s", name, strings.Join(fields, ", "))
	}
	return badPayload("cannot be read: %s", strings.TrimPrefix(err.Error(), "json: "))
}

// badPayload is the failure of a job that can never succeed.
func badPayload(format string, args ...any) error {
	return agent.Permanent(&agent.Error{Kind: "bad_payload", Message: "the payload " + fmt.Sprintf(format, args...)})
}
