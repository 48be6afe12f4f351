package scheduler

import (
	"cmp"
	"context"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/orrery-io/orrery/command"
	"github.com/orrery-io/orrery/fsm"
	"github.com/orrery-io/orrery/job"
	"github.com/orrery-io/orrery/wire"
	"github.com/prometheus/client_golang/prometheus"
)

// Config says how a Scheduler decides, and with whom it speaks.
type Config struct {
	// Machine is this node's state machine.
	Machine *fsm.Machine
	// Propose hands commands to the log and returns one result each, when they
	// have been applied on this node.
	Propose func(ctx context.Context, items ...command.Item) ([]command.Result, error)
	// Send brings envelopes to the nodes that hold the sessions. It must not
	// block, and keeps the order within a session. Several goroutines call it.
	Send func(envelopes []wire.Envelope)
	// Log is where to say what happens; nil is nowhere.
	Log *slog.Logger
	// Registerer is where the metrics go; nil is nowhere.
	Registerer prometheus.Registerer

	// Lease is how long an agent may be silent before what it has is lost. Zero
	// means 15s.
	Lease time.Duration
	// Margin is how long before that an agent has stopped its work. Zero means a
	// fifth of Lease.
	Margin time.Duration
	// Heartbeat is how often agents report. Zero means a third of Lease.
	Heartbeat time.Duration
	// AckTimeout is how long an agent has to acknowledge a dispatch. Zero means 5s.
	AckTimeout time.Duration
	// CancelGrace is how long a handler has to end after it was asked to, and how
	// long after an attempt's timeout the leader waits for the agent's own report.
	// Zero means 10s.
	CancelGrace time.Duration
	// StartAfter is how long an attempt that only heartbeats tell of has been
	// running when that is recorded. Zero means 1s.
	StartAfter time.Duration
	// Retention is how long jobs are kept after they ended, by end state, when
	// they don't say it themselves. States that are missing have their default:
	// a day for completed, 30 days for failed and timed out, 7 days for the rest.
	Retention map[job.State]time.Duration
	// SweepEvery is the pause between two searches for what may be forgotten.
	// Zero means 1m.
	SweepEvery time.Duration
	// MaxPrefetch bounds what an agent with short jobs is given beyond its slots.
	// Zero means 64, or four times its slots when that is more; less than zero
	// means none.
	MaxPrefetch int
}

func (cfg *Config) setDefaults() {
	cfg.Log = cmp.Or(cfg.Log, slog.New(slog.DiscardHandler))
	cfg.Lease = cmp.Or(cfg.Lease, 15*time.Second)
	cfg.Margin = cmp.Or(cfg.Margin, cfg.Lease/5)
	cfg.Heartbeat = cmp.Or(cfg.Heartbeat, cfg.Lease/3)
	cfg.AckTimeout = cmp.Or(cfg.AckTimeout, 5*time.Second)
	cfg.CancelGrace = cmp.Or(cfg.CancelGrace, 10*time.Second)
	cfg.StartAfter = cmp.Or(cfg.StartAfter, time.Second)
	cfg.SweepEvery = cmp.Or(cfg.SweepEvery, time.Minute)
	const day = 24 * time.Hour
	retention := map[job.State]time.Duration{
		job.Completed: day, job.Failed: 30 * day, job.TimedOut: 30 * day, job.Cancelled: 7 * day, job.Expired: 7 * day,
	}
	maps.Copy(retention, cfg.Retention)
	cfg.Retention = retention
}

// Scheduler takes the leader's decisions. Its methods may be called by several
// goroutines, on every node and at any time; all but Lead do nothing much on a node
// that does not lead.
type Scheduler struct {
	cfg     Config
	machine machine
	metrics *metrics

	term atomic.Pointer[term]

	// early has what agents said while there was no term: a session's Up may come
	// before Lead is called.
	earlyMu sync.Mutex
	early   []arrival
}

// arrival is an envelope that came before the term.
type arrival struct {
	at  time.Time
	env wire.Envelope
}

// Early envelopes are kept for a moment, and not more than a bound: a node that is
// not about to lead gets none.
const (
	earlyFor  = 10 * time.Second
	earlyMost = 20_000
)

// New returns a Scheduler. It starts nothing.
func New(cfg Config) *Scheduler { return newScheduler(cfg, stateMachine{cfg.Machine}) }

func newScheduler(cfg Config, m machine) *Scheduler {
	cfg.setDefaults()
	s := &Scheduler{cfg: cfg, machine: m}
	s.metrics = newMetrics(s, cfg.Registerer)
	return s
}

// Lead takes the decisions of one term, until ctx ends or the state machine cannot
// be read. When it returns, nothing of the term runs any more.
func (s *Scheduler) Lead(ctx context.Context, number uint64) error {
	t := newTerm(s, number)
	s.earlyMu.Lock()
	for _, a := range s.early {
		if time.Since(a.at) < earlyFor {
			t.inbox = append(t.inbox, a.env)
		}
	}
	s.early = nil
	s.term.Store(t)
	s.earlyMu.Unlock()
	defer s.term.CompareAndSwap(t, nil)
	return t.run(ctx)
}

// Deliver takes what agents and their nodes say. It does not block.
func (s *Scheduler) Deliver(envelopes []wire.Envelope) {
	if t := s.term.Load(); t != nil {
		t.deliver(envelopes)
		return
	}
	s.earlyMu.Lock()
	defer s.earlyMu.Unlock()
	if t := s.term.Load(); t != nil {
		t.deliver(envelopes)
		return
	}
	now := time.Now()
	s.early = slices.DeleteFunc(s.early, func(a arrival) bool { return now.Sub(a.at) >= earlyFor })
	for _, env := range envelopes {
		if len(s.early) < earlyMost {
			s.early = append(s.early, arrival{now, env})
		}
	}
}
