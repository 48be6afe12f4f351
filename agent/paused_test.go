//go:build unix

package agent

import (
	"context"
	"net/http/httptest"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/orrery-io/orrery/job"
	"github.com/orrery-io/orrery/wire"
)

// pausedNode names the node to the process that TestPausedProcess starts.
const pausedNode = "ORRERY_TEST_NODE"

// TestPausedProcess stops a real agent process for longer than its lease. When it
// goes on it must tell running work to stop and begin nothing that waits.
func TestPausedProcess(t *testing.T) {
	if addr := os.Getenv(pausedNode); addr != "" {
		playPaused(t, addr)
		return
	}
	n := newWSNode(t, httptest.NewServer)
	cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestPausedProcess$", "-test.v")
	cmd.Env = append(os.Environ(), pausedNode+"="+n.URL)
	var out strings.Builder
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		if t.Failed() {
			t.Logf("the agent:\n%s", out.String())
		}
	})

	short := welcome()
	short.Lease, short.Margin, short.Heartbeat = 1500, 300, 300
	l := <-n.links
	defer l.cut()
	if l.next().Hello == nil {
		t.Fatal("the first message is no hello")
	}
	l.send(wire.Message{Welcome: short})
	l.send(dispatch(1, 10, "hold"), dispatch(2, 11, "hold"))
	for begun := false; !begun; {
		m := l.next()
		if m.Heartbeat != nil {
			l.send(wire.Message{Beat: &wire.Beat{Seq: m.Heartbeat.Seq}})
		}
		begun = m.Log != nil && m.Log.Job == 1
	}

	if err := cmd.Process.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	var status syscall.WaitStatus
	if _, err := syscall.Wait4(cmd.Process.Pid, &status, syscall.WUNTRACED, nil); err != nil || !status.Stopped() {
		t.Fatalf("the process is not stopped: %v, %v", status, err)
	}
	time.Sleep(2 * time.Duration(short.Lease) * time.Millisecond) // the lease has to pass
	l.send(dispatch(3, 12, "hold"))
	if err := cmd.Process.Signal(syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}

	// Heartbeats get no answer until the handler has been told.
	told := false
	for {
		switch m := l.next(); {
		case m.Log != nil && m.Log.Job == 1:
			if text := m.Log.Lines[0].Text; text != "ended: "+ErrLeaseLost.Error() {
				t.Errorf("the handler logged %q", text)
			}
			told = true
		case m.Log != nil && (!told || m.Log.Job == 2):
			t.Fatalf("job %d has begun", m.Log.Job)
		case m.Log != nil:
			return // job 3 begins: the answer said that it is still ours
		case m.Result != nil:
			t.Fatalf("a result was reported: %+v", m.Result)
		case m.Heartbeat != nil && told:
			l.send(wire.Message{Beat: &wire.Beat{Seq: m.Heartbeat.Seq, Drop: []wire.Held{{Job: 2, Fence: 11}}}})
		}
	}
}

// playPaused is the agent. The test ends it.
func playPaused(t *testing.T, addr string) {
	a, err := New(Config{Addrs: []string{addr}, Slots: 1})
	if err != nil {
		t.Fatal(err)
	}
	Handle(a, "hold", func(ctx context.Context, j *Job[job.JSON]) (int, error) {
		j.Logf("begun")
		<-ctx.Done()
		j.Logf("ended: %v", context.Cause(ctx))
		return 0, ctx.Err()
	})
	if err := a.Run(t.Context()); err != nil {
		t.Fatal(err)
	}
}
