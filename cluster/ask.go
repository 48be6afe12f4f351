package cluster

import (
	"context"
	"encoding/json"
	"time"

	"github.com/hashicorp/raft"
)

// ask has the leader answer a request: this node itself when it leads, else the one
// that does. While there is none, or it can't be reached, it tries again for up to wait.
// Handlers of such methods answer job.ErrNotLeader on every other node.
func (n *Node) ask(ctx context.Context, wait time.Duration, method string, body []byte) (b []byte, err error) {
	err = n.withLeader(ctx, wait, func(leader string) error {
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

// seeLimit bounds how long a change that was made waits until this node knows of it.
const seeLimit = time.Second

// see waits until something that the leader has done is known here, so that whoever
// has asked for it and looks finds it. It is done anyway.
func (n *Node) see(ctx context.Context, known func(r *raft.Raft) bool) {
	r := n.raft.Load()
	if r == nil {
		return
	}
	limit := time.NewTimer(seeLimit)
	defer limit.Stop()
	for !known(r) {
		select {
		case <-time.After(10 * time.Millisecond):
		case <-limit.C:
			return
		case <-ctx.Done():
			return
		case <-n.dead.Done():
			return
		case <-n.over:
			return
		}
	}
}

// askLeader is ask with values instead of bodies, for up to Config.LeaderWait.
func askLeader[A any](ctx context.Context, n *Node, method string, q any) (a A, err error) {
	body, err := json.Marshal(q)
	if err != nil {
		return a, err
	}
	b, err := n.ask(ctx, n.cfg.LeaderWait, method, body)
	if err != nil {
		return a, err
	}
	return a, json.Unmarshal(b, &a)
}
