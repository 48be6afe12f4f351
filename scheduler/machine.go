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
	Schedules() []*job.Schedule
	Schedule(name string) (*job.Schedule, error)
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
	ReadyGroups(ctx context.Context) ([]fsm.ReadyGroup, error)
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
