package fsm

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// metrics are all that this package measures.
type metrics struct {
	entries   prometheus.Counter
	skipped   prometheus.Counter
	commands  prometheus.Counter
	waits     prometheus.Counter
	flushes   prometheus.Histogram
	flushRows prometheus.Counter

	all []prometheus.Collector
}

func newMetrics(m *Machine, r prometheus.Registerer) *metrics {
	counter := func(name, help string) prometheus.Counter {
		return prometheus.NewCounter(prometheus.CounterOpts{Name: name, Help: help})
	}
	gauge := func(name, help string, f func() float64) prometheus.Collector {
		return prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: name, Help: help}, f)
	}
	sum := func(name, help string, f func() float64) prometheus.Collector {
		return prometheus.NewCounterFunc(prometheus.CounterOpts{Name: name, Help: help}, f)
	}
	x := &metrics{
		entries:  counter("orrery_fsm_applied_entries_total", "Log entries applied."),
		skipped:  counter("orrery_fsm_skipped_entries_total", "Log entries that came again and were passed over."),
		commands: counter("orrery_fsm_applied_commands_total", "Commands applied."),
		waits:    counter("orrery_fsm_apply_waits_total", "Times that apply waited for the flusher, because too much was dirty."),
		flushes: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name:    "orrery_fsm_flush_duration_seconds",
			Help:    "How long it took to write what had changed to SQLite.",
			Buckets: prometheus.ExponentialBuckets(0.0005, 2, 14),
		}),
		flushRows: counter("orrery_fsm_flushed_rows_total", "Rows written to SQLite."),
	}
	x.all = []prometheus.Collector{
		x.entries, x.skipped, x.commands, x.waits, x.flushes, x.flushRows,
		gauge("orrery_fsm_applied_index", "Log index of the newest entry applied.", func() float64 { return float64(m.applied.Load()) }),
		gauge("orrery_fsm_flushed_index", "Log index up to which SQLite has everything.", func() float64 { return float64(m.flushed.Load()) }),
		gauge("orrery_fsm_feed_bytes", "Size of the stored event feed.", func() float64 { return float64(m.feedSize.Load()) }),
		gauge("orrery_fsm_database_bytes", "Size of the database with its write-ahead log.", func() float64 { return float64(m.Stats().DatabaseBytes) }),
		gauge("orrery_fsm_wal_bytes", "Size of the write-ahead log of the database alone.", func() float64 { return float64(m.walBytes()) }),
		sum("orrery_fsm_job_cache_hits_total", "Jobs read from memory.", func() float64 { hits, _ := m.cacheCounts(); return float64(hits) }),
		sum("orrery_fsm_job_cache_misses_total", "Jobs read from SQLite.", func() float64 { _, misses := m.cacheCounts(); return float64(misses) }),
	}
	if r != nil {
		r.MustRegister(x.all...)
	}
	return x
}

func (x *metrics) flushed(rows int, took time.Duration) {
	x.flushes.Observe(took.Seconds())
	x.flushRows.Add(float64(rows))
}

func (x *metrics) unregister(r prometheus.Registerer) {
	if r == nil {
		return
	}
	for _, c := range x.all {
		r.Unregister(c)
	}
}
