package fsm

import (
	"bufio"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/orrery-io/orrery/internal/obs"
	"github.com/orrery-io/orrery/job"

	"golang.org/x/sys/unix"
)

// BackupInfo is what a backup says of itself.
type BackupInfo struct {
	MadeAt job.Time
	// ClusterID is that of the cluster it was made in.
	ClusterID string
	// Index and Term are those of the last log entry that it holds.
	Index, Term uint64
	// Version is that of the program that made it.
	Version string
	Size    int64
}

// A backup is a copy of the database without anything that ties it to a log: its
// applied index and its marker are 0, and it has no stamp. The table says that it was meant so, and what
// it holds; it goes when the backup is installed.
const (
	sqlMakeBackup = `CREATE TABLE backup (made_at INTEGER, cluster_id TEXT, applied_index INTEGER, applied_term INTEGER, version TEXT);
INSERT INTO backup SELECT ?, cluster_id, applied_index, applied_term, ? FROM meta;
UPDATE meta SET stamp = NULL, applied_index = 0, applied_term = 0, conf_index = 0, conf = NULL, marker_index = 0, marker_term = 0, marker_conf_index = 0, marker_conf = NULL`
	sqlIsBackup   = "SELECT count(*) FROM sqlite_schema WHERE type = 'table' AND name = 'backup'"
	sqlReadBackup = "SELECT made_at, cluster_id, applied_index, applied_term, version FROM backup"
	// The jobs that were submitted since the backup are gone, but their ids are not
	// given again; whoever follows the events learns that some are missing.
	sqlUseBackup = `DROP TABLE backup;
DELETE FROM feed;
UPDATE meta SET applied_index = ?1, applied_term = ?2, marker_index = ?1, marker_term = ?2, conf_index = ?3, conf = ?4, marker_conf_index = ?3, marker_conf = ?4,
	cluster_id = CASE ?5 WHEN '' THEN cluster_id ELSE ?5 END,
	last_id = max(last_id, ?6), last_chunk = max(last_chunk, ?7), last_time = max(last_time, ?8),
	feed_trimmed = ?1, feed_bytes = 0`
)

// backupRoom is how much room must be left after a backup, in bytes.
const backupRoom = 32 << 20

// Backup writes everything that was applied before the call to one file, fsynced,
// and checks that every row can be read. A row that is damaged is an error of which
// Config.OnDamage is told. A file of that name is replaced once the backup is
// whole; after an error nothing is left behind. Apply goes on meanwhile. madeAt and
// version are kept in it.
func (m *Machine) Backup(ctx context.Context, path string, madeAt time.Time, version string) (info BackupInfo, err error) {
	start := time.Now()
	if err := m.Flush(ctx); err != nil {
		return info, err
	}
	if err := m.checkRoom(path); err != nil {
		return info, err
	}
	part := path + ".part"
	defer func() {
		if err != nil {
			_ = os.Remove(part)
			_ = os.Remove(part + "-journal")
		}
	}()
	if _, err := m.CopyTo(ctx, part); err != nil {
		return info, err
	}
	if err := makeBackup(ctx, part, madeAt, version); err != nil {
		return info, fmt.Errorf("make a backup of the copy: %w", explain(part, err))
	}
	if info, err = readBackup(ctx, part, "quick_check"); err != nil {
		return info, err
	}
	if err := readRows(ctx, part); err != nil {
		return info, m.readError(explain(m.store.path, err)) // what was copied is
	}
	if err := syncPath(part); err != nil {
		return info, err
	}
	if err := os.Rename(part, path); err != nil {
		return info, err
	}
	m.log.InfoContext(ctx, "backup made", obs.Path(path), obs.Index(info.Index), obs.Took(time.Since(start)))
	return info, syncPath(filepath.Dir(path))
}

// checkRoom refuses a copy of the database that the disk cannot hold.
func (m *Machine) checkRoom(path string) error {
	m.gate.RLock()
	db := m.store.path
	m.gate.RUnlock()
	info, err := os.Stat(db)
	if err != nil {
		return err
	}
	return CheckRoom(path, info.Size())
}

// CheckRoom returns an error of code "disk_full" when the disk of path has no room
// for a file of that size.
func CheckRoom(path string, size int64) error {
	var s unix.Statfs_t
	if err := unix.Statfs(filepath.Dir(path), &s); err != nil {
		return job.Errorf(job.Invalid, "backup_folder", "the folder %s cannot be used (%v)", filepath.Dir(path), err)
	}
	if free := int64(s.Bavail) * int64(s.Bsize); free < size+backupRoom { //nolint:gosec // sizes of a disk
		return job.Errorf(job.Unavailable, "disk_full", "the disk that holds %s has %d MiB free, and %d MiB are needed; free some space, or choose another folder",
			path, free>>20, (size+backupRoom)>>20)
	}
	return nil
}

func makeBackup(ctx context.Context, path string, madeAt time.Time, version string) error {
	return rewrite(ctx, path, sqlMakeBackup, int64(job.At(madeAt)), version)
}

// rewrite runs statements on a file that nobody else has open, in one transaction.
// Every statement gets the arguments that it names.
func rewrite(ctx context.Context, path, query string, args ...any) (err error) {
	address, err := dsn(path, "rw", "journal_mode(DELETE)", "synchronous(FULL)")
	if err != nil {
		return err
	}
	db, err := sql.Open("sqlite", address)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	db.SetMaxOpenConns(1)
	tx, err := db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	if _, err := tx.ExecContext(ctx, query, args...); err != nil {
		return errors.Join(err, tx.Rollback())
	}
	return tx.Commit()
}

// CheckBackup reads all of a file, and returns what it says of itself when it is a
// backup that this program can restore: undamaged, ours, and of a schema that it
// knows. The file is not changed.
func CheckBackup(ctx context.Context, path string) (BackupInfo, error) {
	info, err := readBackup(ctx, path, "integrity_check")
	if err != nil {
		return info, err
	}
	if err := readRows(ctx, path); err != nil {
		return info, damagedBackup(ctx, err)
	}
	return info, nil
}

// damagedBackup is the error for a file in which err was met.
func damagedBackup(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return job.Errorf(job.Invalid, "backup_damaged", "the file is damaged (%v); give another backup", err)
}

func readBackup(ctx context.Context, path, check string) (info BackupInfo, err error) {
	stat, err := os.Stat(path)
	if err != nil {
		return info, job.Errorf(job.Invalid, "backup_unreadable", "the file %s cannot be read (%s)", path, pathReason(err))
	}
	info.Size = stat.Size()
	notOurs := job.Errorf(job.Invalid, "backup_foreign", "the file is not a backup of Orrery; give one that `orrery backup` has made")
	if info.Size == 0 {
		return info, notOurs
	}
	address, err := dsn(path, "ro", "cache_size(-8000)")
	if err != nil {
		return info, err
	}
	db, err := sql.Open("sqlite", address+"&immutable=1")
	if err != nil {
		return info, err
	}
	defer db.Close()
	bad := func(err error) error { return damagedBackup(ctx, err) }
	var app, version, marked, at, index, term int64
	if err := db.QueryRowContext(ctx, "SELECT (SELECT * FROM pragma_application_id), (SELECT * FROM pragma_user_version)").Scan(&app, &version); err != nil {
		return info, bad(err)
	}
	if app != applicationID || version < 1 {
		return info, notOurs
	}
	if version > NewestSchema {
		return info, errNewerSchema(int(version), NewestSchema)
	}
	var answer string
	if err := db.QueryRowContext(ctx, "PRAGMA "+check+"(1)").Scan(&answer); err != nil {
		return info, bad(err)
	}
	if answer != "ok" {
		return info, bad(errors.New(answer))
	}
	if err := db.QueryRowContext(ctx, sqlIsBackup).Scan(&marked); err != nil {
		return info, bad(err)
	}
	if marked == 0 {
		return info, job.Errorf(job.Invalid, "backup_raw", "the file is a database of Orrery, but no backup; give one that `orrery backup` has made")
	}
	if err := db.QueryRowContext(ctx, sqlReadBackup).Scan(&at, &info.ClusterID, &index, &term, &info.Version); err != nil {
		return info, bad(err)
	}
	info.MadeAt, info.Index, info.Term = job.Time(at), uint64(index), uint64(term) //nolint:gosec // log indexes
	return info, nil
}

// readRows reads all rows of a file that nobody changes, and checks their seals.
func readRows(ctx context.Context, path string) error {
	address, err := dsn(path, "ro", "cache_size(-8000)")
	if err != nil {
		return err
	}
	db, err := sql.Open("sqlite", address+"&immutable=1")
	if err != nil {
		return err
	}
	defer db.Close()
	tx, err := db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer func() { _ = tx.Rollback() }()
	h := &rowHash{w: bufio.NewWriter(io.Discard)}
	if err := h.rows(ctx, tx); err != nil {
		return err
	}
	h.to = h.to[:0]
	return h.table(ctx, tx, "SELECT doc FROM requests")
}

// isBackup reports whether a received file is a backup; Install refuses what is
// neither that nor a snapshot.
func isBackup(ctx context.Context, path string) bool {
	address, err := dsn(path, "ro")
	if err != nil {
		return false
	}
	db, err := sql.Open("sqlite", address+"&immutable=1")
	if err != nil {
		return false
	}
	defer db.Close()
	var marked int
	return db.QueryRowContext(ctx, sqlIsBackup).Scan(&marked) == nil && marked == 1
}

// useBackup makes a snapshot of a backup: one that stands for the entry at, and that
// goes on where this machine is.
func (m *Machine) useBackup(ctx context.Context, path string, at Marker) error {
	m.applyMu.Lock()
	cluster, id, chunk, now := m.state.clusterID, m.state.lastID, m.state.lastChunk, m.state.lastTime
	m.applyMu.Unlock()
	err := rewrite(ctx, path, sqlUseBackup, int64(at.Index), int64(at.Term), int64(at.ConfigurationIndex), at.Configuration, //nolint:gosec // log indexes
		cluster, int64(id), chunk, int64(now))
	if err != nil {
		return fmt.Errorf("make a snapshot of the backup: %w", explain(path, err))
	}
	return nil
}
