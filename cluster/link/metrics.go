package link

import (
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
)

type metrics struct {
	connsIn, connsOut       prometheus.Gauge
	framesIn, framesOut     prometheus.Counter
	messagesIn, messagesOut prometheus.Counter
	bytesIn, bytesOut       prometheus.Counter

	dials   *prometheus.CounterVec
	ended   *prometheus.CounterVec
	calls   *prometheus.CounterVec
	dropped prometheus.Counter
	refused *prometheus.CounterVec
	panics  prometheus.Counter
}

func newMetrics(reg prometheus.Registerer, m *Mesh) *metrics {
	f := promauto.With(reg)
	gauge := func(name, help string, of func(*conn) int) {
		f.NewGaugeFunc(prometheus.GaugeOpts{Name: "orrery_link_" + name, Help: help}, func() float64 { return float64(m.sum(of)) })
	}
	gauge("serving", "Requests and streams of other nodes that are under way.", func(c *conn) int { return len(c.serving) })
	gauge("queue_bytes", "Bytes that wait to be written to other nodes.", func(c *conn) int { return c.size })
	vec := func(name, help string, labels ...string) *prometheus.CounterVec {
		return f.NewCounterVec(prometheus.CounterOpts{Name: "orrery_link_" + name, Help: help}, labels)
	}
	counter := func(name, help string) prometheus.Counter {
		return f.NewCounter(prometheus.CounterOpts{Name: "orrery_link_" + name, Help: help})
	}
	conns := f.NewGaugeVec(prometheus.GaugeOpts{Name: "orrery_link_connections", Help: "Open connections that other nodes (in) and this node (out) made."}, []string{"direction"})
	frames := vec("frames_total", "Frames from (in) and to (out) other nodes.", "direction")
	messages := vec("messages_total", "Messages in the frames from (in) and to (out) other nodes.", "direction")
	bytes := vec("bytes_total", "Bytes of the frames from (in) and to (out) other nodes.", "direction")
	return &metrics{
		connsIn: conns.WithLabelValues("in"), connsOut: conns.WithLabelValues("out"),
		framesIn: frames.WithLabelValues("in"), framesOut: frames.WithLabelValues("out"),
		messagesIn: messages.WithLabelValues("in"), messagesOut: messages.WithLabelValues("out"),
		bytesIn: bytes.WithLabelValues("in"), bytesOut: bytes.WithLabelValues("out"),

		dials:   vec("dials_total", "Attempts to connect to another node, by result.", "result"),
		ended:   vec("ended_total", "Connections that ended, by reason.", "reason"),
		calls:   vec("calls_total", "Requests to other nodes, by outcome: answered, refused by the other node, unreachable, unknown.", "method", "outcome"),
		dropped: counter("sends_dropped_total", "One-way messages that were not queued: no connection, or no room."),
		refused: vec("refused_total", "Connections and requests of other nodes that were refused, by reason.", "reason"),
		panics:  counter("panics_total", "Panics of handlers."),
	}
}
