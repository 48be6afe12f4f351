package port

import "github.com/prometheus/client_golang/prometheus"

// Reasons why a connection was refused, as they are counted.
const (
	reasonNoTLS       = "no_tls"         // something else than TLS, or broken TLS
	reasonKey         = "wrong_key"      // a certificate by another key
	reasonCertificate = "no_certificate" // none
	reasonProtocol    = "protocol"       // one that is not spoken here
	reasonHello       = "hello"          // malformed, or not by the one of the certificate
	reasonForeign     = refusedForeign
	reasonTimeout     = "timeout"
	reasonClosed      = "closed"  // by the other side, before it was done
	reasonCrowded     = "crowded" // pushed out by newer ones
	reasonBusy        = refusedBusy
	reasonStopping    = refusedStopping
)

var reasons = []string{
	reasonNoTLS, reasonKey, reasonCertificate, reasonProtocol, reasonHello,
	reasonForeign, reasonTimeout, reasonClosed, reasonCrowded, reasonBusy, reasonStopping,
}

// metrics is everything that this package measures.
type metrics struct {
	accepted *prometheus.CounterVec
	refused  *prometheus.CounterVec
	dials    *prometheus.CounterVec
	dropped  prometheus.Counter
}

func newMetrics(p *Port, reg prometheus.Registerer) *metrics {
	m := &metrics{
		accepted: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "orrery_port_accepted_total",
			Help: "Connections of other nodes that were accepted, by protocol.",
		}, []string{"protocol"}),
		refused: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "orrery_port_refused_total",
			Help: "Connections to the cluster port that were refused, by reason.",
		}, []string{"reason"}),
		dials: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "orrery_port_dials_total",
			Help: "Connections to other nodes, by what became of them.",
		}, []string{"outcome"}),
		dropped: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "orrery_port_dropped_total",
			Help: "Connections that were closed because the key they were made with was dropped.",
		}),
	}
	for _, r := range reasons {
		m.refused.WithLabelValues(r)
	}
	if reg != nil {
		reg.MustRegister(m.accepted, m.refused, m.dials, m.dropped,
			prometheus.NewGaugeFunc(prometheus.GaugeOpts{
				Name: "orrery_port_open_connections",
				Help: "Connections between this node and others, in both directions.",
			}, func() float64 { return float64(p.open()) }),
			prometheus.NewGaugeFunc(prometheus.GaugeOpts{
				Name: "orrery_port_handshakes",
				Help: "Connections to the cluster port whose handshake isn't done.",
			}, func() float64 { return float64(p.gate.count()) }))
	}
	return m
}
