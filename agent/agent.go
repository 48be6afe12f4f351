package agent

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/orrery-io/orrery/job"
	"github.com/orrery-io/orrery/wire"
)

// stopGrace is how long handlers have to return after they were told to stop
// because the agent ends.
const stopGrace = 10 * time.Second

// lastWords bounds what is sent when everything has stopped.
const lastWords = 2 * time.Second

// Agent executes jobs. Make one with New, give it handlers with Handle, and call
// Run once.
type Agent struct {
	cfg   Config
	log   *slog.Logger
	bench *bench
	nodes *nodes
	// dial is replaced by tests.
	dial func(ctx context.Context, addr string) (conn, error)
	link atomic.Pointer[session]
	// parted is set when the goodbye has been sent.
	parted atomic.Bool
	// stirred has room for one token; it wakes the keeper.
	stirred chan struct{}

	// closing is closed by Close, leaving when a node wants the agent to go, and
	// done when Run has returned.
	closing, leaving, done chan struct{}
	closeOnce, leaveOnce   sync.Once

	setup        sync.Mutex
	begun        bool
	handlers     map[string]HandlerFunc
	middleware   []Middleware
	capabilities []job.Capability
}

// New checks the configuration and makes an agent. It starts nothing. The error
// joins everything that is wrong.
func New(cfg Config) (*Agent, error) {
	cfg, err := cfg.withDefaults()
	if err != nil {
		return nil, err
	}
	a := &Agent{
		cfg:      cfg,
		log:      cfg.Log.With("agent", cfg.ID),
		nodes:    newNodes(cfg.Addrs),
		stirred:  make(chan struct{}, 1),
		closing:  make(chan struct{}),
		leaving:  make(chan struct{}),
		done:     make(chan struct{}),
		handlers: make(map[string]HandlerFunc),
	}
	a.dial = a.dialWebSocket
	a.bench = &bench{
		slots: cfg.Slots, out: newOutgoing(), now: newClock(suspended).now, stir: a.stir, log: a.log,
		hooks: cfg.Hooks, held: make(map[job.ID]*attempt),
	}
	return a, nil
}

// ID returns the agent's id, as configured or derived.
func (a *Agent) ID() string { return a.cfg.ID }

// Use adds middleware around every handler; the first one added is the outermost.
// It panics after Run has begun.
func (a *Agent) Use(mw ...Middleware) {
	a.setup.Lock()
	defer a.setup.Unlock()
	if a.begun {
		panic("agent: Use after Run")
	}
	a.middleware = append(a.middleware, mw...)
}

// Run connects and executes jobs until ctx ends or a node tells the agent to
// leave. It then takes nothing new, hands back what has not begun, waits up to
// Config.DrainTimeout for the handlers to return and their results to be
// acknowledged, tells those that are left to stop, and says goodbye. Run returns
// nil then. Close ends the waiting.
//
// While there is no connection Run tries to get one, for ever, at one node after
// the other. It returns a *RefusedError when a node says that trying again cannot
// help, and another error when it is called a second time.
func (a *Agent) Run(ctx context.Context) error {
	if err := a.prepare(ctx); err != nil {
		return err
	}
	defer close(a.done)
	// Handlers and the connection outlive ctx by the time that draining takes.
	life, end := context.WithCancel(context.WithoutCancel(ctx))
	var running sync.WaitGroup
	defer running.Wait()
	defer end()
	running.Go(func() { a.keep(life) })
	refused := make(chan error, 1)
	running.Go(func() { refused <- a.stayConnected(life) })

	var err error
	select {
	case err = <-refused:
	case <-a.closing:
	case <-a.leaving:
		err = a.drain(refused)
	case <-ctx.Done():
		a.log.Info("draining", "reason", context.Cause(ctx))
		err = a.drain(refused)
	}
	a.stopAll(err == nil)
	return err
}

// prepare fixes the handlers.
func (a *Agent) prepare(ctx context.Context) error {
	a.setup.Lock()
	defer a.setup.Unlock()
	if a.begun {
		return errors.New("agent: Run was called a second time, or after Close")
	}
	a.begun = true
	handlers := make(map[string]HandlerFunc, len(a.handlers))
	for typ, h := range a.handlers {
		for _, mw := range slices.Backward(a.middleware) {
			h = mw(h)
		}
		handlers[typ] = h
		a.capabilities = append(a.capabilities, job.Capability{Type: typ})
	}
	slices.SortFunc(a.capabilities, func(x, y job.Capability) int { return strings.Compare(x.Type, y.Type) })
	a.bench.handlers = handlers
	a.bench.base = context.WithoutCancel(ctx)
	return nil
}

// drain waits until nothing is held any more, but not longer than it may.
func (a *Agent) drain(refused <-chan error) error {
	a.bench.drain("the agent is stopping")
	timeout := time.NewTimer(a.cfg.DrainTimeout) // fires at once when negative
	defer timeout.Stop()
	select {
	case <-a.bench.empty():
	case <-timeout.C:
	case <-a.closing:
	case err := <-refused:
		return err
	}
	return nil
}

// stopAll tells all handlers to stop, waits a little for them, and says goodbye.
func (a *Agent) stopAll(polite bool) {
	a.bench.drain("the agent is stopping")
	a.bench.abort()
	grace := time.NewTimer(stopGrace)
	defer grace.Stop()
	idle := a.bench.idle()
	select {
	case <-idle:
	case <-grace.C:
		runs, _ := a.bench.left()
		a.log.Warn("handlers don't return and are left behind", "count", runs)
	}
	if !polite {
		return
	}
	// What ended well at the last moment should still be recorded, and the leader
	// should learn by the last heartbeat what has stopped, to give it to others.
	last := time.NewTimer(lastWords)
	defer last.Stop()
	select {
	case <-a.bench.delivered():
	case <-last.C:
	}
	s := a.link.Load()
	if s == nil {
		return
	}
	a.bench.heartbeat(nil)
	a.bench.out.say(wire.Message{Bye: &wire.Bye{Reason: "the agent is stopping"}})
	select {
	case <-a.bench.out.settle():
		a.parted.Store(true)
		s.conn.leave()
	case <-last.C:
	}
	if _, results := a.bench.left(); results > 0 {
		a.log.Warn("results were not acknowledged", "count", results)
	}
}

// Close ends Run without waiting for the handlers to finish their work: they are
// told to stop, and have 10 s to return. It waits until Run has returned, and may
// be called at any time and more than once. An agent that was closed can't run.
func (a *Agent) Close() error {
	a.closeOnce.Do(func() {
		close(a.closing)
		a.setup.Lock()
		defer a.setup.Unlock()
		if !a.begun {
			a.begun = true
			close(a.done)
		}
	})
	<-a.done
	return nil
}

// finishAndLeave is what a node asked for.
func (a *Agent) finishAndLeave(reason string) {
	a.leaveOnce.Do(func() {
		a.log.Info("draining, as the node asks", "reason", reason)
		close(a.leaving)
	})
}

// stir wakes the keeper.
func (a *Agent) stir() {
	select {
	case a.stirred <- struct{}{}:
	default:
	}
}
