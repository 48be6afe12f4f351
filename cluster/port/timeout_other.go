//go:build !linux

package port

import (
	"net"
	"time"
)

// setUserTimeout does nothing: this system takes its own, longer time.
func setUserTimeout(*net.TCPConn, time.Duration) {}
