package bench

import (
	"context"
	"fmt"
	"os"
	"strings"
	"time"
)

// idleAgents connects agents and holds them.
func (r *run) idleAgents(ctx context.Context) error {
	begin := r.now()
	r.span.set(begin, begin+forever)
	r.mark(ctx, true)
	idle := &Idle{Agents: r.cfg.Agents}
	crew, err := r.hire(ctx, crewConfig{
		agents: r.cfg.Agents, slots: r.cfg.Slots, queue: r.queue, name: r.queue, atOnce: r.cfg.Connections,
	})
	if err != nil {
		return err
	}
	r.crew = crew
	idle.ConnectSeconds = (r.now() - begin).Seconds()
	idle.ConnectRate = float64(r.cfg.Agents) / max(idle.ConnectSeconds, 1e-9)
	r.begin("holding the agents", r.cfg.Duration, crew.connected.Load)
	connected := r.watch.look(ctx, r.now)
	held := r.now()
	pauseFor(ctx, r.cfg.Duration)
	r.span.cut(r.now())
	r.mark(ctx, false)
	seconds := (r.now() - held).Seconds()
	var grown, heap, fds, goroutines int64
	var cpu float64
	for i, n := range r.watch.nodes {
		idle.Sessions += n.end.Sessions
		idle.Messages += n.end.messages - connected[i].messages
		cpu += n.end.CPU - connected[i].CPU
		grown += n.end.RSS - n.begin.RSS
		heap += n.end.Heap - n.begin.Heap
		fds += n.end.FDs - n.begin.FDs
		goroutines += n.end.Goroutines - n.begin.Goroutines
	}
	each := float64(max(r.cfg.Agents, 1))
	idle.Lost = crew.lost.Load()
	idle.BytesPerAgent, idle.HeapPerAgent = float64(grown)/each, float64(heap)/each
	idle.FDsPerAgent, idle.GoroutinesPerAgent = float64(fds)/each, float64(goroutines)/each
	idle.CPUs = cpu / max(seconds, 1e-9)
	idle.MessagesPerAgent = float64(idle.Messages) / each / max(seconds, 1e-9)
	r.idle = idle
	if err := crew.trouble(); err != nil && ctx.Err() == nil {
		return err
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return nil
}

// spareFiles is what a process needs besides connections.
const spareFiles = 64

// enoughFiles says before anything is done whether as many connections can be open
// as are wanted: here, on each node, and between two addresses.
func (r *run) enoughFiles() error {
	want := r.cfg.Connections + spareFiles
	if r.cfg.executes() || r.cfg.Mode == IdleAgents {
		want += r.cfg.Agents
	}
	if most := openFiles(); most > 0 && uint64(want) > most {
		return fmt.Errorf("%d connections need more open files than this process may have, which is %d; raise the limit (`ulimit -n %d`, as root or in limits.conf), or use fewer",
			want-spareFiles, most, want)
	}
	each := (want + len(r.targets) - 1) / len(r.targets)
	if ports := localPorts(); ports > 0 && each > ports {
		return fmt.Errorf("%d connections to one address need more ports than this machine has for them, which is %d; name more nodes, or widen net.ipv4.ip_local_port_range", each, ports)
	}
	for _, n := range r.watch.nodes {
		n.mu.Lock()
		s := n.taken[len(n.taken)-1]
		n.mu.Unlock()
		if s.maxFDs > 0 && int64(each) > s.maxFDs-s.FDs {
			return fmt.Errorf("%s may open %d files and has %d open, too few for %d connections more; raise the limit of that process (LimitNOFILE= of systemd, `ulimit -n`), or use fewer",
				n.to.base, s.maxFDs, s.FDs, each)
		}
	}
	return nil
}

// localPorts is how many connections this machine can have to one address; zero when
// that is not known.
func localPorts() int {
	b, err := os.ReadFile("/proc/sys/net/ipv4/ip_local_port_range")
	if err != nil {
		return 0
	}
	var low, high int
	if _, err := fmt.Sscan(strings.TrimSpace(string(b)), &low, &high); err != nil {
		return 0
	}
	return high - low + 1
}

// settleTime is for how long a change may take to be seen.
const settleTime = 100 * time.Millisecond
