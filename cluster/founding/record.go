package founding

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/hashicorp/raft"
)

// Server is a founder.
type Server struct {
	ID      string `json:"id"`
	Address string `json:"address"`
}

// Proposal is a list of founders that one of them wants to begin a cluster with.
type Proposal struct {
	Proposer string `json:"proposer"`
	// Number tells the proposals of one proposer apart; later ones have higher numbers.
	Number  uint64   `json:"number"`
	Cluster string   `json:"cluster"`
	Servers []Server `json:"servers"`
}

// ids are the founders' ids, as they are in the list.
func ids(servers []Server) []string {
	list := make([]string, len(servers))
	for i, s := range servers {
		list[i] = s.ID
	}
	return list
}

// check refuses what no proposer sends.
func (p Proposal) check(from, to string, expect int) error {
	list := ids(p.Servers)
	slices.Sort(list)
	switch {
	case p.Proposer != from || p.Number == 0 || p.Cluster == "":
		return errors.New("the proposal is not the sender's")
	case len(slices.Compact(slices.Clone(list))) != len(list), slices.Contains(list, ""):
		return errors.New("the proposal names a node twice, or none")
	case !slices.Contains(list, from), !slices.Contains(list, to):
		return errors.New("the proposal is not for this node")
	case len(list) != expect:
		return fmt.Errorf("the proposal is for %d nodes, and this one waits for %d", len(list), expect)
	}
	return nil
}

func (p Proposal) String() string { return strings.Join(ids(p.Servers), ", ") }

func (p Proposal) servers() []raft.Server {
	list := make([]raft.Server, len(p.Servers))
	for i, s := range p.Servers {
		list[i] = raft.Server{Suffrage: raft.Voter, ID: raft.ServerID(s.ID), Address: raft.ServerAddress(s.Address)}
	}
	return list
}

// record is what a node must never forget about founding. Its zero value is a node
// that has done nothing yet. The methods that change it return the changed copy, which
// counts once it is on disk.
type record struct {
	// Layout of the file.
	Layout int `json:"layout"`
	// Number is the highest that this node has given a proposal of its own.
	Number uint64 `json:"number,omitempty"`
	// Promised is the only proposal that may begin with this node; nil while it is free.
	Promised *Proposal `json:"promised,omitempty"`
	// Begun is true once this node has decided to begin Promised, its own.
	Begun bool `json:"begun,omitempty"`
	// Joins is a cluster that has begun, with or without this node: it founds none.
	Joins string `json:"joins,omitempty"`
}

// decided reports whether this node has nothing to do with founding any longer.
func (r record) decided() bool { return r.Begun || r.Joins != "" }

// own returns this node's proposal that is neither begun nor given up.
func (r record) own(self string) (Proposal, bool) {
	if r.Promised == nil || r.Promised.Proposer != self || r.decided() {
		return Proposal{}, false
	}
	return *r.Promised, true
}

// propose makes a proposal, which counts as promised by this node itself.
func (r record) propose(self, cluster string, servers []Server) (record, error) {
	if r.decided() || r.Promised != nil {
		return r, errors.New("this node is not free to propose")
	}
	r.Number++
	r.Promised = &Proposal{Proposer: self, Number: r.Number, Cluster: cluster, Servers: servers}
	return r, nil
}

// giveUp makes sure that this node's proposal never begins.
func (r record) giveUp(self string) (record, error) {
	if _, ok := r.own(self); !ok {
		return r, errors.New("this node has no proposal to give up")
	}
	r.Promised = nil
	return r, nil
}

// begin decides that this node's proposal begins.
func (r record) begin(self string, number uint64) (record, error) {
	if p, ok := r.own(self); !ok || p.Number != number {
		return r, errors.New("this proposal was given up")
	}
	r.Begun = true
	return r, nil
}

// promise binds this node to a proposal of another node.
func (r record) promise(p Proposal) (record, error) {
	switch held := r.Promised; {
	case r.decided():
		return r, errors.New("it belongs to a cluster already")
	case held == nil:
	case held.Proposer != p.Proposer:
		return r, fmt.Errorf("it has promised to begin a cluster with %s, which %s proposes", held, held.Proposer)
	case held.Number > p.Number:
		return r, errors.New("it has a later proposal of the same node")
	}
	r.Promised = &p
	return r, nil
}

// free takes this node's promise back, because the proposer has given it up.
func (r record) free(p Proposal) record {
	if held := r.Promised; held != nil && !r.decided() && held.Proposer == p.Proposer && held.Number == p.Number {
		r.Promised = nil
	}
	return r
}

// join notes that a cluster has begun. Bound nodes join no other than the promised.
func (r record) join(cluster string) (record, error) {
	if r.Promised != nil && r.Promised.Cluster != cluster {
		return r, errors.New("this node is bound by a promise")
	}
	if !r.decided() {
		r.Joins = cluster
	}
	return r, nil
}

// fate says what became of a proposal of this node.
func (r record) fate(self string, number uint64) fate {
	switch {
	case r.Promised == nil || r.Promised.Proposer != self || r.Promised.Number != number:
		return givenUp
	case r.Begun:
		return begun
	}
	return open
}

// fate of a proposal.
type fate string

const (
	open    fate = "open"
	begun   fate = "begun"
	givenUp fate = "given up"
)
