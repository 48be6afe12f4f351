package httpapi

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"runtime/debug"
	"sync"
	"time"

	"github.com/orrery-io/orrery/agentconn"
	"github.com/orrery-io/orrery/cluster"
	"github.com/orrery-io/orrery/command"
	"github.com/orrery-io/orrery/fsm"
	"github.com/orrery-io/orrery/internal/obs"
	"github.com/orrery-io/orrery/job"
	"github.com/orrery-io/orrery/scheduler"
	"github.com/prometheus/client_golang/prometheus"
)

// Node is what the API needs of consensus; *cluster.Node implements it.
type Node interface {
	// Propose records commands, one result each.
	Propose(ctx context.Context, items ...command.Item) ([]command.Result, error)
	// ReadIndex returns a log index that is applied here and holds everything that
	// was acknowledged anywhere before the call.
	ReadIndex(ctx context.Context) (uint64, error)
	Status() cluster.Status
}

// Scheduler tells how busy agents are; *scheduler.Scheduler implements it.
type Scheduler interface {
	AgentLoad(id string) (scheduler.AgentLoad, bool)
}

// Hub holds the agents' sockets; *agentconn.Hub implements it.
type Hub interface {
	http.Handler
	FollowLog(id job.ID) *agentconn.Follower
}

// Config is what an API is made of. Machine, Node, Scheduler and Hub are needed.
type Config struct {
	Machine   *fsm.Machine
	Node      Node
	Scheduler Scheduler
	Hub       Hub
	// Cluster are the nodes together; nil refuses all that is asked of them.
	Cluster Cluster
	// Draining tells whether this node gives its agents away; nil means never.
	Draining func() bool
	// Waiting says what this node waits for while it belongs to no cluster, "" for
	// nothing in particular; nil never says.
	Waiting func() string
	// Scratch is a folder for bodies that are too large for memory, on the disk of the
	// data folder; "" means the system's. What is found in it at a start can be removed.
	Scratch string
	// Token must come with every request but those for health and documentation.
	// Without one the node answers to loopback names only.
	Token string
	// Hosts are names besides those of loopback that a node without a token
	// answers to.
	Hosts []string
	// Version is that of the program.
	Version string
	// Gatherer is what /metrics shows; nil shows nothing.
	Gatherer prometheus.Gatherer
	// Registerer gets the API's own metrics; nil means none.
	Registerer prometheus.Registerer
	// Log gets what goes wrong inside, and at level debug every request; nil means
	// nowhere.
	Log *slog.Logger
}

// API answers HTTP. It is an http.Handler; New starts nothing, and Close ends what
// requests have opened. Safe for concurrent use.
type API struct {
	machine   *fsm.Machine
	node      Node
	scheduler Scheduler
	hub       Hub
	cluster   Cluster
	draining  func() bool
	waiting   func() string
	scratch   string
	version   string
	gatherer  prometheus.Gatherer
	log       *slog.Logger
	guard     *guard
	metrics   *metrics
	buffers   buffers
	watchers  *watchers
	// mux has all routes, routes is what it was made from.
	mux    *http.ServeMux
	routes []route
	// document is the OpenAPI document, made when somebody asks for it.
	document func() ([]byte, error)
	// restoring is held while a restore is taken: there is room for one.
	restoring sync.Mutex

	mu sync.Mutex
	// streams are the cancel functions of what open has returned.
	streams  map[int64]context.CancelCauseFunc
	lastOpen int64
	closed   bool
}

// New makes an API.
func New(cfg Config) *API {
	a := &API{
		machine:   cfg.Machine,
		node:      cfg.Node,
		scheduler: cfg.Scheduler,
		hub:       cfg.Hub,
		cluster:   cfg.Cluster,
		draining:  cfg.Draining,
		waiting:   cfg.Waiting,
		scratch:   cfg.Scratch,
		version:   cfg.Version,
		gatherer:  cfg.Gatherer,
		log:       cfg.Log,
		guard:     newGuard(cfg.Token, cfg.Hosts),
		mux:       http.NewServeMux(),
		streams:   map[int64]context.CancelCauseFunc{},
	}
	if a.log == nil {
		a.log = slog.New(slog.DiscardHandler)
	}
	if a.draining == nil {
		a.draining = func() bool { return false }
	}
	if a.waiting == nil {
		a.waiting = func() string { return "" }
	}
	if a.gatherer == nil {
		a.gatherer = prometheus.NewRegistry()
	}
	a.metrics = newMetrics(cfg.Registerer, func() float64 {
		a.mu.Lock()
		defer a.mu.Unlock()
		return float64(len(a.streams))
	})
	a.watchers = &watchers{
		subscribe: func() subscription { return a.machine.Subscribe(a.machine.LastEvent()) },
		log:       a.log,
	}
	a.routes = a.allRoutes()
	a.document = sync.OnceValues(func() ([]byte, error) { return openAPI(a.version, a.routes) })
	a.register(a.mux, a.routes)
	a.mux.HandleFunc("/", func(rw http.ResponseWriter, r *http.Request) {
		w, ok := rw.(*response)
		if !ok {
			w = &response{ResponseWriter: rw}
		}
		a.refuse(w, r, a.unrouted(r))
	})
	return a
}

// allRoutes is the table of everything that the API answers.
func (a *API) allRoutes() []route {
	var all []route
	for _, some := range [][]route{
		a.submitRoutes(), a.jobRoutes(), a.historyRoutes(), a.queueRoutes(), a.scheduleRoutes(), a.deadLetterRoutes(),
		a.agentRoutes(), a.eventRoutes(), a.clusterRoutes(), a.nodeRoutes(),
	} {
		all = append(all, some...)
	}
	return all
}

// ServeHTTP implements http.Handler.
func (a *API) ServeHTTP(rw http.ResponseWriter, r *http.Request) {
	began := time.Now()
	w := &response{ResponseWriter: rw}
	a.metrics.inFlight.Inc()
	defer a.metrics.inFlight.Dec()
	defer func() {
		if v := recover(); v != nil {
			a.recovered(w, r, v)
		}
		took := time.Since(began)
		a.metrics.done(r.Pattern, w, took)
		if ctx := r.Context(); a.log.Enabled(ctx, slog.LevelDebug) {
			a.log.DebugContext(ctx, "request answered", method(r.Method), urlPath(r.URL.Path), status(w.status), obs.Took(took))
		}
	}()
	w.Header().Set("X-Content-Type-Options", "nosniff")
	a.mux.ServeHTTP(w, r)
}

// recovered answers after a panic. http.ErrAbortHandler goes on to the server,
// which knows it.
func (a *API) recovered(w *response, r *http.Request, v any) {
	if v == http.ErrAbortHandler { //nolint:errorlint // it is a value that was panicked with, never wrapped
		panic(v)
	}
	a.refuse(w, r, fmt.Errorf("panic: %v\n%s", v, debug.Stack()))
	if w.stream || w.status != http.StatusInternalServerError {
		// Part of an answer is out; cutting the connection says that it is not all.
		panic(http.ErrAbortHandler)
	}
}

// Close ends all streams, and lets requests that wait for something answer with
// what there is. It does not end the answering of other requests. It may be called
// more than once.
func (a *API) Close() {
	a.mu.Lock()
	a.closed = true
	for _, cancel := range a.streams {
		cancel(job.ErrClosed)
	}
	a.mu.Unlock()
	a.watchers.close()
}

// isClosed reports whether Close was called.
func (a *API) isClosed() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.closed
}

// The attributes of log records that only the API has.
func method(m string) slog.Attr      { return slog.String("method", m) }
func urlPath(p string) slog.Attr     { return slog.String("url_path", p) }
func status(s int) slog.Attr         { return slog.Int("status", s) }
func reference(ref string) slog.Attr { return slog.String("reference", ref) }
