package agent

import (
	"syscall"
	"time"
	"unsafe"
)

// suspended returns for how long the machine has been suspended since it was
// started: what CLOCK_BOOTTIME counts and CLOCK_MONOTONIC doesn't (clock_gettime(2)).
// The former is read first, so that a pause between the two can't make it more.
func suspended() time.Duration {
	const monotonic, boottime = 1, 7
	boot, ok := clockGettime(boottime)
	mono, ok2 := clockGettime(monotonic)
	if !ok || !ok2 {
		return 0
	}
	return max(boot-mono, 0)
}

func clockGettime(id uintptr) (time.Duration, bool) {
	var ts syscall.Timespec
	_, _, errno := syscall.RawSyscall(syscall.SYS_CLOCK_GETTIME, id, uintptr(unsafe.Pointer(&ts)), 0)
	return time.Duration(ts.Nano()), errno == 0
}
