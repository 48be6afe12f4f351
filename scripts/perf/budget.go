//go:build ignore

package main

import (
	"fmt"
	"slices"
	"strings"
)

// unit says how a number is written.
type unit int

const (
	perSecond unit = iota
	millis
	bytesOf
	cpus
	count
)

func (u unit) String() string {
	return [...]string{"/s", " ms", "", " CPUs", ""}[u]
}

// text writes a number with three digits or so.
func (u unit) text(v float64) string {
	switch u {
	case bytesOf:
		sign := ""
		if v < 0 {
			sign, v = "-", -v
		}
		for _, x := range []struct {
			size float64
			name string
		}{{1e9, "GB"}, {1e6, "MB"}, {1e3, "kB"}} {
			if v >= x.size {
				return sign + digits(v/x.size) + " " + x.name
			}
		}
		return fmt.Sprintf("%s%.0f B", sign, v)
	case perSecond:
		return thousands(v) + u.String()
	case count:
		return thousands(v)
	}
	return digits(v) + u.String()
}

func digits(v float64) string {
	switch {
	case v > 0 && v < 0.1:
		return fmt.Sprintf("%.3f", v)
	case v < 10:
		return fmt.Sprintf("%.2f", v)
	case v < 100:
		return fmt.Sprintf("%.1f", v)
	}
	return thousands(v)
}

func thousands(v float64) string {
	s := fmt.Sprintf("%.0f", v)
	neg := strings.HasPrefix(s, "-")
	s = strings.TrimPrefix(s, "-")
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	if neg {
		return "-" + s
	}
	return s
}

// row is a line of a table: a figure, and what it should be.
type row struct {
	what   string
	nodes  string
	key    string
	unit   unit
	budget float64
	// atLeast means that more is better.
	atLeast bool
}

const (
	mega = 1e6
	kilo = 1e3
)

// budgets are what the product promises itself.
var budgets = []row{
	{"state machine in process: submit → dispatch → finish, 1024 callers", "1", "machine/1/rate", perSecond, 100_000, true},
	{same, "3", "machine/3/rate", perSecond, 40_000, true},
	{"end to end: batched HTTP submits, WebSocket agents, no-op handler", "1", "e2e/1/rate", perSecond, 40_000, true},
	{same, "3", "e2e/3/rate", perSecond, 15_000, true},
	{"single-job HTTP submits, 64 connections", "1", "submit/1/rate", perSecond, 15_000, true},
	{same, "3", "submit/3/rate", perSecond, 8_000, true},
	{"idle system: submit → handler starts, p50", "1", "latency/1/start_p50", millis, 1, false},
	{same, "3", "latency/3/start_p50", millis, 2, false},
	{"idle system: submit → handler starts, p99", "1", "latency/1/start_p99", millis, 3, false},
	{same, "3", "latency/3/start_p99", millis, 8, false},
	{"leader killed → next dispatch, p50 of 30", "3", "failover/3/p50", millis, 1500, false},
	{"leader killed → next dispatch, p99 of 30", "3", "failover/3/p99", millis, 3000, false},
	{"memory of an idle node", "1", "idle/1/rss_before", bytesOf, 40 * mega, false},
	{same, "3", "idle/3/rss_before", bytesOf, 40 * mega, false},
	{"memory per idle agent, of 10,000", "1", "idle/1/per_agent", bytesOf, 40 * kilo, false},
	{"memory with 10 M waiting jobs, after they were submitted", "1", "stored/10000000/filled_rss", bytesOf, 500 * mega, false},
	{"memory with 10 M waiting jobs, after a restart", "1", "stored/10000000/restarted_rss", bytesOf, 500 * mega, false},
	{"start with a 1 GB database, kill -9 before", "1", "restart/1/ready_ms", millis, 2000, false},
	{same, "3", "restart/3/ready_ms", millis, 3000, false},
	{"size of the binary", "–", "start/size", bytesOf, 40 * mega, false},
	{"`orrery dev`, until ready", "1", "start/ready_ms", millis, 300, false},
	{"`orrery dev`, until the first job has its result", "1", "start/first_job_ms", millis, 500, false},
}

// others are worth knowing and promised by nobody.
var others = []row{
	{what: "batches of 500 submitted by 4 connections", nodes: "1", key: "batch/1/rate", unit: perSecond},
	{what: same, nodes: "3", key: "batch/3/rate", unit: perSecond},
	{what: "a full queue emptied by 4 agents", nodes: "1", key: "process/1/rate", unit: perSecond},
	{what: same, nodes: "3", key: "process/3/rate", unit: perSecond},
	{what: "idle system: submit → result recorded, p50", nodes: "1", key: "latency/1/recorded_p50", unit: millis},
	{what: same, nodes: "3", key: "latency/3/recorded_p50", unit: millis},
	{what: "idle system: submit → result recorded, p99", nodes: "1", key: "latency/1/recorded_p99", unit: millis},
	{what: same, nodes: "3", key: "latency/3/recorded_p99", unit: millis},
	{what: "idle system: submit → handler starts, p99.9", nodes: "1", key: "latency/1/start_p999", unit: millis},
	{what: same, nodes: "3", key: "latency/3/start_p999", unit: millis},
	{what: "single-job submits: until acknowledged, p99", nodes: "1", key: "submit/1/request_p99", unit: millis},
	{what: same, nodes: "3", key: "submit/3/request_p99", unit: millis},
	{what: "single-job submits: processors of all nodes", nodes: "1", key: "submit/1/cpus", unit: cpus},
	{what: same, nodes: "3", key: "submit/3/cpus", unit: cpus},
	{what: "single-job submits: processor time of all nodes per job", nodes: "1", key: "submit/1/cpu_ms", unit: millis},
	{what: same, nodes: "3", key: "submit/3/cpu_ms", unit: millis},
	{what: "single-job submits: processors of the bench itself", nodes: "1", key: "submit/1/bench_cpus", unit: cpus},
	{what: "end to end: processors of all nodes", nodes: "1", key: "e2e/1/cpus", unit: cpus},
	{what: same, nodes: "3", key: "e2e/3/cpus", unit: cpus},
	{what: "end to end: processor time of all nodes per job", nodes: "1", key: "e2e/1/cpu_ms", unit: millis},
	{what: same, nodes: "3", key: "e2e/3/cpu_ms", unit: millis},
	{what: "end to end: processors of the bench itself", nodes: "1", key: "e2e/1/bench_cpus", unit: cpus},
	{what: "end to end: most memory of a node", nodes: "1", key: "e2e/1/rss", unit: bytesOf},
	{what: same, nodes: "3", key: "e2e/3/rss", unit: bytesOf},
	{what: "idle agents: connections made per second", nodes: "1", key: "idle/1/connects", unit: perSecond},
	{what: "idle agents: Go heap of the node per agent", nodes: "1", key: "idle/1/heap_per_agent", unit: bytesOf},
	{what: "idle agents: processors of the node", nodes: "1", key: "idle/1/idle_cpus", unit: cpus},
}

// same stands for the text of the row before.
const same = ""

// named are rows with their whole text.
func named(rows []row) []row {
	all := slices.Clone(rows)
	for i := range all {
		if all[i].what == same {
			all[i].what = all[i-1].what
		}
	}
	return all
}

// verdict says whether a figure is within its budget, and by how much it is not.
func (r row) verdict(f *Figure) string {
	if r.budget == 0 {
		return ""
	}
	ratio := f.median() / r.budget
	switch {
	case r.atLeast && ratio >= 1, !r.atLeast && ratio <= 1:
		return "met"
	case r.atLeast:
		return fmt.Sprintf("**missed by %.0f %%**", (1-ratio)*100)
	}
	return fmt.Sprintf("**missed by %.0f %%**", (ratio-1)*100)
}

func (r row) budgetText() string {
	if r.budget == 0 {
		return ""
	}
	if r.atLeast {
		return "≥ " + r.unit.text(r.budget)
	}
	return "≤ " + r.unit.text(r.budget)
}
