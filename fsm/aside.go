package fsm

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/orrery-io/orrery/internal/obs"
	"github.com/orrery-io/orrery/job"

	"modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"
)

// asidePrefix begins the names of folders with databases that are no longer used.
const asidePrefix = "aside-"

// Lost reports whether err, from Open or from a Machine, says that the database in
// the folder is missing or damaged. What another node has can replace it then; see
// SetAside.
func Lost(err error) bool {
	if e, ok := errors.AsType[*sqlite.Error](err); ok && (e.Code()&0xff == sqlite3.SQLITE_CORRUPT || e.Code()&0xff == sqlite3.SQLITE_NOTADB) {
		return true
	}
	e, ok := errors.AsType[*job.Error](err)
	return ok && slices.Contains([]string{"database_damaged", "database_missing", "current_damaged", "current_missing"}, e.Code)
}

// SetAside moves the database in dir, whatever state it is in, to a folder beside
// it, whose path it returns, so that Open makes an empty one. Nobody may have it
// open. It returns "" when there is nothing to move. After a crash it may be called
// again.
//
// An empty database under a log that is not empty is no new beginning: whoever calls
// this must see to it that the content comes again from another node.
func SetAside(dir string) (path string, err error) {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	if err != nil {
		return "", fmt.Errorf("set the database aside: %w", err)
	}
	var move []string
	last := 0
	for _, e := range entries {
		name := e.Name()
		if n, err := strconv.Atoi(strings.TrimPrefix(name, asidePrefix)); err == nil && strings.HasPrefix(name, asidePrefix) {
			last = max(last, n)
		}
		if name == currentFile || name == currentFile+".new" || genNumber(name) > 0 {
			move = append(move, name)
		}
	}
	if len(move) == 0 {
		return "", nil
	}
	path = filepath.Join(dir, asidePrefix+strconv.Itoa(last+1))
	if err := os.Mkdir(path, 0o700); err != nil {
		return "", fmt.Errorf("set the database aside: %w", err)
	}
	// CURRENT is the first in the order of names: without it nothing that is left
	// behind by a crash is taken for a database.
	for _, name := range move {
		if err := os.Rename(filepath.Join(dir, name), filepath.Join(path, name)); err != nil {
			return "", fmt.Errorf("set the database aside: %w", err)
		}
		if err := errors.Join(syncPath(path), syncPath(dir)); err != nil {
			return "", fmt.Errorf("set the database aside: %w", err)
		}
	}
	return path, nil
}

// Reset sets the database aside, returns where it is now, and goes on with an empty
// one. Nobody calls Apply meanwhile; readers wait.
func (m *Machine) Reset(ctx context.Context) (aside string, err error) {
	m.flushMu.Lock()
	defer m.flushMu.Unlock()
	if err := m.failed(); err != nil {
		return "", err
	}
	m.hashes.stop()
	m.gate.Lock()
	defer m.gate.Unlock()
	m.store.close()
	if aside, err = m.restart(ctx); err != nil {
		err = fmt.Errorf("begin with an empty database: %w", err)
		m.fail(err)
		return "", err
	}
	m.advanced.broadcast()
	m.log.InfoContext(ctx, "database set aside, an empty one begun", obs.Path(aside))
	return aside, nil
}

// restart replaces the closed database by an empty one.
func (m *Machine) restart(ctx context.Context) (aside string, err error) {
	if aside, err = SetAside(m.cfg.Dir); err != nil {
		return "", err
	}
	if m.dir, err = openGenerations(m.cfg.Dir); err != nil {
		return "", err
	}
	if err := m.open(ctx); err != nil {
		return "", err
	}
	return aside, m.begin()
}
