//go:build ignore

package main

import (
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// These tests are run by scripts/check.sh:
//
//	go test -modfile=tools.mod scripts/perf/*.go

func TestMedian(t *testing.T) {
	for _, tt := range []struct {
		values []float64
		want   float64
	}{{[]float64{3}, 3}, {[]float64{9, 1, 5}, 5}, {[]float64{4, 1, 3, 2}, 2.5}} {
		f := Figure{Values: tt.values}
		if got := f.median(); got != tt.want {
			t.Errorf("median of %v is %g, want %g", tt.values, got, tt.want)
		}
	}
}

func TestQuantile(t *testing.T) {
	v := make([]float64, 100)
	for i := range v {
		v[i] = float64(i + 1)
	}
	for q, want := range map[float64]float64{0.5: 50, 0.99: 99, 1: 100, 0: 1} {
		if got := quantile(v, q); got != want {
			t.Errorf("quantile %g is %g, want %g", q, got, want)
		}
	}
	if !math.IsNaN(quantile(nil, 0.5)) {
		t.Error("there is a quantile of nothing")
	}
}

func TestVerdict(t *testing.T) {
	for _, tt := range []struct {
		r     row
		value float64
		want  string
	}{
		{row{budget: 100, atLeast: true}, 100, "met"},
		{row{budget: 100, atLeast: true}, 80, "**missed by 20 %**"},
		{row{budget: 100}, 100, "met"},
		{row{budget: 100}, 150, "**missed by 50 %**"},
		{row{}, 150, ""},
	} {
		if got := tt.r.verdict(&Figure{Values: []float64{tt.value}}); got != tt.want {
			t.Errorf("%+v with %g: %q, want %q", tt.r, tt.value, got, tt.want)
		}
	}
}

func TestLogarithmic(t *testing.T) {
	points := func(first, last float64) []point {
		return []point{{0, &Figure{Values: []float64{1}}}, {10, &Figure{Values: []float64{1}}}, {1000, &Figure{Values: []float64{first}}}, {1_000_000, &Figure{Values: []float64{last}}}}
	}
	for _, tt := range []struct {
		name        string
		first, last float64
		unit        unit
		want        string
	}{
		{"a latency that grows as the logarithm", 1, 2, millis, "no worse: cost × 2.00, logarithm × 2.00"},
		{"a latency that grows as the root", 1, 31.6, millis, "**worse**: cost × 31.60"},
		{"a rate that falls to a half", 1000, 500, perSecond, "no worse: cost × 2.00"},
		{"a rate that falls to a tenth", 1000, 100, perSecond, "**worse**: cost × 10.00"},
	} {
		if got := logarithmic(points(tt.first, tt.last), tt.unit); !strings.HasPrefix(got, tt.want) {
			t.Errorf("%s: %q, want %q", tt.name, got, tt.want)
		}
	}
	if got := logarithmic(points(1, 2)[:3], millis); got != "" {
		t.Errorf("one point has a law: %q", got)
	}
}

func TestTexts(t *testing.T) {
	for _, tt := range []struct {
		u    unit
		v    float64
		want string
	}{
		{perSecond, 12345.6, "12,346/s"},
		{millis, 0.456, "0.46 ms"},
		{millis, 1234, "1,234 ms"},
		{bytesOf, 31_900_000, "31.9 MB"},
		{bytesOf, -1500, "-1.50 kB"},
		{bytesOf, 12, "12 B"},
		{count, 1_000_000, "1,000,000"},
		{cpus, 1.5, "1.50 CPUs"},
	} {
		if got := tt.u.text(tt.v); got != tt.want {
			t.Errorf("%g is written %q, want %q", tt.v, got, tt.want)
		}
	}
}

func write(t *testing.T, name, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(name, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

const goodReport = `{"mode":"e2e","jobs_per_second":41000,"bench_cpus":0.3,"check":{"agrees":true},
 "latency":[{"name":"start","p50_ms":0.5,"p99_ms":2}],
 "nodes":[{"cpus":1.5,"max_rss_bytes":90000000,"before":{"rss_bytes":30000000},"samples":[{"at_s":1,"rss_bytes":5},{"at_s":2,"rss_bytes":6}]},
          {"cpus":0.5,"max_rss_bytes":80000000,"before":{"rss_bytes":31000000}}]}`

// TestDocument goes the whole way: results to a store, and again with other ones; the
// store to a document, of which the text by hand stays.
func TestDocument(t *testing.T) {
	dir := t.TempDir()
	in := func(name string) string { return filepath.Join(dir, name) }
	write(t, in("facts.json"), `{"date":"today","revision":"r1","cores":2}`)
	write(t, in("results/e2e/1/1.json"), goodReport)
	write(t, in("results/e2e/1/2.json"), strings.Replace(goodReport, "41000", "43000", 1))
	write(t, in("results/stored/0/1.num"), "filled_rss 40000000\n")
	write(t, in("results/stored/0/2.num"), "filled_rss 42000000\n")
	write(t, in("results/stored/1000/1.num"), "filled_rss 50000000\nready_ms 12.5\n")
	write(t, in("results/stored/1000000/1.num"), "filled_rss 60000000\nready_ms 100\n")
	write(t, in("results/soak/1/1.json"), goodReport)
	store := in("doc.json")
	if err := collect([]string{in("results"), store, in("facts.json")}); err != nil {
		t.Fatal(err)
	}
	// A later run of one figure leaves the others.
	write(t, in("facts.json"), `{"date":"tomorrow","revision":"r2","cores":2}`)
	write(t, in("later/start/1.num"), "ready_ms 80\n")
	if err := collect([]string{in("later"), store, in("facts.json")}); err != nil {
		t.Fatal(err)
	}
	doc := "by hand\n"
	for _, name := range []string{"machine", "budgets", "others", "stored", "agents", "payload", "nodes", "soak"} {
		doc += "<!-- bench:" + name + " -->old<!-- end:" + name + " -->\nmore by hand\n"
	}
	write(t, in("doc.md"), doc)
	for range 2 { // the second time changes nothing
		if err := render([]string{store, in("doc.md")}); err != nil {
			t.Fatal(err)
		}
	}
	b, err := os.ReadFile(in("doc.md"))
	if err != nil {
		t.Fatal(err)
	}
	text := string(b)
	for _, want := range []string{
		"by hand\n<!-- bench:machine -->", "more by hand\n", "| revision | `r2` |",
		"| 1 | ≥ 40,000/s | 42,000/s | 41,000/s – 43,000/s | 2 | met |",
		"| `orrery dev`, until ready | 1 | ≤ 300 ms | 80.0 ms | 80.0 ms – 80.0 ms | 1 | met |",
		"| 3 | ≥ 15,000/s | not measured |",
		"1 of these figures are from today, revision `r1`.",
		"| jobs stored (waiting) | 0 | 1,000 | 1,000,000 |",
		"| after filling | 41.0 MB (40.0 MB – 42.0 MB) | 50.0 MB |",
		"| start until ready | – | 12.5 ms | 100 ms | **worse**: cost × 8.00, logarithm × 2.00 |",
		"![memory by jobs stored (waiting)](doc/stored-memory.svg)",
		"(doc/soak-disk.svg)",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("%q is not in\n%s", want, text)
		}
	}
	if strings.Contains(text, "old") || strings.Count(text, "more by hand") != 8 {
		t.Errorf("the document is\n%s", text)
	}
	svg, err := os.ReadFile(in("doc/stored-memory.svg"))
	if err != nil || !strings.Contains(string(svg), "<svg") || !strings.Contains(string(svg), "after filling") {
		t.Errorf("the plot is no plot: %v", err)
	}
}

// TestBadReports are not counted as figures.
func TestBadReports(t *testing.T) {
	for name, bad := range map[string]string{
		"counts that differ": strings.Replace(goodReport, `"agrees":true`, `"agrees":false`, 1),
		"interrupted":        strings.Replace(goodReport, `{"mode"`, `{"interrupted":true,"mode"`, 1),
		"cut":                goodReport[:100],
		"empty":              "",
	} {
		dir := t.TempDir()
		write(t, filepath.Join(dir, "e2e/1/1.json"), bad)
		if found, _, err := readResults(dir); err == nil {
			t.Errorf("%s: got %v", name, found)
		}
	}
}

func TestMarksAreMissed(t *testing.T) {
	for _, doc := range []string{"", "<!-- bench:x -->"} {
		if got, err := replace(doc, "x", "text"); err == nil {
			t.Errorf("%q became %q", doc, got)
		}
	}
}

// TestKeys finds figures whose keys nobody writes: a typing error would make a row
// that is never measured.
func TestKeys(t *testing.T) {
	script, err := os.ReadFile("../bench.sh")
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range append(budgets, others...) {
		section, _, _ := strings.Cut(r.key, "/")
		if !strings.Contains(string(script), section+"/") && !strings.Contains(string(script), "note "+section) {
			t.Errorf("scripts/bench.sh writes no figure of %s", r.key)
		}
	}
}
