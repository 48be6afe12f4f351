package cli

import (
	"bytes"
	"testing"
	"time"

	"github.com/orrery-io/orrery/job"
)

func TestAge(t *testing.T) {
	now := time.UnixMilli(1_800_000_000_000)
	tests := []struct {
		ago  time.Duration
		want string
	}{
		{0, "0s"},
		{-time.Second, "0s"}, // a clock that is a little ahead
		{99 * time.Second, "99s"},
		{100 * time.Second, "1m"},
		{99 * time.Minute, "99m"},
		{100 * time.Minute, "1h"},
		{47 * time.Hour, "47h"},
		{48 * time.Hour, "2d"},
		{-5 * time.Minute, "in 5m"},
	}
	for _, tt := range tests {
		if got := age(job.At(now.Add(-tt.ago)), now); got != tt.want {
			t.Errorf("%v ago: %q, want %q", tt.ago, got, tt.want)
		}
	}
	if got := age(0, now); got != "" {
		t.Errorf("unset: %q", got)
	}
}

func TestTook(t *testing.T) {
	for d, want := range map[time.Duration]string{
		-time.Second: "0ms", 12 * time.Millisecond: "12ms", 1234 * time.Millisecond: "1.2s", 92 * time.Second: "1m32s",
	} {
		if got := took(d); got != want {
			t.Errorf("%v: %q, want %q", d, got, want)
		}
	}
}

func TestPrintable(t *testing.T) {
	for in, want := range map[string]string{
		"plain ä\n\tx":     "plain ä\n\tx",
		"\x1b[31mred\x07":  "·[31mred·",
		"a\rb":             "a·b",
		"\xff":             "·",
		"evil\u202egnp.js": "evil·gnp.js",
	} {
		if got := printable(in); got != want {
			t.Errorf("%q: %q, want %q", in, got, want)
		}
	}
}

func TestTable(t *testing.T) {
	var b bytes.Buffer
	tb := newTable(&b, "ID", "NAME", "NOTE")
	tb.row(1, "ä", "")
	tb.row(100, "longer name", "two\nlines\x1b")
	if err := tb.end(); err != nil {
		t.Fatal(err)
	}
	want := "ID   NAME         NOTE\n1    ä            -\n100  longer name  two lines·\n"
	if b.String() != want {
		t.Errorf("got\n%s\nwant\n%s", b.String(), want)
	}
}

func TestClip(t *testing.T) {
	if got := clipText("a  b\nc", 10); got != "a b c" {
		t.Errorf("%q", got)
	}
	if got := clipText("äöüäöü", 4); got != "äöü…" {
		t.Errorf("%q", got)
	}
	if got := clipFront("a/b/c.go", 5); got != "…c.go" {
		t.Errorf("%q", got)
	}
	if got := clipBytes("äö", 3); got != "ä" {
		t.Errorf("%q", got)
	}
}

func TestLocalURL(t *testing.T) {
	for in, want := range map[string]string{
		"127.0.0.1:7700": "http://127.0.0.1:7700",
		"[::]:80":        "http://127.0.0.1:80",
		"0.0.0.0:80":     "http://127.0.0.1:80",
		"[::1]:80":       "http://[::1]:80",
		":80":            "http://127.0.0.1:80",
	} {
		if got := localURL(in); got != want {
			t.Errorf("%s: %s, want %s", in, got, want)
		}
	}
}
