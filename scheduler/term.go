package scheduler

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/orrery-io/orrery/internal/obs"
	"github.com/orrery-io/orrery/job"
	"github.com/orrery-io/orrery/wire"
)

// term is all that the leader knows in one term of leadership. What it needs to
// match jobs and agents is guarded by one mutex, held for as long as it takes to
// handle a batch of events or messages; never while proposing, sending or reading
// the database.
type term struct {
	s      *Scheduler
	log    *slog.Logger
	number uint64
	began  time.Time

	// loaded means that the term knows enough to decide. Before that, the state
	// below is the loader's alone.
	loaded atomic.Bool

	mu       sync.Mutex
	agents   map[string]*agent
	attempts map[job.ID]*attempt
	groups   map[groupKey]*group
	queues   map[string]*queue
	classes  map[string]*class
	// hot are the classes to be matched.
	hot []*class
	// avoided are the jobs that an agent has rejected.
	avoided map[job.ID]*avoidance
	timers  timers
	// outbox has the envelopes to be sent, in the order in which they were decided;
	// sending means that somebody is about it.
	outbox  []wire.Envelope
	sending bool
	// armed is the moment for which the timer loop is set.
	armed time.Duration
	marks uint64
	turns uint64
	// stored are the rows of agents from earlier terms that have not come Up yet.
	stored     map[string]*job.Agent
	logBacklog int
	// seen is the log index up to which the feed has been handled.
	seen uint64
	// refills are the groups whose windows run low.
	refills []*group

	plans        plans
	records      recorder
	dispatchKick chan struct{} // these have capacity 1: see kick
	timerKick    chan struct{}
	refillKick   chan struct{}
	due          alarm
	expiry       alarm

	inboxMu   sync.Mutex
	inbox     []wire.Envelope
	inboxKick chan struct{}
}

func newTerm(s *Scheduler, number uint64) *term {
	signal := func() chan struct{} { return make(chan struct{}, 1) }
	return &term{
		s: s, number: number, began: time.Now(), log: s.cfg.Log.With(obs.Term(number)),
		agents: make(map[string]*agent), attempts: make(map[job.ID]*attempt), groups: make(map[groupKey]*group),
		queues: make(map[string]*queue), classes: make(map[string]*class), avoided: make(map[job.ID]*avoidance),
		stored:       make(map[string]*job.Agent),
		plans:        newPlans(),
		records:      recorder{wake: signal()},
		dispatchKick: signal(), timerKick: signal(), refillKick: signal(), inboxKick: signal(),
		due: alarm{kick: signal()}, expiry: alarm{kick: signal()},
	}
}

// now is the term's clock, which only goes forward.
func (t *term) now() time.Duration { return time.Since(t.began) }

// run loads the term and runs its loops until ctx ends or one of them fails.
func (t *term) run(ctx context.Context) error {
	began := time.Now()
	sub, err := t.load(ctx)
	if err != nil {
		if ctx.Err() != nil {
			return nil //nolint:nilerr // the term is over
		}
		return fmt.Errorf("load: %w", err)
	}
	t.log.InfoContext(ctx, "term loaded", obs.Count(len(t.attempts)), obs.Took(time.Since(began)))
	defer t.log.InfoContext(ctx, "term ended")

	parent := ctx
	ctx, cancel := context.WithCancelCause(parent)
	defer cancel(nil)
	var wg sync.WaitGroup
	for _, loop := range []func(context.Context) error{
		func(ctx context.Context) error { return t.feedLoop(ctx, sub) },
		t.inboxLoop, t.recordLoop,
		// Two, so that decisions need not wait for the entry before theirs.
		t.dispatchLoop, t.dispatchLoop,
		t.tickLoop, t.tickLoop,
		t.timerLoop, t.refillLoop, t.dueLoop, t.expiryLoop, t.sweepLoop, t.trimLoop,
	} {
		wg.Go(func() {
			if err := loop(ctx); err != nil {
				cancel(err)
			}
		})
	}
	<-ctx.Done()
	wg.Wait()
	if parent.Err() != nil {
		return nil //nolint:nilerr // the term is over
	}
	return context.Cause(ctx)
}

// loadPage is how many rows a load reads at once.
const loadPage = 1000

// load reads what the term needs: what the agents have, who they are, which queues
// are paused, which groups of jobs wait, and what is planned. Leases start anew. It returns the place
// in the feed from which events follow.
func (t *term) load(ctx context.Context) (subscription, error) {
	m := t.s.machine
	// In this order, so that nothing falls between the lists and the feed: what
	// was applied before the Flush is in the lists, what comes after last is in
	// the feed, and handling a change twice does no harm.
	last := m.LastEvent()
	sub := m.Subscribe(last)
	if err := m.Flush(ctx); err != nil {
		return nil, err
	}
	t.seen = last.Index
	for _, q := range m.Queues() {
		if q.Paused {
			t.queueOf(q.Name).paused = true
		}
	}
	for _, row := range m.Agents() {
		if row.Status == job.AgentLost {
			continue
		}
		a := t.agentOf(row.ID)
		a.row, a.session, a.node = *row, row.Session, row.Node
		a.row.Slots = max(1, row.Slots)
		a.since = row.ConnectedAt.Time()
		t.stored[row.ID] = row
	}
	for after := job.ID(0); ; {
		rows, err := m.ActiveJobs(ctx, after, loadPage)
		if err != nil {
			return nil, fmt.Errorf("active jobs: %w", err)
		}
		for _, row := range rows {
			after = row.ID
			if row.State.Active() {
				a := t.agentOf(row.Agent)
				att := t.hold(a, row)
				att.acked = att.running
				if uint64(att.fence) > a.row.SessionIndex {
					// If the agent is still on this connection, the dispatch may be
					// on its way to it.
					att.session = a.session
				}
			}
		}
		if len(rows) < loadPage {
			break
		}
	}
	groups, err := m.ReadyGroups(ctx)
	if err != nil {
		return nil, fmt.Errorf("groups: %w", err)
	}
	for _, g := range groups {
		t.adopt(&group{key: groupKey{g.Queue, g.Type}, win: window{through: start}})
	}
	t.loadPlans()
	t.loaded.Store(true)
	return sub, nil
}

// deliver takes envelopes into the inbox. It is bounded by what the agents may have
// outstanding, which their credit limits.
func (t *term) deliver(envelopes []wire.Envelope) {
	t.inboxMu.Lock()
	t.inbox = append(t.inbox, envelopes...)
	t.inboxMu.Unlock()
	kick(t.inboxKick)
}

// setTimer sets tm, and has the timer loop know when it is the earliest.
func (t *term) setTimer(tm *timer, at time.Duration) {
	t.timers.set(tm, at)
	if at < t.armed {
		t.armed = at
		kick(t.timerKick)
	}
}

// never is later than every timer.
const never = time.Duration(1<<63 - 1)

// timerLoop has everything looked at again whose moment has come.
func (t *term) timerLoop(ctx context.Context) error {
	alarm := time.NewTimer(0)
	defer alarm.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-t.timerKick:
		case <-alarm.C:
		}
		wait := never
		t.do(ctx, func(fx *effects) {
			now := t.now()
			for tm := t.timers.due(now); tm != nil; tm = t.timers.due(now) {
				tm.owner.expire(t, now, fx)
			}
			t.armed = never
			if at, ok := t.timers.next(); ok {
				t.armed, wait = at, at-now
			}
		})
		alarm.Reset(wait)
	}
}
