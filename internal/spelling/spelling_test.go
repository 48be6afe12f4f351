package spelling_test

import (
	"strings"
	"testing"

	"github.com/orrery-io/orrery/internal/spelling"
)

func TestNearest(t *testing.T) {
	known := []string{"type", "queue", "payload", "priority", "run_at", "max_attempts", "idempotency_key", "tags", "metadata"}
	for word, want := range map[string]string{
		"paylod": "payload", "prio": "priority", "Queue": "queue", "maxattempts": "max_attempts", "tag": "tags", "meta": "metadata",
		"idempotencyKey": "idempotency_key", "tpye": "type", "run": "run_at", "zzz": "", "": "", strings.Repeat("x", 1000): "",
	} {
		if got := spelling.Nearest(word, known); got != want {
			t.Errorf("Nearest(%.20q) = %q, want %q", word, got, want)
		}
	}
	if got := spelling.DidYouMean("paylod", known); got != `; did you mean "payload"?` {
		t.Error(got)
	}
	if got := spelling.DidYouMean("zzz", known); got != "" {
		t.Error(got)
	}
}
