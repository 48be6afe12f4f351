//go:build unix

package fsm

import (
	"syscall"
	"time"
)

// cpuTime is what the process has used on all cores: on a shared machine it tells
// more than the wall clock.
func cpuTime() time.Duration {
	var r syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &r); err != nil {
		return 0
	}
	return time.Duration(r.Utime.Nano() + r.Stime.Nano())
}
