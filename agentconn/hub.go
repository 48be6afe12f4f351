package agentconn

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"github.com/coder/websocket"
	"github.com/orrery-io/orrery/job"
	"github.com/orrery-io/orrery/wire"
	"github.com/prometheus/client_golang/prometheus"
)

// Config is what a Hub needs. Zero durations and sizes mean the defaults.
type Config struct {
	// Node is this node's id.
	Node string
	// Cluster returns the cluster's id, for the agents' information; nil means none.
	Cluster func() string
	// ToLeader passes envelopes on to the leader. It is called by many goroutines,
	// but for one session by one at a time, and must not block. What it is given is
	// not changed afterwards.
	ToLeader func([]wire.Envelope)
	// Nodes returns the addresses of all nodes that agents may connect to, in an order
	// that stays; nil means none are told. NodesChanged has it asked again.
	Nodes      func() []string
	Log        *slog.Logger
	Registerer prometheus.Registerer

	// MaxFrame bounds a frame from an agent, in bytes; wire.MaxFrame by default.
	MaxFrame int
	// MaxSessions bounds the connections of this node; 20,000 by default.
	MaxSessions int
	// HelloTimeout is how long a new connection may be silent; 10 s by default.
	HelloTimeout time.Duration
	// WriteTimeout is how long one frame may take to be accepted by the agent's
	// side; 30 s by default.
	WriteTimeout time.Duration
	// CloseTimeout bounds an orderly close; 2 s by default.
	CloseTimeout time.Duration
	// Silence is how many heartbeats may be missed in a row before the connection
	// is taken for dead; 3 by default.
	Silence int
	// QueueBytes bounds the dispatches that wait to be written to one agent; 64 MiB
	// by default. Further ones are dropped, and the leader takes them back when it
	// sees no acknowledgement.
	QueueBytes int
	// QueueMessages bounds the messages that wait, beyond two for each slot; 16,384
	// by default. An agent that has more waiting is disconnected as slow.
	QueueMessages int
}

func (c Config) withDefaults() Config {
	if c.Cluster == nil {
		c.Cluster = func() string { return "" }
	}
	if c.Nodes == nil {
		c.Nodes = func() []string { return nil }
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	c.MaxFrame = cmp.Or(c.MaxFrame, wire.MaxFrame)
	c.MaxSessions = cmp.Or(c.MaxSessions, 20_000)
	c.HelloTimeout = cmp.Or(c.HelloTimeout, 10*time.Second)
	c.WriteTimeout = cmp.Or(c.WriteTimeout, 30*time.Second)
	c.CloseTimeout = cmp.Or(c.CloseTimeout, 2*time.Second)
	c.Silence = cmp.Or(c.Silence, 3)
	c.QueueBytes = cmp.Or(c.QueueBytes, 64<<20)
	c.QueueMessages = cmp.Or(c.QueueMessages, 16<<10)
	return c
}

// Hub holds the agents' sockets of one node. Its methods may be called by any
// goroutine. It takes connections while Run runs.
type Hub struct {
	cfg       Config
	log       *slog.Logger
	metrics   *metrics
	followers followers
	buffers   sync.Pool // *[]byte, shared by all sessions so that an idle one has none

	sessions sync.WaitGroup // their goroutines

	begun chan struct{} // closed when Run has begun

	mu      sync.RWMutex
	ran     bool
	running bool
	// draining means that agents are sent elsewhere; told is what NodesChanged has told
	// them.
	draining bool
	told     []string
	all      map[*session]struct{} // also those before their hello
	byID     map[string]*session
}

// New returns a Hub that does nothing yet.
func New(cfg Config) *Hub {
	cfg = cfg.withDefaults()
	m := newMetrics(cfg.Registerer)
	h := &Hub{
		cfg:     cfg,
		log:     cfg.Log,
		metrics: m,
		buffers: sync.Pool{New: func() any { return new([]byte) }},
		all:     make(map[*session]struct{}),
		byID:    make(map[string]*session),
		begun:   make(chan struct{}),
	}
	h.followers.dropped = m.followerDropped
	return h
}

// Run takes connections until ctx ends, then tells every agent to connect
// elsewhere, waits for all sessions to end, and returns nil. It may be called
// once.
func (h *Hub) Run(ctx context.Context) error {
	h.mu.Lock()
	if h.ran {
		h.mu.Unlock()
		return errors.New("agentconn: Run was called twice")
	}
	h.ran, h.running = true, true
	h.mu.Unlock()
	close(h.begun)

	<-ctx.Done()

	h.mu.Lock()
	h.running = false
	h.mu.Unlock()
	h.sendAway("shutdown", "the node is shutting down")
	h.sessions.Wait()
	h.followers.closeAll()
	return nil
}

// Deliver passes envelopes of the leader on to the agents. It does not block.
// Envelopes for sessions that are no more are dropped: their Down is on its way.
func (h *Hub) Deliver(envs []wire.Envelope) {
	for i := range envs {
		env := &envs[i]
		h.mu.RLock()
		s := h.byID[env.Session]
		h.mu.RUnlock()
		if s == nil {
			continue
		}
		if len(env.Messages) > 0 {
			s.deliver(env.Messages)
		}
		if env.Down != nil {
			s.end(ending{
				code: cmp.Or(env.Down.Code, "closed_by_leader"), reason: env.Down.Message,
				status: websocket.StatusPolicyViolation, last: wire.Message{Error: env.Down},
			})
		}
	}
}

// LeaderChanged opens every session again at the leader, with the attempts that
// its agent has now.
func (h *Hub) LeaderChanged() {
	for _, s := range h.list() {
		s.announce()
	}
}

// FollowLog returns what the job's attempts log and report from now on, as far as
// they run on agents of this node. The caller closes the Follower.
func (h *Hub) FollowLog(id job.ID) *Follower { return h.followers.add(id) }

// Followers returns how many there are.
func (h *Hub) Followers() int { return int(h.followers.count.Load()) }

func (h *Hub) list() []*session {
	h.mu.RLock()
	defer h.mu.RUnlock()
	l := make([]*session, 0, len(h.all))
	for s := range h.all {
		l = append(l, s)
	}
	return l
}

// start takes a new connection in and runs its goroutines; false means that the
// hub is not taking any.
func (h *Hub) start(ctx context.Context, s *session) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if !h.running || h.draining {
		return false
	}
	h.all[s] = struct{}{}
	h.metrics.sessions.Set(float64(len(h.all)))
	h.sessions.Go(func() { s.read(ctx) })
	h.sessions.Go(func() { s.write(ctx) })
	return true
}

// register makes s reachable for the leader.
func (h *Hub) register(s *session) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.byID[s.id] = s
}

func (h *Hub) forget(s *session) {
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.all, s)
	delete(h.byID, s.id)
	h.metrics.sessions.Set(float64(len(h.all)))
}

// room reports whether another connection can be taken, and otherwise why not.
func (h *Hub) room() (code, reason string) {
	h.mu.RLock()
	defer h.mu.RUnlock()
	switch {
	case !h.running:
		return "shutting_down", "this node does not take agents at the moment; use another node, or try again in a few seconds"
	case h.draining:
		return "draining", "this node is being drained and takes no agents; use " + h.otherNode()
	case len(h.all) >= h.cfg.MaxSessions:
		return "too_many_agents", "this node has as many agents as it takes; use another node"
	default:
		return "", ""
	}
}

// otherNode names a node for agents that cannot be taken here. While a node drains,
// Config.Nodes leaves it out.
func (h *Hub) otherNode() string {
	if nodes := h.cfg.Nodes(); len(nodes) > 0 {
		return "another node, such as " + nodes[0]
	}
	return "another node"
}

func (h *Hub) buffer() *[]byte { return h.buffers.Get().(*[]byte) }

// release gives a buffer back. Very large ones are left to the collector.
func (h *Hub) release(b *[]byte) {
	if cap(*b) <= 256<<10 {
		*b = (*b)[:0]
		h.buffers.Put(b)
	}
}
