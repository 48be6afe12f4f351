package agentconn

import (
	"slices"

	"github.com/coder/websocket"
	"github.com/orrery-io/orrery/wire"
)

// Drain, with on, tells every agent to carry on at another node, with what it
// executes, and refuses those that come; without, it takes agents again. It does not
// wait for them to leave.
func (h *Hub) Drain(on bool) {
	h.mu.Lock()
	h.draining = on
	h.mu.Unlock()
	if on {
		h.sendAway("drain", "the node is being drained")
	}
}

// sendAway ends all sessions in good order; the agents go elsewhere.
func (h *Hub) sendAway(code, reason string) {
	for _, s := range h.list() {
		s.end(ending{
			code: code, reason: reason, status: websocket.StatusGoingAway,
			last:   wire.Message{Bye: &wire.Bye{Reason: reason, Reconnect: true}},
			linger: true,
		})
	}
}

// NodesChanged tells all agents the addresses of Config.Nodes, if they are others than
// when it was called last.
func (h *Hub) NodesChanged() {
	nodes := h.cfg.Nodes()
	h.mu.Lock()
	same := slices.Equal(h.told, nodes)
	h.told = nodes
	h.mu.Unlock()
	if same {
		return
	}
	for _, s := range h.list() {
		s.deliver([]wire.Message{{Nodes: &wire.Nodes{Nodes: nodes}}})
	}
}
