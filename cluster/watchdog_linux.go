package cluster

import (
	"fmt"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// kernelTimer is a POSIX timer that sends SIGKILL. It counts while the process is
// stopped, and not while the machine sleeps.
type kernelTimer struct{ id int32 }

// sigevent is the kernel's struct sigevent, 64 bytes on every architecture.
type sigevent struct {
	value  uintptr
	signo  int32
	notify int32
	_      [64 - 8 - unsafe.Sizeof(uintptr(0))]byte
}

const notifySignal = 0 // SIGEV_SIGNAL: to the process

func newAlarm() (alarm, error) {
	t := &kernelTimer{}
	event := sigevent{signo: int32(unix.SIGKILL), notify: notifySignal}
	_, _, errno := unix.Syscall(unix.SYS_TIMER_CREATE, unix.CLOCK_MONOTONIC, uintptr(unsafe.Pointer(&event)), uintptr(unsafe.Pointer(&t.id))) //nolint:gosec // the kernel's interface
	if errno != 0 {
		return nil, fmt.Errorf("make a timer: %w", errno)
	}
	return t, nil
}

func (t *kernelTimer) put(d time.Duration) error {
	when := unix.ItimerSpec{Value: unix.NsecToTimespec(d.Nanoseconds())}
	_, _, errno := unix.Syscall6(unix.SYS_TIMER_SETTIME, uintptr(t.id), 0, uintptr(unsafe.Pointer(&when)), 0, 0, 0) //nolint:gosec // the kernel's interface
	if errno != 0 {
		return fmt.Errorf("set a timer: %w", errno)
	}
	return nil
}

func (t *kernelTimer) off() error {
	_, _, errno := unix.Syscall(unix.SYS_TIMER_DELETE, uintptr(t.id), 0, 0)
	if errno != 0 {
		return fmt.Errorf("delete a timer: %w", errno)
	}
	return nil
}
