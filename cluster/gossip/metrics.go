package gossip

import "github.com/prometheus/client_golang/prometheus"

// metrics is everything that this package measures.
type metrics struct {
	refused   prometheus.Counter
	dropped   prometheus.Counter
	joins     *prometheus.CounterVec
	conflicts prometheus.Counter
	foreign   prometheus.Counter
}

func newMetrics(g *Gossip, reg prometheus.Registerer) *metrics {
	m := &metrics{
		refused: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "orrery_gossip_packets_refused_total",
			Help: "Packets that no cluster key of this node opens.",
		}),
		dropped: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "orrery_gossip_packets_dropped_total",
			Help: "Packets dropped because this node was too busy for them.",
		}),
		joins: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "orrery_gossip_joins_total",
			Help: "Tries to reach a node that was not known to live, by outcome.",
		}, []string{"outcome"}),
		conflicts: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "orrery_gossip_conflicts_total",
			Help: "Node ids that were seen in use by two processes at once.",
		}),
		foreign: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "orrery_gossip_foreign_total",
			Help: "Nodes of other clusters that were refused.",
		}),
	}
	m.joins.WithLabelValues(joinOK)
	m.joins.WithLabelValues(joinFailed)
	if reg != nil {
		reg.MustRegister(m.refused, m.dropped, m.joins, m.conflicts, m.foreign,
			prometheus.NewGaugeFunc(prometheus.GaugeOpts{
				Name: "orrery_gossip_peers_alive",
				Help: "Other nodes that answer.",
			}, func() float64 { return float64(g.alive()) }))
	}
	return m
}

// Outcomes of a try to join.
const (
	joinOK     = "ok"
	joinFailed = "failed"
)
