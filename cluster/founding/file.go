package founding

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// layout is the version of the file.
const layout = 1

// store keeps a record. After save has returned nil the record survives a crash; after
// an error or a crash it is the old one or the new one.
type store interface {
	load() (record, error)
	save(r record) error
}

// file is a store on disk.
type file struct {
	path string
	step func(name string) error // between the steps of save, for tests; nil for none
}

func (f file) load() (record, error) {
	b, err := os.ReadFile(f.path)
	if errors.Is(err, fs.ErrNotExist) {
		return record{}, nil
	}
	if err != nil {
		return record{}, fmt.Errorf("read what this node has promised about a new cluster: %w", err)
	}
	var r record
	if err := json.Unmarshal(b, &r); err != nil || r.Layout < 1 {
		return record{}, fmt.Errorf("%s is damaged; put it back from a backup, or start with an empty data folder", f.path)
	}
	if r.Layout > layout {
		return record{}, fmt.Errorf("%s was written by a newer version of Orrery; start this node with that version", f.path)
	}
	return r, nil
}

func (f file) save(r record) error {
	r.Layout = layout
	b, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return err
	}
	if err := f.write(append(b, '\n')); err != nil {
		return fmt.Errorf("write down what this node promises about a new cluster: %w", err)
	}
	return nil
}

// write replaces the file: a crash at any moment leaves the old content or the new.
func (f file) write(b []byte) error {
	fresh := f.path + ".new"
	w, err := os.OpenFile(fresh, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = w.Write(b)
	if err == nil {
		err = f.pass("written")
	}
	if err == nil {
		err = w.Sync()
	}
	if err = errors.Join(err, w.Close()); err != nil {
		return err
	}
	if err := f.pass("synced"); err != nil {
		return err
	}
	if err := os.Rename(fresh, f.path); err != nil {
		return err
	}
	if err := f.pass("renamed"); err != nil {
		return err
	}
	return syncDir(filepath.Dir(f.path))
}

func (f file) pass(name string) error {
	if f.step == nil {
		return nil
	}
	return f.step(name)
}

func syncDir(path string) error {
	d, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
