package cli

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/orrery-io/orrery/client"
	"github.com/orrery-io/orrery/job"
)

// demoStall is how long the demonstration goes on without anything happening.
const demoStall = time.Minute

// demoFeed follows the feed of the demonstration's node. All but the channel is
// used by one goroutine.
type demoFeed struct {
	events chan job.Event
	// err is set before events is closed.
	err  error
	stop context.CancelFunc
	jobs map[job.ID]*demoJob
	// ended counts jobs that have ended.
	ended int
	// news are losses and rescues that were not yet told.
	news []demoNews
}

// demoNews is a loss or a rescue.
type demoNews struct {
	what    string // "lost", "revoked" or "rescue"
	job     job.ID
	attempt int
	agent   string
}

// demoJob is what the feed told of one job.
type demoJob struct {
	state   job.State
	attempt int
	agent   string
	losses  []demoLoss
}

// demoLoss is an attempt that was lost with its agent.
type demoLoss struct {
	Attempt int    `json:"attempt"`
	Agent   string `json:"agent"`
	// How is "lost", or "revoked" when the agent was gone before it had the job.
	How string `json:"how"`
}

// demoRescue is a job that came through the loss of its agent.
type demoRescue struct {
	Job    job.ID     `json:"job"`
	Losses []demoLoss `json:"losses"`
	// Attempt is the one that ended well, on Agent.
	Attempt int       `json:"attempt"`
	Agent   string    `json:"agent"`
	State   job.State `json:"state"`
}

func followFeed(ctx context.Context, c *client.Client) *demoFeed {
	ctx, cancel := context.WithCancel(ctx)
	f := &demoFeed{events: make(chan job.Event, 256), jobs: map[job.ID]*demoJob{}}
	done := make(chan struct{})
	f.stop = func() {
		cancel()
		<-done
	}
	go func() {
		defer close(done)
		defer close(f.events)
		for e, err := range c.Events(ctx, client.EventOptions{After: &job.EventID{}}) {
			if err != nil {
				f.err = err
				return
			}
			select {
			case f.events <- e:
			case <-ctx.Done():
				return
			}
		}
	}()
	return f
}

// take records one event.
func (f *demoFeed) take(e job.Event) {
	if e.Job == 0 {
		return
	}
	j := f.jobs[e.Job]
	if j == nil {
		j = &demoJob{}
		f.jobs[e.Job] = j
	}
	if e.State != 0 {
		j.state = e.State
	}
	switch e.Type {
	case job.JobDispatched:
		j.attempt, j.agent = e.Attempt, e.Agent
		if len(j.losses) > 0 {
			f.news = append(f.news, demoNews{"rescue", e.Job, e.Attempt, e.Agent})
		}
	case job.JobLost, job.JobRevoked:
		how := "lost"
		if e.Type == job.JobRevoked {
			how = "revoked"
		}
		l := demoLoss{cmp.Or(e.Attempt, j.attempt), cmp.Or(e.Agent, j.agent), how}
		j.losses = append(j.losses, l)
		f.news = append(f.news, demoNews{how, e.Job, l.Attempt, l.Agent})
	case job.JobCompleted, job.JobFailed, job.JobTimedOut, job.JobCancelled, job.JobExpired:
		f.ended++
	default:
	}
}

func (f *demoFeed) running(id job.ID) bool {
	j := f.jobs[id]
	return j != nil && j.state == job.Running
}

func (f *demoFeed) allEnded(ids []job.ID) bool {
	return !slices.ContainsFunc(ids, func(id job.ID) bool {
		j := f.jobs[id]
		return j == nil || !j.state.Terminal()
	})
}

// rescues lists the jobs that lost an attempt, by id.
func (f *demoFeed) rescues() []demoRescue {
	var all []demoRescue
	for _, id := range slices.Sorted(maps.Keys(f.jobs)) {
		if j := f.jobs[id]; len(j.losses) > 0 {
			all = append(all, demoRescue{id, j.losses, j.attempt, j.agent, j.state})
		}
	}
	return all
}

// until takes events, and shows progress, until cond holds.
func (d *demo) until(ctx context.Context, what string, cond func() bool) error {
	stalled := time.NewTimer(demoStall)
	defer stalled.Stop()
	for !cond() {
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-d.agent.ended:
			return failuref("", "agent %s ended by itself", d.agent.id)
		case <-stalled.C:
			return failuref("", "nothing has happened for %s while waiting for %s; %d of %d jobs have ended", took(demoStall), what, d.feed.ended, len(d.files))
		case e, ok := <-d.feed.events:
			if !ok {
				return fmt.Errorf("follow the events: %w", d.feed.err)
			}
			stalled.Reset(demoStall)
			d.feed.take(e)
			if len(d.feed.events) == 0 {
				d.tell() // what came together is told together
			}
		}
	}
	d.tell()
	return nil
}
