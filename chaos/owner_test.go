//go:build linux

package chaos

import (
	"bufio"
	"fmt"
	"net"
	"os"
	"strconv"
	"strings"
	"time"
)

// ownerOf returns who made a loopback connection: the name of one of our processes,
// clients for this one, "" when it is gone already. The kernel knows: /proc/net/tcp
// has the inode of the socket with that port, /proc/PID/fd the sockets of a process
// (proc_pid_net(5), proc_pid_fd(5)).
func ownerOf(c net.Conn) string {
	remote := c.RemoteAddr().(*net.TCPAddr)
	// A socket that was just made is there; a process that was just started may not
	// be registered yet.
	for range 3 {
		inode := inodeOf(remote.Port, c.LocalAddr().(*net.TCPAddr).Port)
		if inode == "" {
			return ""
		}
		want := "socket:[" + inode + "]"
		for pid, name := range processes.all() {
			if holds(strconv.Itoa(pid), want) {
				return name
			}
		}
		if holds("self", want) {
			return clients
		}
		time.Sleep(5 * time.Millisecond)
	}
	return ""
}

// inodeOf finds the socket with these local and remote ports.
func inodeOf(local, remote int) string {
	f, err := os.Open("/proc/net/tcp")
	if err != nil {
		return ""
	}
	defer f.Close()
	here, there := fmt.Sprintf(":%04X", local), fmt.Sprintf(":%04X", remote)
	for lines := bufio.NewScanner(f); lines.Scan(); {
		fields := strings.Fields(lines.Text())
		if len(fields) > 9 && strings.HasSuffix(fields[1], here) && strings.HasSuffix(fields[2], there) {
			return fields[9]
		}
	}
	return ""
}

func holds(pid, want string) bool {
	fds, err := os.ReadDir("/proc/" + pid + "/fd")
	if err != nil {
		return false
	}
	for _, fd := range fds {
		if to, err := os.Readlink("/proc/" + pid + "/fd/" + fd.Name()); err == nil && to == want {
			return true
		}
	}
	return false
}
