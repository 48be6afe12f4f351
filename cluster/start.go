package cluster

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"

	"github.com/hashicorp/raft"
	raftboltdb "github.com/hashicorp/raft-boltdb/v2"
	"github.com/orrery-io/orrery/fsm"
	"github.com/orrery-io/orrery/internal/obs"
)

// Raft's own keys in the stable store.
var (
	keyCurrentTerm  = []byte("CurrentTerm")
	keyLastVoteTerm = []byte("LastVoteTerm")
)

// standing is what the log and the database of this node say about each other.
type standing struct {
	first, last       uint64 // the log; zero when it is empty
	term, voted       uint64 // raft's
	applied, appliedT uint64 // the database
	marker            fsm.Marker
	marked            bool
	known, installed  uint64 // keyMarker, keyInstalled
	knownTerm         uint64 // keyMarkerTerm
	discard           uint64 // keyDiscard
	floor             position
}

// plan is what must happen before raft starts.
type plan struct {
	found bool // the folder is empty
	// refill drops the database and the log: the leader has more than is left here.
	refill bool
	from   standing // what refill goes by
	wipe   bool     // an install was interrupted before the old log was dropped
	mark   bool     // the marker may advance to what is applied
}

func (n *Node) standing() (st standing, err error) {
	read := func(to *uint64, from func() (uint64, error)) {
		if err == nil {
			*to, err = from()
		}
	}
	number := func(key []byte) func() (uint64, error) {
		return func() (uint64, error) { return n.store.number(key) }
	}
	read(&st.first, n.store.FirstIndex)
	read(&st.last, n.store.LastIndex)
	read(&st.term, number(keyCurrentTerm))
	read(&st.voted, number(keyLastVoteTerm))
	read(&st.known, number(keyMarker))
	read(&st.installed, number(keyInstalled))
	read(&st.knownTerm, number(keyMarkerTerm))
	read(&st.discard, number(keyDiscard))
	if err == nil {
		st.floor, err = n.store.floor()
	}
	st.applied, st.appliedT = n.cfg.Machine.Applied()
	st.marker, st.marked = n.cfg.Machine.Marker()
	if err != nil {
		err = fmt.Errorf("read the log: %w", err)
	}
	return st, err
}

// examine compares the log with the database. It changes nothing, and its errors are
// sentences for whoever starts the node: what was acknowledged must be in one of the
// two, and a node that has lost something never starts as if nothing had happened.
func (n *Node) examine() (plan, error) {
	st, err := n.standing()
	if err != nil {
		return plan{}, err
	}
	p, err := n.compareAll(st)
	if err == nil && n.cfg.Transport == nil && !n.cfg.recovering {
		err = n.checkAlone()
	}
	return p, err
}

// checkAlone refuses to start a node without its cluster: it would wait for the others
// for ever.
func (n *Node) checkAlone() error {
	others, err := n.others()
	if err != nil || len(others) == 0 {
		return err
	}
	names := make([]string, len(others))
	for i, s := range others {
		names[i] = string(s.ID)
	}
	return fmt.Errorf("this node belongs to a cluster with %s; start it with --cluster, or, when those are gone for good, let it go on alone with `orrery cluster recover`",
		strings.Join(names, ", "))
}

func (n *Node) compareAll(st standing) (plan, error) {
	// The database came from another node, and the log doesn't reach it yet.
	fromAfar := st.marked && st.applied <= st.installed
	switch {
	case st.marker.Index < st.known, st.last > 0 && st.first > st.applied+1 && !fromAfar, st.discard > 0:
		return n.lostDatabase(st)
	case st.applied < st.marker.Index:
		return plan{}, fmt.Errorf("the database contradicts itself: it has applied entry %d, but its marker is at %d; %s", st.applied, st.marker.Index, n.remedy())
	case st.last == 0 && st.applied == 0 && !st.marked:
		if st.floor == (position{}) && n.cfg.Member {
			return plan{}, n.lostLog(st)
		}
		// A founder that died at once may have written the term, but no entry.
		return plan{found: st.term <= 1 && st.voted == 0 && st.floor == position{}}, nil
	case st.last == 0 && fromAfar && st.known > 0:
		return plan{}, nil // an install emptied the log
	case st.last < st.applied && !fromAfar:
		return plan{}, n.lostLog(st)
	}
	return n.compare(st, fromAfar)
}

// compare looks at the terms of the entries where log and database meet.
func (n *Node) compare(st standing, fromAfar bool) (plan, error) {
	if fromAfar {
		same, err := n.matches(st, st.marker.Index, st.marker.Term)
		if err != nil {
			return plan{}, err
		}
		if st.last < st.marker.Index || st.first > st.marker.Index+1 || !same {
			return plan{wipe: true}, nil
		}
	}
	same, err := n.matches(st, st.applied, st.appliedT)
	switch {
	case err != nil:
		return plan{}, err
	case fromAfar && (!same || st.last < st.applied):
		return plan{}, nil // the marker stays where it is; entries up to applied come again and are passed over
	case !same:
		return plan{}, fmt.Errorf("the log in %s and the database don't belong together: entry %d was written in another term than the database remembers; %s", n.cfg.Dir, st.applied, n.remedy())
	}
	return plan{mark: st.applied > st.marker.Index}, nil
}

// matches reports whether the entry at index is of that term, as far as the log still
// has it.
func (n *Node) matches(st standing, index, term uint64) (bool, error) {
	if index < st.first || index > st.last {
		return true, nil
	}
	t, err := n.store.term(index)
	return t == term, err
}

// lostDatabase gets the database from the other servers of the cluster. A node that
// has none refuses to start.
func (n *Node) lostDatabase(st standing) (plan, error) {
	others, err := n.others()
	switch {
	case err != nil:
		return plan{}, err
	case len(others) > 0 && n.cfg.Transport != nil, n.cfg.recovering:
		return plan{refill: true, from: st}, nil
	case st.applied == 0:
		return plan{}, fmt.Errorf("the database that belongs to the log in %s is missing; %s", n.cfg.Dir, n.remedy())
	}
	return plan{}, fmt.Errorf("the database is older than the log in %s remembers: it ends at entry %d, but it had %d; %s",
		n.cfg.Dir, st.applied, max(st.known, st.first-1), n.remedy())
}

func (n *Node) lostLog(st standing) error {
	if st.last == 0 {
		return fmt.Errorf("the log of this node is missing from %s; %s", n.cfg.Dir, n.remedy())
	}
	return fmt.Errorf("the log %s was cut: it ends at entry %d, but the database has applied %d; %s",
		filepath.Join(n.cfg.Dir, logFile), st.last, st.applied, n.remedy())
}

func (n *Node) remedy() string {
	others, err := n.others()
	if err == nil && len(others) > 0 || n.cfg.Member && n.cfg.Transport != nil {
		return "remove this node's data folder and let it join the cluster again under a new id"
	}
	return "put the whole data folder back from a backup, or remove it to start empty"
}

// keyNode is the id of the node whose log it is. Terms and indexes of two young
// clusters are alike: without it, a log that was put into another node's folder
// would be applied there.
var keyNode = []byte("OrreryNode")

// owner returns the node whose log it is; "" when nobody has claimed it yet.
func (s *logStore) owner() (string, error) { return s.text(keyNode) }

// text returns what the stable store has under key, "" for nothing.
func (s *logStore) text(key []byte) (string, error) {
	b, err := s.bolt.Get(key)
	if errors.Is(err, raftboltdb.ErrKeyNotFound) {
		return "", nil
	}
	if err != nil {
		return "", fmt.Errorf("read the log's key %s: %w", key, err)
	}
	return string(b), nil
}

// checkOwner refuses the log of another node.
func (n *Node) checkOwner() error {
	owner, err := n.store.owner()
	if err != nil {
		return err
	}
	if owner != "" && owner != n.cfg.ID {
		return fmt.Errorf("the log in %s belongs to node %s, but the rest of the data folder to node %s; parts of two data folders were mixed: put the right raft folder back, or start with an empty data folder",
			n.cfg.Dir, owner, n.cfg.ID)
	}
	return nil
}

// claim marks a new log as this node's.
func (n *Node) claim() error {
	owner, err := n.store.owner()
	if err != nil || owner != "" {
		return err
	}
	return n.store.Set(keyNode, []byte(n.cfg.ID))
}

// carryOut does what examine found to be necessary.
func (n *Node) carryOut(ctx context.Context, p plan) error {
	if err := n.claim(); err != nil {
		return err
	}
	if p.refill {
		if err := n.refill(ctx, p.from); err != nil {
			return err
		}
	}
	close(n.settled)
	floor, err := n.store.floor()
	if err != nil {
		return err
	}
	if floor != (position{}) {
		n.floor.Store(&floor)
	}
	if p.wipe {
		n.log.WarnContext(ctx, "dropping the log from before an interrupted install", obs.Path(n.cfg.Dir))
		if err := n.store.deleteAll(); err != nil {
			return err
		}
	}
	if p.found {
		return n.found(ctx)
	}
	if !p.mark {
		return nil
	}
	// The database has everything up to applied: nothing is replayed.
	applied, term := n.cfg.Machine.Applied()
	index, conf := n.cfg.Machine.Configuration()
	if conf == nil {
		return nil
	}
	return n.snaps.mark(ctx, fsm.Marker{Index: applied, Term: term, ConfigurationIndex: index, Configuration: conf})
}

// lastCommand finds the newest command up to index, because markers are also set at
// entries that the machine never sees. When the log doesn't have it, index serves: it
// is a bound.
func (n *Node) lastCommand(index uint64) (uint64, error) {
	first, err := n.store.FirstIndex()
	if err != nil {
		return 0, err
	}
	for i := index; i >= first && i > 0; i-- {
		var l raft.Log
		switch err := n.store.GetLog(i, &l); {
		case errors.Is(err, raft.ErrLogNotFound):
			return index, nil
		case err != nil:
			return 0, err
		case l.Type == raft.LogCommand:
			return i, nil
		}
	}
	return index, nil
}
