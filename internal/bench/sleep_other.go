//go:build !linux

package bench

import "time"

// sleepExactly sleeps for d, up to a tenth of a second, as exactly as the runtime can.
func sleepExactly(d time.Duration) { time.Sleep(min(d, time.Second/10)) }
