package cluster

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/hashicorp/raft"
	"github.com/orrery-io/orrery/internal/obs"
	"github.com/orrery-io/orrery/job"
)

const (
	// changeLimit bounds how long a change of the members waits for the one before.
	changeLimit = 10 * time.Second
	// tellLimit bounds how long the leader tries to tell a node that it was removed.
	tellLimit = 2 * time.Second
	// handOverLimit bounds how long a transfer waits to learn who leads now.
	handOverLimit = 5 * time.Second
	// handOverPause is the first pause before a transfer is tried again.
	handOverPause = 20 * time.Millisecond
)

// ErrRemoved is what Run and New return on a node that was removed from its cluster.
// Its data folder is of no use any more.
var ErrRemoved = errors.New("this node was removed from its cluster; start it with an empty data folder to let it join again as a new node")

// removal is the request for one.
type removal struct {
	ID    string `json:"id"`
	Force bool   `json:"force,omitempty"`
}

// Remove takes a server out of the cluster; it stops when it learns of it, and can't
// come back with its data. To replace a server, let the new one join and wait until it
// is a voter, then remove the old one. The leader hands the leadership over before it
// is removed. Remove may be called on any node.
//
// It is refused when fewer than a majority of the remaining voters answer, because the
// cluster would stand still: job.Conflict with the code "no_majority". With force it
// is tried nevertheless, and takes effect only when a majority of them comes back.
// Other errors: job.NotFound, and job.Conflict for the only voter ("last_voter").
func (n *Node) Remove(ctx context.Context, id string, force bool) error {
	_, err := askLeader[struct{}](ctx, n, methodRemove, removal{ID: id, Force: force})
	if err != nil {
		return err
	}
	n.see(ctx, func(r *raft.Raft) bool {
		_, ok := find(servers(r), id)
		return !ok
	})
	return nil
}

// remove is Remove on the leader.
func (n *Node) remove(ctx context.Context, q removal) error {
	r, c, err := n.leading()
	if err != nil {
		return err
	}
	if err := c.asked(ctx); err != nil {
		return err
	}
	if err := n.removeHere(ctx, r, c, q); err != nil || q.ID != n.cfg.ID {
		return err
	}
	// Another leads now.
	_, err = askLeader[struct{}](ctx, n, methodRemove, q)
	return err
}

// removeHere removes another server, or hands the leadership over when this one is to
// be removed.
func (n *Node) removeHere(ctx context.Context, r *raft.Raft, c *census, q removal) error {
	release, err := n.changeMembers(ctx)
	if err != nil {
		return err
	}
	defer release()
	conf := servers(r)
	if _, ok := find(conf, q.ID); !ok {
		return noMember(q.ID)
	}
	if err := n.removable(c, conf, q); err != nil {
		return err
	}
	if q.ID == n.cfg.ID {
		_, err := n.pass(ctx, r, c, "")
		return err
	}
	return n.removeServer(ctx, r, c, q.ID)
}

func noMember(id string) error {
	return job.Errorf(job.NotFound, "member_not_found", "there is no node %s in this cluster", id).
		WithHint("orrery cluster members lists them")
}

// removable refuses the removal of a voter without which the cluster could not work.
func (n *Node) removable(c *census, conf []Server, q removal) error {
	if s, _ := find(conf, q.ID); !s.Voter {
		return nil
	}
	rest, alive, silent := n.without(c, conf, q.ID)
	switch {
	case rest == 0:
		return job.Errorf(job.Conflict, "last_voter", "node %s is the only voter; without it there is no cluster", q.ID).
			WithHint("let another node join first, and wait until it is a voter")
	case alive < majority(rest) && !q.Force:
		return job.Errorf(job.Conflict, "no_majority", "without node %s only %d of the %d remaining voters would be at work, which is no majority: the cluster would stand still", q.ID, alive, rest).
			WithHint("first bring %s back or let other nodes join, or use force", strings.Join(silent, ", "))
	}
	return nil
}

// without counts the voters other than id, those of them that answer, and names those
// that don't.
func (n *Node) without(c *census, conf []Server, id string) (rest, alive int, silent []string) {
	for _, s := range conf {
		switch {
		case !s.Voter || s.ID == id:
			continue
		case s.ID == n.cfg.ID || c.alive(s.ID):
			alive++
		default:
			silent = append(silent, s.ID)
		}
		rest++
	}
	return rest, alive, silent
}

func majority(voters int) int { return voters/2 + 1 }

// removeServer takes another server out of the configuration, and tells it. The caller
// holds the right to change the members.
func (n *Node) removeServer(ctx context.Context, r *raft.Raft, c *census, id string) error {
	there := c.alive(id)
	if err := changed(r.RemoveServer(raft.ServerID(id), 0, changeLimit).Error()); err != nil {
		return err
	}
	n.log.InfoContext(ctx, "a node was removed", obs.Member(id))
	if there {
		limited, cancel := context.WithTimeout(ctx, tellLimit)
		defer cancel()
		if _, err := request[struct{}](limited, n.cfg.Peers, id, methodRemoved, n.cfg.Machine.ClusterID()); err != nil {
			// It asks itself when it hears nothing any more.
			n.log.DebugContext(ctx, "the removed node does not know it yet", obs.Member(id), obs.Err(err))
		}
	}
	return nil
}

// Transfer hands the leadership over to another voter, "" for the one that is most up
// to date, and returns who leads then. It may be called on any node.
//
// Errors: job.NotFound, job.Conflict for a node that can't lead now, job.Unavailable
// when it did not succeed.
func (n *Node) Transfer(ctx context.Context, to string) (leader string, err error) {
	if leader, err = askLeader[string](ctx, n, methodTransfer, to); err == nil {
		n.see(ctx, func(*raft.Raft) bool { return n.Leader() == leader })
	}
	return leader, err
}

// transfer is Transfer on the leader.
func (n *Node) transfer(ctx context.Context, to string) (string, error) {
	r, c, err := n.leading()
	if err != nil {
		return "", err
	}
	if to == n.cfg.ID {
		return to, nil
	}
	if err := c.asked(ctx); err != nil {
		return "", err
	}
	release, err := n.changeMembers(ctx)
	if err != nil {
		return "", err
	}
	defer release()
	return n.pass(ctx, r, c, to)
}

// pass gives the leadership away and waits until it is known who leads. The caller
// holds the right to change the members.
func (n *Node) pass(ctx context.Context, r *raft.Raft, c *census, to string) (string, error) {
	s, err := n.offer(ctx, r, c, to)
	if s.ID == "" {
		return "", err
	}
	limit := time.NewTimer(handOverLimit)
	defer limit.Stop()
	for {
		leader, changed := n.leaders.now()
		if leader != "" && leader != n.cfg.ID {
			return leader, nil
		}
		if r.State() == raft.Leader {
			if err != nil {
				n.log.WarnContext(ctx, "the leadership was not handed over", obs.Member(s.ID), obs.Err(err))
			}
			return "", job.Errorf(job.Unavailable, "transfer_failed", "node %s has not taken over", s.ID).WithHint("node %s leads on; try again", n.cfg.ID)
		}
		select {
		case <-changed:
		case <-limit.C:
			return "", job.Errorf(job.Unavailable, "transfer_failed", "the leadership was given to node %s, but nobody leads yet", s.ID).WithHint("look again in a few seconds")
		case <-ctx.Done():
			return "", context.Cause(ctx)
		}
	}
}

// offer asks another voter to lead, again when raft could not: its replication to that
// one may just begin anew. It returns whom it asked last, and what raft said.
func (n *Node) offer(ctx context.Context, r *raft.Raft, c *census, to string) (s Server, err error) {
	const tries = 5
	for try := range tries {
		if try > 0 {
			select {
			case <-time.After(time.Duration(try) * handOverPause):
			case <-ctx.Done():
				return Server{}, context.Cause(ctx)
			}
		}
		if s, err = n.successor(r, c, to); err != nil {
			return Server{}, err
		}
		err = r.LeadershipTransferToServer(raft.ServerID(s.ID), raft.ServerAddress(s.Address)).Error()
		if err == nil || r.State() != raft.Leader {
			break
		}
	}
	return s, err
}

// successor chooses who shall lead.
func (n *Node) successor(r *raft.Raft, c *census, to string) (Server, error) {
	conf := servers(r)
	if to != "" {
		s, ok := find(conf, to)
		switch {
		case !ok:
			return s, noMember(to)
		case !s.Voter:
			return s, job.Errorf(job.Conflict, "not_a_voter", "node %s is still catching up and can't lead", to).
				WithHint("wait until it has a vote, or name another node")
		case !c.alive(to):
			return s, job.Errorf(job.Conflict, "member_unreachable", "node %s does not answer and can't lead", to).
				WithHint("name another node, or none for the one that is most up to date")
		}
		return s, nil
	}
	able := slices.DeleteFunc(n.followers(), func(f follower) bool {
		now, ok := find(conf, f.ID) // the census is a moment old
		return !ok || !now.Voter || !f.Alive || f.Report.Trouble != ""
	})
	if len(able) == 0 {
		return Server{}, job.Errorf(job.Conflict, "no_successor", "no other voter answers that could lead").
			WithHint("let another node join first, or bring one back")
	}
	best := slices.MaxFunc(able, func(a, b follower) int { return cmp.Compare(a.Report.Applied, b.Report.Applied) })
	return best.Server, nil
}

// keyRemoved holds the id of the cluster that has removed this node.
var keyRemoved = []byte("OrreryRemoved")

// dismissed is what a removed node does when the leader of its cluster tells it.
func (n *Node) dismissed(clusterID string) error {
	if mine := n.cfg.Machine.ClusterID(); mine != "" && mine != clusterID {
		return job.Errorf(job.Conflict, codeForeign, "node %s belongs to cluster %s", n.cfg.ID, mine)
	}
	return n.leave(clusterID)
}

// leave ends this node for good: it starts no more.
func (n *Node) leave(clusterID string) error {
	if err := n.store.Set(keyRemoved, []byte(clusterID)); err != nil {
		return fmt.Errorf("remember that this node was removed: %w", err)
	}
	n.fail(ErrRemoved)
	return nil
}

// checkRemoved refuses to start a node that knows that it was removed.
func (n *Node) checkRemoved() error {
	id, err := n.store.text(keyRemoved)
	if err == nil && id != "" {
		return ErrRemoved
	}
	return err
}
