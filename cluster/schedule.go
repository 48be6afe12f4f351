package cluster

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/orrery-io/orrery/fsm"
	"github.com/orrery-io/orrery/internal/obs"
	"github.com/prometheus/client_golang/prometheus"
)

// BackupsConfig says when a node makes backups of itself, and where.
type BackupsConfig struct {
	// Dir is the folder of the backups. It is created when it is missing. Required.
	Dir string
	// Make writes a backup to a file, as fsm.Machine.Backup does. Required.
	Make func(ctx context.Context, path string, madeAt time.Time) (fsm.BackupInfo, error)
	// Every is the time between two backups; zero means 24h, less than zero never.
	Every time.Duration
	// Keep is how many are kept; zero means 3.
	Keep int
	// Log gets what there is to tell; nil means nowhere.
	Log *slog.Logger
	// Registerer gets the metrics; nil means none.
	Registerer prometheus.Registerer
}

// Backups makes backups from time to time. They need no leader: a node backs up what
// it has, so that a node alone, too, has something to go back to.
type Backups struct {
	cfg    BackupsConfig
	made   prometheus.Counter
	failed prometheus.Counter
}

// NewBackups starts nothing.
func NewBackups(cfg BackupsConfig) (*Backups, error) {
	if cfg.Dir == "" || cfg.Make == nil {
		return nil, errors.New("cluster: BackupsConfig.Dir and Make are required")
	}
	cfg.Every = cmp.Or(cfg.Every, 24*time.Hour)
	cfg.Keep = cmp.Or(cfg.Keep, 3)
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	b := &Backups{
		cfg: cfg,
		made: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "orrery_cluster_backups_total",
			Help: "Backups that this node has made of itself on schedule.",
		}),
		failed: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "orrery_cluster_backups_failed_total",
			Help: "Backups on schedule that could not be made.",
		}),
	}
	if cfg.Registerer != nil {
		cfg.Registerer.MustRegister(b.made, b.failed)
	}
	return b, nil
}

// retryBackup is when a backup that failed is tried again, at the latest.
const retryBackup = time.Hour

// settleFirst is how long a node that has just started is left to its work at least.
const settleFirst = time.Minute

// Run makes backups until ctx ends, and returns nil then. The first is made when the
// newest one in the folder is old enough or there is none, but not in the first minute.
func (b *Backups) Run(ctx context.Context) error {
	if b.cfg.Every < 0 {
		<-ctx.Done()
		return nil
	}
	least := min(b.cfg.Every, settleFirst)
	for {
		wait := least
		least = 0
		if found, err := b.list(); err == nil && len(found) > 0 {
			// A clock that was ahead doesn't put it off for long.
			wait = max(wait, min(b.cfg.Every-time.Since(found[len(found)-1].at), b.cfg.Every))
		}
		for {
			select {
			case <-ctx.Done():
				return nil
			case <-time.After(wait):
			}
			err := b.make(ctx)
			if err == nil {
				break
			}
			if ctx.Err() != nil {
				return nil //nolint:nilerr // it was cancelled
			}
			b.failed.Inc()
			wait = min(b.cfg.Every, retryBackup)
			b.cfg.Log.ErrorContext(ctx, "the backup on schedule could not be made; the ones before are kept", obs.Path(b.cfg.Dir), obs.Err(err), slog.Duration("again_in", wait))
		}
	}
}

// The names of backups say when they were made: they must not change when somebody
// copies the folder.
const (
	backupPrefix = "orrery-"
	backupSuffix = ".db"
	backupTime   = "20060102T150405Z"
)

// oneBackup is one backup in the folder.
type oneBackup struct {
	path string
	at   time.Time
}

// list returns the backups in the folder, oldest first.
func (b *Backups) list() ([]oneBackup, error) {
	entries, err := os.ReadDir(b.cfg.Dir)
	if err != nil {
		return nil, err
	}
	var found []oneBackup
	for _, e := range entries {
		text, ok := strings.CutPrefix(e.Name(), backupPrefix)
		text, suffix := strings.CutSuffix(text, backupSuffix)
		if !ok || !suffix {
			continue
		}
		if at, err := time.Parse(backupTime, text); err == nil {
			found = append(found, oneBackup{filepath.Join(b.cfg.Dir, e.Name()), at})
		}
	}
	slices.SortFunc(found, func(x, y oneBackup) int { return x.at.Compare(y.at) })
	return found, nil
}

// make makes one backup, and removes those that are too many.
func (b *Backups) make(ctx context.Context) error {
	if err := os.MkdirAll(b.cfg.Dir, 0o700); err != nil {
		return err
	}
	if err := b.sweep(); err != nil {
		return err
	}
	now := time.Now().UTC()
	if _, err := b.cfg.Make(ctx, filepath.Join(b.cfg.Dir, backupPrefix+now.Format(backupTime)+backupSuffix), now); err != nil {
		return err
	}
	b.made.Inc()
	found, err := b.list()
	if err != nil {
		return err
	}
	for len(found) > max(b.cfg.Keep, 1) {
		if err := os.Remove(found[0].path); err != nil {
			return fmt.Errorf("remove an old backup: %w", err)
		}
		found = found[1:]
	}
	return nil
}

// sweep removes what a process that was killed left behind.
func (b *Backups) sweep() error {
	left, err := filepath.Glob(filepath.Join(b.cfg.Dir, backupPrefix+"*"+backupSuffix+".part*"))
	if err != nil {
		return err
	}
	for _, path := range left {
		if err := os.Remove(path); err != nil {
			return err
		}
	}
	return nil
}
