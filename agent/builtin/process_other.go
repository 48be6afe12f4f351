//go:build !unix

package builtin

import (
	"fmt"
	"os"
	"os/exec"
)

// There are no process groups here: only the program itself is stopped.

func ownGroup(*exec.Cmd) {}

func terminateGroup(p *os.Process) error { return p.Kill() }

func killGroup(p *os.Process) { _ = p.Kill() }

func ending(s *os.ProcessState) (code int, how string) {
	return s.ExitCode(), fmt.Sprintf("exit status %d", s.ExitCode())
}
