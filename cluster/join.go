package cluster

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/hashicorp/raft"
	"github.com/orrery-io/orrery/internal/obs"
	"github.com/orrery-io/orrery/job"
)

const (
	// announceEvery is how often a node looks whether the cluster knows it, and tries
	// to tell it otherwise; announceLimit bounds one try.
	announceEvery = time.Second
	announceLimit = 15 * time.Second
	// lonelyAfter is after how long without a leader a member asks the others whether
	// it still is one.
	lonelyAfter = 3 * time.Second
	// admittedPause is how long a node that was admitted waits for the first entries
	// before it asks again.
	admittedPause = 5 * time.Second
)

// keyMember is set as soon as this node has seen itself among the members.
var keyMember = []byte("OrreryMember")

// belonging is a node's care for being a member, at its right address.
type belonging struct {
	node   *Node
	raft   *raft.Raft
	led    time.Time // when there was a leader
	next   time.Time // when to announce again at the earliest
	member bool      // keyMember is set
	last   telling
}

// belong makes sure that the cluster knows this node and its address, until ctx ends.
func (n *Node) belong(ctx context.Context, r *raft.Raft) {
	if n.cfg.Peers == nil || n.cfg.Address == "" {
		return
	}
	b := belonging{node: n, raft: r, led: time.Now()}
	tick := time.NewTicker(announceEvery)
	defer tick.Stop()
	for {
		if err := b.look(ctx); err != nil && ctx.Err() == nil {
			n.fail(err)
			return
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// look announces this node if the cluster doesn't know it as it is. Its errors end the
// node.
func (b *belonging) look(ctx context.Context) error {
	if err := b.remember(); err != nil {
		return err
	}
	why := b.unsettled()
	if why == "" {
		if b.last.what != "" {
			b.node.log.InfoContext(ctx, "this node is a member of the cluster", obs.Addr(b.node.cfg.Address))
			b.last = telling{}
		}
		return nil
	}
	if time.Now().Before(b.next) {
		return nil
	}
	return b.announce(ctx, why)
}

// remember notes, once and for all, that this node is a member: from then on it can't
// join as a fresh one.
func (b *belonging) remember() error {
	if b.member {
		return nil
	}
	n := b.node
	_, conf := n.cfg.Machine.Configuration()
	if conf == nil || !slices.ContainsFunc(raft.DecodeConfiguration(conf).Servers, func(s raft.Server) bool { return string(s.ID) == n.cfg.ID }) {
		return nil
	}
	b.member = true
	if id, err := n.store.text(keyMember); err != nil || id != "" {
		return err
	}
	return n.store.Set(keyMember, []byte(n.cfg.ID))
}

// unsettled says why this node must speak with the cluster, "" when it need not.
func (b *belonging) unsettled() string {
	n := b.node
	if n.Leader() != "" {
		b.led = time.Now()
	}
	s, member := find(servers(b.raft), n.cfg.ID)
	switch {
	case !member:
		return "it is no member yet"
	case b.raft.State() == raft.Leader:
		return "" // see moveSelf
	case s.Address != n.cfg.Address:
		return fmt.Sprintf("the cluster knows it at %s", s.Address)
	case time.Since(b.led) >= lonelyAfter:
		return "it hears of no leader"
	}
	return ""
}

// announce tells the first node that listens who and where this one is.
func (b *belonging) announce(ctx context.Context, why string) error {
	n := b.node
	j, err := b.joining()
	if err != nil {
		return err
	}
	reason := "no other node is known: name one with --join"
	for _, id := range b.contacts() {
		limited, cancel := context.WithTimeout(ctx, announceLimit)
		a, err := request[Admission](limited, n.cfg.Peers, id, methodJoin, j)
		cancel()
		switch {
		case err == nil:
			if b.tell("admitted by " + a.Leader) {
				n.log.InfoContext(ctx, "the cluster knows this node, which waits for entries", obs.Leader(a.Leader), obs.Cluster(a.Cluster))
			}
			b.next = time.Now().Add(admittedPause)
			return nil
		case ctx.Err() != nil:
			return nil //nolint:nilerr // this node stops
		}
		if fatal := b.fatal(j, err); fatal != nil {
			return fatal
		}
		reason = fmt.Sprintf("node %s answers: %s", id, sentence(err))
	}
	if b.tell(why + reason) {
		n.log.InfoContext(ctx, "this node is not in touch with its cluster: "+why, obs.Reason(reason)) //nolint:sloglint // one of a few sentences
	}
	return nil
}

// joining describes this node to the cluster.
func (b *belonging) joining() (Joining, error) {
	n := b.node
	was, err := n.store.text(keyMember)
	return Joining{
		ID: n.cfg.ID, Address: n.cfg.Address, HTTP: n.cfg.HTTP, Cluster: n.cfg.Machine.ClusterID(), Fresh: was == "",
		Version: n.cfg.Version, Protocol: protocol, Schema: n.cfg.newest,
	}, err
}

// contacts returns whom to ask: the leader, the members as this node knows them, and
// whoever else may know the cluster.
func (b *belonging) contacts() (ids []string) {
	n := b.node
	add := func(id string) {
		if id != "" && id != n.cfg.ID && !slices.Contains(ids, id) {
			ids = append(ids, id)
		}
	}
	add(n.Leader())
	for _, s := range servers(b.raft) {
		add(s.ID)
	}
	if n.cfg.Contacts != nil {
		for _, id := range n.cfg.Contacts() {
			add(id)
		}
	}
	return ids
}

// fatal returns the error with which this node must end after a refusal, nil when it
// may try again.
func (b *belonging) fatal(j Joining, err error) error {
	e, ok := errors.AsType[*job.Error](err)
	if !ok {
		return nil
	}
	switch e.Code {
	case codeRemoved:
		if err := b.node.leave(j.Cluster); err != nil {
			return err
		}
		return ErrRemoved
	case codeProtocol, codeSchema:
		if j.Fresh {
			return errors.New(sentence(err))
		}
	}
	return nil
}

// sentence is an error with what to do about it.
func sentence(err error) string {
	if e, ok := errors.AsType[*job.Error](err); ok && e.Hint != "" {
		return e.Message + "; " + e.Hint
	}
	return err.Error()
}

// tell reports whether it is time to log something.
func (b *belonging) tell(what string) bool {
	const again = 30 * time.Second
	if b.last.what == what && time.Since(b.last.when) < again {
		return false
	}
	b.last = telling{what: what, when: time.Now()}
	return true
}
