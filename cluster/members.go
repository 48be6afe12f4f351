package cluster

import (
	"context"
	"encoding/json"
	"time"

	"github.com/hashicorp/raft"
	"github.com/orrery-io/orrery/job"
)

const (
	// membersLimit is how long Members waits for the leader's answer, and membersWait
	// for a leader that is about to be elected, before it tells what this node knows
	// itself.
	membersLimit = 2 * time.Second
	membersWait  = 500 * time.Millisecond
	// electionTime is how many election timeouts an election takes at most, as a rule.
	electionTime = 4
)

func (n *Node) memberHandlers() map[string]Handler {
	return map[string]Handler{
		methodStatus:   answer(func(context.Context, string, struct{}) (report, error) { return n.report(), nil }),
		methodMembers:  answer(func(ctx context.Context, _ string, _ struct{}) ([]Member, error) { return n.countMembers(ctx) }),
		methodJoin:     answer(func(ctx context.Context, _ string, j Joining) (Admission, error) { return n.Join(ctx, j) }),
		methodAdmit:    answer(func(ctx context.Context, _ string, j Joining) (Admission, error) { return n.admit(ctx, j) }),
		methodRemove:   answer(func(ctx context.Context, _ string, q removal) (struct{}, error) { return struct{}{}, n.remove(ctx, q) }),
		methodTransfer: answer(func(ctx context.Context, _, to string) (string, error) { return n.transfer(ctx, to) }),
		methodRemoved:  answer(func(_ context.Context, _ string, id string) (struct{}, error) { return struct{}{}, n.dismissed(id) }),
	}
}

// Members returns all servers of the cluster, as the leader sees them. When there is
// no leader to ask it returns what this node knows itself, and marks it as stale.
func (n *Node) Members(ctx context.Context) ([]Member, error) {
	limited, cancel := context.WithTimeoutCause(ctx, membersLimit, job.ErrNotLeader)
	defer cancel()
	b, err := n.ask(limited, n.soon(), methodMembers, nil)
	if err != nil && ctx.Err() == nil && (limited.Err() != nil || job.KindOf(err) == job.Unavailable) {
		return n.membersHere(), nil
	}
	var list []Member
	if err == nil {
		err = json.Unmarshal(b, &list)
	}
	return list, err
}

// soon is how long it is worth to wait for a leader: not at all when none has been
// known for longer than an election takes, or while this node is in no cluster.
func (n *Node) soon() time.Duration {
	r := n.raft.Load()
	if r == nil || len(servers(r)) == 0 {
		return 0
	}
	if since, unknown := n.leaders.unknown(); unknown && since > electionTime*n.cfg.ElectionTimeout {
		return 0
	}
	return membersWait
}

// leading returns what the leader needs for its work, or job.ErrNotLeader.
func (n *Node) leading() (*raft.Raft, *census, error) {
	r, c := n.raft.Load(), n.census.Load()
	if r == nil || c == nil || !n.IsLeader() {
		return nil, nil, n.refusal()
	}
	return r, c, nil
}

// countMembers is Members on the leader.
func (n *Node) countMembers(ctx context.Context) ([]Member, error) {
	r, c, err := n.leading()
	if err != nil {
		return nil, err
	}
	if err := c.asked(ctx); err != nil {
		return nil, err
	}
	others := n.followers()
	var list []Member
	for _, s := range servers(r) {
		if s.ID == n.cfg.ID {
			list = append(list, n.self(s, true))
			continue
		}
		m := Member{Server: s}
		for _, f := range others {
			if f.ID == s.ID {
				m = f.member()
			}
		}
		list = append(list, m)
	}
	return list, nil
}

// self is this node as a member.
func (n *Node) self(s Server, leads bool) Member {
	return follower{Server: s, Report: n.report(), Heard: time.Now(), Alive: true}.member().as(leads)
}

func (m Member) as(leader bool) Member {
	m.Leader = leader
	return m
}

func (f follower) member() Member {
	m := Member{
		Server: f.Server, HTTP: f.Report.HTTP, Version: f.Report.Version, Alive: f.Alive, LastContact: f.Heard,
		Applied: f.Report.Applied, Lag: f.Lag, Installing: f.Report.Installing, Draining: f.Report.Draining, Trouble: f.Report.Trouble,
	}
	if m.Address == placeholder(m.ID) {
		m.Address = "" // it is not where it was, and has not said where it is
	}
	return m
}

// membersHere is what this node knows without a leader.
func (n *Node) membersHere() []Member {
	var list []Member
	mine := Server{ID: n.cfg.ID, Address: n.cfg.Address}
	if r := n.raft.Load(); r != nil {
		for _, s := range servers(r) {
			if s.ID == n.cfg.ID {
				mine = s
				continue
			}
			list = append(list, follower{Server: s}.member())
		}
	}
	list = append([]Member{n.self(mine, false)}, list...)
	for i := range list {
		list[i].Stale = true
	}
	return list
}
