package bench

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/orrery-io/orrery/agent"
	"github.com/orrery-io/orrery/job"
)

// crew is the agents of a measurement. They run in this process, so that one clock
// measures both ends of a job.
type crew struct {
	run *run
	// connected counts agents that a node has taken, lost the connections that ended
	// before they should have.
	connected, lost atomic.Int64
	leaving         atomic.Bool
	mu              sync.Mutex
	why             error // of the first that was lost

	end  context.CancelFunc
	all  sync.WaitGroup
	http *http.Client
}

// crewConfig says who is to come.
type crewConfig struct {
	agents, slots int
	queue         string
	// name begins the ids of the agents.
	name string
	// atOnce is how many connect at the same time.
	atOnce int
}

// hireTimeout bounds how long nobody may be taken by a node.
const hireTimeout = 30 * time.Second

// hire connects agents, to the nodes in turn, and returns when all are connected.
// After an error there is nobody.
func (r *run) hire(ctx context.Context, cfg crewConfig) (*crew, error) {
	life, end := context.WithCancel(context.WithoutCancel(ctx))
	w := &crew{run: r, end: end, http: &http.Client{Transport: &http.Transport{MaxIdleConns: 1}}}
	err := w.connect(ctx, life, cfg)
	if err != nil {
		w.dismiss()
		return nil, err
	}
	return w, nil
}

func (w *crew) connect(ctx, life context.Context, cfg crewConfig) error {
	failed := make(chan error, cfg.agents)
	room := make(chan struct{}, cfg.atOnce)
	progress := time.NewTimer(hireTimeout)
	defer progress.Stop()
	wait := func(c chan<- struct{}) error {
		progress.Reset(hireTimeout)
		select {
		case c <- struct{}{}:
			return nil
		case err := <-failed:
			return err
		case <-progress.C:
			return fmt.Errorf("no agent more was connected for %s, with %d of %d connected", hireTimeout, w.connected.Load(), cfg.agents)
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	for i := range cfg.agents {
		if err := wait(room); err != nil {
			return err
		}
		a, err := w.agent(i, cfg, sync.OnceFunc(func() {
			w.connected.Add(1)
			<-room
		}))
		if err != nil {
			return err
		}
		w.all.Go(func() {
			if err := a.Run(life); err != nil {
				failed <- err
			}
		})
	}
	for range cfg.atOnce { // until all have left room
		if err := wait(room); err != nil {
			return err
		}
	}
	return nil
}

func (w *crew) agent(i int, cfg crewConfig, connected func()) (*agent.Agent, error) {
	r := w.run
	a, err := agent.New(agent.Config{
		Addrs: []string{r.targets[i%len(r.targets)].base}, Token: r.cfg.Token,
		ID: fmt.Sprintf("%s-%05d", cfg.name, i+1), Name: fmt.Sprintf("%s-%05d", cfg.name, i+1), Group: "bench",
		Queues: []string{cfg.queue}, Slots: cfg.slots, DrainTimeout: 5 * time.Second, HTTP: w.http, Log: r.cfg.Log,
		Hooks: agent.Hooks{
			Connected:    func(string) { connected() },
			Disconnected: func(_ string, err error) { w.loses(err) },
			Recorded: func(j *agent.RawJob, accepted bool) {
				if !accepted {
					r.counters.notAccepted.Add(1)
					return
				}
				r.counters.recorded.Add(1)
				r.ended(i, j)
			},
			Dropped: func(j *agent.RawJob) {
				r.counters.untold.Add(1)
				r.ended(i, j)
			},
		},
	})
	if err != nil {
		return nil, err
	}
	agent.Handle(a, JobType, func(_ context.Context, j *agent.Job[job.JSON]) (job.JSON, error) {
		r.startedOne(i, j.RawJob)
		return nil, nil
	})
	return a, nil
}

// loses counts a connection that ended.
func (w *crew) loses(err error) {
	if w.leaving.Load() {
		return
	}
	w.lost.Add(1)
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.why == nil {
		w.why = err
	}
}

// trouble is why connections were lost; nil when none was.
func (w *crew) trouble() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.why == nil {
		return nil
	}
	return fmt.Errorf("%d connections of agents were lost: %w", w.lost.Load(), w.why)
}

// dismiss lets all go home, and waits until they have.
func (w *crew) dismiss() {
	w.leaving.Store(true)
	w.end()
	w.all.Wait()
	w.http.CloseIdleConnections()
}

// startedOne is called by the handler of each job.
func (r *run) startedOne(i int, j *agent.RawJob) {
	now := r.now()
	c := r.counters
	c.started.Add(1)
	c.firstStart.CompareAndSwap(0, int64(now))
	if j.Attempt > 1 {
		c.again.Add(1)
		return
	}
	if due, ok := stampOf(j.Payload); ok && r.span.has(due) {
		r.start.add(i, now-due)
	}
}

// ended is called when the cluster has recorded a result, as far as the agent can know.
func (r *run) ended(i int, j *agent.RawJob) {
	now := r.now()
	c := r.counters
	c.lastRecorded.Store(int64(now))
	if r.span.has(now) {
		c.inRecorded.Add(1)
	}
	if due, ok := stampOf(j.Payload); ok && r.span.has(due) {
		r.recorded.add(i, now-due)
	}
	r.window.leave(1)
}

// errStuck means that jobs are not executed although somebody could.
var errStuck = errors.New("the cluster has jobs of this measurement that are not executed")

// stuckAfter is for how long nothing may be recorded.
const stuckAfter = 30 * time.Second

// finish waits until everything that was acknowledged is recorded. When agents were not
// told of every result, the cluster is asked.
func (r *run) finish(ctx context.Context) error {
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	last, since := int64(-1), time.Now()
	for {
		done, want := r.done(), r.counters.acked.Load()
		if done >= want {
			if r.counters.untold.Load() == 0 {
				return nil
			}
			if left, _, err := r.left(ctx); err != nil || left == 0 {
				return err
			}
		}
		switch {
		case done != last:
			last, since = done, time.Now()
		case time.Since(since) > stuckAfter:
			return fmt.Errorf("%w: %d of %d are recorded, and none in the last %s", errStuck, done, want, stuckAfter)
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-tick.C:
		}
	}
}

// done is how many results are recorded, as far as is known here.
func (r *run) done() int64 { return r.counters.recorded.Load() + r.counters.untold.Load() }
