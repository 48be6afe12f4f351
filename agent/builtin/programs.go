package builtin

import (
	"os"
	"os/exec"
	"sync"
)

// Programs are the programs that exec runs at the moment. The zero value is ready.
// It is safe for concurrent use.
type Programs struct {
	mu      sync.Mutex
	running map[*os.Process]struct{}
	killed  bool
}

// KillAll kills every program with its process group, at once, and lets no other
// begin: for a process that is about to exit without waiting for its jobs.
func (p *Programs) KillAll() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.killed = true
	for process := range p.running {
		killGroup(process)
	}
}

// start starts cmd, unless everything was killed.
func (p *Programs) start(cmd *exec.Cmd) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.killed {
		return os.ErrProcessDone
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	if p.running == nil {
		p.running = make(map[*os.Process]struct{})
	}
	p.running[cmd.Process] = struct{}{}
	return nil
}

// ended takes a program out whose process was waited for.
func (p *Programs) ended(process *os.Process) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.running, process)
}
