//go:build ignore

package main

import (
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
)

// growth is how figures change with one quantity.
type growth struct {
	// name is that of the section and of its files, along what the quantity is.
	name, along string
	// key makes the key of a figure from the quantity and the figure's own part.
	key    func(x int, what string) string
	bytes  bool
	curves []curve
	// stored means that nothing may grow worse than the logarithm.
	stored bool
}

// curve is one figure at several quantities. Curves with the same plot share one.
type curve struct {
	plot, label, what string
	unit              unit
}

func below(section string) func(int, string) string {
	return func(x int, what string) string { return fmt.Sprintf("%s/%d/%s", section, x, what) }
}

// byNodes finds the figures of the main table.
func byNodes(x int, what string) string {
	section, rest, _ := strings.Cut(what, "/")
	return fmt.Sprintf("%s/%d/%s", section, x, rest)
}

var rates = []curve{
	{"rate", "single submits", "submit/rate", perSecond},
	{"rate", "end to end", "e2e/rate", perSecond},
}

var latencies = []curve{
	{"latency", "submit → start, p50", "latency/start_p50", millis},
	{"latency", "submit → start, p99", "latency/start_p99", millis},
	{"latency", "submit → recorded, p99", "latency/recorded_p99", millis},
}

var growths = []growth{
	{
		name: "stored", along: "jobs stored (waiting)", key: below("stored"), stored: true,
		curves: slices.Concat(rates, latencies, []curve{
			{"memory", "after filling", "filled_rss", bytesOf},
			{"memory", "after a restart", "restarted_rss", bytesOf},
			{"start", "start until ready", "ready_ms", millis},
		}),
	},
	{
		name: "agents", along: "agents connected", key: below("agents"),
		curves: slices.Concat(rates[1:], latencies, []curve{{"memory", "most memory of the node", "latency/rss", bytesOf}}),
	},
	{name: "payload", along: "payload, in bytes", key: below("payload"), curves: slices.Concat(rates, latencies, []curve{
		{"memory", "most memory of the node, end to end", "e2e/rss", bytesOf},
	})},
	{name: "nodes", along: "nodes on this machine", key: byNodes, curves: slices.Concat(rates, latencies)},
}

// point is a figure at a quantity.
type point struct {
	x int
	f *Figure
}

// points are those that are known, in order.
func (g growth) points(s *Store, what string) (found []point) {
	for key, f := range s.Figures {
		for part := range strings.SplitSeq(key, "/") {
			if x, err := strconv.Atoi(part); err == nil && g.key(x, what) == key {
				found = append(found, point{x, f})
			}
		}
	}
	slices.SortFunc(found, func(a, b point) int { return a.x - b.x })
	return found
}

// xs are all quantities of which anything is known.
func (g growth) xs(s *Store) (all []int) {
	for _, c := range g.curves {
		for _, p := range g.points(s, c.what) {
			all = append(all, p.x)
		}
	}
	slices.Sort(all)
	return slices.Compact(all)
}

// noise is how much worse than the law a figure may be without telling anything: runs
// of the same differ by as much.
const noise = 1.2

// logarithmic compares the cost at the largest quantity with that at the one before:
// it may have grown as their logarithms have. Before that caches fill up, which says
// nothing about the law. Text is "" when there are no two such points.
func logarithmic(pts []point, u unit) string {
	pts = slices.DeleteFunc(slices.Clone(pts), func(p point) bool { return p.x < 1000 })
	if len(pts) < 2 {
		return ""
	}
	first, last := pts[len(pts)-2], pts[len(pts)-1]
	ratio := last.f.median() / first.f.median()
	if u == perSecond {
		ratio = 1 / ratio
	}
	allowed := math.Log(float64(last.x)) / math.Log(float64(first.x))
	text := fmt.Sprintf("cost × %.2f, logarithm × %.2f", ratio, allowed)
	if ratio > allowed*noise {
		return "**worse**: " + text
	}
	return "no worse: " + text
}
