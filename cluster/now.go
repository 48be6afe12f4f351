//go:build !chaos

package cluster

import "time"

// now is the clock from which entries get their time.
func now() time.Time { return time.Now() }
