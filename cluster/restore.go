package cluster

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"

	"github.com/hashicorp/raft"
	"github.com/orrery-io/orrery/fsm"
	"github.com/orrery-io/orrery/internal/obs"
	"github.com/orrery-io/orrery/job"
)

// A backup is restored through raft: the leader takes it as a snapshot of an entry
// that never existed, behind everything that is in the log, and everybody else gets
// it like any snapshot. Nothing is put in place by hand, so nobody can miss it, and a
// node that joins or comes back later gets the same.
//
// The entry lies behind the backup's own last entry too, because fences are log
// indexes: in a new cluster, too, the next fence of a job is higher than its last.
//
// What is true afterwards is true of the restored rows: the leader ends its term
// before and begins it anew behind, so that nothing it knew of the rows before is
// used. Agents introduce themselves again, and what they don't have is lost.

// Restore replaces the rows of the whole cluster by those of a backup, on any node. The
// file is read in full before anything is touched, and stays as it is. What was
// recorded since the backup is gone; ids of jobs, of events and of the cluster go on.
// Work that comes in meanwhile waits for the leader.
//
// Errors: a *job.Error of kind Invalid refuses the file; job.ErrOutcomeUnknown means
// that the backup may have been restored or not, in all of the cluster alike.
func (n *Node) Restore(ctx context.Context, path string) error {
	info, err := fsm.CheckBackup(ctx, path)
	if err != nil {
		return err
	}
	if !n.enter() {
		return job.ErrClosed
	}
	defer n.guests.Done()
	return n.withLeader(ctx, n.cfg.LeaderWait, func(leader string) error {
		if leader != n.cfg.ID {
			index, err := n.sendBackup(ctx, leader, path, info)
			if err == nil {
				n.catchUp(ctx, index)
			}
			return err
		}
		mine, err := n.copyBackup(ctx, path, info.Size)
		if err != nil {
			return err
		}
		return n.restoreHere(ctx, mine)
	})
}

// restoration is a backup to be restored between two terms.
type restoration struct {
	path string // of a file in the folder of snapshots, removed by restore
	info fsm.BackupInfo
	done chan error // capacity 1
}

// restoreHere has the leader restore a file that belongs to it.
func (n *Node) restoreHere(ctx context.Context, path string) error {
	info, err := fsm.CheckBackup(ctx, path)
	if err != nil {
		return errors.Join(err, os.Remove(path))
	}
	req := &restoration{path: path, info: info, done: make(chan error, 1)}
	select {
	case n.restores <- req:
	case <-ctx.Done():
		return errors.Join(context.Cause(ctx), os.Remove(path))
	case <-n.over:
		return job.ErrClosed
	}
	select {
	case err := <-req.done:
		return err
	case <-ctx.Done():
		return fmt.Errorf("%w: %w", job.ErrOutcomeUnknown, context.Cause(ctx))
	case <-n.over:
		return job.ErrOutcomeUnknown
	}
}

// restore replaces the state. It is called between two terms.
func (n *Node) restore(ctx context.Context, r *raft.Raft, req *restoration) error {
	defer func() { _ = os.Remove(req.path) }() // gone when it was used
	if !n.barrier(ctx, r) {
		return job.ErrNotLeader
	}
	if err := n.cfg.fault("restore"); err != nil {
		return err
	}
	f, err := os.Open(req.path)
	if err != nil {
		return err
	}
	defer f.Close()
	before, _ := n.cfg.Machine.Applied()
	p := &prepared{File: f, path: req.path}
	n.log.InfoContext(ctx, "restoring a backup", obs.Index(before))
	err = r.Restore(&raft.SnapshotMeta{Version: raft.SnapshotVersionMax, Index: req.info.Index, Term: req.info.Term, Size: req.info.Size}, p, 0)
	applied, _ := n.cfg.Machine.Applied()
	switch {
	case err == nil:
		n.metrics.restores.Inc()
		n.log.WarnContext(ctx, "a backup was restored: what was recorded since it was made is gone", obs.Index(applied))
		return nil
	case p.taken:
		n.log.ErrorContext(ctx, "a backup was restored here, but the others may not have it", obs.Index(applied), obs.Err(err))
		return job.ErrOutcomeUnknown
	case errors.Is(err, raft.ErrNotLeader), errors.Is(err, raft.ErrLeadershipLost), errors.Is(err, raft.ErrLeadershipTransferInProgress):
		return job.ErrNotLeader
	case errors.Is(err, raft.ErrRaftShutdown):
		return job.ErrClosed
	}
	return job.Errorf(job.Unavailable, "restore_refused", "the backup could not be restored now (%v)", err).WithHint("try again in a few seconds")
}

// prepared is a backup on its way into raft, which would copy it while it does
// nothing else: the sink takes the file itself.
type prepared struct {
	*os.File
	path  string
	taken bool
}

// WriteTo implements io.WriterTo.
func (p *prepared) WriteTo(w io.Writer) (int64, error) {
	s, ok := w.(*sink)
	if !ok {
		return 0, fmt.Errorf("restore: %T is no sink of this store", w)
	}
	info, err := p.Stat()
	if err != nil {
		return 0, err
	}
	if err := os.Rename(p.path, s.path); err != nil {
		return 0, err
	}
	if s.file, err = os.OpenFile(s.path, os.O_WRONLY, 0); err != nil {
		return 0, err
	}
	p.taken = true
	s.meta.Size = info.Size()
	return info.Size(), nil
}

// copyBackup copies a file to where the sink can take it.
func (n *Node) copyBackup(ctx context.Context, path string, size int64) (_ string, err error) {
	from, err := os.Open(path)
	if err != nil {
		return "", job.Errorf(job.Invalid, "backup_unreadable", "the file %s cannot be read (%v)", path, err)
	}
	defer from.Close()
	to, err := n.snaps.spare(size)
	if err != nil {
		return "", err
	}
	_, err = io.Copy(to, readerWith(ctx, from))
	if err = errors.Join(err, to.Close()); err != nil {
		return "", errors.Join(err, os.Remove(to.Name()))
	}
	return to.Name(), nil
}

// spare makes a file for something of that size in the folder of snapshots.
func (s *snapshots) spare(size int64) (*os.File, error) {
	s.mu.Lock()
	s.serial++
	path := filepath.Join(s.dir, "backup-"+strconv.FormatUint(s.serial, 10)+".db")
	s.mu.Unlock()
	if err := fsm.CheckRoom(path, size); err != nil {
		return nil, err
	}
	return os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_RDWR, 0o600)
}

// readerWith makes reading end with ctx.
func readerWith(ctx context.Context, r io.Reader) io.Reader { return &ctxReader{ctx: ctx, r: r} }

type ctxReader struct {
	ctx context.Context //nolint:containedctx // one copy
	r   io.Reader
}

// Read implements io.Reader.
func (c *ctxReader) Read(b []byte) (int, error) {
	if c.ctx.Err() != nil {
		return 0, context.Cause(c.ctx)
	}
	return c.r.Read(b)
}
