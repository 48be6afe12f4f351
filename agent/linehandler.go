package agent

import (
	"context"
	"log/slog"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"
)

// lineHandler is the slog.Handler that writes to a job's log: the message, then
// the attributes as key=value, groups as prefixes with a dot.
type lineHandler struct {
	to *attempt
	// attrs are those of WithAttrs, written out; prefix is that of WithGroup.
	attrs  string
	prefix string
}

// Enabled says yes to every level from debug on.
func (h *lineHandler) Enabled(_ context.Context, level slog.Level) bool {
	return level >= slog.LevelDebug
}

// Handle writes one record as one line; a message of several lines becomes
// several.
func (h *lineHandler) Handle(_ context.Context, r slog.Record) error {
	b := make([]byte, 0, 128)
	b = append(b, r.Message...)
	b = append(b, h.attrs...)
	r.Attrs(func(a slog.Attr) bool {
		b = appendAttr(b, h.prefix, a)
		return true
	})
	at := r.Time
	if at.IsZero() {
		at = time.Now()
	}
	h.to.line(at, levelName(r.Level), string(b))
	return nil
}

// WithAttrs returns a handler that adds attrs to each record.
func (h *lineHandler) WithAttrs(attrs []slog.Attr) slog.Handler {
	c := *h
	b := []byte(c.attrs)
	for _, a := range attrs {
		b = appendAttr(b, c.prefix, a)
	}
	c.attrs = string(b)
	return &c
}

// WithGroup returns a handler that puts the group's name before the keys that
// follow.
func (h *lineHandler) WithGroup(name string) slog.Handler {
	if name == "" {
		return h
	}
	c := *h
	c.prefix += name + "."
	return &c
}

func levelName(l slog.Level) string {
	switch {
	case l < slog.LevelInfo:
		return "debug"
	case l < slog.LevelWarn:
		return "info"
	case l < slog.LevelError:
		return "warn"
	default:
		return "error"
	}
}

func appendAttr(b []byte, prefix string, a slog.Attr) []byte {
	v := a.Value.Resolve()
	if a.Key == "" && v.Kind() != slog.KindGroup {
		if a.Equal(slog.Attr{}) {
			return b
		}
	}
	if v.Kind() == slog.KindGroup {
		if a.Key != "" {
			prefix += a.Key + "."
		}
		for _, inner := range v.Group() {
			b = appendAttr(b, prefix, inner)
		}
		return b
	}
	b = append(b, ' ')
	b = appendWord(b, prefix+a.Key)
	b = append(b, '=')
	if v.Kind() == slog.KindTime {
		return v.Time().AppendFormat(b, time.RFC3339Nano)
	}
	return appendWord(b, v.String())
}

// appendWord quotes what would not stand as one word.
func appendWord(b []byte, s string) []byte {
	plain := s != "" && !strings.ContainsAny(s, `"=`) && !slices.ContainsFunc([]rune(s), func(r rune) bool {
		return unicode.IsSpace(r) || !unicode.IsPrint(r)
	})
	if plain {
		return append(b, s...)
	}
	return strconv.AppendQuote(b, s)
}
