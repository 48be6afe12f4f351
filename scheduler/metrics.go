package scheduler

import (
	"time"

	"github.com/orrery-io/orrery/command"
	"github.com/orrery-io/orrery/job"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
)

// metrics are all of this package. On a node that does not lead the gauges are 0
// and the queues are missing.
type metrics struct {
	dispatches        prometheus.Counter
	refusedDispatches prometheus.Counter
	latency           prometheus.Histogram
	outcomes          [job.OutcomeCancelled + 1]prometheus.Counter
	retries           prometheus.Counter
	poison            prometheus.Counter
	refusedResults    prometheus.Counter
	droppedLogLines   prometheus.Counter
	refills           prometheus.Counter
	deleted           prometheus.Counter
	ticks             [job.TickPaused + 1]prometheus.Counter
	refusedTicks      prometheus.Counter
	tickLag           prometheus.Histogram
}

func newMetrics(s *Scheduler, reg prometheus.Registerer) *metrics {
	f := promauto.With(reg)
	counter := func(name, help string) prometheus.Counter {
		return f.NewCounter(prometheus.CounterOpts{Name: "orrery_scheduler_" + name, Help: help})
	}
	gauge := func(name, help string, value func(*term) int) {
		f.NewGaugeFunc(prometheus.GaugeOpts{Name: "orrery_scheduler_" + name, Help: help}, func() float64 {
			t := s.leading()
			if t == nil {
				return 0
			}
			t.mu.Lock()
			defer t.mu.Unlock()
			return float64(value(t))
		})
	}
	m := &metrics{
		dispatches:        counter("dispatches_total", "Attempts given to an agent."),
		refusedDispatches: counter("refused_dispatches_total", "Decisions that the state machine refused because the job was no longer waiting."),
		latency: f.NewHistogram(prometheus.HistogramOpts{
			Name: "orrery_scheduler_dispatch_latency_seconds", Help: "From a job being ready to its dispatch.",
			Buckets: []float64{.001, .002, .005, .01, .02, .05, .1, .2, .5, 1, 2, 5, 10, 30, 60, 300, 1800},
		}),
		retries:         counter("retries_total", "Attempts that failed or timed out with another to come."),
		poison:          counter("poison_total", "Jobs that failed because their attempts were lost."),
		refusedResults:  counter("refused_results_total", "Results that came too late to count."),
		droppedLogLines: counter("dropped_log_lines_total", "Log lines not recorded because too many waited for it."),
		refills:         counter("window_refills_total", "Reads of waiting jobs from the database."),
		deleted:         counter("deleted_jobs_total", "Ended jobs removed at the end of their retention."),
		refusedTicks:    counter("refused_ticks_total", "Decisions about ticks that the state machine refused because the schedule or its jobs had changed; they were decided anew."),
		tickLag: f.NewHistogram(prometheus.HistogramOpts{
			Name: "orrery_scheduler_tick_lag_seconds", Help: "From the moment when a tick is to fire, jitter included, to its job being recorded; those caught up are left out.",
			Buckets: []float64{.001, .002, .005, .01, .02, .03, .05, .075, .1, .2, .5, 1, 2, 5, 10, 30, 60},
		}),
	}
	ticks := f.NewCounterVec(prometheus.CounterOpts{Name: "orrery_scheduler_ticks_total", Help: "Ticks of schedules, by what became of them; one that waited counts as queued."}, []string{"action"})
	for a := job.TickFired; a <= job.TickPaused; a++ {
		m.ticks[a] = ticks.WithLabelValues(a.String())
	}
	outcomes := f.NewCounterVec(prometheus.CounterOpts{Name: "orrery_scheduler_attempts_total", Help: "Attempts that have ended, by outcome."}, []string{"outcome"})
	for o := job.OutcomeCompleted; o <= job.OutcomeCancelled; o++ {
		m.outcomes[o] = outcomes.WithLabelValues(o.String())
	}
	gauge("leading_terms", "1 on the node that takes the decisions.", func(*term) int { return 1 })
	gauge("agents_connected", "Agents with a session.", func(t *term) int {
		n := 0
		for _, a := range t.agents {
			if a.connected {
				n++
			}
		}
		return n
	})
	gauge("active_attempts", "Jobs that agents have.", func(t *term) int { return len(t.attempts) })
	gauge("schedules", "Schedules, paused ones included.", func(t *term) int { return t.plans.count() })
	gauge("window_jobs", "Waiting jobs in memory.", func(t *term) int {
		n := 0
		for _, g := range t.groups {
			n += g.win.len()
		}
		return n
	})
	if reg != nil {
		reg.MustRegister(queueDepth{s})
	}
	return m
}

// dispatched counts a dispatch.
func (m *metrics) dispatched(row *job.Job) {
	m.dispatches.Inc()
	m.latency.Observe((time.Duration(max(0, row.StartedAt.Sub(row.ReadyAt))) * time.Millisecond).Seconds())
}

// outcome counts the end of an attempt.
func (m *metrics) outcome(fin *command.Finish) {
	m.outcomes[fin.Outcome].Inc()
	switch fin.Outcome {
	case job.OutcomeFailed, job.OutcomeTimedOut:
		if fin.Next.Waiting() {
			m.retries.Inc()
		}
	case job.OutcomeLost:
		if fin.Next == job.Failed {
			m.poison.Inc()
		}
	default:
	}
}

// queueDepth collects how many jobs each queue has that have not ended.
type queueDepth struct{ s *Scheduler }

var _ prometheus.Collector = queueDepth{}

func (queueDepth) desc() *prometheus.Desc {
	return prometheus.NewDesc("orrery_scheduler_queue_jobs", "Jobs that have not ended, by queue and state.", []string{"queue", "state"}, nil)
}

// Describe implements prometheus.Collector.
func (q queueDepth) Describe(c chan<- *prometheus.Desc) { c <- q.desc() }

// Collect implements prometheus.Collector.
func (q queueDepth) Collect(c chan<- prometheus.Metric) {
	if q.s.leading() == nil {
		return
	}
	for _, info := range q.s.machine.Queues() {
		for s := job.Scheduled; s <= job.Running; s++ {
			c <- prometheus.MustNewConstMetric(q.desc(), prometheus.GaugeValue, float64(info.Counts[s]), info.Name, s.String())
		}
	}
}
