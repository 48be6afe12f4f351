package httpapi

import (
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/orrery-io/orrery/internal/spelling"
	"github.com/orrery-io/orrery/job"
)

// query holds the query parameters of a request. Its getters collect what is
// wrong; err returns that.
type query struct {
	values url.Values
	fields []job.FieldError
	code   string
}

// parseQuery refuses parameters that the route does not know. A known name that
// ends in * stands for everything that begins so.
func parseQuery(raw string, known []string) (*query, error) {
	if raw == "" {
		return &query{}, nil
	}
	values, err := url.ParseQuery(raw)
	if err != nil {
		return nil, invalid("invalid_query", "the query is not well formed: %s", clip(err.Error()))
	}
	q := &query{values: values}
	for _, name := range slices.Sorted(mapKeys(values)) {
		if !knows(known, name) {
			q.fail("unknown_parameter", name, "is not a parameter here%s", spelling.DidYouMean(name, known))
		}
	}
	return q, q.err()
}

func mapKeys(v url.Values) func(func(string) bool) {
	return func(yield func(string) bool) {
		for k := range v {
			if !yield(k) {
				return
			}
		}
	}
}

func knows(known []string, name string) bool {
	for _, k := range known {
		if k == name {
			return true
		}
		if prefix, ok := strings.CutSuffix(k, "*"); ok && len(name) > len(prefix) && strings.HasPrefix(name, prefix) {
			return true
		}
	}
	return false
}

// fail notes what is wrong with a parameter. In the answer its place is "?name".
func (q *query) fail(code, name, format string, args ...any) {
	var d decoder
	d.fail(code, path{}, format, args...)
	switch {
	case q.code == "":
		q.code = code
	case q.code != code:
		q.code = "invalid_request"
	}
	if len(q.fields) < maxFieldErrors {
		q.fields = append(q.fields, job.FieldError{Pointer: "?" + clip(name), Detail: d.fields[0].Detail})
	}
}

func (q *query) err() error {
	if len(q.fields) == 0 {
		return nil
	}
	return invalidFields(q.code, q.fields)
}

// text returns a parameter that may be given once.
func (q *query) text(name string) (string, bool) {
	all, ok := q.values[name]
	if !ok {
		return "", false
	}
	if len(all) > 1 {
		q.fail("duplicate_parameter", name, "is there %d times", len(all))
		return "", false
	}
	return all[0], true
}

// list returns the values of a parameter that may be repeated, and may hold
// several values with commas between them.
func (q *query) list(name string) []string {
	var out []string
	for _, v := range q.values[name] {
		for part := range strings.SplitSeq(v, ",") {
			if part = strings.TrimSpace(part); part != "" {
				out = append(out, part)
			} else {
				q.fail("invalid_value", name, "has an empty entry")
			}
		}
	}
	if len(out) > maxListed {
		q.fail("out_of_range", name, "has %d entries; the limit is %d", len(out), maxListed)
		return nil
	}
	return out
}

// maxListed bounds the values of one parameter.
const maxListed = 100

// number returns a whole number from least to most; or, when it is not given.
func (q *query) number(name string, or, least, most int64) int64 {
	v, ok := q.text(name)
	if !ok {
		return or
	}
	n, err := strconv.ParseInt(v, 10, 64)
	if err != nil || n < least || n > most {
		q.fail("out_of_range", name, "is %q; it must be a whole number from %d to %d", clip(v), least, most)
		return or
	}
	return n
}

// boolean returns true or false; "?name" alone is true.
func (q *query) boolean(name string, or bool) bool {
	v, ok := q.text(name)
	if !ok {
		return or
	}
	switch v {
	case "true", "1", "":
		return true
	case "false", "0":
		return false
	}
	q.fail("invalid_value", name, "is %q; it must be true or false", clip(v))
	return or
}

// maxWait bounds how long a request may wait.
const maxWait = 10 * time.Minute

// wait returns how long the request may wait: text such as "30s", or seconds.
func (q *query) wait(name string) time.Duration {
	v, ok := q.text(name)
	if !ok {
		return 0
	}
	if n, err := strconv.ParseUint(v, 10, 31); err == nil {
		return min(time.Duration(n)*time.Second, maxWait)
	}
	d, err := job.ParseDuration(v)
	if err != nil {
		q.fail("invalid_value", name, "%v", err)
		return 0
	}
	return min(d.Duration(), maxWait)
}

// prefersWait reads "Prefer: wait=30" (RFC 7240), in seconds or as a duration.
// What cannot be understood is not honoured, as the RFC wants it.
func prefersWait(r *http.Request) (time.Duration, bool) {
	for _, line := range r.Header.Values("Prefer") {
		for part := range strings.FieldsFuncSeq(line, func(c rune) bool { return c == ',' || c == ';' }) {
			name, value, _ := strings.Cut(strings.TrimSpace(part), "=")
			if !strings.EqualFold(strings.TrimSpace(name), "wait") {
				continue
			}
			value = strings.Trim(strings.TrimSpace(value), `"`)
			if n, err := strconv.ParseUint(value, 10, 31); err == nil {
				return min(time.Duration(n)*time.Second, maxWait), true
			}
			if d, err := job.ParseDuration(value); err == nil {
				return min(d.Duration(), maxWait), true
			}
		}
	}
	return 0, false
}

// accept returns which of the offers the client wants most; the first one is
// taken when it does not mind.
func accept(r *http.Request, offers ...string) (string, error) {
	lines := r.Header["Accept"]
	if len(lines) == 0 {
		return offers[0], nil
	}
	if len(lines) == 1 && (lines[0] == "*/*" || lines[0] == offers[0]) {
		return offers[0], nil
	}
	best, bestQ := "", 0.0
	for _, offer := range offers {
		quality, specific := 0.0, -1
		for _, line := range lines {
			for part := range strings.SplitSeq(line, ",") {
				media, weight := mediaRange(part)
				s := matches(media, offer)
				if s > specific {
					quality, specific = weight, s
				}
			}
		}
		if quality > bestQ {
			best, bestQ = offer, quality
		}
	}
	if best == "" {
		return "", errNotAcceptable(offers)
	}
	return best, nil
}

// mediaRange splits "text/html;q=0.8".
func mediaRange(part string) (media string, quality float64) {
	media, params, _ := strings.Cut(part, ";")
	quality = 1
	for p := range strings.SplitSeq(params, ";") {
		name, value, _ := strings.Cut(strings.TrimSpace(p), "=")
		if strings.EqualFold(name, "q") {
			if q, err := strconv.ParseFloat(value, 64); err == nil && q >= 0 && q <= 1 {
				quality = q
			}
		}
	}
	return strings.ToLower(strings.TrimSpace(media)), quality
}

// matches says how exactly a media range names offer: -1 is not at all.
func matches(media, offer string) int {
	switch {
	case media == offer:
		return 2
	case media == "*/*":
		return 0
	case strings.HasSuffix(media, "/*") && strings.HasPrefix(offer, media[:len(media)-1]):
		return 1
	}
	return -1
}
