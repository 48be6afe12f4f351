package cluster

import (
	"context"
	"encoding/json"
)

// ask has the leader answer a request: this node itself when it leads, else the one
// that does. While there is none, or it can't be reached, it tries again for up to
// Config.LeaderWait. Handlers of such methods answer job.ErrNotLeader on every other
// node.
func (n *Node) ask(ctx context.Context, method string, body []byte) (b []byte, err error) {
	err = n.withLeader(ctx, func(leader string) error {
		switch {
		case leader == n.cfg.ID:
			b, err = n.Handlers()[method](ctx, n.cfg.ID, body)
		case n.cfg.Peers == nil:
			b, err = nil, n.refusal()
		default:
			b, err = n.cfg.Peers.Call(ctx, leader, method, body)
		}
		return err
	})
	return b, err
}

// askLeader is ask with values instead of bodies.
func askLeader[A any](ctx context.Context, n *Node, method string, q any) (a A, err error) {
	body, err := json.Marshal(q)
	if err != nil {
		return a, err
	}
	b, err := n.ask(ctx, method, body)
	if err != nil {
		return a, err
	}
	return a, json.Unmarshal(b, &a)
}
