package server

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"time"

	"github.com/orrery-io/orrery/command"
	"github.com/orrery-io/orrery/fsm"
	"github.com/orrery-io/orrery/internal/obs"
)

// shutdownLimit bounds how long requests under way may take once the node stops.
const shutdownLimit = 5 * time.Second

// part is one of the node's services while it runs.
type part struct {
	name string
	stop context.CancelFunc
	done chan struct{}
	err  error
}

// start runs a part until its stop is called. A part that ends earlier ends the
// node: its error becomes the cause with which fail is called.
func start(name string, run func(context.Context) error, fail context.CancelCauseFunc) *part {
	ctx, stop := context.WithCancel(context.Background())
	p := &part{name: name, stop: stop, done: make(chan struct{})}
	go func() {
		defer close(p.done)
		p.err = run(ctx)
		if ctx.Err() == nil {
			if p.err == nil {
				p.err = errors.New("ended unexpectedly")
			}
			fail(fmt.Errorf("%s: %w", p.name, p.err))
		}
	}()
	return p
}

// end stops the part, waits for it, and returns what it returned.
func (p *part) end() error {
	p.stop()
	<-p.done
	return p.err
}

// Run runs the node until ctx ends or a part fails, then stops it in order: no new
// requests, agents told to reconnect, consensus, and last the database, flushed.
// It returns nil on ordinary cancellation. It may be called once.
func (s *Server) Run(ctx context.Context) error {
	defer s.Close()
	ctx, fail := context.WithCancelCause(ctx)
	defer fail(nil)

	// In the order in which they need each other; they end in the opposite one, so that
	// whatever is under way can still be finished, and told to the other nodes.
	parts := []*part{start("database", s.machine.Run, fail)}
	begin := func(name string, run func(context.Context) error) {
		parts = append(parts, start(name, run, fail))
	}
	if s.net != nil {
		s.net.run(begin, s.log)
	}
	begin("consensus", s.node.Run)
	begin("readiness", s.awaitReady)
	begin("relay", s.relay.Run)
	begin("agents", s.hub.Run)
	if s.net != nil {
		begin("members", s.keepPeers)
	}
	begin("backups", s.backups.Run)
	if s.profile != nil {
		begin("profiles", s.serveProfile)
	}
	begin("http", s.serve)
	s.log.InfoContext(ctx, "node started", obs.Node(s.data.id.Node), obs.Addr(s.Addr()), obs.Path(s.data.path))

	<-ctx.Done()
	cause := context.Cause(ctx)
	s.api.Close()
	var err error
	for _, p := range slices.Backward(parts) {
		err = errors.Join(err, p.end())
	}
	if errors.Is(cause, context.Canceled) && err == nil {
		return nil
	}
	if errors.Is(cause, context.Canceled) {
		return fmt.Errorf("stop: %w", err)
	}
	return cause
}

// serve answers HTTP until ctx ends. Who comes before it is known that the database
// stays has to wait.
func (s *Server) serve(ctx context.Context) error {
	select {
	case <-s.node.Settled():
	case <-ctx.Done():
		return nil
	}
	srv := &http.Server{
		Handler:           s.api,
		ReadHeaderTimeout: 10 * time.Second,
		IdleTimeout:       2 * time.Minute,
		MaxHeaderBytes:    64 << 10,
	}
	failed := make(chan error, 1)
	go func() { failed <- srv.Serve(s.listener) }()
	select {
	case err := <-failed:
		return err
	case <-ctx.Done():
	}
	limit, cancel := context.WithTimeout(context.WithoutCancel(ctx), shutdownLimit)
	defer cancel()
	if err := srv.Shutdown(limit); err != nil {
		// Somebody is still reading slowly; their request was answered or will be
		// seen as broken.
		_ = srv.Close()
	}
	return nil
}

// lead runs one leadership term.
func (s *Server) lead(ctx context.Context, term uint64) error {
	if err := s.data.setCluster(s.machine.ClusterID(), s.cfg.Version); err != nil {
		return err
	}
	end := s.relay.Lead(term)
	defer end()
	s.onReady.Do(func() { close(s.ready) })
	return s.sched.Lead(ctx, term)
}

// propose ties the scheduler to the node, which is built after it.
func (s *Server) propose(ctx context.Context, items ...command.Item) ([]command.Result, error) {
	return s.node.Propose(ctx, items...)
}

// damaged ends a node whose database is damaged, when others have what it had.
func (s *Server) damaged(err error) {
	if s.node != nil {
		go s.node.Damaged(err) // the reader may hold what reading the log needs
	}
}

// makeBackup writes what this node has to a file.
func (s *Server) makeBackup(ctx context.Context, path string, madeAt time.Time) (fsm.BackupInfo, error) {
	return s.machine.Backup(ctx, path, madeAt, s.cfg.Version)
}

// Addr is the address that the node listens on, with the real port.
func (s *Server) Addr() string { return s.listener.Addr().String() }

// URL is where this node's API is, as seen from this machine.
func (s *Server) URL() string { return "http://" + s.Addr() }

// ID is the id of this node.
func (s *Server) ID() string { return s.data.id.Node }

// ClusterAddr is where other nodes reach this one, "" for a node alone.
func (s *Server) ClusterAddr() string {
	if s.net == nil {
		return ""
	}
	return s.net.port.Advertise()
}

// Ready is closed once the node has a leader, which may be itself, and has caught up
// with it.
func (s *Server) Ready() <-chan struct{} { return s.ready }

// Close releases what New opened. Run does it itself.
func (s *Server) Close() {
	s.onClose.Do(func() {
		if s.listener != nil {
			_ = s.listener.Close()
		}
		if s.profile != nil {
			_ = s.profile.Close()
		}
		if s.node != nil {
			s.node.Close()
		}
		if s.net != nil {
			s.net.close()
		}
		if s.machine != nil {
			if err := s.machine.Close(); err != nil {
				s.log.Error("close database", obs.Err(err))
			}
		}
		if s.data != nil {
			_ = s.data.close()
		}
	})
}
