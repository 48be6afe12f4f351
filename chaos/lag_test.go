//go:build linux

package chaos

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"math"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/orrery-io/orrery/client"
	"github.com/orrery-io/orrery/job"
)

// idleType is the type of jobs that take no time.
const idleType = "idle"

// lagMetric is the histogram that the leader keeps.
const lagMetric = "orrery_scheduler_tick_lag_seconds"

// runCalm measures where nothing is broken.
func runCalm(t *testing.T, o options) {
	e := prepare(t, o)
	e.cluster.calm = true
	e.workers = e.workers[:min(len(e.workers), o.workers)]
	e.say("mode %s, %d nodes, %d agents, network of %s, folder %s", o.mode, o.nodes, len(e.workers), e.net.kind(), e.room)
	defer e.verdict(t)
	defer e.end()
	if err := e.begin(t.Context()); err != nil {
		t.Error(err)
		return
	}
	e.lag(t.Context())
}

// lag measures, in a cluster in which nothing is broken, how late ticks become jobs:
// first with all schedules spread over the minute, then with all in one second of it.
func (e *env) lag(ctx context.Context) {
	minutes := max(1, int(e.duration/time.Minute))
	for _, round := range []struct{ name, expression string }{
		{"spread over the minute", "H * * * * *"},
		{"all in the same second", "0 * * * * *"},
	} {
		start := time.Now()
		if err := e.putSchedules(ctx, round.expression); err != nil {
			e.found.violated(8, "%v", err)
			return
		}
		e.say("%d schedules, %s (%s): put in %s", e.schedules, round.name, round.expression, time.Since(start).Round(time.Millisecond))
		if err := e.measureLag(ctx, minutes); err != nil {
			e.found.violated(8, "%s: %v", round.name, err)
			return
		}
	}
}

// putSchedules makes the schedules, or gives them other times, over many connections.
func (e *env) putSchedules(ctx context.Context, expression string) error {
	const connections = 32
	names := make(chan string)
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var wg sync.WaitGroup
	for i := range connections {
		wg.Go(func() {
			c, err := client.New(client.Config{Token: token, Addr: e.nodes[i%len(e.nodes)].http})
			if err != nil {
				cancel(err)
				return
			}
			for name := range names {
				_, err := c.PutSchedule(ctx, name, client.ScheduleDefinition{
					Expressions: []string{expression}, Template: client.Submission{Type: idleType},
				}, client.Condition{})
				if err != nil {
					cancel(fmt.Errorf("put %s: %w", name, err))
				}
			}
		})
	}
	for i := range e.schedules {
		select {
		case names <- fmt.Sprintf("s-%05d", i):
		case <-ctx.Done():
		}
	}
	close(names)
	wg.Wait()
	return context.Cause(ctx)
}

// lateTick is one tick as a listener saw it.
type lateTick struct {
	schedule string
	planned  job.Time
	recorded time.Duration // its time in the log, after the planned one
	heard    time.Duration // until a listener at a follower knew
}

// measureLag watches some minutes, from a second in which nothing fires yet.
func (e *env) measureLag(ctx context.Context, minutes int) error {
	l, err := e.leader(ctx)
	if err != nil {
		return err
	}
	i := slices.Index(e.nodes, l)
	follower := e.nodes[(i+1)%len(e.nodes)]
	// From the last half second of a minute to that of a later one: no tick of a
	// whole second lies near the ends.
	from := time.Now().Add(2 * time.Second).Truncate(time.Minute).Add(time.Minute - 500*time.Millisecond)
	to := from.Add(time.Duration(minutes) * time.Minute)
	hearing, hush := context.WithDeadline(ctx, to.Add(20*time.Second))
	defer hush()
	var ticks []lateTick
	var wg sync.WaitGroup
	want := e.schedules * minutes
	wg.Go(func() { ticks = hear(hearing, follower, job.At(from), job.At(to), want) })
	pauseFor(ctx, time.Until(from))
	before, err := e.histogram(ctx, l)
	if err == nil {
		pauseFor(ctx, time.Until(to))
		wg.Wait()
	}
	hush()
	wg.Wait()
	if err != nil {
		return err
	}
	after, err := e.histogram(ctx, l)
	if err != nil {
		return err
	}
	if now, err := e.leader(ctx); err != nil || now != l {
		return fmt.Errorf("the leader changed from %s while nothing was broken", l.name)
	}
	e.sayLag(ticks, after.minus(before), want)
	return nil
}

// sayLag prints the figures. Only what is wrong whatever the machine is counts as a
// violation.
func (e *env) sayLag(ticks []lateTick, h histogram, want int) {
	type key struct {
		schedule string
		planned  job.Time
	}
	once := map[key]bool{}
	var recorded, heard []time.Duration
	for _, t := range ticks {
		if k := (key{t.schedule, t.planned}); once[k] {
			e.found.violated(8, "the tick %s of %s was heard of twice", t.planned, t.schedule)
		} else {
			once[k] = true
		}
		recorded, heard = append(recorded, t.recorded), append(heard, t.heard)
	}
	if len(once) != want {
		e.found.violated(8, "%d ticks made jobs, and %d were planned", len(once), want)
	}
	e.say("  %d ticks; planned → created_at: %s", len(ticks), spread(recorded))
	e.say("  planned → heard of at a follower: %s", spread(heard))
	e.say("  %s: p50 %s, p99 %s, p99.9 %s, %d ticks, %.2f%% within 50 ms", lagMetric, h.quantile(.5), h.quantile(.99), h.quantile(.999), h.total(), 100*h.within(.05))
}

func spread(d []time.Duration) string {
	if len(d) == 0 {
		return "none"
	}
	slices.Sort(d)
	at := func(q float64) time.Duration {
		return d[min(len(d)-1, int(q*float64(len(d))))].Round(time.Millisecond)
	}
	return fmt.Sprintf("p50 %s, p99 %s, p99.9 %s, max %s", at(.5), at(.99), at(.999), d[len(d)-1].Round(time.Millisecond))
}

// hear listens at a node until it has heard of so many ticks that are planned in a
// time, or ctx ends.
func hear(ctx context.Context, n *node, from, to job.Time, want int) (ticks []lateTick) {
	c, err := client.New(client.Config{Token: token, Addr: n.http})
	if err != nil {
		return nil
	}
	for ev, err := range c.Events(ctx, client.EventOptions{Types: []job.EventType{job.ScheduleFired}}) {
		now := time.Now()
		var planned job.Time
		if err != nil || planned.UnmarshalText([]byte(ev.Detail)) != nil {
			return ticks
		}
		if planned < from || planned >= to {
			continue
		}
		ticks = append(ticks, lateTick{ev.Schedule, planned, ev.Time.Sub(planned).Duration(), now.Sub(planned.Time())})
		if len(ticks) >= want {
			return ticks
		}
	}
	return ticks
}

// histogram is one of Prometheus: how many observations were at most each bound, in
// seconds, ascending; the last bound is infinite.
type histogram struct {
	bounds []float64
	counts []float64
}

// histogram reads the lag from a node.
func (e *env) histogram(ctx context.Context, n *node) (h histogram, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+n.http+"/metrics", nil)
	if err != nil {
		return h, err
	}
	req.Header.Set("Authorization", "Bearer "+token)
	resp, err := e.cluster.clusters.Do(req)
	if err != nil {
		return h, err
	}
	defer resp.Body.Close()
	return readHistogram(resp.Body, lagMetric)
}

func readHistogram(r io.Reader, name string) (h histogram, err error) {
	for lines := bufio.NewScanner(r); lines.Scan(); {
		rest, ok := strings.CutPrefix(lines.Text(), name+`_bucket{le="`)
		if !ok {
			continue
		}
		bound, count, ok := strings.Cut(rest, `"} `)
		le, err1 := strconv.ParseFloat(bound, 64)
		n, err2 := strconv.ParseFloat(count, 64)
		if !ok || err1 != nil || err2 != nil {
			return h, fmt.Errorf("a line of %s can't be read: %s", name, lines.Text())
		}
		h.bounds, h.counts = append(h.bounds, le), append(h.counts, n)
	}
	if len(h.bounds) == 0 {
		return h, fmt.Errorf("there is no metric %s", name)
	}
	return h, nil
}

func (h histogram) minus(before histogram) histogram {
	out := histogram{bounds: h.bounds, counts: slices.Clone(h.counts)}
	for i := range before.counts {
		out.counts[i] -= before.counts[i]
	}
	return out
}

func (h histogram) total() int { return int(h.counts[len(h.counts)-1]) }

// within is the share of what was at most so many seconds, which must be a bound.
func (h histogram) within(seconds float64) float64 {
	i := slices.Index(h.bounds, seconds)
	if i < 0 || h.total() == 0 {
		return math.NaN()
	}
	return h.counts[i] / float64(h.total())
}

// quantile estimates as Prometheus does: evenly within a bucket.
func (h histogram) quantile(q float64) time.Duration {
	rank, low, below := q*float64(h.total()), 0.0, 0.0
	for i, n := range h.counts {
		if n >= rank && n > below {
			if math.IsInf(h.bounds[i], 1) {
				break
			}
			return time.Duration((low + (h.bounds[i]-low)*(rank-below)/(n-below)) * 1e9).Round(100 * time.Microsecond)
		}
		low, below = h.bounds[i], n
	}
	return time.Duration(low * 1e9)
}
