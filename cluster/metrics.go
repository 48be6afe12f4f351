package cluster

import (
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"
)

// metrics is everything that this package measures.
type metrics struct {
	proposals *prometheus.CounterVec
	items     prometheus.Histogram
	bytes     prometheus.Histogram
	commit    prometheus.Histogram
	write     prometheus.Histogram
	terms     prometheus.Counter
	markers   prometheus.Counter
	copies    prometheus.Counter
	installs  prometheus.Counter
	restores  prometheus.Counter
	// of Verify
	verifications prometheus.Counter
	unequal       prometheus.Gauge
	forwards      prometheus.Counter
	// of admission
	throttled  prometheus.Gauge
	turned     prometheus.Counter
	turnedAway atomic.Int64 // since new jobs were last taken

	ok, unknown prometheus.Counter
	refused     prometheus.Counter
}

// turnAway counts refused commands.
func (m *metrics) turnAway(n int) {
	m.turned.Add(float64(n))
	m.turnedAway.Add(int64(n))
}

func newMetrics(n *Node, reg prometheus.Registerer) *metrics {
	m := &metrics{
		proposals: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "orrery_cluster_proposals_total",
			Help: "Commands proposed, by what became of them.",
		}, []string{"outcome"}),
		items: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name:    "orrery_cluster_entry_items",
			Help:    "Commands in one log entry.",
			Buckets: prometheus.ExponentialBuckets(1, 2, 11),
		}),
		bytes: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name:    "orrery_cluster_entry_bytes",
			Help:    "Size of one log entry.",
			Buckets: prometheus.ExponentialBuckets(256, 4, 8),
		}),
		commit: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name:    "orrery_cluster_commit_seconds",
			Help:    "Time from proposing an entry to having applied it.",
			Buckets: prometheus.ExponentialBuckets(0.0002, 2, 16),
		}),
		write: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name:    "orrery_cluster_log_write_seconds",
			Help:    "Time for writing entries to the log, with fsync.",
			Buckets: prometheus.ExponentialBuckets(0.0001, 2, 16),
		}),
		terms: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "orrery_cluster_terms_total",
			Help: "Terms of leadership that this node began.",
		}),
		markers: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "orrery_cluster_markers_total",
			Help: "Local snapshots: markers set in the database.",
		}),
		copies: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "orrery_cluster_snapshot_copies_total",
			Help: "Copies of the database made for other nodes.",
		}),
		installs: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "orrery_cluster_snapshot_installs_total",
			Help: "Databases received from another node and installed.",
		}),
		verifications: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "orrery_cluster_verifications_total",
			Help: "Comparisons of the rows of all nodes that were asked of this one.",
		}),
		unequal: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "orrery_cluster_unequal_nodes",
			Help: "Nodes whose rows differed from those of most others at the last comparison.",
		}),
		restores: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "orrery_cluster_restores_total",
			Help: "Backups that this node has restored as the leader.",
		}),
		throttled: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "orrery_cluster_throttled",
			Help: "1 while this node leads and refuses new jobs until all nodes have caught up.",
		}),
		turned: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "orrery_cluster_refused_submissions_total",
			Help: "Commands that make new jobs, refused because a node could not follow.",
		}),
		forwards: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "orrery_cluster_forwards_total",
			Help: "Requests with the calls of this node's clients, sent to the leader.",
		}),
	}
	m.ok = m.proposals.WithLabelValues("ok")
	m.unknown = m.proposals.WithLabelValues("unknown")
	m.refused = m.proposals.WithLabelValues("refused")
	if reg != nil {
		reg.MustRegister(m.proposals, m.items, m.bytes, m.commit, m.write, m.terms, m.markers, m.copies, m.installs, m.restores, m.verifications, m.unequal, m.forwards, m.throttled, m.turned,
			prometheus.NewGaugeFunc(prometheus.GaugeOpts{
				Name: "orrery_cluster_queued_items",
				Help: "Commands that wait for the proposer.",
			}, func() float64 { return float64(n.proposer.queued()) }),
			prometheus.NewGaugeFunc(prometheus.GaugeOpts{
				Name: "orrery_cluster_log_file_bytes",
				Help: "Size of the file with the log. It never shrinks: what is cut is used again.",
			}, func() float64 { return float64(logFileBytes(n.cfg.Dir)) }),
			prometheus.NewGaugeFunc(prometheus.GaugeOpts{
				Name: "orrery_cluster_is_leader",
				Help: "1 while this node leads.",
			}, func() float64 {
				if n.IsLeader() {
					return 1
				}
				return 0
			}),
			prometheus.NewGaugeFunc(prometheus.GaugeOpts{
				Name: "orrery_cluster_applied_index",
				Help: "Index of the newest applied entry.",
			}, func() float64 {
				applied, _ := n.cfg.Machine.Applied()
				return float64(applied)
			}))
	}
	return m
}
