package httpapi

import (
	"bytes"
	"net/http"

	"github.com/danielgtaylor/huma/v2"
	"github.com/orrery-io/orrery/job"
)

// typeMergePatch is RFC 7396.
const typeMergePatch = "application/merge-patch+json"

// schedulePatch is what the OpenAPI document says of the body of PATCH.
type schedulePatch struct{}

// Schema implements huma.SchemaProvider.
func (schedulePatch) Schema(huma.Registry) *huma.Schema {
	return &huma.Schema{
		Type:        huma.TypeObject,
		Description: "A JSON merge patch on a ScheduleBody: fields that are named are changed, null takes one away, lists are replaced as a whole.",
		Examples:    []any{map[string]any{"overlap": "skip", "jitter": nil}},
	}
}

func (a *API) patchSchedule(w *response, r *http.Request, _ *query) error {
	if _, err := contentType(r, typeMergePatch, typeJSON); err != nil {
		return err
	}
	b, err := a.read(w, r, maxSubmission)
	if err != nil {
		return err
	}
	defer a.buffers.put(b)
	patch := b.Bytes()
	if f := checkJSON("the body", patch); f != nil {
		return f
	}
	if err := checkPatch(patch); err != nil {
		return err
	}
	name := r.PathValue("name")
	return a.setSchedule(w, r, func(old *job.Schedule) (*job.ScheduleSpec, error) {
		if old == nil {
			if err := a.caughtUp(r.Context()); err != nil {
				return nil, err
			}
			if old, err = a.machine.Schedule(name); err != nil {
				return nil, unknownSchedule(name, err)
			}
		}
		return patched(&old.ScheduleSpec, patch)
	})
}

// checkPatch refuses names that no schedule has: a null for one of them would go
// unnoticed otherwise.
func checkPatch(patch []byte) error {
	var d decoder
	top, retry := scheduleNames(), retryNames[:]
	none := func(int, []byte) {}
	d.object(path{}, patch, append(top, shownNames()...), func(n int, value []byte) {
		if n >= len(top) || value[0] != '{' {
			return // decodeSchedule says what is wrong with it
		}
		switch top[n] {
		case "catch_up":
			d.object(path{"", "catch_up"}, value, catchUpNames(), none)
		case "template":
			d.object(path{"", "template"}, value, submissionFields(), func(n int, value []byte) {
				if n == fieldRetry && value[0] == '{' {
					d.object(path{"/template", "retry"}, value, retry, none)
				}
			})
		}
	})
	return d.err()
}

// patched applies a merge patch to a definition.
func patched(old *job.ScheduleSpec, patch []byte) (*job.ScheduleSpec, error) {
	var b bytes.Buffer
	if err := encode(&b, old); err != nil {
		return nil, err
	}
	spec, err := decodeSchedule(mergePatch(nil, b.Bytes(), patch, 0))
	if err != nil {
		return nil, err
	}
	if p := old.Template.Payload; bytes.Equal(canonical(p), canonical(spec.Template.Payload)) {
		spec.Template.Payload = p // as it was sent
	}
	return spec, nil
}

// mergePatch appends to what becomes of target by patch (RFC 7396). Both are valid
// JSON; target may be empty. Values that stay keep their text.
func mergePatch(to, target, patch []byte, depth int) []byte {
	patch, target = trim(patch), trim(target)
	if patch[0] != '{' || depth > deepest {
		return append(to, patch...)
	}
	if len(target) == 0 || target[0] != '{' {
		target = []byte("{}")
	}
	type change struct {
		key, value []byte
		used       bool
	}
	var changes []change
	byName := map[string]int{}
	for key, value := range members(patch) {
		name, _ := unquote(key)
		if i, twice := byName[name]; twice {
			changes[i].value = value // the last one counts
			continue
		}
		byName[name] = len(changes)
		changes = append(changes, change{key: key, value: value})
	}
	to = append(to, '{')
	empty := len(to)
	put := func(key, before, value []byte) {
		if len(to) > empty {
			to = append(to, ',')
		}
		to = append(append(to, key...), ':')
		to = mergePatch(to, before, value, depth+1)
	}
	for key, value := range members(target) {
		name, _ := unquote(key)
		i, found := byName[name]
		switch {
		case !found:
			if len(to) > empty {
				to = append(to, ',')
			}
			to = append(append(append(to, key...), ':'), value...)
			continue
		case !changes[i].used && !isNull(changes[i].value):
			put(key, value, changes[i].value)
		}
		changes[i].used = true
	}
	for _, c := range changes {
		if !c.used && !isNull(c.value) {
			put(c.key, nil, c.value)
		}
	}
	return append(to, '}')
}
