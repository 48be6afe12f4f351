package scheduler

import (
	"context"
	"time"

	"github.com/orrery-io/orrery/command"
	"github.com/orrery-io/orrery/fsm"
	"github.com/orrery-io/orrery/internal/obs"
	"github.com/orrery-io/orrery/job"
)

const (
	// sweepSlice is how many ended jobs are looked at between two pauses, and
	// deleteMax how many one command removes.
	sweepSlice = 4000
	deleteMax  = 500
	// sweepPause leaves the database to others between two slices.
	sweepPause = 50 * time.Millisecond
	// A sweep that has removed a quarter of what it looked at, or more, is followed by
	// the next one so many times sooner: jobs end faster than they are forgotten.
	sweepSooner = 10
	// trimEvery is how often the stored feed is cut to its size.
	trimEvery = 5 * time.Second
	// forgetAfter is how long the row of an agent that is gone is kept.
	forgetAfter = 24 * time.Hour
)

// sweepLoop removes what has been kept for long enough: slowly, because nobody
// waits for it.
func (t *term) sweepLoop(ctx context.Context) error {
	wait := t.s.cfg.SweepEvery
	for {
		if !sleep(ctx, wait) {
			return nil
		}
		wait = t.s.cfg.SweepEvery
		looked, removed, err := t.sweep(ctx)
		if err != nil && ctx.Err() == nil {
			t.log.ErrorContext(ctx, "ended jobs not swept", obs.Err(err))
		}
		if removed >= sweepSlice && removed >= looked/4 {
			wait /= sweepSooner
		}
		if err := t.forgetAgents(ctx); err != nil && ctx.Err() == nil {
			t.log.ErrorContext(ctx, "agents not forgotten", obs.Err(err))
		}
	}
}

// sweep goes once through all ended jobs, and says how many it looked at and how many
// it removed.
func (t *term) sweep(ctx context.Context) (looked, removed int, err error) {
	for after := job.ID(0); ; {
		rows, next, err := t.s.machine.EndedJobs(ctx, after, sweepSlice)
		if err != nil {
			return looked, removed, err
		}
		n, err := t.remove(ctx, rows)
		looked, removed = looked+len(rows), removed+n
		if err != nil || next == 0 {
			return looked, removed, err
		}
		after = next
		if !sleep(ctx, sweepPause) {
			return looked, removed, nil
		}
	}
}

// remove proposes to delete those of rows that have been kept for long enough, and
// returns how many were.
func (t *term) remove(ctx context.Context, rows []fsm.Ended) (removed int, err error) {
	now := t.wall()
	var ids []job.ID
	for _, row := range rows {
		keep := row.Retention
		if keep == 0 {
			keep = job.For(t.s.cfg.Retention[row.State])
		}
		if row.FinishedAt != 0 && row.FinishedAt.Add(keep) <= now {
			ids = append(ids, row.ID)
		}
	}
	for len(ids) > 0 {
		n := min(len(ids), deleteMax)
		results, err := t.propose(ctx, []command.Item{{Command: &command.Delete{Jobs: ids[:n:n]}}})
		if err != nil {
			return removed, err
		}
		t.s.metrics.deleted.Add(float64(results[0].Count))
		removed += results[0].Count
		ids = ids[n:]
	}
	return removed, nil
}

// forgetAgents removes the rows of agents that have been gone for long.
func (t *term) forgetAgents(ctx context.Context) error {
	before := job.At(time.Now().Add(-forgetAfter))
	var ids []string
	for _, row := range t.s.machine.Agents() {
		gone := row.Status == job.AgentDisconnected || row.Status == job.AgentLost
		if gone && row.DisconnectedAt <= before {
			ids = append(ids, row.ID)
		}
	}
	if len(ids) == 0 {
		return nil
	}
	_, err := t.propose(ctx, []command.Item{{Command: &command.ForgetAgents{IDs: ids}}})
	return err
}

// trimLoop keeps the stored feed at its size.
func (t *term) trimLoop(ctx context.Context) error {
	for sleep(ctx, trimEvery) {
		through, ok := t.s.machine.FeedToTrim()
		// What this term has not heard of yet is kept: without it the term would end.
		t.mu.Lock()
		through = min(through, max(t.seen, 1)-1)
		t.mu.Unlock()
		if !ok || through == 0 {
			continue
		}
		if _, err := t.propose(ctx, []command.Item{{Command: &command.TrimFeed{Through: through}}}); err != nil && ctx.Err() == nil {
			t.log.ErrorContext(ctx, "feed not trimmed", obs.Err(err))
		}
	}
	return nil
}
