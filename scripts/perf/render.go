//go:build ignore

package main

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// render renews what stands between the marks of a document. Everything else in it is
// written by hand, and stays.
func render(args []string) error {
	s, err := readStore(args[0])
	if err != nil {
		return err
	}
	doc, err := os.ReadFile(args[1])
	if err != nil {
		return err
	}
	plots := strings.TrimSuffix(args[1], filepath.Ext(args[1]))
	parts := map[string]string{
		"machine": machineText(s.Facts),
		"budgets": table(s, budgets, true),
		"others":  table(s, others, false),
		"soak":    "",
	}
	for _, g := range growths {
		if parts[g.name], err = g.section(s, plots); err != nil {
			return err
		}
	}
	if parts["soak"], err = soakSection(s, plots); err != nil {
		return err
	}
	text := string(doc)
	for _, name := range slices.Sorted(maps.Keys(parts)) {
		if text, err = replace(text, name, parts[name]); err != nil {
			return fmt.Errorf("%s: %w", args[1], err)
		}
	}
	return os.WriteFile(args[1], []byte(text), 0o644)
}

// replace puts text between the marks of a name.
func replace(doc, name, text string) (string, error) {
	begin, end := fmt.Sprintf("<!-- bench:%s -->", name), fmt.Sprintf("<!-- end:%s -->", name)
	head, rest, ok := strings.Cut(doc, begin)
	if !ok {
		return "", fmt.Errorf("there is no %s", begin)
	}
	_, tail, ok := strings.Cut(rest, end)
	if !ok {
		return "", fmt.Errorf("there is no %s", end)
	}
	return head + begin + "\n\n" + strings.TrimSpace(text) + "\n\n" + end + tail, nil
}

func machineText(f Facts) string {
	var b strings.Builder
	line := func(k, v string) { fmt.Fprintf(&b, "| %s | %s |\n", k, v) }
	b.WriteString("| | |\n|---|---|\n")
	line("date", f.Date)
	line("revision", "`"+f.Revision+"`")
	line("processor", fmt.Sprintf("%s, %d cores", f.CPU, f.Cores))
	line("memory", fmt.Sprintf("%.1f GB", float64(f.MemoryMB)/1024))
	line("disk", fmt.Sprintf("%s; 4 KB written and synced in %.2f ms (p50), %.2f ms (p99)", f.Disk, f.SyncP50, f.SyncP99))
	line("kernel", f.Kernel)
	line("Go", f.Go)
	line("load average before", fmt.Sprintf("%.2f", f.Load))
	return b.String()
}

// table has a line for each figure that is known.
func table(s *Store, rows []row, withBudget bool) string {
	var b strings.Builder
	if withBudget {
		b.WriteString("| what | nodes | budget | median | lowest – highest | runs | |\n|---|---|---|---|---|---|---|\n")
	} else {
		b.WriteString("| what | nodes | median | lowest – highest | runs |\n|---|---|---|---|---|\n")
	}
	for _, r := range named(rows) {
		f := s.Figures[r.key]
		if f == nil {
			if withBudget {
				fmt.Fprintf(&b, "| %s | %s | %s | not measured | | | |\n", r.what, r.nodes, r.budgetText())
			}
			continue
		}
		spread := fmt.Sprintf("%s – %s", r.unit.text(f.low()), r.unit.text(f.high()))
		if withBudget {
			fmt.Fprintf(&b, "| %s | %s | %s | %s | %s | %d | %s |\n", r.what, r.nodes, r.budgetText(), r.unit.text(f.median()), spread, len(f.Values), r.verdict(f))
		} else {
			fmt.Fprintf(&b, "| %s | %s | %s | %s | %d |\n", r.what, r.nodes, r.unit.text(f.median()), spread, len(f.Values))
		}
	}
	return b.String() + elsewhere(s, rows)
}

// elsewhere says which figures are not of the run that the facts are about.
func elsewhere(s *Store, rows []row) string {
	old := map[string]int{}
	for _, r := range rows {
		if f := s.Figures[r.key]; f != nil && (f.Date != s.Facts.Date || f.Revision != s.Facts.Revision) {
			old[fmt.Sprintf("%s, revision `%s`", f.Date, f.Revision)]++
		}
	}
	var b strings.Builder
	for _, when := range slices.Sorted(maps.Keys(old)) {
		fmt.Fprintf(&b, "\n%d of these figures are from %s.\n", old[when], when)
	}
	return b.String()
}

// section is the table and the plots of a growth.
func (g growth) section(s *Store, plots string) (string, error) {
	xs := g.xs(s)
	if len(xs) == 0 {
		return "Not measured.", nil
	}
	var b strings.Builder
	fmt.Fprintf(&b, "| %s |", g.along)
	for _, x := range xs {
		fmt.Fprintf(&b, " %s |", thousands(float64(x)))
	}
	if g.stored {
		b.WriteString(" |")
	}
	b.WriteString("\n|" + strings.Repeat("---|", len(xs)+1))
	if g.stored {
		b.WriteString("---|")
	}
	b.WriteString("\n")
	var rows []row
	byPlot := map[string][]curve{}
	for _, c := range g.curves {
		pts := g.points(s, c.what)
		if len(pts) == 0 {
			continue
		}
		byPlot[c.plot] = append(byPlot[c.plot], c)
		fmt.Fprintf(&b, "| %s |", c.label)
		for _, x := range xs {
			rows = append(rows, row{key: g.key(x, c.what)})
			text := "–"
			if i := slices.IndexFunc(pts, func(p point) bool { return p.x == x }); i >= 0 {
				f := pts[i].f
				if text = c.unit.text(f.median()); len(f.Values) > 1 {
					text = fmt.Sprintf("%s (%s – %s)", text, c.unit.text(f.low()), c.unit.text(f.high()))
				}
			}
			fmt.Fprintf(&b, " %s |", text)
		}
		if g.stored {
			fmt.Fprintf(&b, " %s |", logarithmic(pts, c.unit))
		}
		b.WriteString("\n")
	}
	b.WriteString(elsewhere(s, rows) + "\n")
	for _, name := range slices.Sorted(maps.Keys(byPlot)) {
		file := fmt.Sprintf("%s-%s.svg", g.name, name)
		if err := g.draw(s, byPlot[name], filepath.Join(plots, file)); err != nil {
			return "", err
		}
		fmt.Fprintf(&b, "![%s by %s](%s/%s)\n", name, g.along, filepath.Base(plots), file)
	}
	return b.String(), nil
}

// soakSection compares the end of the long run with what came after its first minutes.
func soakSection(s *Store, plots string) (string, error) {
	if len(s.Soak) == 0 {
		return "Not measured.", nil
	}
	end := s.Soak[len(s.Soak)-1].At
	middle := func(from, to float64, of func(Sample) float64) float64 {
		f := &Figure{}
		for _, x := range s.Soak {
			if x.At >= from*end && x.At <= to*end {
				f.Values = append(f.Values, of(x))
			}
		}
		if len(f.Values) == 0 {
			return 0
		}
		return f.median()
	}
	var b strings.Builder
	if f := s.Figures["soak/1/rate"]; f != nil {
		fmt.Fprintf(&b, "%s jobs per second for %.0f s, %s of them late; measured %s, revision `%s`.\n\n",
			thousands(f.median()), end, thousands(s.Figures["soak/1/late"].median()), f.Date, f.Revision)
	}
	b.WriteString("| | second fifth | last fifth | |\n|---|---|---|---|\n")
	for _, x := range soakCurves {
		early, late := middle(0.2, 0.4, x.of), middle(0.8, 1, x.of)
		verdict := "doesn't grow"
		if late > early*1.1+x.slack {
			verdict = fmt.Sprintf("**grows by %.0f %%**", (late/early-1)*100)
		}
		fmt.Fprintf(&b, "| %s | %s | %s | %s |\n", x.name, x.unit.text(early), x.unit.text(late), verdict)
	}
	for _, name := range []string{"memory", "disk", "objects"} {
		file := filepath.Join(plots, "soak-"+name+".svg")
		if err := drawSoak(s.Soak, name, file); err != nil {
			return "", err
		}
		fmt.Fprintf(&b, "\n![%s during the long run](%s/soak-%s.svg)\n", name, filepath.Base(plots), name)
	}
	return b.String(), nil
}

// soakCurves are what may not grow in the long run. Slack is growth that means
// nothing.
var soakCurves = []struct {
	plot, name string
	unit       unit
	slack      float64
	of         func(Sample) float64
}{
	{"memory", "resident memory", bytesOf, 10 * mega, func(s Sample) float64 { return float64(s.RSS) }},
	{"memory", "live Go heap", bytesOf, 10 * mega, func(s Sample) float64 { return float64(s.Live) }},
	{"objects", "goroutines", count, 20, func(s Sample) float64 { return float64(s.Goroutines) }},
	{"objects", "descriptors", count, 10, func(s Sample) float64 { return float64(s.FDs) }},
	{"disk", "database", bytesOf, 10 * mega, func(s Sample) float64 { return float64(s.Database) }},
	{"disk", "its write-ahead log", bytesOf, 10 * mega, func(s Sample) float64 { return float64(s.WAL) }},
	{"disk", "file of the raft log", bytesOf, 10 * mega, func(s Sample) float64 { return float64(s.Log) }},
}

// compare prints what two results have in common, and the ratio.
func compare(args []string) error {
	old, _, err := readResults(args[0])
	if err != nil {
		return err
	}
	now, _, err := readResults(args[1])
	if err != nil {
		return err
	}
	fmt.Printf("%-70s %5s %14s %14s %8s  %s\n", "", "nodes", "old", "new", "new/old", "old, new: lowest – highest")
	printed := map[string]bool{}
	for _, r := range named(slices.Concat(budgets, others)) {
		if old[r.key] == nil || now[r.key] == nil || printed[r.key] {
			continue
		}
		printed[r.key] = true
		a, b := &Figure{Values: old[r.key]}, &Figure{Values: now[r.key]}
		apart := ""
		if len(a.Values) > 1 && len(b.Values) > 1 && (a.high() < b.low() || b.high() < a.low()) {
			apart = ", no overlap"
		}
		fmt.Printf("%-70s %5s %14s %14s %8.3f  %s – %s, %s – %s%s\n", r.what, r.nodes, r.unit.text(a.median()), r.unit.text(b.median()),
			b.median()/a.median(), r.unit.text(a.low()), r.unit.text(a.high()), r.unit.text(b.low()), r.unit.text(b.high()), apart)
	}
	if len(printed) == 0 {
		return errors.New("the two results have no figure in common")
	}
	return nil
}
