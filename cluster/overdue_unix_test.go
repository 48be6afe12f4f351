//go:build unix

package cluster

import (
	"bufio"
	"io"
	"os"
	"os/exec"
	"syscall"
	"testing"
	"time"
)

// TestOverduePaused pauses a process for longer than it would wait for its disk. That
// is the fault here, so the test does sleep.
func TestOverduePaused(t *testing.T) {
	cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestOverdueChild$")
	cmd.Env = append(os.Environ(), overdueChild+"=1")
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(stdout)
	if !lines.Scan() || lines.Text() != "waiting" {
		t.Fatalf("the child says %q", lines.Text())
	}
	if err := cmd.Process.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	time.Sleep(pausedLimit + time.Second)
	if err := cmd.Process.Signal(syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	_, _ = io.WriteString(stdin, "done\n")
	if !lines.Scan() || lines.Text() != "in time" {
		t.Errorf("after a pause the child says %q", lines.Text())
	}
	_, _ = io.Copy(io.Discard, stdout)
	if err := cmd.Wait(); err != nil {
		t.Error(err)
	}
}
