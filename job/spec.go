package job

import (
	"fmt"
	"math"
	"strings"
	"unicode/utf8"
)

// Limits on what a submission may carry. They are checked before anything is
// proposed, so the log never holds more.
const (
	// MaxPayload bounds payload and result, in bytes.
	MaxPayload = 1 << 20
	// MaxName bounds type, queue, agent id and name, in bytes.
	MaxName = 200
	// MaxKey bounds the idempotency key and the correlation id, in bytes.
	MaxKey = 256
	// MaxTags, MaxTag and MaxLabels bound tags and metadata.
	MaxTags   = 32
	MaxTag    = 100
	MaxLabels = 64
	// MaxLabelKey and MaxLabelValue are in bytes.
	MaxLabelKey   = 100
	MaxLabelValue = 1024
	// MaxAttempts bounds max_attempts.
	MaxAttempts = 100
	// MaxAttemptsKept bounds the attempts in a row: retries by hand, lost and
	// revoked attempts come on top of max_attempts. The oldest are dropped.
	MaxAttemptsKept = 200
	// MaxTrail bounds Job.Trail.
	MaxTrail = 256
	// MaxLost is how many lost attempts a job may have before it is taken for
	// poison and fails.
	MaxLost = 5
	// MaxBatch bounds the jobs of one batch submission.
	MaxBatch = 10_000
	// MaxDepth bounds the nesting of a JSON payload.
	MaxDepth = 64
)

// Defaults of a submission.
const (
	DefaultQueue       = "default"
	DefaultPriority    = 4
	DefaultMaxAttempts = 5
	MaxPriority        = 9
	// MinLease keeps a lease longer than a few heartbeats on a slow network.
	MinLease = 2 * Second
)

// DefaultRetry is exponential: 1 s, 2 s, 4 s … up to 10 minutes.
var DefaultRetry = Retry{Backoff: Exponential, Initial: Second, Max: 10 * Minute, Multiplier: 2}

// FieldError says which field of a submission is wrong.
type FieldError struct {
	// Pointer is a JSON pointer to the field, such as /retry/initial.
	Pointer string `json:"pointer"`
	// Detail is a sentence.
	Detail string `json:"detail"`
	// Position is where in the field's text the mistake is, in characters counted from
	// 1; zero when it is about the field as a whole.
	Position int `json:"position,omitempty"`
}

// Error joins both.
func (e FieldError) Error() string { return e.Pointer + ": " + e.Detail }

// Normalize fills in defaults. It does not check anything.
func (s *Spec) Normalize() {
	if s.Queue == "" {
		s.Queue = DefaultQueue
	}
	if s.MaxAttempts == 0 {
		s.MaxAttempts = DefaultMaxAttempts
	}
}

// Check returns everything that is wrong with a normalized Spec; empty means that
// the state machine will take it.
func (s *Spec) Check() []FieldError {
	var errs []FieldError
	bad := func(pointer, format string, args ...any) {
		errs = append(errs, FieldError{Pointer: pointer, Detail: fmt.Sprintf(format, args...)})
	}
	if detail := CheckName(s.Type); detail != "" {
		bad("/type", "%s", detail)
	}
	if detail := CheckName(s.Queue); detail != "" {
		bad("/queue", "%s", detail)
	}
	if len(s.Payload) > 0 && len(s.PayloadBytes) > 0 {
		bad("/payload_bytes", "give payload or payload_bytes, not both")
	}
	if n := len(s.Payload) + len(s.PayloadBytes); n > MaxPayload {
		bad("/payload", "is %d bytes; the limit is %d", n, MaxPayload)
	}
	if d := s.Payload.Depth(); d > MaxDepth {
		bad("/payload", "is nested %d levels deep; the limit is %d", d, MaxDepth)
	}
	if s.Priority < 0 || s.Priority > MaxPriority {
		bad("/priority", "is %d; it must be 0 to %d", s.Priority, MaxPriority)
	}
	if s.MaxAttempts < 1 || s.MaxAttempts > MaxAttempts {
		bad("/max_attempts", "is %d; it must be 1 to %d", s.MaxAttempts, MaxAttempts)
	}
	duration := func(pointer string, d, least Duration) {
		switch {
		case d == 0:
		case d < least:
			bad(pointer, "is %s; it must be at least %s", d, least)
		case d > MaxDuration:
			bad(pointer, "is longer than a hundred years")
		}
	}
	duration("/timeout", s.Timeout, Millisecond)
	duration("/lease", s.Lease, MinLease)
	duration("/retention", s.Retention, Millisecond)
	duration("/retry/initial", s.Retry.Initial, Millisecond)
	duration("/retry/max", s.Retry.Max, Millisecond)
	if s.Retry.Max != 0 && s.Retry.Initial > s.Retry.Max {
		bad("/retry/initial", "is %s, which is longer than max, %s", s.Retry.Initial, s.Retry.Max)
	}
	if m := s.Retry.Multiplier; m != 0 && (m < 1 || m > 100 || math.IsNaN(m)) {
		bad("/retry/multiplier", "is %v; it must be 1 to 100", m)
	}
	if len(s.Retry.Delays) > MaxAttempts {
		bad("/retry/delays", "has %d entries; the limit is %d", len(s.Retry.Delays), MaxAttempts)
	}
	for i, d := range s.Retry.Delays {
		duration(fmt.Sprintf("/retry/delays/%d", i), d, 0)
	}
	if (s.Retry.Backoff == List) != (len(s.Retry.Delays) > 0) {
		bad("/retry/delays", "goes with backoff \"list\", and only with it")
	}
	if s.ExpiresAt != 0 && s.RunAt != 0 && s.ExpiresAt <= s.RunAt {
		bad("/expires_in", "ends before the job may run")
	}
	if len(s.Tags) > MaxTags {
		bad("/tags", "has %d entries; the limit is %d", len(s.Tags), MaxTags)
	}
	for i, t := range s.Tags {
		if t == "" || len(t) > MaxTag || !printable(t) || strings.ContainsAny(t, ",|") {
			bad(fmt.Sprintf("/tags/%d", i), "must be 1 to %d printable bytes without comma or bar", MaxTag)
			break
		}
	}
	errs = append(errs, CheckLabels("/metadata", s.Metadata)...)
	if len(s.IdempotencyKey) > MaxKey || !printable(s.IdempotencyKey) {
		bad("/idempotency_key", "must be at most %d printable bytes", MaxKey)
	}
	if len(s.CorrelationID) > MaxKey || !printable(s.CorrelationID) {
		bad("/correlation_id", "must be at most %d printable bytes", MaxKey)
	}
	if len(s.Traceparent) > 64 || !printable(s.Traceparent) {
		bad("/traceparent", "must be a W3C traceparent")
	}
	return errs
}

// CheckLabels returns what is wrong with a set of labels at pointer.
func CheckLabels(pointer string, labels Labels) []FieldError {
	if len(labels) > MaxLabels {
		return []FieldError{{Pointer: pointer, Detail: fmt.Sprintf("has %d entries; the limit is %d", len(labels), MaxLabels)}}
	}
	for _, l := range labels {
		if l.Key == "" || len(l.Key) > MaxLabelKey || !printable(l.Key) {
			return []FieldError{{Pointer: pointer, Detail: fmt.Sprintf("key %q must be 1 to %d printable bytes", clip([]byte(l.Key)), MaxLabelKey)}}
		}
		if len(l.Value) > MaxLabelValue || !utf8.ValidString(l.Value) {
			return []FieldError{{Pointer: pointer + "/" + l.Key, Detail: fmt.Sprintf("must be at most %d bytes of UTF-8", MaxLabelValue)}}
		}
	}
	return nil
}

// CheckName says in a sentence what is wrong with the name of a type, a queue or
// an agent; "" means nothing. Names are letters, digits and . _ - : / @.
func CheckName(s string) string {
	if s == "" {
		return "is required"
	}
	if len(s) > MaxName {
		return fmt.Sprintf("is %d bytes long; the limit is %d", len(s), MaxName)
	}
	for _, c := range s {
		switch {
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9', strings.ContainsRune("._-:/@", c):
		default:
			return fmt.Sprintf("has the character %q; allowed are letters, digits and . _ - : / @", c)
		}
	}
	return ""
}

func printable(s string) bool {
	if !utf8.ValidString(s) {
		return false
	}
	for _, c := range s {
		if c < ' ' || c == 0x7f {
			return false
		}
	}
	return true
}

// Depth returns how deep valid JSON is nested; zero for a scalar or nothing.
func (j JSON) Depth() int {
	most, now, inString := 0, 0, false
	for i := 0; i < len(j); i++ {
		switch c := j[i]; {
		case inString && c == '\\':
			i++
		case c == '"':
			inString = !inString
		case inString:
		case c == '{' || c == '[':
			now++
			most = max(most, now)
		case c == '}' || c == ']':
			now--
		}
	}
	return most
}

// Delay returns how long to wait before the attempt that follows the nth failure
// (n counts from 1), without jitter.
func (r Retry) Delay(n int) Duration {
	initial, most, factor := r.Initial, r.Max, r.Multiplier
	if initial == 0 {
		initial = DefaultRetry.Initial
	}
	if most == 0 {
		most = max(DefaultRetry.Max, initial)
	}
	if factor == 0 {
		factor = DefaultRetry.Multiplier
	}
	n = max(n, 1)
	switch r.Backoff {
	case List:
		if len(r.Delays) == 0 {
			return initial
		}
		return r.Delays[min(n, len(r.Delays))-1]
	case Fixed:
		return initial
	case Linear:
		return min(initial*Duration(n), most)
	case Exponential:
	}
	d := float64(initial) * math.Pow(factor, float64(n-1))
	if d >= float64(most) {
		return most
	}
	return Duration(d)
}
