package bench

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/orrery-io/orrery/client"
)

// run is one measurement.
type run struct {
	cfg     Config
	api     *client.Client
	targets []target
	// queue is that of all its jobs.
	queue string
	begun time.Time

	counters *counters
	span     span
	window   *window
	// request, start and recorded are from a job being due until the answer to the
	// submission, the call of the handler, and the recorded result.
	request, start, recorded *latencies

	watch *watcher
	// dial and sleep are replaced by tests.
	dial  func(context.Context, target) (net.Conn, error)
	sleep func(time.Duration)
	// crew is the agents that are there; nil when nobody is.
	crew *crew
	// cpu is what this process used between the marks.
	cpuBegin, cpuEnd time.Duration
	idle             *Idle
	before           survey
	stage            atomic.Pointer[stage]
}

// stage is what is going on.
type stage struct {
	name  string
	since time.Duration
	of    time.Duration
	// done counts what the stage is about.
	done func() int64
}

// ErrMismatch means that the cluster does not have what it has acknowledged to the
// measurement, or has more: the figures are worth nothing then.
var ErrMismatch = errors.New("the cluster's counts are not those of the measurement")

// tidyTimeout bounds the check and the cleaning, also after Ctrl-C. What makes no
// progress ends earlier.
const tidyTimeout = 10 * time.Minute

// Run does one measurement. When ctx ends, the report is about the time until then.
// The check and the cleaning take place nevertheless, and Run returns why ctx ended.
// The report is nil when nothing was measured. An error beside it means that the
// figures must not be trusted.
func Run(ctx context.Context, cfg Config) (*Report, error) {
	r, err := newRun(cfg)
	if err != nil {
		return nil, err
	}
	if r.before, err = r.look(ctx); err != nil {
		return nil, err
	}
	if err := r.enoughFiles(); err != nil {
		return nil, err
	}
	life, end := context.WithCancel(context.WithoutCancel(ctx))
	var beside sync.WaitGroup
	defer beside.Wait()
	defer end()
	beside.Go(func() { r.tellProgress(life) })
	beside.Go(func() { r.watch.follow(life, r.sampleEvery(), r.now) })
	return r.measure(ctx)
}

func newRun(cfg Config) (*run, error) {
	cfg, err := cfg.withDefaults()
	if err != nil {
		return nil, err
	}
	r := &run{
		cfg: cfg, begun: time.Now(), queue: "bench-" + strings.ToLower(rand.Text()[:8]),
		dial: dial, sleep: sleepExactly,
		counters: newCounters(), window: newWindow(cfg.InFlight),
		request: newLatencies("request"), start: newLatencies("start"), recorded: newLatencies("recorded"),
	}
	if r.api, err = client.New(client.Config{Addrs: cfg.Addrs, Token: cfg.Token, UserAgent: "orrery-bench"}); err != nil {
		return nil, err
	}
	for _, addr := range r.api.Addrs() {
		t, err := newTarget(addr)
		if err != nil {
			return nil, err
		}
		r.targets = append(r.targets, t)
	}
	r.watch = newWatcher(r.targets, cfg.Token)
	return r, nil
}

// now is the clock of the measurement: monotonic, from its beginning.
func (r *run) now() time.Duration { return time.Since(r.begun) }

// sampleEvery keeps the samples of a long run to a number that can be drawn.
func (r *run) sampleEvery() time.Duration {
	return max(time.Second, r.cfg.Duration/300)
}

// measure does what the mode is about, and all that follows.
func (r *run) measure(ctx context.Context) (*Report, error) {
	var err error
	switch r.cfg.Mode {
	case Submit:
		err = r.submit(ctx)
	case Process:
		err = r.process(ctx)
	case EndToEnd, Latency:
		err = r.endToEnd(ctx)
	case IdleAgents:
		err = r.idleAgents(ctx)
	}
	measured := err == nil || r.span.length() > 0 && r.span.length() < forever || r.idle != nil
	rep := r.report()
	rep.Interrupted = ctx.Err() != nil
	tidy, cancel := context.WithTimeout(context.WithoutCancel(ctx), tidyTimeout)
	defer cancel()
	checked := r.check(tidy, rep, err == nil)
	after, surveyed := r.look(tidy)
	cleaned := r.clean(tidy)
	if surveyed == nil {
		rep.Notes = append(rep.Notes, r.before.compare(after, r.queue)...)
	}
	if ctx.Err() != nil {
		// That what was interrupted is incomplete is not worth telling.
		err = context.Cause(ctx)
	}
	if err = errors.Join(err, checked, cleaned); !measured {
		return nil, err
	}
	return rep, err
}

// submit measures submissions alone.
func (r *run) submit(ctx context.Context) error {
	r.begin("submitting", r.loadTime(), r.counters.acked.Load)
	return r.load(ctx)
}

// process measures how fast jobs are executed that wait already.
func (r *run) process(ctx context.Context) error {
	if err := r.api.PauseQueue(ctx, r.queue, "a benchmark fills it"); err != nil {
		return err
	}
	r.begin("filling the queue", 0, r.counters.acked.Load)
	err := r.load(ctx)
	r.span.set(0, 0) // what is measured has not begun
	if err != nil {
		return err
	}
	if err := r.hireAll(ctx); err != nil {
		return err
	}
	r.begin("executing", 0, r.done)
	r.counters.inRecorded.Store(0)
	begin := r.now()
	r.span.set(begin, begin+forever)
	r.mark(ctx, true)
	if err := r.api.ResumeQueue(ctx, r.queue); err != nil {
		return err
	}
	err = r.finish(ctx)
	r.endSpan(ctx, max(r.lastRecorded(), begin))
	return err
}

// endToEnd measures submitting and executing at the same time; with one job at a time
// it measures the latency.
func (r *run) endToEnd(ctx context.Context) error {
	if err := r.hireAll(ctx); err != nil {
		return err
	}
	r.begin("submitting and executing", r.loadTime(), r.done)
	if err := r.load(ctx); err != nil {
		return err
	}
	r.begin("executing the rest", 0, r.done)
	err := r.finish(ctx)
	if r.endsWithResults() {
		r.endSpan(ctx, r.lastRecorded())
	}
	return err
}

// lastRecorded is when the newest result was recorded.
func (r *run) lastRecorded() time.Duration { return time.Duration(r.counters.lastRecorded.Load()) }

// hireAll connects the agents of the measurement.
func (r *run) hireAll(ctx context.Context) (err error) {
	r.begin("connecting agents", 0, func() int64 { return 0 })
	r.crew, err = r.hire(ctx, crewConfig{agents: r.cfg.Agents, slots: r.cfg.Slots, queue: r.queue, name: r.queue, atOnce: 16})
	return err
}

// loadTime is how long load takes; zero when that is not known.
func (r *run) loadTime() time.Duration {
	if r.cfg.Jobs > 0 {
		return 0
	}
	return r.cfg.Warmup + r.cfg.Duration
}

// mark notes where the nodes and this process stand at an end of the measured time.
func (r *run) mark(ctx context.Context, begin bool) {
	samples := r.watch.look(context.WithoutCancel(ctx), r.now)
	for i, n := range r.watch.nodes {
		n.mark(samples[i], begin)
	}
	if begin {
		r.cpuBegin = cpuTime()
	} else {
		r.cpuEnd = cpuTime()
	}
}

// begin says what is going on.
func (r *run) begin(name string, of time.Duration, done func() int64) {
	r.stage.Store(&stage{name: name, since: r.now(), of: of, done: done})
}

// tellProgress calls Config.Progress until ctx ends.
func (r *run) tellProgress(ctx context.Context) {
	if r.cfg.Progress == nil {
		return
	}
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	var last *stage
	var done int64
	var at time.Duration
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		s := r.stage.Load()
		if s == nil {
			continue
		}
		if s != last {
			last, done, at = s, 0, s.since
		}
		now, n := r.now(), s.done()
		p := Progress{Stage: s.name, Elapsed: now - s.since, Of: s.of, Done: n}
		p.Rate = float64(n-done) / max(now-at, time.Millisecond).Seconds()
		done, at = n, now
		_, p.Errors = r.counters.troubles()
		main := r.request
		if r.cfg.executes() {
			main = r.start
			p.Waiting = r.counters.acked.Load() - r.done()
		}
		p.P99 = main.summary().P99
		r.cfg.Progress(p)
	}
}

// hostsNoted is the sentence about nodes that were not named.
func hostsNoted(named, servers int) string {
	return fmt.Sprintf("the cluster has %d servers, and %d of them were named: what the others use is not in the figures", servers, named)
}
