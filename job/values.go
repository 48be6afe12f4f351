package job

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/go-json-experiment/json/jsontext"
)

// Time is a moment in milliseconds since the Unix epoch, UTC. Zero means "not
// set". In JSON it is RFC 3339 with milliseconds, and an unset one is "".
type Time int64

// At converts a time.Time, dropping what is finer than a millisecond. The zero
// time.Time becomes the zero Time.
func At(t time.Time) Time {
	if t.IsZero() {
		return 0
	}
	return Time(t.UnixMilli())
}

// Time converts back; the zero Time becomes the zero time.Time.
func (t Time) Time() time.Time {
	if t == 0 {
		return time.Time{}
	}
	return time.UnixMilli(int64(t)).UTC()
}

// Add returns the moment d later. An unset Time stays unset.
func (t Time) Add(d Duration) Time {
	if t == 0 {
		return 0
	}
	return t + Time(d)
}

// Sub returns t − u.
func (t Time) Sub(u Time) Duration { return Duration(t - u) }

// IsZero reports whether t is unset; encoding/json's omitzero uses it.
func (t Time) IsZero() bool { return t == 0 }

const timeLayout = "2006-01-02T15:04:05.000Z07:00"

// String returns RFC 3339 with milliseconds in UTC, or "" when unset.
func (t Time) String() string {
	if t == 0 {
		return ""
	}
	return t.Time().Format(timeLayout)
}

// MarshalText implements encoding.TextMarshaler.
func (t Time) MarshalText() ([]byte, error) {
	if t == 0 {
		return nil, nil
	}
	return t.Time().AppendFormat(nil, timeLayout), nil
}

// UnmarshalText accepts RFC 3339 with any fraction and any zone.
func (t *Time) UnmarshalText(b []byte) error {
	if len(b) == 0 {
		*t = 0
		return nil
	}
	v, err := time.Parse(time.RFC3339Nano, string(b))
	if err != nil {
		return fmt.Errorf("%q is not an RFC 3339 time such as 2027-01-31T08:00:00Z", clip(b))
	}
	if y := v.Year(); y < 1970 || y > 9999 {
		return fmt.Errorf("%q is outside the years 1970 to 9999", clip(b))
	}
	*t = At(v)
	return nil
}

// Duration is a length of time in milliseconds. In JSON it is text such as
// "1h30m" or "250ms".
type Duration int64

// Milliseconds and the units above it, for writing constants.
const (
	Millisecond Duration = 1
	Second               = 1000 * Millisecond
	Minute               = 60 * Second
	Hour                 = 60 * Minute
	Day                  = 24 * Hour
)

// For converts a time.Duration, rounding up so that a positive one stays
// positive.
func For(d time.Duration) Duration {
	ms := Duration(d / time.Millisecond)
	if d%time.Millisecond > 0 {
		ms++
	}
	return ms
}

// Duration converts to a time.Duration.
func (d Duration) Duration() time.Duration { return time.Duration(d) * time.Millisecond }

// String returns Go's notation without empty parts: "1h30m", "250ms", "0s".
func (d Duration) String() string {
	s := d.Duration().String()
	if strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	return s
}

// MarshalText implements encoding.TextMarshaler.
func (d Duration) MarshalText() ([]byte, error) { return []byte(d.String()), nil }

// UnmarshalText accepts Go's notation, and whole days as in "7d" or "7d12h".
func (d *Duration) UnmarshalText(b []byte) error {
	v, err := ParseDuration(string(b))
	if err != nil {
		return err
	}
	*d = v
	return nil
}

// ParseDuration reads Go's notation ("1h30m"), optionally led by whole days
// ("7d", "7d12h"). Negative lengths and those over a hundred years are refused.
func ParseDuration(s string) (Duration, error) {
	bad := fmt.Errorf("%q is not a duration such as 250ms, 30s, 1h30m or 7d", clip([]byte(s)))
	rest, days := s, Duration(0)
	if i := strings.IndexByte(s, 'd'); i > 0 {
		n := 0
		for _, c := range s[:i] {
			if c < '0' || c > '9' || n > 1_000_000 {
				return 0, bad
			}
			n = n*10 + int(c-'0')
		}
		days, rest = Duration(n)*Day, s[i+1:]
	}
	var v time.Duration
	if rest != "" || days == 0 {
		var err error
		if v, err = time.ParseDuration(rest); err != nil {
			return 0, bad
		}
	}
	if v < 0 {
		return 0, fmt.Errorf("%q is negative", clip([]byte(s)))
	}
	if d := days + For(v); d <= MaxDuration {
		return d, nil
	}
	return 0, fmt.Errorf("%q is longer than a hundred years", clip([]byte(s)))
}

// MaxDuration bounds every duration that a user gives: a hundred years.
const MaxDuration = 100 * 365 * Day

// JSON is one JSON value as the user wrote it. Empty means absent.
type JSON []byte

// MarshalJSON returns the bytes untouched, or null when absent.
func (j JSON) MarshalJSON() ([]byte, error) {
	if len(j) == 0 {
		return []byte("null"), nil
	}
	return j, nil
}

// UnmarshalJSON keeps a copy of the bytes; null becomes absent.
func (j *JSON) UnmarshalJSON(b []byte) error {
	if bytes.Equal(b, []byte("null")) {
		*j = nil
		return nil
	}
	*j = slices.Clone(b)
	return nil
}

// Valid reports whether j is one JSON value in valid UTF-8, nested at most 10 000 levels
// deep. White space may surround it, keys may come twice.
func (j JSON) Valid() bool {
	// Half of a surrogate pair as an escape is a matter of whoever reads the string.
	return utf8.Valid(j) && jsontext.Value(j).IsValid(jsontext.AllowDuplicateNames(true), jsontext.AllowInvalidUTF8(true))
}

// Label is one key=value pair.
type Label struct {
	Key   string `json:"key" msg:"k"`
	Value string `json:"value" msg:"v"`
}

// Labels is a set of labels sorted by key, each key once: encoded rows hold no
// maps, because their order would differ between nodes. In JSON it is an object.
type Labels []Label

// LabelsOf sorts a map into Labels.
func LabelsOf(m map[string]string) Labels {
	if len(m) == 0 {
		return nil
	}
	l := make(Labels, 0, len(m))
	for k, v := range m {
		l = append(l, Label{k, v})
	}
	slices.SortFunc(l, func(a, b Label) int { return strings.Compare(a.Key, b.Key) })
	return l
}

// Map returns the labels as a new map, nil when there are none.
func (l Labels) Map() map[string]string {
	if len(l) == 0 {
		return nil
	}
	m := make(map[string]string, len(l))
	for _, x := range l {
		m[x.Key] = x.Value
	}
	return m
}

// Get returns the value of key.
func (l Labels) Get(key string) (string, bool) {
	i, ok := slices.BinarySearchFunc(l, key, func(x Label, k string) int { return strings.Compare(x.Key, k) })
	if !ok {
		return "", false
	}
	return l[i].Value, true
}

// MarshalJSON writes an object with sorted keys.
func (l Labels) MarshalJSON() ([]byte, error) {
	m := l.Map()
	if m == nil {
		return []byte("{}"), nil
	}
	return json.Marshal(m)
}

// UnmarshalJSON reads an object whose values are strings.
func (l *Labels) UnmarshalJSON(b []byte) error {
	var m map[string]string
	if err := json.Unmarshal(b, &m); err != nil {
		return errors.New("must be an object whose values are strings")
	}
	*l = LabelsOf(m)
	return nil
}

// clip shortens what a user sent so that it can stand in a message.
func clip(b []byte) string {
	const most = 64
	if len(b) <= most {
		return string(b)
	}
	return strings.ToValidUTF8(string(b[:most]), "") + "…"
}
