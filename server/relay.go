package server

import (
	"context"
	"encoding/binary"
	"log/slog"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/orrery-io/orrery/agentconn"
	"github.com/orrery-io/orrery/internal/obs"
	"github.com/orrery-io/orrery/job"
	"github.com/orrery-io/orrery/scheduler"
	"github.com/orrery-io/orrery/wire"
)

// What the nodes say to each other about agents.
const (
	methodUp       = "agents.up"       // to the leader: envelopes
	methodDown     = "agents.down"     // from the leader: its term and envelopes
	methodAnnounce = "agents.announce" // from the leader: its term; tell what sessions there are
	methodFollow   = "agents.follow"   // a stream of what a job logs
	methodLoad     = "agents.load"     // to the leader: how busy all agents are
)

// relayLimits are for what comes from other nodes, which have checked what agents
// sent them.
func relayLimits() wire.Limits {
	return wire.Limits{Bytes: 8 << 20, Messages: 100_000, Values: 4 << 20}
}

// retryEvery is how often it is tried again to catch up with what was dropped, while
// nothing says that it would succeed.
const retryEvery = 200 * time.Millisecond

// relayHub is what the relay needs of this node's sockets; *agentconn.Hub has it.
type relayHub interface {
	http.Handler
	Deliver(envelopes []wire.Envelope)
	LeaderChanged()
	FollowLog(id job.ID) *agentconn.Follower
}

// relayScheduler is what it needs of the leader; *scheduler.Scheduler has it.
type relayScheduler interface {
	Deliver(envelopes []wire.Envelope)
	AgentLoad(id string) (scheduler.AgentLoad, bool)
	AgentLoads() (map[string]scheduler.AgentLoad, bool)
}

// relay carries what agents and the leader say to each other, whichever node the
// agent is connected to. On the leader's own node it hands envelopes over as they
// are; to and from other nodes they go over the links.
//
// A link may lose what is on its way. The relay repairs that in one way only, because
// it is needed anyway when the leader changes: the node tells the leader again what
// sessions it has and what their agents hold. That happens when a term begins, when a
// link between the node and the leader, in either direction, has come up again, and
// when something had to be dropped.
type relay struct {
	node  string
	mesh  relayMesh
	nodes func() []string
	log   *slog.Logger

	// hub and sched are set before anything is relayed.
	hub   relayHub
	sched relayScheduler

	leads atomic.Pointer[leads]
	loads loads

	// wake has the work of Run looked at, hurry at once.
	wake, hurry chan struct{}

	mu    sync.Mutex
	heard string // who leads, by what others say
	term  uint64 // the newest that was heard of
	lead  bool   // this node leads
	// behind means that something for the leader was dropped; missed are the nodes for
	// which something was.
	behind bool
	missed map[string]bool
}

// leads is who leads, as far as this node knows.
type leads struct {
	leader string // "" is unknown
	term   uint64
	here   bool // this node leads
}

// relayMesh are the links to the other nodes; *link.Mesh has them.
type relayMesh interface {
	Handle(method string, h func(ctx context.Context, from string, body []byte) ([]byte, error))
	HandleSend(method string, h func(from string, body []byte))
	HandleStream(method string, h func(ctx context.Context, from string, body []byte, send func([]byte) error) error)
	OnUp(func(node string))
	Connected(node string) bool
	Send(node, method string, body []byte) bool
	caller
	streamer
}

// newRelay makes the relay of a node. nodes returns the ids of the other nodes; mesh is
// nil on a node alone. The relay registers its handlers with the mesh, and must be tied
// to hub and scheduler before the mesh runs.
func newRelay(node string, mesh relayMesh, nodes func() []string, log *slog.Logger) *relay {
	r := &relay{
		node: node, mesh: mesh, nodes: nodes, log: log,
		wake: make(chan struct{}, 1), hurry: make(chan struct{}, 1), missed: make(map[string]bool),
	}
	r.leads.Store(new(leads))
	if nodes == nil {
		r.nodes = func() []string { return nil }
	}
	if mesh != nil {
		mesh.HandleSend(methodUp, r.fromNode)
		mesh.HandleSend(methodDown, r.fromLeader)
		mesh.HandleSend(methodAnnounce, r.announceWanted)
		mesh.HandleStream(methodFollow, r.serveFollow)
		mesh.Handle(methodLoad, r.serveLoad)
		mesh.OnUp(r.linkUp)
	}
	return r
}

// tie sets the ends of the relay.
func (r *relay) tie(hub relayHub, sched relayScheduler) { r.hub, r.sched = hub, sched }

// ToLeader is agentconn.Config.ToLeader.
func (r *relay) ToLeader(envs []wire.Envelope) {
	switch l := r.leads.Load(); {
	case l.leader == r.node:
		r.sched.Deliver(envs)
	case l.leader == "" || !r.transmit(l.leader, methodUp, 0, envs):
		r.fellBehind()
	}
}

// Deliver is scheduler.Config.Send.
func (r *relay) Deliver(envs []wire.Envelope) {
	elsewhere := func(e wire.Envelope) bool { return e.Node != r.node }
	if !slices.ContainsFunc(envs, elsewhere) {
		r.hub.Deliver(envs)
		return
	}
	byNode := make(map[string][]wire.Envelope)
	for _, e := range envs {
		byNode[e.Node] = append(byNode[e.Node], e)
	}
	term := r.leads.Load().term
	for node, envs := range byNode {
		switch {
		case node == r.node:
			r.hub.Deliver(envs)
		case r.mesh == nil || !r.transmit(node, methodDown, term, envs):
			r.miss(node)
		}
	}
}

// transmit sends envelopes to a node, in pieces of a good size. false means that not
// all of them are on their way.
func (r *relay) transmit(node, method string, term uint64, envs []wire.Envelope) bool {
	if r.mesh == nil {
		return false
	}
	all := true
	for piece := range pieces(envs) {
		body := make([]byte, 0, wire.SoftFrame/8)
		if method == methodDown {
			body = binary.AppendUvarint(body, term)
		}
		body, err := wire.AppendEnvelopes(body, piece)
		if err != nil {
			r.log.Error("message to a node left out", obs.Node(node), obs.Err(err))
			continue
		}
		all = r.mesh.Send(node, method, body) && all
	}
	return all
}

// pieces cuts envelopes so that none is much larger than a frame should be, in order.
func pieces(envs []wire.Envelope) func(yield func([]wire.Envelope) bool) {
	return func(yield func([]wire.Envelope) bool) {
		var piece []wire.Envelope
		size := 0
		for _, e := range envs {
			for first := true; first || len(e.Messages) > 0; first = false {
				part := e
				n := wire.Batch(e.Messages)
				part.Messages, e.Messages = e.Messages[:n:n], e.Messages[n:]
				if !first {
					part.Up, part.Again = nil, false
				}
				if len(e.Messages) > 0 {
					part.Down = nil // it comes after the messages
				}
				if s := part.Msgsize(); size > 0 && size+s > wire.SoftFrame {
					if !yield(piece) {
						return
					}
					piece, size = nil, 0
				}
				piece = append(piece, part)
				size += part.Msgsize()
			}
		}
		if len(piece) > 0 {
			yield(piece)
		}
	}
}

// fromNode takes envelopes of another node's agents.
func (r *relay) fromNode(from string, body []byte) {
	if l := r.leads.Load(); l.leader != r.node && l.leader != "" {
		return // the other node will learn who leads, and announce its sessions there
	}
	envs, err := wire.DecodeEnvelopes(body, relayLimits())
	if err != nil {
		r.log.Error("message of a node not understood", obs.Node(from), obs.Err(err))
		return
	}
	for i := range envs {
		envs[i].Node = from
	}
	r.sched.Deliver(envs)
}

// fromLeader takes envelopes for this node's agents.
func (r *relay) fromLeader(from string, body []byte) {
	term, n := binary.Uvarint(body)
	if n <= 0 || term < r.leads.Load().term {
		return // of one that leads no more
	}
	envs, err := wire.DecodeEnvelopes(body[n:], relayLimits())
	if err != nil {
		r.log.Error("message of the leader not understood", obs.Node(from), obs.Err(err))
		return
	}
	r.hub.Deliver(envs)
}

// announceWanted tells the leader of all sessions, as it has asked.
func (r *relay) announceWanted(from string, body []byte) {
	term, n := binary.Uvarint(body)
	r.mu.Lock()
	if n <= 0 || term < r.term || r.lead {
		r.mu.Unlock()
		return
	}
	r.heard, r.term, r.behind = from, term, true
	r.update()
	r.mu.Unlock()
	kick(r.hurry)
}

// update makes what was learnt known; r.mu is held.
func (r *relay) update() {
	l := &leads{leader: r.heard, term: r.term, here: r.lead}
	if r.lead {
		l.leader = r.node
	}
	r.leads.Store(l)
}

// LeaderChanged is told by consensus who leads, "" for nobody.
func (r *relay) LeaderChanged(id string) {
	r.mu.Lock()
	r.heard = id
	r.behind = r.behind || id != "" && id != r.node
	r.update()
	r.mu.Unlock()
	kick(r.hurry)
}

// Lead begins a term in which this node leads, and has all nodes announce their
// sessions. Whoever calls it calls end when the term is over.
func (r *relay) Lead(term uint64) (end func()) {
	r.mu.Lock()
	r.lead, r.term, r.behind = true, max(term, r.term), false
	r.update()
	r.mu.Unlock()
	r.hub.LeaderChanged()
	for _, node := range r.nodes() {
		if node != r.node {
			r.askToAnnounce(node)
		}
	}
	return func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.lead = false
		clear(r.missed)
		r.behind = r.behind || r.heard != "" && r.heard != r.node
		r.update()
		kick(r.wake)
	}
}

// askToAnnounce has a node announce its sessions.
func (r *relay) askToAnnounce(node string) {
	l := r.leads.Load()
	if l.here && !r.mesh.Send(node, methodAnnounce, binary.AppendUvarint(nil, l.term)) {
		r.miss(node)
	}
}

// linkUp is told that there is a new connection to a node. What was on its way when
// the one before broke is lost.
func (r *relay) linkUp(node string) {
	r.mu.Lock()
	switch {
	case r.lead:
		r.missed[node] = true
	case node == r.heard:
		r.behind = true
	}
	r.mu.Unlock()
	kick(r.hurry)
}

// fellBehind notes that the leader does not know all.
func (r *relay) fellBehind() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.behind {
		r.behind = true
		kick(r.wake)
	}
}

// miss notes that a node has not got all.
func (r *relay) miss(node string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.lead && !r.missed[node] {
		r.missed[node] = true
		kick(r.wake)
	}
}

// Run repairs what was dropped, until ctx ends.
func (r *relay) Run(ctx context.Context) error {
	retry := time.NewTimer(0)
	defer retry.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-r.wake:
			retry.Reset(retryEvery)
			continue
		case <-r.hurry:
		case <-retry.C:
		}
		if r.repair() {
			retry.Reset(retryEvery)
		}
	}
}

// repair makes one attempt. It reports whether another one will be needed.
func (r *relay) repair() bool {
	r.mu.Lock()
	l := *r.leads.Load()
	announce := r.behind && l.leader != "" && (l.leader == r.node || r.mesh != nil && r.mesh.Connected(l.leader))
	if announce {
		r.behind = false
	}
	var nodes []string
	for node := range r.missed {
		if !l.here || r.mesh.Connected(node) {
			nodes = append(nodes, node)
			delete(r.missed, node)
		}
	}
	r.mu.Unlock()
	if announce {
		r.hub.LeaderChanged()
	}
	if l.here {
		for _, node := range nodes {
			r.askToAnnounce(node)
		}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.behind && l.leader != "" || len(r.missed) > 0
}

// kick puts a token into c, if there is none.
func kick(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// ServeHTTP implements httpapi.Hub: agents connect to this node.
func (r *relay) ServeHTTP(w http.ResponseWriter, req *http.Request) { r.hub.ServeHTTP(w, req) }
