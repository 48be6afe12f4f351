package fsm

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/orrery-io/orrery/internal/obs"
	"github.com/orrery-io/orrery/job"

	"modernc.org/sqlite"
)

// Mark makes the database stand for a snapshot: everything dirty and the marker
// are written in one transaction and fsynced. Apply goes on meanwhile. Applied is
// at least the marker's index afterwards, because a barrier or the like moves the
// log without reaching apply.
func (m *Machine) Mark(ctx context.Context, marker Marker) error {
	if old, ok := m.Marker(); ok && marker.Index < old.Index {
		return fmt.Errorf("marker %d is older than %d", marker.Index, old.Index)
	}
	start := time.Now()
	if err := m.flushNow(flushReason{marker: &marker, sync: true, force: true}); err != nil {
		return fmt.Errorf("mark snapshot %d: %w", marker.Index, err)
	}
	m.advanced.broadcast()
	m.log.DebugContext(ctx, "snapshot marked", obs.Index(marker.Index), obs.Term(marker.Term), obs.Took(time.Since(start)))
	return nil
}

// copyPages is how many pages are copied between two looks at ctx.
const copyPages = 2048

// CopyTo writes a consistent copy of the live database to a new file and returns
// its size. The copy holds the marker, and rows that may be newer than it. The
// writer goes on meanwhile.
func (m *Machine) CopyTo(ctx context.Context, path string) (size int64, err error) {
	m.gate.RLock()
	defer m.gate.RUnlock()
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return 0, err
	}
	c, err := m.store.lists.Conn(ctx)
	if err != nil {
		return 0, m.readError(explain(m.store.path, err))
	}
	defer c.Close()
	// The backup runs inside a read transaction. Without one it would begin again
	// after every flush, and never end.
	if _, err := c.ExecContext(ctx, "BEGIN"); err != nil {
		return 0, explain(m.store.path, err)
	}
	defer func() {
		if _, e := c.ExecContext(context.WithoutCancel(ctx), "ROLLBACK"); err == nil {
			err = e
		}
	}()
	var index int64
	if err := c.QueryRowContext(ctx, "SELECT applied_index FROM meta").Scan(&index); err != nil {
		return 0, explain(m.store.path, err)
	}
	if err := c.Raw(func(raw any) error { return backup(ctx, raw, path) }); err != nil {
		_ = os.Remove(path)
		return 0, fmt.Errorf("copy the database to %s: %w", path, explain(path, err))
	}
	if err := syncPath(path); err != nil {
		return 0, err
	}
	info, err := os.Stat(path)
	if err != nil {
		return 0, err
	}
	return info.Size(), nil
}

// backup copies the database of a driver connection to a file.
func backup(ctx context.Context, raw any, path string) error {
	src, ok := raw.(interface {
		NewBackup(string) (*sqlite.Backup, error)
	})
	if !ok {
		return fmt.Errorf("the SQLite driver's %T cannot copy", raw)
	}
	to, err := dsn(path, "rwc", "journal_mode(OFF)", "synchronous(OFF)")
	if err != nil {
		return err
	}
	b, err := src.NewBackup(to)
	if err != nil {
		return err
	}
	for more := true; more && err == nil; {
		if ctx.Err() != nil {
			err = context.Cause(ctx)
			break
		}
		more, err = b.Step(copyPages)
	}
	return errors.Join(err, b.Finish())
}

// Install replaces the database by a received file: it is checked, becomes the
// next generation, and is opened. The file is moved away. Nobody calls Apply
// meanwhile; readers wait.
//
// A backup has no marker: it is made to stand for at, which is ignored otherwise. Its
// rows become those of this cluster, whose id it takes; ids of jobs go on where they
// are, also those of jobs that the backup doesn't have, and the events from before
// count as trimmed.
//
// A file that is refused leaves everything as it was.
func (m *Machine) Install(ctx context.Context, path string, at Marker) (Marker, error) {
	m.flushMu.Lock()
	defer m.flushMu.Unlock()
	if err := m.failed(); err != nil {
		return Marker{}, err
	}
	start := time.Now()
	if err := checkLog(path); err != nil {
		return Marker{}, err
	}
	if at.Index > 0 && isBackup(ctx, path) {
		if err := m.useBackup(ctx, path, at); err != nil {
			return Marker{}, err
		}
	}
	marker, err := m.checkFile(ctx, path)
	if err != nil {
		return Marker{}, err
	}
	// It is another file than the one that it is a copy of.
	if err := restamp(ctx, path); err != nil {
		return Marker{}, fmt.Errorf("install snapshot %d: %w", marker.Index, explain(path, err))
	}
	next, err := m.dir.adopt(path)
	if err != nil {
		return Marker{}, fmt.Errorf("install snapshot %d: %w", marker.Index, err)
	}
	m.hashes.stop()
	m.gate.Lock()
	defer m.gate.Unlock()
	if err := m.replace(ctx, next); err != nil {
		err = fmt.Errorf("install snapshot %d: %w", marker.Index, err)
		m.fail(err)
		return Marker{}, err
	}
	m.advanced.broadcast()
	m.log.InfoContext(ctx, "snapshot installed", obs.Index(m.applied.Load()), obs.Path(m.store.path), obs.Took(time.Since(start)))
	return marker, nil
}

// replace switches to a generation. The caller has exclusive use of the machine.
// An error leaves it unusable; the next start finds either generation whole.
func (m *Machine) replace(ctx context.Context, next generations) error {
	old := m.dir
	if err := next.commit(); err != nil {
		return err
	}
	m.store.close()
	m.dir = next
	if err := m.open(ctx); err != nil {
		return err
	}
	return m.dir.removeOthers([]int{old.number})
}

// checkFile looks at a received database before it is used: every page, the
// schema, that it is a snapshot, and that it does not take this node back.
func (m *Machine) checkFile(ctx context.Context, path string) (marker Marker, err error) {
	if err := probe(path); err != nil {
		return marker, err
	}
	address, err := dsn(path, "rw", "journal_mode(DELETE)", "cache_size(-8000)")
	if err != nil {
		return marker, err
	}
	db, err := sql.Open("sqlite", address)
	if err != nil {
		return marker, err
	}
	defer db.Close()
	db.SetMaxOpenConns(1)
	c, err := db.Conn(ctx)
	if err != nil {
		return marker, explain(path, err)
	}
	defer c.Close()
	if err := quickCheck(ctx, c, path); err != nil {
		return marker, explain(path, err)
	}
	var app, version int
	if err := c.QueryRowContext(ctx, "SELECT (SELECT * FROM pragma_application_id), (SELECT * FROM pragma_user_version)").Scan(&app, &version); err != nil {
		return marker, explain(path, err)
	}
	if app != applicationID || version < 1 {
		return marker, job.Errorf(job.Unavailable, "database_foreign", "%s is not a snapshot of Orrery", path)
	}
	if version > newest(m.cfg.migrations) {
		return marker, errNewerSchema(version, newest(m.cfg.migrations))
	}
	var applied, index, term, confIndex int64
	err = c.QueryRowContext(ctx, "SELECT applied_index, marker_index, marker_term, marker_conf_index, marker_conf FROM meta").
		Scan(&applied, &index, &term, &confIndex, &marker.Configuration)
	if err != nil {
		return marker, explain(path, err)
	}
	marker.Index, marker.Term, marker.ConfigurationIndex = uint64(index), uint64(term), uint64(confIndex) //nolint:gosec // log indexes
	switch have := m.applied.Load(); {
	case index == 0:
		return marker, job.Errorf(job.Invalid, "snapshot_unmarked", "%s holds no snapshot marker; it is a copy of a database that never was a snapshot", path)
	case applied < index:
		return marker, job.Errorf(job.Invalid, "snapshot_behind", "%s holds rows up to log index %d, but claims to be a snapshot of %d", path, applied, index)
	case uint64(applied) < have: //nolint:gosec // a log index
		return marker, job.Errorf(job.Invalid, "snapshot_older", "%s ends at log index %d, and this node is at %d already", path, applied, have)
	}
	return marker, nil
}
