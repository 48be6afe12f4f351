package keyring

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"runtime"
	"strings"
	"time"

	"github.com/orrery-io/orrery/internal/obs"
)

const (
	maxFile = 64 << 10 // bytes of a key file
	poll    = 2 * time.Second
)

// Load reads a key file: one key per line, the first is used, all are accepted. Empty
// lines and what follows a # don't count. Its errors are sentences for whoever starts
// the node, and never contain a key.
func Load(path string) (*Ring, error) {
	r := &Ring{path: path}
	if _, err := r.Reload(); err != nil {
		return nil, err
	}
	return r, nil
}

// Reload reads the file again, and reports whether the keys have changed. After an
// error, which is as those of Load, they are what they were. A ring without a file
// never changes by it.
func (r *Ring) Reload() (changed bool, err error) {
	if r.path == "" {
		return false, nil
	}
	keys, err := readFile(r.path)
	if err != nil {
		return false, err
	}
	return r.replace(keys), nil
}

func readFile(path string) ([]*key, error) {
	f, err := os.Open(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, fmt.Errorf("the cluster key file %s does not exist; make one with `orrery cluster key > %s` on one node, and copy it to the others", path, path)
	case err != nil:
		return nil, fmt.Errorf("the cluster key file can't be read: %w", err)
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err != nil {
		return nil, fmt.Errorf("the cluster key file can't be read: %w", err)
	}
	if len(data) > maxFile {
		return nil, fmt.Errorf("%s is no cluster key file: it is larger than %d bytes", path, maxFile)
	}
	return parseFile(path, data)
}

func parseFile(path string, data []byte) ([]*key, error) {
	var keys []*key
	line := 0
	for text := range strings.Lines(string(bytes.TrimPrefix(data, []byte("\xef\xbb\xbf")))) {
		line++
		text, _, _ = strings.Cut(text, "#")
		if text = strings.TrimSpace(text); text == "" {
			continue
		}
		k, err := parse(text)
		if err != nil {
			return nil, fmt.Errorf("line %d of the cluster key file %s %w", line, path, err)
		}
		keys = append(keys, k)
	}
	if len(keys) == 0 {
		return nil, fmt.Errorf("there is no key in the cluster key file %s; `orrery cluster key` makes one", path)
	}
	return keys, nil
}

// Watch follows the file until ctx ends: it looks every two seconds, and tells log what
// has changed, or once what is wrong with it. A ring without a file has nothing to
// follow, and Watch only waits.
func (r *Ring) Watch(ctx context.Context, log *slog.Logger) {
	if r.path == "" {
		<-ctx.Done()
		return
	}
	log = log.With(obs.Path(r.path))
	if openToAll(r.path) {
		log.WarnContext(ctx, "everybody on this machine may read the cluster key, or write it; take that away with chmod 600")
	}
	tick := time.NewTicker(poll)
	defer tick.Stop()
	complaint := ""
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		changed, err := r.Reload()
		switch {
		case err != nil && err.Error() != complaint:
			log.ErrorContext(ctx, "the cluster key file is wrong, the keys stay as they were", obs.Err(err))
		case changed:
			keys := r.Keys()
			log.InfoContext(ctx, "cluster keys changed", slog.String("used", keys[0]), slog.Any("accepted", keys))
		}
		complaint = ""
		if err != nil {
			complaint = err.Error()
		}
	}
}

// openToAll reports whether every user of the machine may read or write the file. A
// group may: that is how orchestrators hand out secrets.
func openToAll(path string) bool {
	if runtime.GOOS == "windows" {
		return false // these bits mean nothing there
	}
	info, err := os.Stat(path)
	return err == nil && info.Mode().Perm()&0o006 != 0
}
