package cluster

import (
	"context"
	"errors"
	"fmt"
	"log/slog"

	"github.com/hashicorp/raft"
	"github.com/orrery-io/orrery/command"
	"github.com/orrery-io/orrery/fsm"
	"github.com/orrery-io/orrery/internal/obs"
	"github.com/orrery-io/orrery/job"
)

// Recovery says what Recover has done.
type Recovery struct {
	// ClusterID is the new id of the cluster, Former the one before.
	ClusterID, Former string
	// Last is the last entry of the log that this node had, Time when the newest
	// command in it was recorded. What the others recorded after it is lost.
	Last uint64
	Time job.Time
	// Gone are the servers that are no members any more.
	Gone []Server
}

// Recover makes a cluster of this node alone, with what it has, when the majority of
// the others is gone for good. The node must not run; cfg is as for New, and its
// Machine is open but does not run. What the others have recorded and this node never
// got is lost, and what it got but nobody had acknowledged yet is recorded now.
//
// The cluster gets a new id, so that the others, should they ever come back, find
// themselves in a foreign one. They can join with an empty folder.
//
// It may be interrupted anywhere, and is then called again.
func Recover(ctx context.Context, cfg Config) (rec Recovery, err error) {
	cfg.recovering = true
	n, err := New(cfg)
	if err != nil {
		return rec, err
	}
	defer n.Close()
	if n.plan.refill || n.plan.found {
		return rec, fmt.Errorf("there is nothing in %s to go on with: it has no database that fits its log; use another node of the cluster, or a backup", cfg.Dir)
	}
	floor, err := n.store.floor()
	if err != nil {
		return rec, err
	}
	if floor != (position{}) {
		return rec, fmt.Errorf("this node had lost its database, and has not got back what it had; use another node of the cluster, or a backup")
	}
	rec.Former, rec.ClusterID = cfg.Machine.ClusterID(), newClusterID()
	others, err := n.others()
	if err != nil {
		return rec, err
	}
	for _, s := range others {
		rec.Gone = append(rec.Gone, Server{ID: string(s.ID), Address: string(s.Address), Voter: s.Suffrage == raft.Voter})
	}
	if n.plan.wipe {
		if err := n.store.deleteAll(); err != nil {
			return rec, err
		}
	}
	if rec.Last, err = n.applyAll(ctx); err != nil {
		return rec, err
	}
	rec.Time = cfg.Machine.LastTime()
	if err := n.begin(ctx, &rec); err != nil {
		return rec, err
	}
	if err := n.store.Set(keyRemoved, nil); err != nil { // by a cluster that is no more
		return rec, err
	}
	n.log.WarnContext(ctx, "this node goes on alone; what the others had recorded after its last entry is lost",
		obs.Index(rec.Last), slog.Time("recorded", rec.Time.Time()), obs.Count(len(rec.Gone)))
	return rec, nil
}

// applyAll applies what is in the log, committed or not, and returns its last index.
func (n *Node) applyAll(ctx context.Context) (uint64, error) {
	m := n.cfg.Machine
	applied, _ := m.Applied()
	end := n.store.end()
	for i := applied + 1; i <= end.index; i++ {
		var l raft.Log
		if err := n.store.GetLog(i, &l); err != nil {
			return 0, fmt.Errorf("read entry %d of the log: %w", i, err)
		}
		if l.Type == raft.LogConfiguration {
			m.StoreConfiguration(l.Index, l.Data)
		}
		if l.Type != raft.LogCommand {
			continue
		}
		if _, err := m.Apply([]fsm.Entry{{Index: l.Index, Term: l.Term, Data: l.Data}}); err != nil {
			return 0, err
		}
	}
	if applied <= end.index {
		return end.index, nil
	}
	// The database came from another node, and the log ends before it.
	index, conf := m.Configuration()
	_, term := m.Applied()
	if err := n.snaps.mark(ctx, fsm.Marker{Index: applied, Term: term, ConfigurationIndex: index, Configuration: conf}); err != nil {
		return 0, err
	}
	if err := n.store.SetUint64(keyInstalled, applied); err != nil {
		return 0, err
	}
	return applied, n.store.deleteAll()
}

// begin writes and applies the two entries with which the new cluster begins: this
// node is its only server, and it has another id.
func (n *Node) begin(ctx context.Context, rec *Recovery) error {
	term, err := n.store.number(keyCurrentTerm)
	if err != nil {
		return err
	}
	_, appliedTerm := n.cfg.Machine.Applied()
	term = max(term, appliedTerm, n.store.end().term) + 1
	address, err := n.address()
	if err != nil {
		return err
	}
	conf := raft.EncodeConfiguration(raft.Configuration{Servers: []raft.Server{{Suffrage: raft.Voter, ID: raft.ServerID(n.cfg.ID), Address: address}}})
	n.clock.atLeast(n.cfg.Machine.LastTime())
	e := command.Entry{Time: n.clock.next(), Version: n.cfg.Version, Items: []command.Item{
		{Command: &command.Init{ClusterID: rec.ClusterID, Replaces: n.cfg.Machine.ClusterID()}},
	}}
	data, err := e.Append(nil)
	if err != nil {
		return err
	}
	logs := []*raft.Log{
		{Index: rec.Last + 1, Term: term, Type: raft.LogConfiguration, Data: conf},
		{Index: rec.Last + 2, Term: term, Type: raft.LogCommand, Data: data},
	}
	if err := n.cfg.fault("apply"); err != nil {
		return err
	}
	if err := n.store.SetUint64(keyCurrentTerm, term); err != nil {
		return err
	}
	if err := n.cfg.fault("term"); err != nil {
		return err
	}
	if err := n.store.StoreLogs(logs); err != nil {
		return err
	}
	if err := n.cfg.fault("entries"); err != nil {
		return err
	}
	results, err := n.cfg.Machine.Apply([]fsm.Entry{{Index: rec.Last + 2, Term: term, Data: data}})
	if err != nil {
		return err
	}
	if err := results[0][0].Error(); err != nil {
		return err
	}
	marker := fsm.Marker{Index: rec.Last + 2, Term: term, ConfigurationIndex: rec.Last + 1, Configuration: conf}
	n.cfg.Machine.StoreConfiguration(rec.Last+1, conf)
	return errors.Join(n.snaps.mark(ctx, marker), n.claim())
}

// address is where this node is, as the cluster knows it.
func (n *Node) address() (raft.ServerAddress, error) {
	if n.cfg.Address != "" {
		return raft.ServerAddress(n.cfg.Address), nil
	}
	conf, err := n.store.configuration()
	if err != nil {
		return "", err
	}
	if conf == nil {
		_, conf = n.cfg.Machine.Configuration()
	}
	if conf != nil {
		for _, s := range raft.DecodeConfiguration(conf).Servers {
			if s.ID == raft.ServerID(n.cfg.ID) {
				return s.Address, nil
			}
		}
	}
	return raft.ServerAddress(n.cfg.ID), nil
}
