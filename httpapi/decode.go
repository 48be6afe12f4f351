package httpapi

import (
	"encoding"
	"encoding/base64"
	"fmt"
	"math"
	"strconv"
	"strings"

	"github.com/orrery-io/orrery/internal/spelling"
	"github.com/orrery-io/orrery/job"
)

// path is the place of a field: the JSON pointer of what holds it, and its name.
// It becomes text only when there is something to say about it.
type path struct{ parent, name string }

// String returns the JSON pointer (RFC 6901).
func (p path) String() string {
	if p.name == "" {
		return p.parent
	}
	name := p.name
	if strings.ContainsAny(name, "~/") {
		name = strings.ReplaceAll(strings.ReplaceAll(name, "~", "~0"), "/", "~1")
	}
	return p.parent + "/" + clip(name)
}

// index is the place of an element of an array.
func (p path) index(n int) path { return path{p.String(), strconv.Itoa(n)} }

// decoder reads a body of which checkJSON has said that it is valid JSON, and
// collects everything that is wrong with it. The zero decoder is ready to use.
type decoder struct {
	fields []job.FieldError
	code   string
}

// maxFieldErrors bounds what one answer says; the rest is seldom news.
const maxFieldErrors = 20

func (d *decoder) fail(code string, p path, format string, args ...any) {
	d.add(code, job.FieldError{Pointer: p.String(), Detail: fmt.Sprintf(format, args...)})
}

// add notes what somebody else has found.
func (d *decoder) add(code string, e job.FieldError) {
	switch {
	case d.code == "":
		d.code = code
	case d.code != code:
		d.code = "invalid_request"
	}
	if len(d.fields) < maxFieldErrors {
		d.fields = append(d.fields, e)
	}
}

func (d *decoder) wrong(p path, want string, raw []byte) {
	d.fail("wrong_type", p, "must be %s, not %s", want, kindOf(raw))
}

// err returns what is wrong, nil when nothing is.
func (d *decoder) err() error {
	if len(d.fields) == 0 {
		return nil
	}
	return invalidFields(d.code, d.fields)
}

// object hands every field of the object at p to set, by its index in names.
// Unknown and repeated fields are refused; null is as if the field were absent.
func (d *decoder) object(p path, raw []byte, names []string, set func(name int, value []byte)) {
	raw = trim(raw)
	if len(raw) == 0 || raw[0] != '{' {
		d.wrong(p, "an object", raw)
		return
	}
	var seen uint64
	parent := ""
	for key, value := range members(raw) {
		n := find(names, key)
		if n < 0 {
			name, err := unquote(key)
			if n = indexOf(names, name); n < 0 || err != nil {
				if parent == "" {
					parent = p.String()
				}
				d.fail("unknown_field", path{parent, name}, "is not a field here%s", spelling.DidYouMean(name, names))
				continue
			}
		}
		if seen&(1<<n) != 0 {
			d.fail("duplicate_field", path{p.String(), names[n]}, "is there twice")
			continue
		}
		seen |= 1 << n
		if !isNull(value) {
			set(n, value)
		}
	}
}

// find looks for a key that still has its quotes.
func find(names []string, quoted []byte) int {
	if len(quoted) < 2 {
		return -1
	}
	key := quoted[1 : len(quoted)-1]
	for i, n := range names {
		if n == string(key) {
			return i
		}
	}
	return -1
}

func indexOf(names []string, name string) int {
	for i, n := range names {
		if n == name {
			return i
		}
	}
	return -1
}

// text reads a string.
func (d *decoder) text(p path, raw []byte) string {
	if raw[0] != '"' {
		d.wrong(p, "a string", raw)
		return ""
	}
	s, err := unquote(raw)
	if err != nil {
		d.fail("wrong_type", p, "is not a valid string")
	}
	return s
}

// number reads a whole number from least to most.
func (d *decoder) number(p path, raw []byte, least, most int64) int64 {
	if kindOf(raw) != "a number" {
		d.wrong(p, "a whole number", raw)
		return least
	}
	n, err := strconv.ParseInt(string(raw), 10, 64)
	if err != nil {
		f, ferr := strconv.ParseFloat(string(raw), 64)
		switch {
		case ferr == nil && f != math.Trunc(f):
			d.fail("wrong_type", p, "is %s; it must be a whole number", clip(string(raw)))
			return least
		case ferr != nil || f < float64(least) || f > float64(most):
			d.fail("out_of_range", p, "is %s; it must be %d to %d", clip(string(raw)), least, most)
			return least
		}
		n = int64(f) // 1e2, 4.0
	}
	if n < least || n > most {
		d.fail("out_of_range", p, "is %d; it must be %d to %d", n, least, most)
		return least
	}
	return n
}

// float reads a number.
func (d *decoder) float(p path, raw []byte) float64 {
	if kindOf(raw) != "a number" {
		d.wrong(p, "a number", raw)
		return 0
	}
	f, err := strconv.ParseFloat(string(raw), 64)
	if err != nil {
		d.fail("out_of_range", p, "is %s, which is too large", clip(string(raw)))
	}
	return f
}

// boolean reads true or false.
func (d *decoder) boolean(p path, raw []byte) bool {
	if kindOf(raw) != "a boolean" {
		d.wrong(p, "true or false", raw)
		return false
	}
	return raw[0] == 't'
}

// duration reads text such as "1h30m". It must be longer than zero unless zero is
// allowed.
func (d *decoder) duration(p path, raw []byte, zero bool) job.Duration {
	if raw[0] != '"' {
		d.wrong(p, `a duration such as "250ms", "30s" or "1h30m"`, raw)
		return 0
	}
	v, err := job.ParseDuration(d.text(p, raw))
	switch {
	case err != nil:
		d.fail("invalid_value", p, "%v", err)
	case v == 0 && !zero:
		d.fail("out_of_range", p, "must be longer than zero")
	}
	return v
}

// moment reads an RFC 3339 time.
func (d *decoder) moment(p path, raw []byte) job.Time {
	if raw[0] != '"' {
		d.wrong(p, `a time such as "2027-01-31T08:00:00Z"`, raw)
		return 0
	}
	var t job.Time
	d.parse(p, raw, &t)
	return t
}

// parse reads a string that its type understands.
func (d *decoder) parse(p path, raw []byte, to encoding.TextUnmarshaler) {
	if raw[0] != '"' {
		d.wrong(p, "a string", raw)
		return
	}
	if err := to.UnmarshalText([]byte(d.text(p, raw))); err != nil {
		d.fail("invalid_value", p, "%v", err)
	}
}

// bytes reads base64.
func (d *decoder) bytes(p path, raw []byte) []byte {
	if raw[0] != '"' {
		d.wrong(p, "a string of base64", raw)
		return nil
	}
	text := d.text(p, raw)
	b, err := base64.StdEncoding.DecodeString(text)
	if err != nil {
		d.fail("invalid_value", p, "is not base64 with padding (RFC 4648)")
	}
	return b
}

// list hands every element of an array to each, up to most of them.
func (d *decoder) list(p path, raw []byte, what string, most int, each func(p path, raw []byte)) {
	if raw[0] != '[' {
		d.wrong(p, "an array of "+what, raw)
		return
	}
	count := 0
	for range elements(raw) {
		count++
	}
	if count > most {
		d.fail("out_of_range", p, "has %d entries; the limit is %d", count, most)
		return
	}
	for n, value := range elements(raw) {
		if isNull(value) {
			d.wrong(p.index(n), "one of the "+what, value)
			continue
		}
		each(p.index(n), value)
	}
}

// texts reads an array of strings.
func (d *decoder) texts(p path, raw []byte, most int) []string {
	var out []string
	d.list(p, raw, "strings", most, func(p path, raw []byte) { out = append(out, d.text(p, raw)) })
	return out
}

// labels reads an object whose values are strings.
func (d *decoder) labels(p path, raw []byte) job.Labels {
	if raw[0] != '{' {
		d.wrong(p, "an object whose values are strings", raw)
		return nil
	}
	count := 0
	for range members(raw) {
		count++
	}
	if count > job.MaxLabels {
		d.fail("out_of_range", p, "has %d entries; the limit is %d", count, job.MaxLabels)
		return nil
	}
	m := make(map[string]string, count)
	parent := p.String()
	for key, value := range members(raw) {
		name, err := unquote(key)
		if err != nil {
			d.fail("wrong_type", p, "has a key that is not a valid string")
			continue
		}
		at := path{parent, name}
		if _, twice := m[name]; twice {
			d.fail("duplicate_field", at, "is there twice")
			continue
		}
		m[name] = d.text(at, value)
	}
	return job.LabelsOf(m)
}
