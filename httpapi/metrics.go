package httpapi

import (
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// metrics are what the API counts. route is the pattern of the mux, never the
// path, so their number is bounded.
type metrics struct {
	requests  *prometheus.CounterVec
	durations *prometheus.HistogramVec
	inFlight  prometheus.Gauge
	streams   prometheus.GaugeFunc
}

func newMetrics(reg prometheus.Registerer, streams func() float64) *metrics {
	m := &metrics{
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "orrery_httpapi_requests_total",
			Help: "Requests answered, by route and status.",
		}, []string{"route", "status"}),
		durations: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name:    "orrery_httpapi_request_duration_seconds",
			Help:    "How long requests took, without streams.",
			Buckets: []float64{.0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 10},
		}, []string{"route"}),
		inFlight: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "orrery_httpapi_requests_in_flight",
			Help: "Requests being answered, streams included.",
		}),
		streams: prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "orrery_httpapi_streams_open",
			Help: "Streams and waiting requests that are open.",
		}, streams),
	}
	if reg != nil {
		reg.MustRegister(m.requests, m.durations, m.inFlight, m.streams)
	}
	return m
}

// done counts an answered request.
func (m *metrics) done(route string, w *response, took time.Duration) {
	if route == "" || route == "/" {
		route = "none"
	}
	m.requests.WithLabelValues(route, statusText(w.status)).Inc()
	if !w.stream {
		m.durations.WithLabelValues(route).Observe(took.Seconds())
	}
}

func statusText(status int) string {
	switch status {
	case 0, 200:
		return "200"
	case 201:
		return "201"
	}
	return strconv.Itoa(status)
}
