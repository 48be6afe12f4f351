//go:build linux

package chaos

import (
	"bufio"
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"log"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/orrery-io/orrery/client"
	"github.com/orrery-io/orrery/job"
	_ "modernc.org/sqlite" // integrity_check, from outside
)

// readers numbers the reads of askPaused, each a client of its own: two of one
// client never overlap.
var readers atomic.Int64

// run is one run of the suite, from the first start to the last check.
func run(t *testing.T, o options) {
	e := prepare(t, o)
	can, left := possible(o)
	var plan []planned
	if o.mode != "failover" {
		plan = schedule(o, can)
	}
	e.say("mode %s, seed %d, %d nodes, %d faults, network of %s, folder %s", o.mode, o.seed, o.nodes, len(plan), e.net.kind(), e.room)
	if len(left) > 0 {
		e.say("left out: %s", strings.Join(left, ", "))
	}
	for _, p := range plan {
		e.journal.write("planned", map[string]any{"fault": p.fault.name, "hold": p.hold.String(), "seed": p.seed})
	}
	defer e.verdict(t)
	ctx := t.Context()
	defer e.end()
	if err := e.begin(ctx); err != nil {
		t.Error(err)
		return
	}
	stop := e.load(ctx)
	err := e.breakThings(ctx, plan)
	e.plans.close(ctx, e.seed)
	e.say("healed; waiting until all work has ended")
	took := e.drain(ctx)
	stop()
	if err != nil {
		t.Error(err)
		return
	}
	e.say("all work ended %s after the last fault", took.Round(time.Millisecond))
	e.check(ctx)
	e.report()
}

// verdict reports what was found, and keeps the history when that is something.
func (e *env) verdict(t *testing.T) {
	list, summary := e.found.all()
	for _, v := range list {
		e.journal.write("violation", v)
		t.Error(v)
	}
	if len(list) == 0 {
		return
	}
	to, err := e.keepHistory()
	if err != nil {
		t.Error(err)
	}
	t.Errorf("RED: seed %d, invariants%s; history in %s", e.seed, summary, to)
}

func prepare(t *testing.T, o options) *env {
	t.Helper()
	room := *flagRoom
	if room == "" {
		room = t.TempDir()
	}
	e := &env{options: o, room: room, found: &findings{}, counts: map[string]int{}}
	e.log = log.New(os.Stdout, "", log.Ltime|log.Lmicroseconds)
	var err error
	if e.journal, err = newJournal(room); err != nil {
		t.Fatal(err)
	}
	if e.res, err = newResource(); err != nil {
		t.Fatal(err)
	}
	var s *spaces
	if o.network != "proxies" {
		if s, err = newSpaces(); err != nil && o.network == "spaces" {
			t.Fatalf("no network namespaces: %v", err)
		} else if err != nil {
			e.say("SKIPPED: network namespaces (%v); proxies instead", err)
		}
	}
	if e.cluster, err = newCluster(t.Context(), room, o.binary, o.nodes, o.lease, s); err != nil {
		t.Fatal(err)
	}
	e.nodes, e.net = e.cluster.nodes, e.cluster.net
	var addrs, forAgents []string
	for _, n := range e.nodes {
		addrs = append(addrs, "http://"+n.viaHTTP)
		forAgents = append(forAgents, "http://"+n.forAgents)
	}
	for i := range 3 {
		first := i % len(forAgents)
		w, err := newWorker(e.cluster, i, 8, e.res.l.Addr().(*net.TCPAddr).Port, slices.Concat(forAgents[first:], forAgents[:first]))
		if err != nil {
			t.Fatal(err)
		}
		e.workers = append(e.workers, w)
	}
	pause := 60 * time.Millisecond
	if o.mode == "soak" {
		pause = 150 * time.Millisecond
	}
	e.jobs = newJobLoad(addrs, pause)
	e.regs = newRegisters(addrs, e.found)
	e.plans = &scheduleLoad{load: e.jobs, found: e.found}
	e.feed = &listener{load: e.jobs, found: e.found}
	e.watch = &watcher{cluster: e.cluster, found: e.found}
	return e
}

// begin starts everything and waits until it works.
func (e *env) begin(ctx context.Context) error {
	if err := e.startAll(); err != nil {
		return err
	}
	for _, n := range e.nodes {
		if err := e.cluster.ready(ctx, n, 60*time.Second); err != nil {
			return fmt.Errorf("%w; its log ends with: %s", err, lastLines(n.log, 5))
		}
	}
	_, err := e.probe(ctx, 10*time.Second)
	return err
}

// end stops what still runs.
func (e *env) end() {
	for _, n := range e.nodes {
		if n.process().alive() {
			e.kill(n)
		}
	}
	for _, w := range e.workers {
		w.process().kill()
	}
	e.net.close()
	e.res.close()
	for _, n := range e.nodes {
		if n.disk.own() {
			_ = n.disk.unmount()
		}
	}
}

// load begins to work with the cluster. What it returns ends that, and waits.
func (e *env) load(ctx context.Context) (stop func()) {
	ctx, cancel := context.WithCancel(ctx)
	watching, unwatch := context.WithCancel(context.WithoutCancel(ctx))
	var wg, seeing sync.WaitGroup
	for who := range uint64(4) {
		wg.Go(func() { e.jobs.submit(ctx, e.seed, who) })
	}
	wg.Go(func() { e.jobs.redrive(ctx, e.seed) })
	if e.mode != "failover" {
		for slot := range 3 {
			wg.Go(func() { e.regs.use(ctx, e.seed, slot, 25*time.Millisecond) })
		}
	}
	for i, t := range routines() {
		wg.Go(func() { e.plans.keep(ctx, e.seed, t, uint64(i)) })
	}
	seeing.Go(func() { e.feed.follow(watching, e.seed) })
	for _, n := range e.nodes {
		seeing.Go(func() { e.watch.follow(watching, n) })
	}
	e.quiesce = func() { cancel(); wg.Wait() }
	return func() {
		e.quiesce()
		unwatch()
		seeing.Wait()
	}
}

// breakThings carries out the schedule. Its error means that going on is useless.
func (e *env) breakThings(ctx context.Context, plan []planned) error {
	defer func() { e.quiesce() }()
	if e.mode == "failover" {
		return e.failover(ctx)
	}
	for i, p := range plan {
		if !pauseFor(ctx, p.calm) {
			return context.Cause(ctx)
		}
		e.say("%d/%d %s for %s", i+1, len(plan), p.fault.name, p.hold.Round(time.Millisecond))
		e.counts[p.fault.name]++
		if err := p.fault.run(ctx, e, rand.New(rand.NewPCG(p.seed, 2)), p.hold); err != nil {
			return fmt.Errorf("%s: %w", p.fault.name, err)
		}
		if err := e.recovered(ctx, p.fault.name); err != nil {
			return err
		}
	}
	return nil
}

// check looks at everything from outside, while the nodes run and after.
func (e *env) check(ctx context.Context) {
	e.say("checking")
	asked := e.jobs.copyOf()
	var first []*job.Job
	for i, n := range e.nodes {
		jobs, err := e.list(ctx, n, client.Filter{Types: []string{"work"}})
		if err != nil {
			e.found.violated(1, "%v", err)
			continue
		}
		checkJobs(n.name, asked, jobs, e.found)
		if i == 0 {
			first = jobs
		} else {
			checkSame(e.nodes[0].name, n.name, first, jobs, e.found)
		}
	}
	e.res.mu.Lock()
	checkResults(first, e.res.writes, e.found)
	e.res.mu.Unlock()

	e.feed.mu.Lock()
	seen := slices.Clone(e.feed.events)
	e.feed.mu.Unlock()
	for _, n := range e.nodes {
		feed, err := feedOf(ctx, n)
		if err != nil {
			e.found.violated(6, "%v", err)
			continue
		}
		checkFeeds(n.name, feed, seen, e.found)
		if len(feed) > 0 && len(seen) > 0 && feed[0].ID == seen[0].ID {
			seen = feed // the longest
		}
	}
	dispatches := checkFeed(seen, e.found)
	stamps, err := e.stamps()
	if err != nil {
		e.found.violated(3, "%v", err)
	}
	pauses := map[string][]interval{}
	for _, w := range e.workers {
		pauses[w.setup.ID] = w.pauses
	}
	executions, late := checkExecutions(stamps, dispatches, pauses, e.found)
	e.checkSchedules(ctx, seen)
	e.say("%d events, %d dispatches, %d executions, %d steps of paused agents after another had begun, %d stale writes refused by the resource",
		len(seen), len(dispatches), executions, late, e.res.stale)
	e.verify(ctx)
	e.regs.mu.Lock()
	checkLinear(e.regs.all, e.found, e.room)
	e.regs.mu.Unlock()
	e.figures(seen, stamps)
	e.stopAll(ctx)
	e.say("%d terms, %d databases installed", checkTerms(e.nodes, e.found), installs(e.nodes))
}

// stamps reads what the agents executed.
func (e *env) stamps() (out []stamp, err error) {
	for _, w := range e.workers {
		f, err := os.Open(w.setup.Record)
		if err != nil {
			return nil, err
		}
		defer f.Close()
		for lines := bufio.NewScanner(f); lines.Scan(); {
			var s stamp
			if err := json.Unmarshal(lines.Bytes(), &s); err != nil {
				continue // the last line of a process that was killed
			}
			out = append(out, s)
		}
	}
	return out, nil
}

// verify lets the nodes compare their rows.
func (e *env) verify(ctx context.Context) {
	c, err := client.New(client.Config{Token: token, Addr: e.nodes[0].http})
	if err != nil {
		e.found.violated(4, "%v", err)
		return
	}
	v, err := c.Verify(ctx)
	if ce, ok := errors.AsType[*client.Error](err); ok && ce.Status == http.StatusNotFound || ok && ce.Code == "node_alone" {
		e.say("NOT CHECKED: this program has no verify: %v", err)
		return
	}
	switch {
	case err != nil:
		e.found.violated(4, "verify: %v", err)
	case !v.Equal || len(v.Missing) > 0 || len(v.Hashes) != len(e.nodes):
		e.found.violated(4, "verify at %d: equal %t, missing %v, hashes %v", v.Index, v.Equal, v.Missing, v.Hashes)
	default:
		e.say("verify: %d nodes are equal at %d", len(v.Hashes), v.Index)
	}
}

// stopAll ends agents and nodes as an operator would, and looks at the databases.
func (e *env) stopAll(ctx context.Context) {
	for _, w := range e.workers {
		if err := w.process().stop(30 * time.Second); err != nil {
			e.found.violated(0, "%v", err)
		}
	}
	for _, n := range e.nodes {
		n.mayEnd()
		if err := n.process().stop(30 * time.Second); err != nil {
			e.found.violated(0, "%v; its log ends with: %s", err, lastLines(n.log, 3))
		}
	}
	for _, n := range e.nodes {
		if err := checkDatabase(ctx, n.data()); err != nil {
			e.found.violated(6, "%s: %v", n.name, err)
		}
	}
}

// checkDatabase looks into the database of a stopped node.
func checkDatabase(ctx context.Context, data string) error {
	files, err := filepath.Glob(filepath.Join(data, "db", "gen-*", "state.db"))
	if err != nil || len(files) == 0 {
		return fmt.Errorf("no database in %s", data)
	}
	current, err := os.ReadFile(filepath.Join(data, "db", "CURRENT"))
	if err != nil {
		return err
	}
	file := filepath.Join(data, "db", strings.TrimSpace(string(current)), "state.db")
	db, err := sql.Open("sqlite", "file:"+file+"?mode=ro")
	if err != nil {
		return err
	}
	defer db.Close()
	var verdict string
	if err := db.QueryRowContext(ctx, "PRAGMA integrity_check").Scan(&verdict); err != nil {
		return err
	}
	if verdict != "ok" {
		return fmt.Errorf("integrity_check of %s: %s", file, verdict)
	}
	return nil
}

// report prints the figures of the run.
func (e *env) report() {
	var names []string
	total := 0
	for name, k := range e.counts {
		names = append(names, fmt.Sprintf("%s %d", name, k))
		total += k
	}
	slices.Sort(names)
	e.jobs.mu.Lock()
	acked, unknown := len(e.jobs.acked), len(e.jobs.unknown)
	p50, p99 := quantiles(e.jobs.latency)
	e.jobs.mu.Unlock()
	e.say("%d faults: %s", total, strings.Join(names, ", "))
	e.say("%d jobs acknowledged (p50 %s, p99 %s), %d without an answer; %d operations on %d registers, %d of them open",
		acked, p50, p99, unknown, e.regs.ops.Load(), len(e.regs.all), e.regs.unsure.Load())
	if e.gaps > 0 {
		e.say("%d times one bit of a database was wrong, and only verify found it", e.gaps)
	}
	if len(e.recovery) > 0 {
		p50, p99 := quantiles(e.recovery)
		e.say("first commit after healing: p50 %s, p99 %s over %d", p50, p99, len(e.recovery))
	}
}

// quantiles are the median and the 99th percentile.
func quantiles(d []time.Duration) (p50, p99 time.Duration) {
	if len(d) == 0 {
		return 0, 0
	}
	s := slices.Sorted(slices.Values(d))
	return s[len(s)/2].Round(time.Millisecond), s[min(len(s)-1, len(s)*99/100)].Round(time.Millisecond)
}
