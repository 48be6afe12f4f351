//go:build linux

package chaos

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"sync"

	"golang.org/x/sys/unix"
)

// spaces is the network as the kernel makes it: each node and each agent has a network
// namespace of its own, and this process is the router between them. A direction is
// cut with a routing rule that drops silently, which takes packets out of connections
// that are open as well as the first ones of new ones. It needs root.
type spaces struct {
	mu    sync.Mutex
	fds   map[string]*os.File // namespaces by party
	rules map[string]bool     // those in force
}

// newSpaces prepares the router. Its error says why there can be none here.
func newSpaces() (*spaces, error) {
	if !isInside() {
		return nil, errors.New("needs root")
	}
	if _, err := exec.LookPath("ip"); err != nil {
		return nil, errors.New("needs the command ip")
	}
	for _, f := range []string{"ip_forward", "conf/all/forwarding"} {
		if err := os.WriteFile("/proc/sys/net/ipv4/"+f, []byte("1"), 0); err != nil {
			return nil, err
		}
	}
	s := &spaces{fds: map[string]*os.File{}, rules: map[string]bool{}}
	// Whether rules of this kind exist in this kernel is seen by trying.
	if err := ip("rule add pref 99 from 10.77.250.2 to 10.77.251.2 ipproto udp blackhole\nrule del pref 99"); err != nil {
		return nil, err
	}
	return s, nil
}

// subnet is the third byte of a party's address.
func subnet(party string) int {
	var i int
	_, _ = fmt.Sscanf(party[1:], "%d", &i)
	if party[0] == 'a' {
		i += 100
	}
	return i
}

func addressOf(party string) string { return fmt.Sprintf("10.77.%d.2", subnet(party)) }

// routerFor is this process as a party sees it.
func routerFor(party string) string { return fmt.Sprintf("10.77.%d.1", subnet(party)) }

// ip runs commands of ip(8), one a line, in the network of this process.
func ip(lines string) error { return ipIn(nil, lines) }

func ipIn(ns *os.File, lines string) error {
	cmd := exec.Command("ip", "-batch", "-")
	cmd.Stdin = strings.NewReader(lines + "\n")
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := startIn(ns, cmd); err != nil {
		return err
	}
	if err := cmd.Wait(); err != nil {
		return fmt.Errorf("ip: %w: %s", err, bytes.TrimSpace(out.Bytes()))
	}
	return nil
}

// startIn starts a command in a network namespace; nil is this process's own. A child
// gets the namespace of the thread that makes it.
func startIn(ns *os.File, cmd *exec.Cmd) error {
	if ns == nil {
		return cmd.Start()
	}
	return elsewhere(func() error {
		if err := unix.Setns(int(ns.Fd()), unix.CLONE_NEWNET); err != nil {
			return fmt.Errorf("setns: %w", err)
		}
		return cmd.Start()
	})
}

// elsewhere runs f on a thread that may change its network namespace, and brings the
// thread back.
func elsewhere(f func() error) error {
	runtime.LockOSThread()
	home, err := os.Open("/proc/thread-self/ns/net")
	if err != nil {
		return err
	}
	defer home.Close()
	err = f()
	if e := unix.Setns(int(home.Fd()), unix.CLONE_NEWNET); e != nil {
		return errors.Join(err, e) // the thread stays locked, and ends with its goroutine
	}
	runtime.UnlockOSThread()
	return err
}

// add makes the namespace of a party.
func (s *spaces) add(party string) error {
	var ns *os.File
	err := elsewhere(func() error {
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			return err
		}
		var err error
		ns, err = os.Open("/proc/thread-self/ns/net")
		return err
	})
	if err != nil {
		return fmt.Errorf("namespace for %s: %w", party, err)
	}
	s.fds[party] = ns
	dev := "veth-" + party
	path := fmt.Sprintf("/proc/%d/fd/%d", os.Getpid(), ns.Fd())
	if err := ip(fmt.Sprintf("link add %s type veth peer name eth0\nlink set eth0 netns %s\naddr add %s/24 dev %s\nlink set %s up",
		dev, path, routerFor(party), dev, dev)); err != nil {
		return err
	}
	return ipIn(ns, fmt.Sprintf("link set lo up\naddr add %s/24 dev eth0\nlink set eth0 up\nroute add default via %s", addressOf(party), routerFor(party)))
}

// apply puts the rules in force that the cuts ask for, and no others. Those with the
// clients are the proxies' affair.
func (s *spaces) apply(cut, cutUDP map[link]bool) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	want := map[string]bool{}
	rule := func(l link, more string) {
		if s.fds[l.from] != nil && s.fds[l.to] != nil {
			want[fmt.Sprintf("pref 100 from %s to %s%s blackhole", addressOf(l.from), addressOf(l.to), more)] = true
		}
	}
	for l := range cut {
		rule(l, "")
	}
	for l := range cutUDP {
		rule(l, " ipproto udp")
	}
	var lines []string
	for r := range s.rules {
		if !want[r] {
			lines = append(lines, "rule del "+r)
		}
	}
	for r := range want {
		if !s.rules[r] {
			lines = append(lines, "rule add "+r)
		}
	}
	s.rules = want
	if len(lines) == 0 {
		return nil
	}
	slices.Sort(lines) // adding comes before deleting
	return ip(strings.Join(lines, "\n"))
}
