package cluster

import (
	"bufio"
	"errors"
	"os"
	"os/exec"
	"runtime"
	"syscall"
	"testing"
	"time"
	"unsafe"
)

const (
	childWatch = "ORRERY_TEST_WATCHDOG"
	childTime  = 2 * time.Second
)

// TestWatchdogChild is no test of its own: it is the process of TestWatchdog. It says
// that it is there, and then something happens to it.
func TestWatchdogChild(t *testing.T) {
	fate := os.Getenv(childWatch)
	if fate == "" {
		t.Skip("runs as a child of TestWatchdog only")
	}
	n, disk, ended := onBadDisk(t, Config{Watchdog: childTime, WriteTimeout: time.Hour})
	if _, err := n.Propose(t.Context(), submit("1")); err != nil {
		t.Fatal(err)
	}
	say := func() { _, _ = os.Stdout.WriteString("here\n") }
	switch fate {
	case "frozen":
		var pipe [2]int
		if err := syscall.Pipe(pipe[:]); err != nil {
			t.Fatal(err)
		}
		runtime.GOMAXPROCS(1)
		say()
		// The runtime isn't told of this call, so it keeps its only processor.
		var b [1]byte
		for {
			_, _, _ = syscall.RawSyscall(syscall.SYS_READ, uintptr(pipe[0]), uintptr(unsafe.Pointer(&b)), 1)
		}
	case "hung":
		hold := make(chan struct{})
		disk.hold.Store(&hold)
		go func() { _, _ = n.Propose(t.Context(), submit("2")) }()
		say()
		<-ended // never
	case "well":
		// Longer than the watchdog's time, and as long again when the node has ended.
		for end := time.Now().Add(3 * childTime / 2); time.Now().Before(end); {
			if _, err := n.Propose(t.Context(), submit("3")); err != nil {
				t.Fatal(err)
			}
			time.Sleep(childTime / 50)
		}
		n.Close()
		time.Sleep(3 * childTime / 2)
		say()
		os.Exit(0)
	}
}

func TestWatchdog(t *testing.T) {
	if testing.Short() {
		t.Skip("starts processes")
	}
	for _, fate := range []string{"frozen", "hung", "well"} {
		t.Run(fate, func(t *testing.T) {
			t.Parallel()
			cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestWatchdogChild$")
			cmd.Env = append(os.Environ(), childWatch+"="+fate)
			out, err := cmd.StdoutPipe()
			if err != nil {
				t.Fatal(err)
			}
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			// A watchdog that doesn't bite leaves the child there for ever.
			limit := time.AfterFunc(time.Minute, func() { _ = cmd.Process.Signal(syscall.SIGTERM) })
			defer limit.Stop()
			line, readErr := bufio.NewReader(out).ReadString('\n')
			err = cmd.Wait()
			if line != "here\n" {
				t.Fatalf("the child said %q, %v, and ended with %v", line, readErr, err)
			}
			exit, _ := errors.AsType[*exec.ExitError](err)
			switch {
			case fate == "well":
				if err != nil {
					t.Errorf("a process that is well ended with %v", err)
				}
			case exit == nil || exit.Sys().(syscall.WaitStatus).Signal() != syscall.SIGKILL:
				t.Errorf("the process ended with %v", err)
			}
		})
	}
}
