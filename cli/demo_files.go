package cli

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"
	"unicode/utf8"
)

// maxDemoFile bounds the files that are hashed, in bytes: a demonstration should
// not read a disk image twice.
const maxDemoFile = 256 << 20

// demoFile is a file to hash.
type demoFile struct {
	path string // absolute
	name string // below the folder
	size int64
	mod  time.Time
}

// demoFiles is what was found below a folder.
type demoFiles struct {
	root  string
	files []demoFile
	// more means that there were more than the limit.
	more  bool
	large int
	// unreadable holds what could not be read, with the reason.
	unreadable []string
}

func (f *demoFiles) skipped() int { return f.large + len(f.unreadable) }

// findFiles walks a folder in lexical order and takes regular files, up to limit.
// It leaves out .git and the data of a node.
func findFiles(dir string, limit int) (*demoFiles, error) {
	if limit < 1 {
		return nil, usagef("--max-files is %d; it must be at least 1", limit)
	}
	root, err := filepath.Abs(dir)
	if err != nil {
		return nil, failuref("", "%s", err)
	}
	if info, err := os.Stat(root); err != nil {
		return nil, failuref("", "%s", err)
	} else if !info.IsDir() {
		return nil, failuref("", "%s is not a folder", root)
	}
	found := &demoFiles{root: root}
	err = filepath.WalkDir(root, func(path string, e fs.DirEntry, err error) error {
		name, _ := filepath.Rel(root, path)
		switch {
		case err != nil:
			found.unreadable = append(found.unreadable, name+": "+why(err))
			return nil
		case e.IsDir() && path != root && (e.Name() == ".git" || e.Name() == defaultData):
			return fs.SkipDir
		case !e.Type().IsRegular():
			return nil
		case len(found.files) == limit:
			found.more = true
			return fs.SkipAll
		}
		info, err := e.Info()
		switch {
		case errors.Is(err, fs.ErrNotExist):
			return nil // gone in the meantime
		case err != nil:
			found.unreadable = append(found.unreadable, name+": "+why(err))
			return nil
		case info.Size() > maxDemoFile:
			found.large++
			return nil
		case !utf8.ValidString(path):
			found.unreadable = append(found.unreadable, name+": its name is not UTF-8")
			return nil
		}
		f, err := os.Open(path)
		if err != nil {
			found.unreadable = append(found.unreadable, name+": "+why(err))
			return nil
		}
		_ = f.Close()
		found.files = append(found.files, demoFile{path, name, info.Size(), info.ModTime()})
		return nil
	})
	if err != nil {
		return nil, failuref("", "%s", err)
	}
	if len(found.files) == 0 {
		return nil, failuref("name a folder with files: --dir DIR", "there is no file to hash below %s", root)
	}
	return found, nil
}

// why is an error without the path that it repeats.
func why(err error) string {
	if p, ok := errors.AsType[*fs.PathError](err); ok {
		return p.Err.Error()
	}
	return err.Error()
}

// changed reports whether the file is no longer as it was found.
func (f demoFile) changed() bool {
	info, err := os.Stat(f.path)
	return err != nil || info.Size() != f.size || !info.ModTime().Equal(f.mod)
}

// hashFile returns the SHA-256 of a file and its length.
func hashFile(ctx context.Context, path string) (sum string, size int64, err error) {
	f, err := os.Open(path)
	if err != nil {
		return "", 0, err
	}
	defer f.Close()
	h := sha256.New()
	buf := make([]byte, 256<<10)
	for {
		n, err := f.Read(buf)
		_, _ = h.Write(buf[:n])
		size += int64(n)
		switch {
		case errors.Is(err, io.EOF):
			return hex.EncodeToString(h.Sum(nil)), size, nil
		case err != nil:
			return "", size, err
		case ctx.Err() != nil:
			return "", size, context.Cause(ctx)
		}
	}
}
