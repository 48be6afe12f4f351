package builtin

import (
	"fmt"
	"strings"
	"testing"

	"github.com/orrery-io/orrery/job"
)

func TestStream(t *testing.T) {
	write := func(most int, parts ...string) (s *stream, lines []string) {
		s = newStream(most, func(l string) { lines = append(lines, l) })
		for _, p := range parts {
			if n, err := s.Write([]byte(p)); n != len(p) || err != nil {
				t.Fatalf("Write: %d, %v", n, err)
			}
		}
		s.flush()
		return s, lines
	}
	t.Run("lines are put together from any parts", func(t *testing.T) {
		s, lines := write(1000, "one\ntw", "o\n", "", "\nlast")
		if got := strings.Join(lines, "|"); got != "one|two||last" {
			t.Errorf("lines: %s", got)
		}
		if got := s.text(1000); got != "one\ntwo\n\nlast" {
			t.Errorf("text: %q", got)
		}
	})
	t.Run("a line without an end is broken", func(t *testing.T) {
		_, lines := write(10, strings.Repeat("x", maxLine-1), "yz", strings.Repeat("x", 2*maxLine))
		for i, want := range []int{maxLine, maxLine, maxLine, 1} {
			if len(lines[i]) != want {
				t.Errorf("line %d has %d bytes, want %d", i, len(lines[i]), want)
			}
		}
	})
	t.Run("head and tail are kept and the cut is stated", func(t *testing.T) {
		for _, step := range []int{1, 7, 10_000} {
			var all strings.Builder
			for i := range 2000 {
				fmt.Fprintf(&all, "%04d\n", i)
			}
			var parts []string
			for s := all.String(); s != ""; {
				n := min(step, len(s))
				parts, s = append(parts, s[:n]), s[n:]
			}
			s, _ := write(100, parts...)
			got := s.text(100)
			if !strings.HasPrefix(got, "0000\n0001\n") || !strings.HasSuffix(got, "1998\n1999\n") || !strings.Contains(got, "[… 9900 bytes left out …]") {
				t.Errorf("in steps of %d: %q", step, got)
			}
			if got := s.text(20); !strings.HasPrefix(got, "0000\n0001\n\n[… 9980") || !strings.HasSuffix(got, "1998\n1999\n") {
				t.Errorf("with less: %q", got)
			}
			if got := s.last(); !strings.HasSuffix(got, "1998\n1999") || strings.Count(got, "\n") != lastLines-1 {
				t.Errorf("last lines: %q", got)
			}
		}
	})
	t.Run("what fits exactly is not cut", func(t *testing.T) {
		s, _ := write(10, "0123456789")
		if got := s.text(10); got != "0123456789" {
			t.Errorf("got %q", got)
		}
	})
	t.Run("output that grows when it is encoded is cut further", func(t *testing.T) {
		s, _ := write(256<<10, strings.Repeat("\x01", 300<<10))
		b, err := encode(256<<10, s, s)
		if err != nil || len(b) > job.MaxPayload || !strings.Contains(string(b), "bytes left out") {
			t.Errorf("%d bytes, %v", len(b), err)
		}
	})
}
