package cluster

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/hashicorp/raft"
	raftboltdb "github.com/hashicorp/raft-boltdb/v2"
	"github.com/orrery-io/orrery/fsm"
	"github.com/orrery-io/orrery/internal/obs"
)

// A node whose database is lost gets it again from the leader, and its log with it.
// But it has acknowledged entries, and some of them may be on one other node only:
// as long as it doesn't have them again, it must not help to elect a node that lacks
// them. So before it drops anything it notes down where its log ended, the vote
// floor. Below that it gives nobody its vote, and it never asks for votes itself.
//
// The floor goes when the log has passed it: the entries come from a leader, in
// order, and whoever has an entry of the floor's term at or behind the floor's index,
// or one of a later term, has everything before.

// Keys beside raft's own in the stable store.
var (
	// keyFloor is the vote floor: term and index.
	keyFloor = []byte("OrreryVoteFloor")
	// keyMarkerTerm is the term of keyMarker, or of a later marker.
	keyMarkerTerm = []byte("OrreryMarkerTerm")
	// keyServers is the newest configuration of the cluster that a marker had.
	keyServers = []byte("OrreryServers")
	// keyDiscard is 1 when the database is not what the cluster has agreed on.
	keyDiscard = []byte("OrreryDiscard")
)

// position is a place in the log, ordered as votes are.
type position struct{ term, index uint64 }

func (p position) before(q position) bool {
	return p.term < q.term || p.term == q.term && p.index < q.index
}

func later(p, q position) position {
	if p.before(q) {
		return q
	}
	return p
}

// floor returns the vote floor, zero when there is none.
func (s *logStore) floor() (position, error) {
	b, err := s.bolt.Get(keyFloor)
	if errors.Is(err, raftboltdb.ErrKeyNotFound) || err == nil && len(b) == 0 {
		return position{}, nil
	}
	if err == nil && len(b) != 16 {
		err = errors.New("it is damaged")
	}
	if err != nil {
		return position{}, fmt.Errorf("read the log's key %s: %w", keyFloor, err)
	}
	return position{binary.BigEndian.Uint64(b), binary.BigEndian.Uint64(b[8:])}, nil
}

func (s *logStore) setFloor(p position) error {
	b := binary.BigEndian.AppendUint64(nil, p.term)
	return s.Set(keyFloor, binary.BigEndian.AppendUint64(b, p.index))
}

// end is where the log ends, zero when it is empty.
func (s *logStore) end() position {
	s.mu.Lock()
	defer s.mu.Unlock()
	return position{s.lastTerm, s.lastIndex}
}

// refill makes this node empty under a vote floor. It may be interrupted anywhere,
// and is then begun again: what makes examine ask for it goes last.
func (n *Node) refill(ctx context.Context, st standing) error {
	floor := later(n.store.end(), position{st.knownTerm, st.known})
	if st.marked {
		floor = later(floor, position{st.marker.Term, st.marker.Index})
	}
	floor = later(floor, st.floor)
	if err := n.store.setFloor(floor); err != nil {
		return err
	}
	if err := n.cfg.fault("floor"); err != nil {
		return err
	}
	aside, err := n.cfg.Machine.Reset(ctx)
	if err != nil {
		return err
	}
	n.snaps.marked.Store(nil)
	if err := n.cfg.fault("aside"); err != nil {
		return err
	}
	if err := n.store.deleteAll(); err != nil {
		return err
	}
	if err := n.cfg.fault("log"); err != nil {
		return err
	}
	for _, key := range [][]byte{keyInstalled, keyMarker, keyDiscard} {
		if err := n.store.SetUint64(key, 0); err != nil {
			return err
		}
		if err := n.cfg.fault(string(key)); err != nil {
			return err
		}
	}
	n.log.WarnContext(ctx, "the database was lost, damaged or older than the log; this node gets it from the leader and gives no vote to a node that lacks what it had",
		obs.Term(floor.term), obs.Index(floor.index), obs.Path(aside))
	return nil
}

// Damaged tells that a read has met a damaged row. When other servers have it, the node
// ends, and gets the database from the leader at its next start; a node alone goes on
// with what can be read. It doesn't wait.
func (n *Node) Damaged(err error) {
	if others, e := n.others(); e != nil || len(others) == 0 || n.guard == nil {
		n.log.Error("a row of the database is damaged, and no other node has it; restore a backup", obs.Err(err))
		return
	}
	n.onDamage.Do(func() {
		n.damaged()
		n.fail(fmt.Errorf("the database of this node is damaged; start it again, and it gets another from the leader: %w", err))
	})
}

// damaged has the next start get the database from the leader, when there are others
// who have it: a large one is not read in full when it is opened.
func (n *Node) damaged() {
	others, err := n.others()
	if err != nil || len(others) == 0 || n.guard == nil {
		return
	}
	if err := n.store.SetUint64(keyDiscard, 1); err == nil {
		n.log.Error("the database is damaged; start this node again, and it gets another from the leader")
	}
}

// lifted reports whether there is no vote floor (any more).
func (n *Node) lifted() bool {
	floor := n.floor.Load()
	if floor == nil {
		return true
	}
	if later(n.store.end(), n.snaps.position()).before(*floor) {
		return false
	}
	if n.floor.CompareAndSwap(floor, nil) {
		n.log.Info("this node has again what it had, and votes as usual", obs.Term(floor.term), obs.Index(floor.index))
		if err := n.store.setFloor(position{}); err != nil {
			n.log.Error("forget the vote floor", obs.Err(err))
		}
	}
	return true
}

// others returns the servers of the cluster besides this node, as far as the log and
// the database know.
func (n *Node) others() ([]raft.Server, error) {
	conf, err := n.store.configuration()
	if err != nil {
		return nil, err
	}
	if conf == nil {
		_, conf = n.cfg.Machine.Configuration()
	}
	servers := n.cfg.Founders
	if conf != nil {
		servers = raft.DecodeConfiguration(conf).Servers
	}
	var others []raft.Server
	for _, s := range servers {
		if s.ID != raft.ServerID(n.cfg.ID) {
			others = append(others, s)
		}
	}
	return others, nil
}

// configuration returns the newest configuration of the cluster that the log knows,
// nil when it knows none.
func (s *logStore) configuration() ([]byte, error) {
	first, err := s.bolt.FirstIndex()
	if err != nil {
		return nil, fmt.Errorf("read the log: %w", err)
	}
	last, err := s.bolt.LastIndex()
	if err != nil {
		return nil, fmt.Errorf("read the log: %w", err)
	}
	for i := last; i >= first && i > 0; i-- {
		var l raft.Log
		if err := s.bolt.GetLog(i, &l); err != nil {
			return nil, fmt.Errorf("read entry %d of the log: %w", i, err)
		}
		if l.Type == raft.LogConfiguration {
			return l.Data, nil
		}
	}
	b, err := s.bolt.Get(keyServers)
	if errors.Is(err, raftboltdb.ErrKeyNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read the log's key %s: %w", keyServers, err)
	}
	return b, nil
}

// OpenMachine opens the state machine of a node whose log is in raftDir. A database
// that is lost or damaged is set aside when other servers of the cluster can replace
// it; Run sees to that. Otherwise the error says what to do. alone is for a node that
// has no way to the others: then nothing is set aside.
func OpenMachine(ctx context.Context, cfg fsm.Config, raftDir, id string, alone bool) (*fsm.Machine, error) {
	m, err := fsm.Open(ctx, cfg)
	if err == nil || alone || !fsm.Lost(err) {
		return m, err
	}
	bolt, failed := openLog(raftDir)
	if failed != nil {
		return nil, errors.Join(err, failed)
	}
	conf, failed := (&logStore{bolt: bolt}).configuration()
	if failed = errors.Join(failed, bolt.Close()); failed != nil {
		return nil, errors.Join(err, failed)
	}
	servers := raft.DecodeConfiguration(conf).Servers
	if conf == nil || len(servers) == 0 || len(servers) == 1 && servers[0].ID == raft.ServerID(id) {
		return nil, err // nobody else has it
	}
	aside, failed := fsm.SetAside(cfg.Dir)
	if failed != nil {
		return nil, errors.Join(err, failed)
	}
	if cfg.Log != nil {
		cfg.Log.WarnContext(ctx, "the database cannot be used and was set aside", obs.Err(err), obs.Path(aside))
	}
	return fsm.Open(ctx, cfg)
}
