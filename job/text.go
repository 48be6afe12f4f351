package job

import (
	"fmt"
	"strings"
)

var (
	backoffNames = [...]string{"exponential", "linear", "fixed", "list"}
	outcomeNames = [...]string{"", "completed", "failed", "timed_out", "lost", "revoked", "cancelled"}
	statusNames  = [...]string{"", "ready", "draining", "disconnected", "lost"}
	catchUpNames = [...]string{"last", "none", "all"}
	overlapNames = [...]string{"allow", "skip", "queue_one", "cancel_running"}
	tickNames    = [...]string{"", "fired", "caught_up", "missed", "skipped", "queued", "paused", "changed", "manual", "backfilled"}
)

func parseName[T ~uint8](names []string, what string, b []byte, to *T) error {
	for i, n := range names {
		if n != "" && n == string(b) {
			*to = T(i)
			return nil
		}
	}
	return fmt.Errorf("%q is not one of the %s: %s", clip(b), what, strings.TrimPrefix(strings.Join(names, ", "), ", "))
}

// String returns the word used in API, CLI and docs.
func (b Backoff) String() string { return nameOf(backoffNames[:], b) }

// MarshalText implements encoding.TextMarshaler.
func (b Backoff) MarshalText() ([]byte, error) { return []byte(b.String()), nil }

// UnmarshalText implements encoding.TextUnmarshaler.
func (b *Backoff) UnmarshalText(text []byte) error {
	return parseName(backoffNames[:], "backoffs", text, b)
}

// String returns the word used in API, CLI and docs.
func (o Outcome) String() string { return nameOf(outcomeNames[:], o) }

// MarshalText implements encoding.TextMarshaler.
func (o Outcome) MarshalText() ([]byte, error) { return []byte(o.String()), nil }

// UnmarshalText implements encoding.TextUnmarshaler.
func (o *Outcome) UnmarshalText(text []byte) error {
	return parseName(outcomeNames[:], "outcomes", text, o)
}

// String returns the word used in API, CLI and docs.
func (s AgentStatus) String() string { return nameOf(statusNames[:], s) }

// MarshalText implements encoding.TextMarshaler.
func (s AgentStatus) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// UnmarshalText implements encoding.TextUnmarshaler.
func (s *AgentStatus) UnmarshalText(text []byte) error {
	return parseName(statusNames[:], "statuses", text, s)
}

// String returns the word used in API, CLI and docs.
func (p CatchUpPolicy) String() string { return nameOf(catchUpNames[:], p) }

// MarshalText implements encoding.TextMarshaler.
func (p CatchUpPolicy) MarshalText() ([]byte, error) { return []byte(p.String()), nil }

// UnmarshalText implements encoding.TextUnmarshaler.
func (p *CatchUpPolicy) UnmarshalText(text []byte) error {
	return parseName(catchUpNames[:], "catch-up policies", text, p)
}

// String returns the word used in API, CLI and docs.
func (p OverlapPolicy) String() string { return nameOf(overlapNames[:], p) }

// MarshalText implements encoding.TextMarshaler.
func (p OverlapPolicy) MarshalText() ([]byte, error) { return []byte(p.String()), nil }

// UnmarshalText implements encoding.TextUnmarshaler.
func (p *OverlapPolicy) UnmarshalText(text []byte) error {
	return parseName(overlapNames[:], "overlap policies", text, p)
}

// String returns the word used in API, CLI and docs.
func (a TickAction) String() string { return nameOf(tickNames[:], a) }

// MarshalText implements encoding.TextMarshaler.
func (a TickAction) MarshalText() ([]byte, error) { return []byte(a.String()), nil }

// UnmarshalText implements encoding.TextUnmarshaler.
func (a *TickAction) UnmarshalText(text []byte) error {
	return parseName(tickNames[:], "actions of a tick", text, a)
}

func nameOf[T ~uint8](names []string, v T) string {
	if int(v) < len(names) {
		return names[v]
	}
	return fmt.Sprintf("%T(%d)", v, uint8(v))
}
