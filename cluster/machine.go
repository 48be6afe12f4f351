package cluster

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"sync/atomic"

	"github.com/hashicorp/raft"
	"github.com/orrery-io/orrery/fsm"
)

// errStopped is what raft gets instead of results once the machine has failed. It is
// never shown to a caller.
var errStopped = errors.New("the state machine has stopped")

// adapter hands what raft has committed to the machine. Its methods that raft calls
// are called from one goroutine.
type adapter struct {
	machine Machine
	snaps   *snapshots
	metrics *metrics
	fail    func(error)
	ctx     func() context.Context // of Run
	fault   func(step string) error
	damaged func() // the database was found to be damaged

	broken      atomic.Bool
	lastCommand atomic.Uint64 // index of the newest applied command
	entries     []fsm.Entry
}

var (
	_ raft.BatchingFSM        = (*adapter)(nil)
	_ raft.ConfigurationStore = (*adapter)(nil)
)

// ApplyBatch implements raft.BatchingFSM. An error of the machine ends the node: what
// was not applied must not be passed over, and it is no result for a caller.
func (a *adapter) ApplyBatch(logs []*raft.Log) []any {
	out := make([]any, len(logs))
	for i := 0; i < len(logs); {
		if logs[i].Type == raft.LogConfiguration {
			if !a.broken.Load() {
				a.machine.StoreConfiguration(logs[i].Index, logs[i].Data)
			}
			i++
			continue
		}
		end := i
		for end < len(logs) && logs[end].Type == raft.LogCommand {
			end++
		}
		if end == i {
			a.stop(fmt.Errorf("entry %d is of type %s, which this version does not know", logs[i].Index, logs[i].Type))
			end++
		}
		a.apply(logs[i:end], out[i:end])
		i = end
	}
	return out
}

func (a *adapter) apply(logs []*raft.Log, out []any) {
	for i := range out {
		out[i] = errStopped
	}
	if a.broken.Load() {
		return
	}
	a.entries = a.entries[:0]
	for _, l := range logs {
		a.entries = append(a.entries, fsm.Entry{Index: l.Index, Term: l.Term, Data: l.Data})
	}
	results, err := a.machine.Apply(a.entries)
	clear(a.entries)
	if err == nil && len(results) != len(logs) {
		err = fmt.Errorf("the state machine answered %d of %d entries", len(results), len(logs))
	}
	if err != nil {
		a.stop(fmt.Errorf("apply entries %d to %d: %w", logs[0].Index, logs[len(logs)-1].Index, err))
		return
	}
	for i := range results {
		out[i] = results[i]
	}
	a.lastCommand.Store(logs[len(logs)-1].Index)
}

// stop makes sure that nothing is applied after what failed, and ends the node.
func (a *adapter) stop(err error) {
	if a.broken.CompareAndSwap(false, true) {
		if fsm.Lost(err) {
			a.damaged()
		}
		a.fail(err)
	}
}

// Apply implements raft.FSM. Raft uses ApplyBatch instead.
func (a *adapter) Apply(l *raft.Log) any { return a.ApplyBatch([]*raft.Log{l})[0] }

// StoreConfiguration implements raft.ConfigurationStore. Raft hands configurations to
// ApplyBatch instead.
func (a *adapter) StoreConfiguration(index uint64, conf raft.Configuration) {
	a.machine.StoreConfiguration(index, raft.EncodeConfiguration(conf))
}

// Snapshot implements raft.FSM: it permits a new marker.
func (a *adapter) Snapshot() (raft.FSMSnapshot, error) {
	if a.broken.Load() {
		return nil, errStopped
	}
	applied, _ := a.machine.Applied()
	if marker, _ := a.machine.Marker(); applied <= marker.Index {
		return nil, raft.ErrNothingNewToSnapshot
	}
	return a.snaps.begin(), nil
}

// Restore implements raft.FSM: it puts a database that was received in the place of
// the present one.
func (a *adapter) Restore(rc io.ReadCloser) error {
	if a.broken.Load() {
		return errStopped
	}
	for {
		if r, ok := rc.(*received); ok {
			return a.restore(r)
		}
		w, ok := rc.(raft.ReadCloserWrapper)
		if !ok {
			return fmt.Errorf("restore: %T is no snapshot of this store", rc)
		}
		rc = w.WrappedReadCloser()
	}
}

func (a *adapter) restore(r *received) error {
	release := a.snaps.supersede()
	defer release()
	if err := a.step("received"); err != nil {
		return err
	}
	before, _ := a.machine.Applied()
	undo, err := a.snaps.installing()
	if err != nil {
		return err
	}
	if err := a.step("announced"); err != nil {
		return err
	}
	marker, err := a.machine.Install(a.ctx(), r.path, fsm.Marker{
		Index: r.meta.Index, Term: r.meta.Term,
		ConfigurationIndex: r.meta.ConfigurationIndex, Configuration: raft.EncodeConfiguration(r.meta.Configuration),
	})
	if err != nil {
		// The machine refuses a file before it gives up what it has.
		return errors.Join(fmt.Errorf("install a received database: %w", err), undo())
	}
	if err := a.step("swapped"); err != nil {
		return err
	}
	if err := a.check(r, marker, before); err != nil {
		a.stop(err)
		return err
	}
	if err := a.snaps.installed(); err != nil {
		a.stop(err)
		return err
	}
	applied, _ := a.machine.Applied()
	a.lastCommand.Store(applied)
	a.metrics.installs.Inc()
	return a.step("noted")
}

// step is where a test may have the node die.
func (a *adapter) step(name string) error {
	err := a.fault(name)
	if err != nil {
		a.stop(err)
	}
	return err
}

// check asserts what must be true of an installed database.
func (a *adapter) check(r *received, marker fsm.Marker, before uint64) error {
	applied, _ := a.machine.Applied()
	switch {
	case marker.Index < r.meta.Index:
		return fmt.Errorf("the installed database has its marker at %d, but %d was promised", marker.Index, r.meta.Index)
	case applied < marker.Index:
		return fmt.Errorf("the installed database has applied %d, less than its marker %d", applied, marker.Index)
	case applied < before:
		return fmt.Errorf("the installed database has applied %d, less than this node before: %d", applied, before)
	}
	return nil
}

// received is a database that came from another node, opened for Restore.
type received struct {
	*os.File
	path string
	meta raft.SnapshotMeta
	drop func() error
}

// Close removes the file: it was installed by now, or refused.
func (r *received) Close() error {
	err := r.File.Close()
	if gone := r.drop(); !errors.Is(gone, os.ErrNotExist) { // an install moves it away
		err = errors.Join(err, gone)
	}
	return err
}
