package fsm

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/orrery-io/orrery/job"
)

// generations is the folder with the databases: gen-N/state.db, and CURRENT that
// names the generation in use. A received snapshot becomes the next generation,
// and CURRENT is renamed over atomically. Renaming the file itself would put it
// beside the old one's -wal, and SQLite would show the old content.
type generations struct {
	folder string
	number int
	fresh  bool // CURRENT has not been written yet
}

const (
	currentFile  = "CURRENT"
	databaseFile = "state.db"
	genPrefix    = "gen-"
)

func (g generations) name() string { return genPrefix + strconv.Itoa(g.number) }
func (g generations) path() string { return filepath.Join(g.folder, g.name(), databaseFile) }

// openGenerations finds the generation in use, or prepares the first one in an
// empty folder.
func openGenerations(folder string) (generations, error) {
	g := generations{folder: folder}
	if err := os.MkdirAll(folder, 0o700); err != nil {
		return g, job.Errorf(job.Unavailable, "data_unreadable",
			"the folder %s cannot be made (%s); choose a folder that this user may write to", folder, pathReason(err))
	}
	found, err := g.list()
	if err != nil {
		return g, err
	}
	current, err := os.ReadFile(filepath.Join(folder, currentFile))
	switch {
	case errors.Is(err, fs.ErrNotExist):
		if len(found) > 1 || len(found) == 1 && found[0] != 1 {
			return g, job.Errorf(job.Unavailable, "current_missing",
				"the file %s is missing; restore the data folder from a backup, or write the name of the newest gen- folder into it", filepath.Join(folder, currentFile))
		}
		g.number, g.fresh = 1, true
		return g, os.MkdirAll(filepath.Join(folder, g.name()), 0o700)
	case err != nil:
		return g, job.Errorf(job.Unavailable, "data_unreadable",
			"the file %s cannot be read (%s); make the data folder readable for the user that runs this node", filepath.Join(folder, currentFile), pathReason(err))
	}
	if g.number = genNumber(strings.TrimSpace(string(current))); g.number == 0 {
		return g, job.Errorf(job.Unavailable, "current_damaged",
			"the file %s holds %.40q instead of the name of a gen- folder; restore the data folder from a backup", filepath.Join(folder, currentFile), current)
	}
	if _, err := os.Stat(g.path()); errors.Is(err, fs.ErrNotExist) {
		return g, job.Errorf(job.Unavailable, "database_missing",
			"the database %s is missing; restore the data folder from a backup, or remove this node and let it join again with an empty one", g.path())
	}
	return g, g.removeOthers(found)
}

// list returns the numbers of the gen- folders.
func (g generations) list() ([]int, error) {
	entries, err := os.ReadDir(g.folder)
	if err != nil {
		return nil, job.Errorf(job.Unavailable, "data_unreadable",
			"the folder %s cannot be read (%s); make it readable for the user that runs this node", g.folder, pathReason(err))
	}
	var found []int
	for _, e := range entries {
		if n := genNumber(e.Name()); n > 0 && e.IsDir() {
			found = append(found, n)
		}
	}
	slices.Sort(found)
	return found, nil
}

// genNumber is N for "gen-N", 0 for everything else.
func genNumber(name string) int {
	text, ok := strings.CutPrefix(name, genPrefix)
	n, err := strconv.Atoi(text)
	if !ok || err != nil || n < 1 || strconv.Itoa(n) != text {
		return 0
	}
	return n
}

// removeOthers deletes what an interrupted Install left.
func (g generations) removeOthers(found []int) error {
	for _, n := range found {
		if n == g.number {
			continue
		}
		if err := os.RemoveAll(filepath.Join(g.folder, genPrefix+strconv.Itoa(n))); err != nil {
			return fmt.Errorf("remove old generation: %w", err)
		}
	}
	return nil
}

// adopt moves a database file into the next generation, and returns that. It is
// not in use before commit.
func (g generations) adopt(file string) (generations, error) {
	next := generations{folder: g.folder, number: g.number + 1}
	folder := filepath.Join(next.folder, next.name())
	if err := os.RemoveAll(folder); err != nil {
		return next, err
	}
	if err := os.Mkdir(folder, 0o700); err != nil {
		return next, err
	}
	if err := os.Rename(file, next.path()); err != nil {
		return next, err
	}
	return next, errors.Join(syncPath(next.path()), syncPath(folder), syncPath(next.folder))
}

// commit makes g the generation in use, whatever happens afterwards.
func (g *generations) commit() error {
	current := filepath.Join(g.folder, currentFile)
	f, err := os.OpenFile(current+".new", os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = f.WriteString(g.name() + "\n")
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	if err := os.Rename(current+".new", current); err != nil {
		return err
	}
	g.fresh = false
	return syncPath(g.folder)
}

// syncPath flushes a file or folder to the disk.
func syncPath(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}
