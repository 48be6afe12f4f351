package cluster

import (
	"context"
	"errors"
	"fmt"

	"github.com/hashicorp/raft"
	"github.com/orrery-io/orrery/internal/obs"
	"github.com/orrery-io/orrery/job"
)

// Joining is what a node says of itself when it wants to become a member, or when it
// is one and its address has changed.
type Joining struct {
	ID      string `json:"id"`
	Address string `json:"address"`
	// Cluster is the cluster that its data belongs to, "" for none.
	Cluster string `json:"cluster,omitempty"`
	// Fresh is true for a node that was never a member.
	Fresh   bool   `json:"fresh,omitempty"`
	HTTP    string `json:"http,omitempty"`
	Version string `json:"version,omitempty"`
	// Protocol is the version of what it says to other nodes, Schema the newest schema
	// that it knows.
	Protocol int `json:"protocol"`
	Schema   int `json:"schema"`
}

// Admission is what a node that has asked to join is told.
type Admission struct {
	// Leader has admitted it to Cluster.
	Leader  string `json:"leader"`
	Cluster string `json:"cluster"`
	// Voter is false while it has to catch up.
	Voter bool `json:"voter"`
}

// The codes of refusals after which a node need not ask again.
const (
	codeForeign  = "foreign_cluster"
	codeProtocol = "other_protocol"
	codeSchema   = "schema_too_new"
	codeRemoved  = "node_removed"
)

// placeholder is the address in the configuration of a server that is known not to be
// where it was: its id. Whoever sends to it looks its address up by its id anyway.
func placeholder(id string) string { return id }

// Join lets a node become a member, first without a vote, or takes note of its new
// address. It may be called on any member.
//
// Refusals are *job.Error of kind job.Conflict with the codes "foreign_cluster",
// "other_protocol", "schema_too_new", "node_removed" and "address_taken".
func (n *Node) Join(ctx context.Context, j Joining) (Admission, error) {
	a, err := askLeader[Admission](ctx, n, methodAdmit, j)
	if err == nil {
		n.see(ctx, func(r *raft.Raft) bool {
			s, ok := find(servers(r), j.ID)
			return ok && s.Address == j.Address
		})
	}
	return a, err
}

// admit is Join on the leader.
func (n *Node) admit(ctx context.Context, j Joining) (Admission, error) {
	r, c, err := n.leading()
	if err != nil {
		return Admission{}, err
	}
	if err := n.admissible(j); err != nil {
		return Admission{}, err
	}
	release, err := n.changeMembers(ctx)
	if err != nil {
		return Admission{}, err
	}
	defer release()
	if !n.IsLeader() {
		return Admission{}, n.refusal() // what the one before has written may be gone with the term
	}
	s, member := find(servers(r), j.ID)
	switch {
	case member && s.Address == j.Address:
	case !member && !j.Fresh:
		return Admission{}, n.refuseStranger(ctx, r, j.ID)
	default:
		if err := n.place(ctx, r, c, Server{ID: j.ID, Address: j.Address, Voter: s.Voter}); err != nil {
			return Admission{}, err
		}
		if member {
			n.log.InfoContext(ctx, "the address of a node has changed", obs.Member(j.ID), obs.Addr(j.Address), obs.Was(s.Address))
		} else {
			n.log.InfoContext(ctx, "a node joins; it gets a vote when it has caught up", obs.Member(j.ID), obs.Addr(j.Address))
		}
	}
	return Admission{Leader: n.cfg.ID, Cluster: n.cfg.Machine.ClusterID(), Voter: s.Voter}, nil
}

// admissible refuses what can be refused without looking at the members.
func (n *Node) admissible(j Joining) error {
	mine, schema := n.cfg.Machine.ClusterID(), n.cfg.Machine.SchemaVersion()
	switch {
	case j.ID == "" || j.Address == "":
		return job.Errorf(job.Invalid, "bad_request", "a node that joins must name its id and its address")
	case j.Protocol != protocol:
		return job.Errorf(job.Conflict, codeProtocol, "node %s (version %s) speaks version %d of the language between nodes, this cluster version %d", j.ID, j.Version, j.Protocol, protocol).
			WithHint("start it with the version of Orrery that the cluster runs: %s", n.cfg.Version)
	case j.Cluster != "" && j.Cluster != mine:
		return job.Errorf(job.Conflict, codeForeign, "node %s belongs to cluster %s, this is cluster %s", j.ID, j.Cluster, mine).
			WithHint("start it with an empty data folder to let it join this one")
	case j.Schema < schema:
		return job.Errorf(job.Conflict, codeSchema, "the database of this cluster has schema version %d, and node %s (version %s) knows only up to %d", schema, j.ID, j.Version, j.Schema).
			WithHint("start it with the version of Orrery that the cluster runs: %s", n.cfg.Version)
	}
	return nil
}

// refuseStranger tells a node that is no member, and once was one, that it can't come
// back. It makes sure first that this is what the cluster decided.
func (n *Node) refuseStranger(ctx context.Context, r *raft.Raft, id string) error {
	term := n.term.Load()
	if _, err := n.ReadIndex(ctx); err != nil {
		return err
	}
	if !n.IsLeader() || n.term.Load() != term {
		return job.ErrNotLeader
	}
	if _, conf := n.cfg.Machine.Configuration(); conf != nil {
		for _, s := range raft.DecodeConfiguration(conf).Servers {
			if string(s.ID) == id {
				return job.ErrNotLeader // the removal is under way
			}
		}
	}
	if _, member := find(servers(r), id); member {
		return job.ErrNotLeader
	}
	return job.Errorf(job.Conflict, codeRemoved, "node %s is no member of this cluster any more: it was removed, or its data folder is from before", id).
		WithHint("start it with an empty data folder; it joins as a new node then")
}

// place adds a server, or gives it another address. Where another server was at that
// address it is not any more, or one of the two is wrong about its address.
func (n *Node) place(ctx context.Context, r *raft.Raft, c *census, s Server) error {
	for _, other := range servers(r) {
		if other.Address != s.Address || other.ID == s.ID {
			continue
		}
		taken := other.ID == n.cfg.ID && n.cfg.Address == s.Address
		for _, f := range c.followers(0) {
			taken = taken || f.ID == other.ID && f.Alive && f.Report.Address == s.Address
		}
		if taken {
			return job.Errorf(job.Conflict, "address_taken", "nodes %s and %s both say that they are reached at %s", other.ID, s.ID, s.Address).
				WithHint("give each node an address of its own with --cluster or --advertise")
		}
		n.log.InfoContext(ctx, "a node is not any more where it was", obs.Member(other.ID), obs.Addr(other.Address))
		other.Address = placeholder(other.ID)
		if err := n.set(r, other); err != nil {
			return err
		}
	}
	return n.set(r, s)
}

// set writes a server into the configuration as it should be, and waits until that is
// committed. It never takes a vote away.
func (n *Node) set(r *raft.Raft, s Server) error {
	change := r.AddNonvoter
	if s.Voter {
		change = r.AddVoter
	}
	return changed(change(raft.ServerID(s.ID), raft.ServerAddress(s.Address), 0, changeLimit).Error())
}

// changed says what raft's answer to a change of the configuration means.
func changed(err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, raft.ErrNotLeader), errors.Is(err, raft.ErrLeadershipTransferInProgress), errors.Is(err, raft.ErrEnqueueTimeout):
		return job.ErrNotLeader
	case errors.Is(err, raft.ErrLeadershipLost), errors.Is(err, raft.ErrRaftShutdown):
		return job.ErrOutcomeUnknown
	default:
		return fmt.Errorf("change the members: %w", err)
	}
}

// changeMembers lets one change of the members happen at a time, so that what was
// checked before is still true when it is made.
func (n *Node) changeMembers(ctx context.Context) (release func(), err error) {
	select {
	case n.changing <- struct{}{}:
		return func() { <-n.changing }, nil
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}
