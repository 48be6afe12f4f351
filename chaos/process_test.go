//go:build linux

package chaos

import (
	"fmt"
	"maps"
	"os"
	"os/exec"
	"sync"
	"syscall"
	"time"
)

// process is a child: a node or an agent.
type process struct {
	name   string
	cmd    *exec.Cmd
	exited chan struct{}
	err    error // how it ended, once exited is closed
	began  time.Time
}

// spawn starts a program in a network namespace (nil: this one's) whose output goes to the end of a file.
func spawn(ns *os.File, name, log string, env []string, argv ...string) (*process, error) {
	out, err := os.OpenFile(log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, err
	}
	defer out.Close()
	fmt.Fprintf(out, "=== start %s\n", time.Now().Format(time.RFC3339Nano))
	p := &process{name: name, exited: make(chan struct{}), began: time.Now()}
	p.cmd = exec.Command(argv[0], argv[1:]...)
	p.cmd.Env = append(os.Environ(), env...)
	p.cmd.Stdout, p.cmd.Stderr = out, out
	if err := startIn(ns, p.cmd); err != nil {
		return nil, fmt.Errorf("start %s: %w", name, err)
	}
	processes.add(name, p.pid())
	go func() {
		p.err = p.cmd.Wait()
		processes.remove(p.pid())
		close(p.exited)
	}()
	return p, nil
}

func (p *process) pid() int { return p.cmd.Process.Pid }

func (p *process) alive() bool {
	if p == nil {
		return false
	}
	select {
	case <-p.exited:
		return false
	default:
		return true
	}
}

// ends waits until the process has ended by itself, or the limit has passed.
func (p *process) ends(limit time.Duration) {
	select {
	case <-p.exited:
	case <-time.After(limit):
	}
}

// kill is kill -9. It waits until the process is gone.
func (p *process) kill() {
	if p == nil {
		return
	}
	_ = p.cmd.Process.Signal(syscall.SIGKILL)
	<-p.exited
}

func (p *process) pause()  { _ = p.cmd.Process.Signal(syscall.SIGSTOP) }
func (p *process) resume() { _ = p.cmd.Process.Signal(syscall.SIGCONT) }

// stop ends the process as an operator would. It reports an error when that takes
// longer than the limit, or the process says that it ended badly.
func (p *process) stop(limit time.Duration) error {
	_ = p.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-p.exited:
		if p.err != nil {
			return fmt.Errorf("%s was told to stop and ended with %w", p.name, p.err)
		}
		return nil
	case <-time.After(limit):
		_ = p.cmd.Process.Signal(syscall.SIGQUIT) // shows where it stands
		select {
		case <-p.exited:
		case <-time.After(5 * time.Second):
			p.kill()
		}
		return fmt.Errorf("%s was told to stop and did not in %s", p.name, limit)
	}
}

// children are the processes of the run by name, for the proxies, which must know
// who connects.
type children struct {
	mu   sync.Mutex
	pids map[int]string
}

var processes = children{pids: map[int]string{}}

func (c *children) add(name string, pid int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.pids[pid] = name
}

func (c *children) remove(pid int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.pids, pid)
}

func (c *children) all() map[int]string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return maps.Clone(c.pids)
}
