package server

import (
	"os"
	"runtime"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// TestUnreadableDataDir opens a folder without the permission to.
func TestUnreadableDataDir(t *testing.T) {
	path := t.TempDir()
	if err := os.Chmod(path, 0); err != nil {
		t.Fatal(err)
	}
	if os.Geteuid() == 0 {
		// Root may read everything; the user nobody, as whom this one thread asks the
		// file system from here on, may not.
		const nobody = 65534
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		if err := unix.Setfsuid(nobody); err != nil {
			t.Fatal(err)
		}
		defer func() {
			if err := unix.Setfsuid(0); err != nil {
				t.Error(err)
			}
		}()
	}
	d, err := openDataDir(path, "test")
	if err == nil {
		_ = d.close()
		t.Fatal("the folder was taken")
	}
	for _, want := range []string{"no permission", path, "--data"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("error %q does not say %q", err, want)
		}
	}
}
