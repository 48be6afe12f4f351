package httpapi

import (
	_ "embed"
	"net/http"
	"time"

	"github.com/orrery-io/orrery/cluster"
	"github.com/orrery-io/orrery/job"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// ClusterInfo is how the cluster looks from this node.
type ClusterInfo struct {
	ClusterID string `json:"cluster_id" doc:"Stays the same for the life of the cluster; empty until it has begun."`
	Version   string `json:"version" doc:"Of the program on this node."`
	Node      string `json:"node" doc:"The id of this node."`
	Leader    string `json:"leader" doc:"The id of the node that decides; empty while there is none."`
	State     string `json:"state" doc:"starting, follower, candidate, leader or stopped."`
	Term      uint64 `json:"term" doc:"Counts leaderships."`
	Commit    uint64 `json:"commit" doc:"Up to where the log is known to be decided."`
	Applied   uint64 `json:"applied" doc:"Up to where this node has applied it."`
	Synced    uint64 `json:"synced" doc:"Up to where it is in this node's database, on disk."`
	Snapshot  uint64 `json:"snapshot" doc:"The index of the newest snapshot marker."`
	LogFirst  uint64 `json:"log_first" doc:"The oldest entry of the log that is kept."`
	LogLast   uint64 `json:"log_last" doc:"The newest entry of the log."`
	// LastContact is zero on the leader.
	LastContact time.Time        `json:"last_contact,omitzero" doc:"When the leader was last heard of."`
	Servers     []cluster.Server `json:"servers" doc:"The members of the cluster."`
}

func clusterInfo(version string, st cluster.Status) *ClusterInfo {
	return &ClusterInfo{
		ClusterID: st.ClusterID, Version: version, Node: st.ID, Leader: st.Leader, State: st.State, Term: st.Term,
		Commit: st.Commit, Applied: st.Applied, Synced: st.Synced, Snapshot: st.Snapshot,
		LogFirst: st.LogFirst, LogLast: st.LogLast, LastContact: st.LastContact,
		Servers: append([]cluster.Server{}, st.Servers...),
	}
}

// Health is the answer of /healthz and /readyz.
type Health struct {
	Status  string `json:"status" example:"ok"`
	Version string `json:"version,omitempty"`
}

// docsPage shows the OpenAPI document without anything from elsewhere.
//
//go:embed docs.html
var docsPage []byte

func (a *API) nodeRoutes() []route {
	metrics := promhttp.HandlerFor(a.gatherer, promhttp.HandlerOpts{})
	return []route{
		{
			method: http.MethodGet, path: "/v1/cluster", id: "getCluster", tag: "node",
			summary: "Get how the cluster looks from this node",
			answers: []answer{{status: http.StatusOK, doc: "This node and the servers of the cluster.", body: typeOf[ClusterInfo]()}},
			curl:    `$ORRERY/v1/cluster`,
			handle: func(w *response, r *http.Request, _ *query) error {
				if _, err := accept(r, typeJSON); err != nil {
					return err
				}
				return a.reply(w, http.StatusOK, clusterInfo(a.version, a.node.Status()))
			},
		},
		{
			method: http.MethodGet, path: "/healthz", id: "health", tag: "node", open: true,
			summary: "Ask whether the process lives",
			answers: []answer{{status: http.StatusOK, doc: "It does.", body: typeOf[Health]()}},
			curl:    `$ORRERY/healthz`,
			handle: func(w *response, _ *http.Request, _ *query) error {
				return a.reply(w, http.StatusOK, &Health{Status: "ok", Version: a.version})
			},
		},
		{
			method: http.MethodGet, path: "/readyz", id: "readiness", tag: "node", open: true,
			summary: "Ask whether the node can do its work",
			answers: []answer{{status: http.StatusOK, doc: "It can.", body: typeOf[Health]()}}, refusals: []int{http.StatusServiceUnavailable},
			curl:   `$ORRERY/readyz`,
			handle: a.ready,
		},
		{
			method: http.MethodGet, path: "/metrics", id: "metrics", tag: "node",
			summary: "Get metrics for Prometheus",
			answers: []answer{{status: http.StatusOK, doc: "All metrics of the node.", media: map[string]string{typeText: "The text format of Prometheus."}}},
			curl:    `$ORRERY/metrics`,
			handle: func(w *response, r *http.Request, _ *query) error {
				metrics.ServeHTTP(w, r)
				return nil
			},
		},
		{
			method: http.MethodGet, path: "/openapi.json", id: "openapi", tag: "node", open: true,
			summary: "Get this document",
			answers: []answer{{status: http.StatusOK, doc: "OpenAPI 3.1.", body: typeOf[map[string]any]()}},
			curl:    `$ORRERY/openapi.json`,
			handle: func(w *response, _ *http.Request, _ *query) error {
				b, err := a.document()
				if err != nil {
					return err
				}
				w.Header().Set("Content-Type", typeJSON)
				_, _ = w.Write(b)
				return nil
			},
		},
		{
			method: http.MethodGet, path: "/docs", id: "docs", tag: "node", open: true,
			summary: "Read this document in a browser",
			answers: []answer{{status: http.StatusOK, doc: "A page that needs no network.", media: map[string]string{"text/html": "The page."}}},
			handle: func(w *response, _ *http.Request, _ *query) error {
				h := w.Header()
				h.Set("Content-Type", "text/html; charset=utf-8")
				h.Set("Content-Security-Policy", "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'")
				_, _ = w.Write(docsPage)
				return nil
			},
		},
	}
}

func (a *API) ready(w *response, _ *http.Request, _ *query) error {
	if a.isClosed() {
		return job.ErrClosed
	}
	if a.node.Status().Leader == "" {
		return job.ErrNotLeader
	}
	return a.reply(w, http.StatusOK, &Health{Status: "ready", Version: a.version})
}
