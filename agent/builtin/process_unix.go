//go:build unix

package builtin

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"syscall"
)

// ownGroup lets the program lead a process group.
func ownGroup(cmd *exec.Cmd) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
}

// terminateGroup asks everything in the program's group to end.
func terminateGroup(p *os.Process) error {
	err := syscall.Kill(-p.Pid, syscall.SIGTERM)
	if errors.Is(err, syscall.ESRCH) {
		return os.ErrProcessDone
	}
	return err
}

// killGroup ends everything that is left in the program's group. That there is
// nothing is the ordinary case.
func killGroup(p *os.Process) { _ = syscall.Kill(-p.Pid, syscall.SIGKILL) }

// ending returns the exit code, as a shell would have it, and says in words how
// the program ended.
func ending(s *os.ProcessState) (code int, how string) {
	if w, ok := s.Sys().(syscall.WaitStatus); ok && w.Signaled() {
		return 128 + int(w.Signal()), fmt.Sprintf("ended by signal %d (%s)", int(w.Signal()), w.Signal())
	}
	return s.ExitCode(), fmt.Sprintf("exit status %d", s.ExitCode())
}
