package job

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"
)

func TestSpecCheck(t *testing.T) {
	t.Parallel()
	many := func(n int) Labels {
		m := map[string]string{}
		for i := range n {
			m[fmt.Sprintf("k%d", i)] = "v"
		}
		return LabelsOf(m)
	}
	tests := []struct {
		name    string
		change  func(*Spec)
		pointer string // "" means that nothing is wrong
	}{
		{"the smallest job", func(*Spec) {}, ""},
		{"no type", func(s *Spec) { s.Type = "" }, "/type"},
		{"a type with a space", func(s *Spec) { s.Type = "send mail" }, "/type"},
		{"a type that is too long", func(s *Spec) { s.Type = strings.Repeat("x", MaxName+1) }, "/type"},
		{"a queue with a slash is fine", func(s *Spec) { s.Queue = "team/a" }, ""},
		{"a queue with a newline", func(s *Spec) { s.Queue = "a\nb" }, "/queue"},
		{"both payloads", func(s *Spec) { s.Payload, s.PayloadBytes = JSON("1"), []byte{1} }, "/payload_bytes"},
		{"a payload at the limit", func(s *Spec) { s.PayloadBytes = make([]byte, MaxPayload) }, ""},
		{"a payload over the limit", func(s *Spec) { s.PayloadBytes = make([]byte, MaxPayload+1) }, "/payload"},
		{"a payload at the depth limit", func(s *Spec) { s.Payload = nested(MaxDepth) }, ""},
		{"a payload too deep", func(s *Spec) { s.Payload = nested(MaxDepth + 1) }, "/payload"},
		{"brackets in strings don't count", func(s *Spec) { s.Payload = JSON(`"` + strings.Repeat(`[\"`, 200) + `"`) }, ""},
		{"priority below", func(s *Spec) { s.Priority = -1 }, "/priority"},
		{"priority above", func(s *Spec) { s.Priority = 10 }, "/priority"},
		{"absurdly many attempts", func(s *Spec) { s.MaxAttempts = math.MaxInt }, "/max_attempts"},
		{"negative attempts", func(s *Spec) { s.MaxAttempts = -3 }, "/max_attempts"},
		{"a short lease", func(s *Spec) { s.Lease = 5 }, "/lease"},
		{"a negative timeout", func(s *Spec) { s.Timeout = -1 }, "/timeout"},
		{"an endless retention", func(s *Spec) { s.Retention = MaxDuration + 1 }, "/retention"},
		{"a shrinking backoff", func(s *Spec) { s.Retry.Multiplier = 0.5 }, "/retry/multiplier"},
		{"a multiplier that is no number", func(s *Spec) { s.Retry.Multiplier = math.NaN() }, "/retry/multiplier"},
		{"a first delay beyond the longest", func(s *Spec) { s.Retry = Retry{Initial: 10 * Second, Max: Second} }, "/retry/initial"},
		{"a list without delays", func(s *Spec) { s.Retry.Backoff = List }, "/retry/delays"},
		{"delays without a list", func(s *Spec) { s.Retry.Delays = []Duration{1} }, "/retry/delays"},
		{"a negative delay", func(s *Spec) { s.Retry = Retry{Backoff: List, Delays: []Duration{1, -1}} }, "/retry/delays/1"},
		{"expires before it may run", func(s *Spec) { s.RunAt, s.ExpiresAt = 2000, 1000 }, "/expires_in"},
		{"too many tags", func(s *Spec) { s.Tags = slices.Repeat([]string{"x"}, MaxTags+1) }, "/tags"},
		{"a tag with a comma", func(s *Spec) { s.Tags = []string{"ok", "a,b"} }, "/tags/1"},
		{"ten thousand labels", func(s *Spec) { s.Metadata = many(10_000) }, "/metadata"},
		{"a label value that is too long", func(s *Spec) { s.Metadata = Labels{{"k", strings.Repeat("x", MaxLabelValue+1)}} }, "/metadata/k"},
		{"a label without a key", func(s *Spec) { s.Metadata = Labels{{"", "x"}} }, "/metadata"},
		{"a key with invalid UTF-8", func(s *Spec) { s.IdempotencyKey = "\xff" }, "/idempotency_key"},
		{"a correlation id with a newline", func(s *Spec) { s.CorrelationID = "a\nb" }, "/correlation_id"},
		{"a long traceparent", func(s *Spec) { s.Traceparent = strings.Repeat("0", 65) }, "/traceparent"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			s := Spec{Type: "email.send"}
			s.Normalize()
			tt.change(&s)
			errs := s.Check()
			if tt.pointer == "" {
				if len(errs) != 0 {
					t.Fatalf("want nothing wrong, got %v", errs)
				}
				return
			}
			if len(errs) != 1 || errs[0].Pointer != tt.pointer || errs[0].Detail == "" {
				t.Fatalf("want one fault at %s, got %v", tt.pointer, errs)
			}
		})
	}
}

func nested(levels int) JSON {
	return JSON(strings.Repeat("[", levels) + strings.Repeat("]", levels))
}

func TestRetryDelay(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name string
		in   Retry
		want []Duration // after failures 1, 2, 3, 4
	}{
		{"the zero value doubles from a second", Retry{}, []Duration{Second, 2 * Second, 4 * Second, 8 * Second}},
		{"exponential stops at max", Retry{Initial: Second, Max: 3 * Second}, []Duration{Second, 2 * Second, 3 * Second, 3 * Second}},
		{"without max a long first delay is kept", Retry{Initial: Hour}, []Duration{Hour, Hour, Hour, Hour}},
		{"linear adds", Retry{Backoff: Linear, Initial: Second}, []Duration{Second, 2 * Second, 3 * Second, 4 * Second}},
		{"fixed stays", Retry{Backoff: Fixed, Initial: 5}, []Duration{5, 5, 5, 5}},
		{"a list repeats its last", Retry{Backoff: List, Delays: []Duration{7, 0, 9}}, []Duration{7, 0, 9, 9}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			for i, want := range tt.want {
				if got := tt.in.Delay(i + 1); got != want {
					t.Errorf("Delay(%d) = %s, want %s", i+1, got, want)
				}
			}
		})
	}
	t.Run("the hundredth failure does not overflow", func(t *testing.T) {
		t.Parallel()
		if got := (Retry{Initial: MaxDuration, Max: MaxDuration, Multiplier: 100}).Delay(100); got != MaxDuration {
			t.Fatalf("got %d", got)
		}
	})
}

func TestStateTable(t *testing.T) {
	t.Parallel()
	t.Run("every state is left by something, and ended states only by people or retention", func(t *testing.T) {
		t.Parallel()
		for _, s := range States {
			if len(table[s]) == 0 {
				t.Errorf("%s can never be left", s)
			}
			for _, a := range Actions {
				if !s.Terminal() || !Accepts(s, a) {
					continue
				}
				if a != ActRetry && a != ActRedrive && a != ActDelete {
					t.Errorf("%s has ended and still can be %s", s, a)
				}
			}
		}
	})
	t.Run("only dead letters are redriven", func(t *testing.T) {
		t.Parallel()
		for _, s := range States {
			if Accepts(s, ActRedrive) != s.DeadLetter() {
				t.Errorf("%s: redrive accepted %v", s, Accepts(s, ActRedrive))
			}
		}
	})
	t.Run("only pending jobs are dispatched", func(t *testing.T) {
		t.Parallel()
		for _, s := range States {
			if Accepts(s, ActDispatch) != (s == Pending) {
				t.Errorf("%s: dispatch accepted %v", s, Accepts(s, ActDispatch))
			}
		}
	})
	t.Run("what is refused says the state", func(t *testing.T) {
		t.Parallel()
		if got := Refusal(7, Completed, ActCancel).Error(); got != "job 7 is completed and cannot be cancelled" {
			t.Fatal(got)
		}
	})
}
