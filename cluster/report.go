package cluster

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/orrery-io/orrery/job"
)

// The methods with which nodes ask each other about membership. Bodies are JSON, so
// that versions that know more or less understand each other.
const (
	methodStatus   = "cluster.status"   // to any node: how do you stand
	methodJoin     = "cluster.join"     // to any member: I want to be one, or have moved
	methodAdmit    = "cluster.admit"    // to the leader: the same
	methodMembers  = "cluster.members"  // to the leader
	methodRemove   = "cluster.remove"   // to the leader
	methodTransfer = "cluster.transfer" // to the leader
	methodRemoved  = "cluster.removed"  // from the leader: you are no member any more
)

// protocol is the version of what nodes say to each other and of how the log is
// written. Nodes of different protocols don't form a cluster; commands and rows have
// versions of their own and may differ.
const protocol = 1

// answer makes a Handler of a function of values.
func answer[Q, A any](f func(ctx context.Context, from string, q Q) (A, error)) Handler {
	return func(ctx context.Context, from string, body []byte) ([]byte, error) {
		var q Q
		if len(body) > 0 {
			if err := json.Unmarshal(body, &q); err != nil {
				return nil, job.Errorf(job.Invalid, "bad_request", "node %s sent what this version doesn't understand: %v", from, err)
			}
		}
		a, err := f(ctx, from, q)
		if err != nil {
			return nil, err
		}
		return json.Marshal(a)
	}
}

// request asks another node.
func request[A any](ctx context.Context, p Peers, node, method string, q any) (a A, err error) {
	body, err := json.Marshal(q)
	if err != nil {
		return a, err
	}
	b, err := p.Call(ctx, node, method, body)
	if err != nil {
		return a, err
	}
	if err := json.Unmarshal(b, &a); err != nil {
		return a, fmt.Errorf("answer of node %s to %s: %w", node, method, err)
	}
	return a, nil
}

// report is what a node says of itself when the leader asks.
type report struct {
	ID      string `json:"id"`
	Cluster string `json:"cluster,omitempty"`
	State   string `json:"state"`
	Applied uint64 `json:"applied"`
	LogLast uint64 `json:"log_last"`
	// Leader is whom it follows, and Silence how long it has heard nothing of it.
	Leader  string        `json:"leader,omitempty"`
	Silence time.Duration `json:"silence,omitempty"`
	Version string        `json:"version,omitempty"`
	// Schema is the newest schema that the program knows.
	Schema   int    `json:"schema"`
	Address  string `json:"address,omitempty"`
	HTTP     string `json:"http,omitempty"`
	Draining bool   `json:"draining,omitempty"`
	// Installing is set while it receives a copy of the database.
	Installing *Installing `json:"installing,omitempty"`
	// Trouble says what is wrong with its disk, "" when nothing is.
	Trouble string `json:"trouble,omitempty"`
}

// report describes this node.
func (n *Node) report() report {
	st := n.Status()
	rep := report{
		ID: st.ID, Cluster: st.ClusterID, State: st.State, Applied: st.Applied, LogLast: st.LogLast, Leader: st.Leader,
		Version: n.cfg.Version, Schema: n.cfg.newest,
		Address: n.cfg.Address, HTTP: n.cfg.HTTP,
	}
	if !st.LastContact.IsZero() {
		rep.Silence = time.Since(st.LastContact)
	}
	rep.Installing = st.Installing
	if r := n.raft.Load(); r != nil {
		rep.LogLast = max(rep.LogLast, r.LastIndex()) // after an install the log is empty
	}
	if n.cfg.Draining != nil {
		rep.Draining = n.cfg.Draining()
	}
	if n.cfg.Trouble != nil {
		rep.Trouble = n.cfg.Trouble()
	}
	return rep
}
