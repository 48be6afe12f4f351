package cluster

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/hashicorp/raft"
	"github.com/orrery-io/orrery/internal/obs"
)

// guard stands between raft and the other nodes. It refuses votes below the vote
// floor, in both directions, and notices when the leader's log contradicts the
// database of this node.
type guard struct {
	raft.Transport
	node *Node
	rpcs chan raft.RPC // to raft; no capacity, so that nothing waits here
	told chan raft.RPC // from inject; capacity 1: raft's own messages come anyway
}

func newGuard(n *Node) *guard {
	return &guard{Transport: n.cfg.Transport, node: n, rpcs: make(chan raft.RPC), told: make(chan raft.RPC, 1)}
}

var (
	_ raft.WithPreVote = (*guard)(nil)
	_ raft.WithClose   = (*guard)(nil)
)

// run hands requests to raft until ctx ends.
func (g *guard) run(ctx context.Context) {
	from := g.Transport.Consumer()
	for {
		var rpc raft.RPC
		select {
		case <-ctx.Done():
			return
		case rpc = <-from:
		case rpc = <-g.told:
		}
		if g.refuse(rpc) {
			continue
		}
		select {
		case <-ctx.Done():
			return
		case g.rpcs <- rpc:
		}
	}
}

// inject gives raft a message that nobody waits for. It is dropped when the one before
// is still there.
func (g *guard) inject(command any) {
	select {
	case g.told <- raft.RPC{Command: command, RespChan: make(chan raft.RPCResponse, 1)}:
	default:
	}
}

// Consumer implements raft.Transport.
func (g *guard) Consumer() <-chan raft.RPC { return g.rpcs }

// refuse answers a request that raft must not see.
func (g *guard) refuse(rpc raft.RPC) bool {
	switch req := rpc.Command.(type) {
	case *raft.RequestVoteRequest:
		if g.below(req.RPCHeader, position{req.LastLogTerm, req.LastLogIndex}) {
			rpc.Respond(&raft.RequestVoteResponse{RPCHeader: g.header(), Term: g.term()}, nil)
			return true
		}
	case *raft.RequestPreVoteRequest:
		if g.below(req.RPCHeader, position{req.LastLogTerm, req.LastLogIndex}) {
			rpc.Respond(&raft.RequestPreVoteResponse{RPCHeader: g.header(), Term: g.term()}, nil)
			return true
		}
	case *raft.TimeoutNowRequest:
		if !g.node.lifted() {
			rpc.Respond(nil, errBelowFloor)
			return true
		}
	case *raft.AppendEntriesRequest:
		if slices.ContainsFunc(req.Entries, func(l *raft.Log) bool { return bytes.Equal(l.Extensions, termOnly) }) {
			rpc.Respond(nil, errors.New("the content of an entry is missing"))
			return true
		}
		if m := g.node.snaps.position(); req.Term >= g.term() && contradicts(req, m) {
			rpc.Respond(nil, errors.New("this node has another history"))
			g.node.discard(m)
			return true
		}
	}
	return false
}

// below reports whether a candidate lacks what this node had.
func (g *guard) below(from raft.RPCHeader, candidate position) bool {
	if g.node.lifted() {
		return false
	}
	floor := g.node.floor.Load()
	if floor == nil || !candidate.before(*floor) {
		return false
	}
	g.node.log.Warn("no vote for a node that lacks entries which this one had before it lost its database",
		obs.Node(string(from.ID)), obs.Term(candidate.term), obs.Index(candidate.index))
	return true
}

func (g *guard) header() raft.RPCHeader {
	return raft.RPCHeader{
		ProtocolVersion: raft.ProtocolVersionMax, ID: []byte(g.node.cfg.ID),
		Addr: g.EncodePeer(raft.ServerID(g.node.cfg.ID), g.LocalAddr()),
	}
}

func (g *guard) term() uint64 {
	if r := g.node.raft.Load(); r != nil {
		return r.CurrentTerm()
	}
	return 0
}

var errBelowFloor = errors.New("this node has lost its database and waits for the leader's")

// RequestVote implements raft.Transport.
func (g *guard) RequestVote(id raft.ServerID, target raft.ServerAddress, req *raft.RequestVoteRequest, resp *raft.RequestVoteResponse) error {
	if !g.node.lifted() {
		return errBelowFloor
	}
	return g.Transport.RequestVote(id, target, req, resp)
}

// RequestPreVote implements raft.WithPreVote.
func (g *guard) RequestPreVote(id raft.ServerID, target raft.ServerAddress, req *raft.RequestPreVoteRequest, resp *raft.RequestPreVoteResponse) error {
	if !g.node.lifted() {
		return errBelowFloor
	}
	t, ok := g.Transport.(raft.WithPreVote)
	if !ok {
		return fmt.Errorf("%T knows no pre-vote", g.Transport)
	}
	return t.RequestPreVote(id, target, req, resp)
}

// Close implements raft.WithClose.
func (g *guard) Close() error {
	if t, ok := g.Transport.(raft.WithClose); ok {
		return t.Close()
	}
	return nil
}

// contradicts reports whether a leader's log proves that marker m was never agreed
// on: it has an entry of another term there. That happens to a leader that began to
// restore a backup and failed before another node had it.
func contradicts(req *raft.AppendEntriesRequest, m position) bool {
	if m.index == 0 {
		return false
	}
	if req.PrevLogEntry == m.index {
		return req.PrevLogTerm != m.term
	}
	if n := len(req.Entries); n == 0 || req.Entries[0].Index > m.index || req.Entries[n-1].Index < m.index {
		return false
	}
	return req.Entries[m.index-req.Entries[0].Index].Term != m.term
}

// discard has the next start drop what this node has and get the leader's, and ends
// the node.
func (n *Node) discard(m position) {
	if err := n.store.SetUint64(keyDiscard, 1); err != nil {
		return // the node ends for that
	}
	n.fail(fmt.Errorf("the state of this node at entry %d was never confirmed by the others: a backup that it began to restore did not reach them; start it again, and it gets the state from the leader", m.index))
}
