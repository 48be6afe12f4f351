package cli

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"time"

	"github.com/orrery-io/orrery/agent"
	"github.com/orrery-io/orrery/server"
)

// nodeWatchdog is after how long a node that a frozen disk has frozen, too, is killed
// by the kernel. A node on somebody's laptop (`orrery dev`) may be stopped with Ctrl-Z
// for as long as one likes.
const nodeWatchdog = 30 * time.Second

// withNode runs a node, and body once the node answers. The node stops after body
// has returned; when the node fails first, the context of body ends. Interrupted
// by ctx, it returns what body does.
func (a *app) withNode(ctx context.Context, cfg server.Config, body func(context.Context, *server.Server) error) error {
	if os.Getenv("GOGC") == "" {
		tuning, stop := context.WithCancel(context.WithoutCancel(ctx))
		defer stop()
		go tuneGC(tuning)
	}
	cfg.OnHang = func(err error) {
		// Nothing can be stopped in order any more: whatever waits for the disk waits
		// for ever, and a node that hangs must not look alive.
		_, _ = fmt.Fprintf(os.Stderr, "orrery: %s\n", err)
		os.Exit(exitFailure)
	}
	srv, err := server.New(cfg)
	if err != nil {
		return failuref("", "%s", err)
	}
	inner, fail := context.WithCancelCause(ctx)
	defer fail(nil)
	nodeCtx, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	ended := make(chan error, 1)
	go func() {
		err := srv.Run(nodeCtx)
		if nodeCtx.Err() == nil && err == nil {
			err = errors.New("the node ended unexpectedly")
		}
		fail(err)
		ended <- err
	}()
	if err = a.untilReady(inner, srv, cfg); err == nil {
		err = body(inner, srv)
	} else if cfg.Cluster != "" {
		err = unlessInterrupted(err) // waiting for others may be ended
	}
	stop()
	if nodeErr := <-ended; nodeErr != nil {
		// Whatever body met was a consequence.
		return failuref("", "%s", nodeErr)
	}
	return err
}

// patienceForNodes is how long a node of a cluster waits before it says so.
const patienceForNodes = 3 * time.Second

// untilReady waits until the node answers. A node of a cluster may wait for others,
// so it tells the person who started it.
func (a *app) untilReady(ctx context.Context, srv *server.Server, cfg server.Config) error {
	told := make(<-chan time.Time)
	if cfg.Cluster != "" {
		timer := time.NewTimer(patienceForNodes)
		defer timer.Stop()
		told = timer.C
	}
	for {
		select {
		case <-srv.Ready():
			return nil
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-told:
			a.notef("waiting for the other nodes; `orrery cluster status --addr %s` says how it stands, Ctrl-C ends this node\n", localURL(srv.Addr()))
		}
	}
}

// untilInterrupted waits for the end of ctx; Ctrl-C is how one ends a node, so it
// is no error.
func untilInterrupted(ctx context.Context) error {
	<-ctx.Done()
	return unlessInterrupted(context.Cause(ctx))
}

// runAgent runs an agent until ctx ends, and tells that ending may take a while.
func (a *app) runAgent(ctx context.Context, ag *agent.Agent, drain time.Duration) error {
	told := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(told)
		a.notef("stopping; running jobs have %s to finish, Ctrl-C again ends at once\n", took(drain))
	})
	err := ag.Run(ctx)
	if !stop() {
		<-told
	}
	return unlessInterrupted(err)
}

func unlessInterrupted(err error) error {
	if errors.Is(err, errInterrupted) {
		return nil
	}
	return err
}

// localURL is the address of a node as a program on this machine reaches it.
func localURL(addr string) string {
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return "http://" + addr
	}
	if ip := net.ParseIP(host); host == "" || ip != nil && ip.IsUnspecified() {
		host = "127.0.0.1"
	}
	return "http://" + net.JoinHostPort(host, port)
}
