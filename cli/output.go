package cli

// How commands speak:
//
//   - What was asked for goes to stdout; everything else (errors, hints, questions,
//     progress, "there is more") to stderr. So a pipe gets what it wants.
//   - For people: a table with a head in capitals and aligned columns, ages short
//     and relative (12s, 5m, 3h, 2d), "-" for what is not there. Messages are
//     sentences in lower case without a final stop.
//   - For scripts, with --json: one thing is one indented document; a list or a
//     stream is one document per line (NDJSON). The fields are those of the API.
//     Nothing else is written to stdout.
//   - An error is "orrery: what is wrong", then "hint: what to do next".
//   - Text that came from elsewhere is shown without control characters, so that
//     it can't play with the terminal.
//   - No colours.

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strings"
	"text/tabwriter"
	"time"
	"unicode"

	"github.com/orrery-io/orrery/job"
)

// document writes one thing as JSON.
func (a *app) document(v any) error {
	enc := json.NewEncoder(a.out)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	return enc.Encode(v)
}

// line writes one thing of a list as JSON.
func (a *app) line(v any) error {
	enc := json.NewEncoder(a.out)
	enc.SetEscapeHTML(false)
	return enc.Encode(v)
}

// lines writes a whole list as JSON.
func lines[T any](a *app, items []T) error {
	for i := range items {
		if err := a.line(items[i]); err != nil {
			return err
		}
	}
	return nil
}

// printf writes to stdout.
func (a *app) printf(format string, args ...any) { fmt.Fprintf(a.out, format, args...) }

// notef writes a remark to stderr.
func (a *app) notef(format string, args ...any) { fmt.Fprintf(a.err, format, args...) }

// table aligns columns. Rows appear with end.
type table struct{ w *tabwriter.Writer }

func newTable(w io.Writer, head ...string) *table {
	t := &table{tabwriter.NewWriter(w, 0, 8, 2, ' ', 0)}
	if len(head) > 0 {
		fmt.Fprintln(t.w, strings.Join(head, "\t"))
	}
	return t
}

func (t *table) row(cells ...any) {
	texts := make([]string, len(cells))
	for i, c := range cells {
		text := strings.Join(strings.Fields(printable(fmt.Sprint(c))), " ")
		if text == "" {
			text = "-"
		}
		texts[i] = text
	}
	fmt.Fprintln(t.w, strings.Join(texts, "\t"))
}

func (t *table) end() error { return t.w.Flush() }

// fields writes "name  value" pairs, aligned; empty values are left out.
func fields(w io.Writer, pairs ...any) error {
	t := newTable(w)
	for i := 0; i+1 < len(pairs); i += 2 {
		if text := fmt.Sprint(pairs[i+1]); text != "" {
			t.row(pairs[i], text)
		}
	}
	return t.end()
}

// printable replaces control characters but the line end and the tab.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if r != '\n' && r != '\t' && (unicode.IsControl(r) || unicode.Is(unicode.Bidi_Control, r)) {
			return '·'
		}
		return r
	}, strings.ToValidUTF8(s, "·"))
}

// clipText shortens s to n runes.
func clipText(s string, n int) string {
	s = strings.Join(strings.Fields(s), " ")
	r := []rune(s)
	if len(r) <= n {
		return s
	}
	return string(r[:n-1]) + "…"
}

// age is the short form of how long ago t was: 12s, 5m, 3h, 2d; "in 5m" when it is
// still to come; "" when it is unset. A clock that is a little ahead reads as 0s.
func age(t job.Time, now time.Time) string {
	if t == 0 {
		return ""
	}
	d := now.Sub(t.Time())
	if d < -2*time.Second {
		return "in " + shortly(-d)
	}
	return shortly(max(d, 0))
}

// shortly is one whole number and a unit.
func shortly(d time.Duration) string {
	switch {
	case d < 100*time.Second:
		return fmt.Sprintf("%ds", d/time.Second)
	case d < 100*time.Minute:
		return fmt.Sprintf("%dm", d/time.Minute)
	case d < 48*time.Hour:
		return fmt.Sprintf("%dh", d/time.Hour)
	}
	return fmt.Sprintf("%dd", d/(24*time.Hour))
}

// took is a measured length of time: 12ms, 1.2s, 1m32s.
func took(d time.Duration) string {
	switch {
	case d < 0:
		return "0ms"
	case d < time.Second:
		return fmt.Sprintf("%dms", d.Milliseconds())
	case d < time.Minute:
		return strings.Replace(fmt.Sprintf("%.1fs", d.Seconds()), ".0s", "s", 1)
	}
	return d.Round(time.Second).String()
}

// pretty indents JSON for people; what is not JSON comes back as it is.
func pretty(j job.JSON) string {
	var b bytes.Buffer
	if json.Indent(&b, j, "", "  ") != nil {
		return string(j)
	}
	return b.String()
}

// byteText is a size for people: 640 kB, 1.2 GB.
func byteText(n int64) string {
	const units = "kMGTPE"
	if n < 1000 {
		return fmt.Sprintf("%d B", n)
	}
	f, unit := float64(n), -1
	for f >= 1000 && unit < len(units)-1 {
		f /= 1000
		unit++
	}
	digits := 0
	if f < 10 {
		digits = 1
	}
	return fmt.Sprintf("%.*f %cB", digits, f, units[unit])
}

// count is "1 job", "3 jobs".
func count[N ~int | ~int64](n N, noun string) string {
	if n == 1 {
		return fmt.Sprintf("%d %s", n, noun)
	}
	return fmt.Sprintf("%d %ss", n, noun)
}

// isTerminal reports whether a person sees, or types at, the other end.
func isTerminal(stream any) bool {
	f, ok := stream.(*os.File)
	if !ok {
		return false
	}
	info, err := f.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0 && f.Name() != os.DevNull
}
