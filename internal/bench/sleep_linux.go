package bench

import (
	"time"

	"golang.org/x/sys/unix"
)

// sleepExactly sleeps for d, and wakes within about 0.1 ms of it.
// The timers of the Go runtime are as coarse as epoll's milliseconds while a program
// idles, which is as much as a whole job takes here.
func sleepExactly(d time.Duration) {
	ts := unix.NsecToTimespec(d.Nanoseconds())
	// A signal may end it early; the caller looks at the clock again.
	_ = unix.Nanosleep(&ts, nil)
}
