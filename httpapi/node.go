package httpapi

import (
	"cmp"
	"context"
	_ "embed"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/orrery-io/orrery/cluster"
	"github.com/orrery-io/orrery/job"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

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
			doc:     "It can when it knows a leader that a majority follows, is abreast of it within two seconds, and is not being drained. For load balancers; a node that is not ready still answers what it can.",
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

// readyTime bounds how long this node may need to catch up with the leader when it
// is asked whether it is ready.
const readyTime = 2 * time.Second

// ready says whether requests should be sent here: whether this node knows a leader
// that a majority follows, and is abreast of it.
func (a *API) ready(w *response, r *http.Request, _ *query) error {
	if a.isClosed() {
		return job.ErrClosed
	}
	st := a.node.Status()
	switch {
	case st.Installing != nil:
		return job.Errorf(job.Unavailable, "receiving_database", "this node is receiving a copy of the database: %s", progressText(st.Installing)).
			WithHint("use another node meanwhile")
	case st.Leader == "" && st.Refetching:
		return job.Errorf(job.Unavailable, "database_lost", "this node has lost its database, and waits for the leader to send it a copy").
			WithHint("start the other nodes; when all have lost theirs, start them with empty data folders, and restore a backup")
	case st.Leader == "" && st.ClusterID == "":
		return job.Errorf(job.Unavailable, "no_cluster", "this node belongs to no cluster yet: %s", cmp.Or(a.waiting(), "it waits for the other nodes")).
			WithHint("start the other nodes; its log says more")
	case st.Leader == "":
		return job.ErrNotLeader
	case a.draining():
		return job.Errorf(job.Unavailable, "draining", "this node is being drained").WithHint("use another node; `orrery cluster drain %s --off` ends the draining", st.ID)
	}
	ctx, cancel := context.WithTimeout(r.Context(), readyTime)
	defer cancel()
	if _, err := a.node.ReadIndex(ctx); err != nil {
		if errors.Is(err, context.DeadlineExceeded) && r.Context().Err() == nil {
			return job.Errorf(job.Unavailable, "behind", "this node could not catch up with the leader within %s; it has applied %d", readyTime, st.Applied).
				WithHint("use another node meanwhile")
		}
		return err
	}
	return a.reply(w, http.StatusOK, &Health{Status: "ready", Version: a.version})
}

// progressText is how far a copy of the database has come, for people.
func progressText(in *cluster.Installing) string {
	if in.Size <= 0 {
		return byteText(in.Bytes)
	}
	return fmt.Sprintf("%s of %s (%d %%)", byteText(in.Bytes), byteText(in.Size), 100*in.Bytes/in.Size)
}
