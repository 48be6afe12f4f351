package fsm

import (
	"path/filepath"

	"golang.org/x/sys/unix"
)

// leastFree is what SQLite needs to open a database, in bytes.
const leastFree = 256 << 10

// diskFull reports whether the file system that holds path has hardly any room.
func diskFull(path string) bool {
	var s unix.Statfs_t
	if err := unix.Statfs(filepath.Dir(path), &s); err != nil {
		return false
	}
	return s.Bavail*uint64(s.Bsize) < leastFree //nolint:gosec // a block size is not negative
}
