package server

import (
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

// layout is the version of the data folder's layout. A node refuses a folder of
// a newer layout, because it could damage what it does not understand.
const layout = 1

// identity is what node.json holds.
type identity struct {
	Layout int `json:"layout"`
	// Node is the node's id: made once, kept for ever, whatever its address is.
	Node string `json:"node"`
	// Cluster is the cluster the folder belongs to; empty until it is known.
	Cluster string `json:"cluster,omitempty"`
	// Peers are the cluster addresses of the other servers when they were last seen:
	// with them a node finds its cluster again after a restart.
	Peers []string `json:"peers,omitempty"`
	// Version is that of the program that wrote the file.
	Version string `json:"version"`
}

// dataDir is an open data folder. It is locked until close.
type dataDir struct {
	path string
	lock *os.File

	mu sync.Mutex // setCluster and setPeers
	id identity   // Node never changes
}

// openDataDir creates the folder when it is missing, locks it, and reads or makes
// the node's identity. Its errors are sentences for the person who started it.
func openDataDir(path, version string) (*dataDir, error) {
	if path == "" {
		return nil, errors.New("no data folder was given; name one with --data DIR")
	}
	abs, err := filepath.Abs(path)
	if err != nil {
		return nil, fmt.Errorf("data folder %s: %w", path, err)
	}
	if err := os.MkdirAll(abs, 0o700); err != nil {
		return nil, explainPath(abs, err)
	}
	// A folder that is somebody else's gets no file of ours.
	if err := checkOurs(abs); err != nil {
		return nil, err
	}
	lock, err := os.OpenFile(filepath.Join(abs, "LOCK"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, explainPath(abs, err)
	}
	d := &dataDir{path: abs, lock: lock}
	if err := unix.Flock(int(lock.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		holder := d.holder()
		_ = lock.Close()
		if errors.Is(err, unix.EWOULDBLOCK) {
			return nil, fmt.Errorf("the data folder %s is in use by another node%s; stop that one, or give this one another folder with --data DIR", abs, holder)
		}
		return nil, explainPath(abs, err)
	}
	if err := d.loadIdentity(version); err != nil {
		_ = d.close()
		return nil, err
	}
	// The process id only helps a person to find the holder; the lock itself is
	// the kernel's.
	if err := lock.Truncate(0); err == nil {
		_, _ = lock.WriteAt([]byte(strconv.Itoa(os.Getpid())+"\n"), 0)
	}
	return d, nil
}

// holder says which process wrote its id into the lock file.
func (d *dataDir) holder() string {
	b, err := os.ReadFile(d.lock.Name())
	if pid := strings.TrimSpace(string(b)); err == nil && pid != "" {
		return " (process " + pid + ")"
	}
	return ""
}

func (d *dataDir) loadIdentity(version string) error {
	file := filepath.Join(d.path, "node.json")
	b, err := os.ReadFile(file)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		d.id = identity{Layout: layout, Node: "n-" + strings.ToLower(rand.Text()[:10]), Version: version}
		return d.save()
	case err != nil:
		return explainPath(file, err)
	}
	if err := json.Unmarshal(b, &d.id); err != nil || d.id.Node == "" || d.id.Layout == 0 {
		return fmt.Errorf("%s is damaged; put it back from a backup, or move the folder away to start anew", file)
	}
	if d.id.Layout > layout {
		return fmt.Errorf("the data folder %s was written by Orrery %s with layout %d, and this version (%s) knows only layout %d; start it with that version or a newer one", d.path, d.id.Version, d.id.Layout, version, layout)
	}
	return nil
}

// checkOurs refuses to make a node out of a folder that has parts of one, or that
// is full of something else.
func checkOurs(path string) error {
	entries, err := os.ReadDir(path)
	if err != nil {
		return explainPath(path, err)
	}
	if slices.ContainsFunc(entries, func(e fs.DirEntry) bool { return e.Name() == "node.json" }) {
		return nil
	}
	for _, e := range entries {
		switch e.Name() {
		case "LOCK", "node.json.new", "lost+found":
		case "db", "raft":
			return fmt.Errorf("the data folder %s has a %s folder but no node.json, so it is not known whose it is; put node.json back from a backup, or name an empty folder with --data DIR", path, e.Name())
		default:
			return fmt.Errorf("the folder %s is no data folder and not empty (it has %s); name an empty one with --data DIR", path, e.Name())
		}
	}
	return nil
}

// setCluster remembers the cluster, and refuses a folder of another one.
func (d *dataDir) setCluster(id, version string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if id == "" || d.id.Cluster == id {
		return nil
	}
	if d.id.Cluster != "" {
		return fmt.Errorf("the data folder %s belongs to cluster %s, but its database to cluster %s; parts of two clusters were mixed: put the right db and raft folders back, or name an empty folder with --data DIR", d.path, d.id.Cluster, id)
	}
	d.id.Cluster, d.id.Version = id, version
	return d.save()
}

// setPeers remembers the addresses of the other servers.
func (d *dataDir) setPeers(addrs []string) error {
	addrs = slices.Sorted(slices.Values(addrs))
	d.mu.Lock()
	defer d.mu.Unlock()
	if slices.Equal(d.id.Peers, addrs) {
		return nil
	}
	d.id.Peers = addrs
	return d.save()
}

// cluster is the cluster that the folder belongs to, "" while there is none.
func (d *dataDir) cluster() string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.id.Cluster
}

// peers returns what setPeers was given last.
func (d *dataDir) peers() []string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return slices.Clone(d.id.Peers)
}

// save writes node.json so that a crash leaves the old file or the new one.
func (d *dataDir) save() error {
	b, err := json.MarshalIndent(d.id, "", "  ")
	if err != nil {
		return fmt.Errorf("encode node.json: %w", err)
	}
	file := filepath.Join(d.path, "node.json")
	f, err := os.OpenFile(file+".new", os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return explainPath(file, err)
	}
	_, err = f.Write(append(b, '\n'))
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return explainPath(file, err)
	}
	if err := os.Rename(file+".new", file); err != nil {
		return explainPath(file, err)
	}
	return syncDir(d.path)
}

func syncDir(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return explainPath(path, err)
	}
	defer f.Close()
	if err := f.Sync(); err != nil {
		return explainPath(path, err)
	}
	return nil
}

// scratchName is the folder for files that nobody needs after a restart.
const scratchName = "scratch"

// emptyFolder makes a folder of the data folder, or empties it.
func (d *dataDir) emptyFolder(name string) error {
	path := d.sub(name)
	if err := os.RemoveAll(path); err != nil {
		return explainPath(path, err)
	}
	if err := os.MkdirAll(path, 0o700); err != nil {
		return explainPath(path, err)
	}
	return nil
}

func (d *dataDir) sub(name string) string { return filepath.Join(d.path, name) }

// close releases the lock.
func (d *dataDir) close() error { return d.lock.Close() }

// explainPath turns an error of the file system into a sentence that says what to
// do.
func explainPath(path string, err error) error {
	switch {
	case errors.Is(err, fs.ErrPermission):
		return fmt.Errorf("the data folder cannot be used: no permission for %s; let the user that runs Orrery own it, or name another with --data DIR", path)
	case errors.Is(err, syscall.ENOSPC):
		return fmt.Errorf("the disk that holds %s is full; free some space and start again, nothing was damaged", path)
	case errors.Is(err, syscall.EROFS):
		return fmt.Errorf("the file system of %s is read-only; name a writable folder with --data DIR", path)
	case errors.Is(err, syscall.ENOTDIR):
		return fmt.Errorf("%s is not a folder; name one with --data DIR", path)
	default:
		return fmt.Errorf("the data folder cannot be used: %w", err)
	}
}
