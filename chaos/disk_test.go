//go:build linux

package chaos

import (
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"
	"unsafe"
)

// disk is where one node keeps its data: as root a small ext4 of its own in a file,
// else a plain folder.
type disk struct {
	dir, image string // image is "" for a plain folder
	filler     string
}

// diskSize is how large the file system of a node is, in MiB. The file is sparse.
const diskSize = 1024

func newDisk(room, name string) (*disk, error) {
	d := &disk{dir: filepath.Join(room, name)}
	if err := os.MkdirAll(d.dir, 0o700); err != nil {
		return nil, err
	}
	if !isInside() {
		return d, nil
	}
	image := filepath.Join(room, name+".img")
	if err := os.WriteFile(image, nil, 0o600); err != nil {
		return nil, err
	}
	if err := os.Truncate(image, diskSize<<20); err != nil {
		return nil, err
	}
	// Lazy initialization would write in the background for a while.
	out, err := exec.Command("mkfs.ext4", "-q", "-F", "-E", "lazy_itable_init=0,lazy_journal_init=0", "-J", "size=16", image).CombinedOutput()
	if err != nil {
		return nil, fmt.Errorf("mkfs.ext4: %w: %s", err, out)
	}
	d.image = image
	d.filler = filepath.Join(d.dir, "filler")
	return d, d.mount()
}

// own reports whether the disk can be broken.
func (d *disk) own() bool { return d.image != "" }

func (d *disk) mount() error {
	if out, err := exec.Command("mount", "-o", "loop", d.image, d.dir).CombinedOutput(); err != nil {
		return fmt.Errorf("mount %s: %w: %s", d.image, err, out)
	}
	return nil
}

func (d *disk) unmount() error {
	var err error
	for range 100 { // a process that was killed lets go a moment later
		if err = syscall.Unmount(d.dir, 0); err == nil {
			return nil
		}
		time.Sleep(50 * time.Millisecond)
	}
	return fmt.Errorf("unmount %s: %w", d.dir, err)
}

// The requests of ioctl_fs(2); the last one is what xfstests simulates a loss of
// power with: nothing reaches the device any more, not even the journal.
const (
	fiFreeze      = 0xc0045877
	fiThaw        = 0xc0045878
	ext4Shutdown  = 0x8004587d
	shutdownNoLog = 2
)

func (d *disk) ioctl(request uintptr, arg *uint32) error {
	f, err := os.Open(d.dir)
	if err != nil {
		return err
	}
	defer f.Close()
	if _, _, errno := syscall.Syscall(syscall.SYS_IOCTL, f.Fd(), request, uintptr(unsafe.Pointer(arg))); errno != 0 {
		return fmt.Errorf("ioctl %#x of %s: %w", request, d.dir, errno)
	}
	return nil
}

// freeze holds up everything that writes, until thaw.
func (d *disk) freeze() error { return d.ioctl(fiFreeze, new(uint32)) }
func (d *disk) thaw() error   { return d.ioctl(fiThaw, new(uint32)) }

// cutPower makes the disk refuse everything at once and forget what was not synced.
func (d *disk) cutPower() error {
	flags := uint32(shutdownNoLog)
	return d.ioctl(ext4Shutdown, &flags)
}

// powerOn brings the disk back as it was on the device.
func (d *disk) powerOn() error {
	if err := d.unmount(); err != nil {
		return err
	}
	return d.mount()
}

// fill leaves no room on the disk; free makes room again.
func (d *disk) fill() error {
	f, err := os.Create(d.filler)
	if err != nil {
		return err
	}
	defer f.Close()
	// In ever smaller pieces, because not all that is free may be used.
	for piece := int64(64 << 20); piece >= 4096; {
		end, err := f.Seek(0, io.SeekEnd)
		if err != nil {
			return err
		}
		if err := syscall.Fallocate(int(f.Fd()), 0, end, piece); err != nil {
			piece /= 2
		}
	}
	return nil
}

func (d *disk) free() error { return os.Remove(d.filler) }
