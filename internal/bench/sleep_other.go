//go:build !linux

package bench

import "time"

// sleepExactly sleeps for d, as exactly as the runtime can.
func sleepExactly(d time.Duration) { time.Sleep(d) }
