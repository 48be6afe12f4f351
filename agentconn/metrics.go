package agentconn

import (
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
)

type metrics struct {
	sessions        prometheus.Gauge
	connected       prometheus.Counter
	refused, closed *prometheus.CounterVec

	framesIn, framesOut     prometheus.Counter
	messagesIn, messagesOut prometheus.Counter
	bytesIn, bytesOut       prometheus.Counter

	dispatchDropped prometheus.Counter
	resultChanged   *prometheus.CounterVec
	logLines        prometheus.Counter
	logDropped      prometheus.Counter
	followerDropped prometheus.Counter
}

func newMetrics(reg prometheus.Registerer) *metrics {
	f := promauto.With(reg)
	counter := func(name, help string) prometheus.Counter {
		return f.NewCounter(prometheus.CounterOpts{Name: "orrery_agentconn_" + name, Help: help})
	}
	vec := func(name, help, label string) *prometheus.CounterVec {
		return f.NewCounterVec(prometheus.CounterOpts{Name: "orrery_agentconn_" + name, Help: help}, []string{label})
	}
	frames := vec("frames_total", "WebSocket messages from (in) and to (out) agents.", "direction")
	messages := vec("messages_total", "Protocol messages from (in) and to (out) agents.", "direction")
	bytes := vec("bytes_total", "Bytes of frames from (in) and to (out) agents.", "direction")
	return &metrics{
		sessions:  f.NewGauge(prometheus.GaugeOpts{Name: "orrery_agentconn_sessions", Help: "Open connections of agents, those before their hello included."}),
		connected: counter("connections_total", "Connections that were upgraded."),
		refused:   vec("refused_total", "Requests to connect that were not upgraded, by reason.", "reason"),
		closed:    vec("closed_total", "Connections that ended, by reason.", "reason"),

		framesIn: frames.WithLabelValues("in"), framesOut: frames.WithLabelValues("out"),
		messagesIn: messages.WithLabelValues("in"), messagesOut: messages.WithLabelValues("out"),
		bytesIn: bytes.WithLabelValues("in"), bytesOut: bytes.WithLabelValues("out"),

		dispatchDropped: counter("dispatches_dropped_total", "Dispatches that did not fit into an agent's queue."),
		resultChanged:   vec("results_changed_total", "Results that were turned into a failure because they broke a rule, by rule.", "reason"),
		logLines:        counter("log_lines_total", "Lines of logs from agents."),
		logDropped:      counter("log_lines_dropped_total", "Lines that were not recorded because an attempt logged too fast."),
		followerDropped: counter("follower_lines_dropped_total", "Lines that a follower missed because it read too slowly."),
	}
}
