package bench

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"time"

	"github.com/orrery-io/orrery/job"
)

// check compares what was counted here with what the cluster has. When everything
// went its way, every job has to be completed too.
func (r *run) check(ctx context.Context, rep *Report, complete bool) error {
	c := &rep.Check
	n := r.counters
	c.Acked, c.Unknown, c.Refused = n.acked.Load(), n.unknown.Load(), n.refused.Load()
	c.Recorded, c.NotAccepted, c.Repeated, c.Untold = n.recorded.Load(), n.notAccepted.Load(), n.again.Load(), n.untold.Load()
	if r.cfg.Mode == IdleAgents || c.Acked+c.Unknown == 0 {
		c.Agrees = true
		return nil
	}
	r.begin("comparing the counts", 0, func() int64 { return 0 })
	var err error
	if c.Server, c.Deleted, err = r.count(ctx); err != nil {
		c.Problem = "the cluster could not be asked: " + err.Error()
		return fmt.Errorf("%w: %s", ErrMismatch, c.Problem)
	}
	if c.Problem = c.compare(complete && r.cfg.executes()); c.Problem != "" {
		return fmt.Errorf("%w: %s", ErrMismatch, c.Problem)
	}
	c.Agrees = true
	return nil
}

// compare says in a sentence what doesn't fit, or "".
func (c *Check) compare(complete bool) string {
	total := c.Deleted
	for _, n := range c.Server {
		total += n
	}
	switch done := c.Server[job.Completed] + c.Deleted; {
	case total < c.Acked:
		return fmt.Sprintf("it acknowledged %d jobs and has %d", c.Acked, total)
	case total > c.Acked+c.Unknown:
		return fmt.Sprintf("it has %d jobs, and acknowledged %d (%d more without an answer)", total, c.Acked, c.Unknown)
	case c.Recorded > done:
		return fmt.Sprintf("it told the agents of %d recorded results, and has %d completed jobs", c.Recorded, done)
	case complete && done != total:
		return fmt.Sprintf("it has %d jobs, of which only %d are completed", total, done)
	case complete && c.Recorded+c.Untold < done:
		return fmt.Sprintf("it has %d completed jobs, and told the agents of %d recorded results, and %d to forget", done, c.Recorded, c.Untold)
	}
	return ""
}

// count asks for the jobs of the queue by state, and how many were deleted since the
// beginning. Deleted jobs are not counted by queue, so they are looked at only when
// some of this queue can be among them.
func (r *run) count(ctx context.Context) (byState map[job.State]int64, deleted int64, err error) {
	for began := time.Now(); time.Since(began) < sweepTime; {
		before := r.deleted(ctx)
		q, err := r.api.Queue(ctx, r.queue, true)
		if err != nil {
			return nil, 0, err
		}
		deleted = r.deleted(ctx)
		if r.cfg.Retention == 0 || r.now() < r.cfg.Retention {
			return q.Counts, 0, nil
		}
		if before == deleted {
			return q.Counts, deleted - r.before.deleted, nil
		}
		if !pauseFor(ctx, settleTime) {
			return nil, 0, context.Cause(ctx)
		}
	}
	return nil, 0, fmt.Errorf("it has deleted jobs for %s without a pause, so they can't be counted", sweepTime)
}

// sweepTime is for how long the cluster may be busy deleting what has been kept for
// long enough, before it pauses.
const sweepTime = 3 * time.Minute

// deleted is how many jobs were deleted at the end of their retention, on all nodes.
func (r *run) deleted(ctx context.Context) (n int64) {
	for _, s := range r.watch.look(ctx, r.now) {
		n += s.Deleted
	}
	return n
}

// cleaners are the agents that execute what is left.
const (
	cleaners     = 4
	cleanerSlots = 1000
)

// clean executes what is left in the queue, and lets the agents go. There is nothing
// faster to get rid of many jobs, and it leaves them in order: completed, and deleted
// at the end of their retention.
func (r *run) clean(ctx context.Context) error {
	defer func() {
		if r.crew != nil {
			r.begin("disconnecting agents", 0, r.crew.connected.Load)
			r.crew.dismiss()
		}
	}()
	if r.cfg.Keep || r.cfg.Mode == IdleAgents {
		return nil
	}
	left, paused, err := r.left(ctx)
	if err != nil || left == 0 {
		return err
	}
	r.begin("executing what is left", 0, r.done)
	if paused {
		if err := r.api.ResumeQueue(ctx, r.queue); err != nil {
			return fmt.Errorf("clean up: %w", err)
		}
	}
	if r.crew == nil {
		r.crew, err = r.hire(ctx, crewConfig{agents: cleaners, slots: cleanerSlots, queue: r.queue, name: r.queue + "-clean", atOnce: cleaners})
		if err != nil {
			return fmt.Errorf("clean up: %w", err)
		}
	}
	last, since := left, time.Now()
	for left > 0 {
		if left < last {
			last, since = left, time.Now()
		}
		if time.Since(since) > stuckAfter || !pauseFor(ctx, settleTime) {
			return fmt.Errorf("clean up: %d jobs are left in the queue %s", left, r.queue)
		}
		if left, _, err = r.left(ctx); err != nil {
			return fmt.Errorf("clean up: %w", err)
		}
	}
	return nil
}

// left is how many jobs of the queue have not ended.
func (r *run) left(ctx context.Context) (n int64, paused bool, err error) {
	q, err := r.api.Queue(ctx, r.queue, true)
	if errors.Is(err, job.ErrQueueNotFound) {
		return 0, false, nil
	}
	if err != nil {
		return 0, false, err
	}
	for state, count := range q.Counts {
		if !state.Terminal() {
			n += count
		}
	}
	return n, q.Paused, nil
}

// survey is how the cluster stands apart from the measurement.
type survey struct {
	servers int
	version string
	queues  map[string]map[job.State]int64
	deleted int64
}

// look asks how the cluster stands.
func (r *run) look(ctx context.Context) (survey, error) {
	cl, err := r.api.Cluster(ctx)
	if err != nil {
		return survey{}, err
	}
	queues, err := r.api.Queues(ctx)
	if err != nil {
		return survey{}, err
	}
	s := survey{servers: max(len(cl.Servers), 1), version: cl.Version, queues: map[string]map[job.State]int64{}}
	for _, q := range queues {
		s.queues[q.Name] = maps.Clone(q.Counts)
	}
	for _, x := range r.watch.look(ctx, r.now) {
		s.deleted += x.Deleted
	}
	if err := r.watch.trouble(); err != nil {
		return survey{}, fmt.Errorf("look at the metrics: %w", err)
	}
	return s, nil
}

// compare returns sentences about what else the cluster had to do.
func (s survey) compare(after survey, own string) (notes []string) {
	var active, moved int64
	for name, was := range s.queues {
		active += was[job.Dispatched] + was[job.Running]
		moved += movement(was, after.queues[name])
	}
	for name, is := range after.queues {
		if _, known := s.queues[name]; !known && name != own {
			moved += movement(nil, is)
		}
	}
	if active > 0 {
		notes = append(notes, fmt.Sprintf("the cluster was executing %d other jobs when the measurement began", active))
	}
	if moved > 0 {
		notes = append(notes, fmt.Sprintf("at least %d jobs of other queues were submitted or executed during the measurement", moved))
	}
	return notes
}

// movement is how many jobs at least came into states that they were not in. Ended
// ones that are gone were only forgotten.
func movement(was, is map[job.State]int64) (n int64) {
	for state, count := range is {
		n += max(count-was[state], 0)
	}
	return n
}
