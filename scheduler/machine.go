package scheduler

import (
	"context"

	"github.com/orrery-io/orrery/fsm"
	"github.com/orrery-io/orrery/job"
)

// machine is what the scheduler asks of the state machine. A *fsm.Machine is one,
// but for the type of its subscriptions: see stateMachine.
type machine interface {
	feedSource
	backlog
	Job(ctx context.Context, id job.ID) (*job.Job, error)
	ActiveJobs(ctx context.Context, after job.ID, limit int) ([]*job.Job, error)
	Queues() []fsm.QueueInfo
	Agents() []*job.Agent
}

// feedSource is the change feed.
type feedSource interface {
	LastEvent() job.EventID
	Subscribe(after job.EventID) subscription
}

// subscription is a place in the feed.
type subscription interface {
	Next(ctx context.Context) ([]job.Event, error)
}

// backlog is what waits in the database. Lists may be a flush old.
type backlog interface {
	Flush(ctx context.Context) error
	ReadyGroups(ctx context.Context) ([]readyGroup, error)
	ReadyJobs(ctx context.Context, queue, typ string, after fsm.ReadyPos, limit int) ([]*job.Job, error)
	DueJobs(ctx context.Context, until job.Time, limit int) (due []job.ID, next job.Time, err error)
	ExpiringJobs(ctx context.Context, until job.Time, limit int) (ids []job.ID, next job.Time, err error)
	EndedJobs(ctx context.Context, after job.ID, limit int) (rows []fsm.Ended, next job.ID, err error)
	FeedToTrim() (through uint64, ok bool)
}

// stateMachine makes a machine of a *fsm.Machine.
type stateMachine struct{ *fsm.Machine }

var _ machine = stateMachine{}

// Subscribe implements machine.
func (m stateMachine) Subscribe(after job.EventID) subscription { return m.Machine.Subscribe(after) }

type readyGroup struct{ Queue, Type string }

// ReadyJobs filters.
func (m stateMachine) ReadyJobs(ctx context.Context, queue, typ string, after fsm.ReadyPos, limit int) (out []*job.Job, err error) {
	for {
		rows, err := m.Machine.ReadyJobs(ctx, queue, after, 1000)
		if err != nil {
			return nil, err
		}
		for _, j := range rows {
			after = fsm.PosOf(j)
			if j.Type == typ {
				if out = append(out, j); len(out) == limit {
					return out, nil
				}
			}
		}
		if len(rows) < 1000 {
			return out, nil
		}
	}
}

// ReadyGroups scans.
func (m stateMachine) ReadyGroups(ctx context.Context) (out []readyGroup, err error) {
	for _, q := range m.Queues() {
		seen := map[string]bool{}
		after := fsm.ReadyPos{Priority: job.MaxPriority + 1}
		for q.Waiting() > 0 {
			rows, err := m.Machine.ReadyJobs(ctx, q.Name, after, 1000)
			if err != nil {
				return nil, err
			}
			for _, j := range rows {
				after = fsm.PosOf(j)
				if !seen[j.Type] {
					seen[j.Type] = true
					out = append(out, readyGroup{q.Name, j.Type})
				}
			}
			if len(rows) < 1000 {
				break
			}
		}
	}
	return out, nil
}
