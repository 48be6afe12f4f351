//go:build ignore

// Perf is the part of scripts/bench.sh that is easier in Go: it starts a node and
// takes the time, describes the machine, gathers what was measured, and writes it
// down with medians, budgets and plots.
//
//	perf ports N                       N ports that are free for TCP and UDP
//	perf await URL...                  waits until every node is ready
//	perf launch PROGRAM FOLDER         "ready_ms" and "first_job_ms" of `orrery dev`
//	perf facts FOLDER REVISION         the machine, as JSON
//	perf sample URL                    "rss" and "database" of a node, in bytes
//	perf gobench < OUTPUT              "jobs/s" of a Go benchmark
//	perf collect RESULTS STORE FACTS   adds what was measured to the store
//	perf render STORE DOCUMENT         renews the figures and plots of the document
//	perf compare OLD NEW               two results as ratios
//
// Results are files RESULTS/FIGURE/RUN.json, reports of `orrery bench --json`, and
// RESULTS/FIGURE/RUN.num, lines of a name and a number.
package main

import (
	"errors"
	"fmt"
	"os"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintf(os.Stderr, "perf: %s\n", err)
		os.Exit(1)
	}
}

var errUsage = errors.New("see the comment in scripts/perf/main.go")

func run(args []string) error {
	commands := map[string]struct {
		args int // at least
		do   func([]string) error
	}{
		"ports":   {1, ports},
		"await":   {1, await},
		"launch":  {2, launch},
		"facts":   {2, facts},
		"sample":  {1, sample},
		"gobench": {0, gobench},
		"collect": {3, collect},
		"render":  {2, render},
		"compare": {2, compare},
	}
	if len(args) == 0 {
		return errUsage
	}
	c, ok := commands[args[0]]
	if !ok || len(args)-1 < c.args {
		return errUsage
	}
	return c.do(args[1:])
}
