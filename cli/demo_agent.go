package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"time"

	"github.com/orrery-io/orrery/agent"
	"github.com/orrery-io/orrery/job"
	"github.com/spf13/cobra"
)

const (
	demoType  = "demo.hash"
	demoSlots = 4
)

// hashArgs is the payload of a demo.hash job.
type hashArgs struct {
	Path string `json:"path"`
	// Linger is how long the first attempt waits before it begins.
	Linger job.Duration `json:"linger,omitempty"`
}

// hashResult is its result.
type hashResult struct {
	SHA256 string `json:"sha256"`
	Bytes  int64  `json:"bytes"`
}

// newDemoAgent is the command that the demonstration runs as its agent. It ends
// when its stdin does, so it never outlives the demonstration, however that ends.
func newDemoAgent(a *app) *cobra.Command {
	var cfg agent.Config
	cmd := &cobra.Command{
		Use:    "demo-agent",
		Short:  "The agent of `orrery demo`",
		Hidden: true,
		Args:   nothing(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg.Addrs, cfg.Version = a.nodes(), version()
			cfg.DrainTimeout = time.Second
			cfg.Log = slog.New(slog.NewTextHandler(a.err, nil))
			ag, err := agent.New(cfg)
			if err != nil {
				return usagef("%s", err)
			}
			agent.Handle(ag, demoType, handleHash)
			ctx, cancel := context.WithCancelCause(cmd.Context())
			defer cancel(nil)
			go func() {
				_, _ = io.Copy(io.Discard, a.in)
				cancel(errInterrupted)
			}()
			return unlessInterrupted(ag.Run(ctx))
		},
	}
	cmd.Flags().StringVar(&cfg.ID, "id", "demo", "`id` of the agent")
	cmd.Flags().IntVar(&cfg.Slots, "slots", demoSlots, "how many jobs to run at once")
	return cmd
}

// handleHash is the handler of demo.hash.
func handleHash(ctx context.Context, j *agent.Job[hashArgs]) (hashResult, error) {
	if j.Args.Linger > 0 && j.Attempt == 1 {
		j.Logf("taking my time with %s, so that I can be killed in the middle", j.Args.Path)
		t := time.NewTimer(j.Args.Linger.Duration())
		defer t.Stop()
		select {
		case <-t.C:
		case <-ctx.Done():
			return hashResult{}, context.Cause(ctx)
		}
	}
	sum, size, err := hashFile(ctx, j.Args.Path)
	if err != nil && ctx.Err() == nil {
		// A file that is gone or forbidden stays so.
		return hashResult{}, agent.Permanent(err)
	}
	j.Logf("hashed %s, %d bytes", j.Args.Path, size)
	return hashResult{sum, size}, err
}

// demoAgent is the agent's process as the demonstration sees it.
type demoAgent struct {
	id    string
	cmd   *exec.Cmd
	stdin io.Closer
	log   *os.File
	// ended is closed after the process has ended.
	ended chan struct{}
}

// startAgent starts the next agent, a process of this same program.
func (d *demo) startAgent() error {
	self, err := os.Executable()
	if err != nil {
		return failuref("", "find the program itself, to run it as an agent: %s", err)
	}
	d.started++
	g := &demoAgent{id: "demo-agent-" + strconv.Itoa(d.started), ended: make(chan struct{})}
	if g.log, err = os.Create(filepath.Join(d.tmp, fmt.Sprintf("agent-%d.log", d.started))); err != nil {
		return failuref("", "%s", err)
	}
	// The process ends with its stdin; a context would only kill it.
	g.cmd = exec.Command(self, "demo-agent", "--addr", d.url, "--id", g.id) //nolint:noctx // see above
	g.cmd.Stdout, g.cmd.Stderr = g.log, g.log
	g.cmd.Env = append(os.Environ(), "ORRERY_ADDR=", "ORRERY_TOKEN=", "ORRERY_TOKEN_FILE=")
	if g.stdin, err = g.cmd.StdinPipe(); err != nil {
		return failuref("", "%s", err)
	}
	if err := g.cmd.Start(); err != nil {
		return failuref("", "start an agent: %s", err)
	}
	go func() {
		_ = g.cmd.Wait()
		_ = g.log.Close()
		close(g.ended)
	}()
	d.agent = g
	d.sayf("agent    %s started, process %d\n", g.id, g.pid())
	return nil
}

func (g *demoAgent) pid() int { return g.cmd.Process.Pid }

// kill ends the process as a power cut would.
func (g *demoAgent) kill() error {
	if err := g.cmd.Process.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return failuref("", "kill the agent: %s", err)
	}
	<-g.ended
	return nil
}

// stop asks the process to end, and kills it when it does not. It may be called on
// nil and more than once.
func (g *demoAgent) stop() {
	if g == nil {
		return
	}
	_ = g.stdin.Close()
	t := time.NewTimer(3 * time.Second)
	defer t.Stop()
	select {
	case <-g.ended:
	case <-t.C:
		_ = g.kill()
	}
}
