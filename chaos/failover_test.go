//go:build linux

package chaos

import (
	"context"
	"time"

	"github.com/orrery-io/orrery/job"
)

// failover kills the leader again and again, and nothing else.
func (e *env) failover(ctx context.Context) error {
	for i := range e.kills {
		if !pauseFor(ctx, 2*time.Second) {
			return context.Cause(ctx)
		}
		n, err := e.leader(ctx)
		if err != nil {
			return err
		}
		e.counts["kill-leader"]++
		e.killed()
		e.kill(n)
		e.journal.write("killed", n.name)
		if !pauseFor(ctx, 4*time.Second) {
			return context.Cause(ctx)
		}
		if err := e.recovered(ctx, "the death of the leader"); err != nil {
			return err
		}
		if (i+1)%10 == 0 {
			e.say("%d leaders killed", i+1)
		}
	}
	return nil
}

// figures tells how long it took from the death of a leader until an agent began a
// job that the next one had given it.
func (e *env) figures(events []job.Event, stamps []stamp) {
	if len(e.deaths) == 0 {
		return
	}
	begins := map[attemptKey]int64{}
	for _, s := range stamps {
		k := attemptKey{s.Job, s.Fence}
		if at, ok := begins[k]; s.What == "begin" && (!ok || s.At < at) {
			begins[k] = s.At
		}
	}
	var took []time.Duration
	for i, k := range e.deaths {
		until := int64(1<<63 - 1)
		if i+1 < len(e.deaths) {
			until = e.deaths[i+1].mono
		}
		best := int64(0)
		for _, ev := range events {
			// The leader's clock is this machine's: what has a later time than the
			// death comes from the next one.
			if ev.Type != job.JobDispatched || !ev.Time.Time().After(k.wall.Add(2*time.Millisecond)) {
				continue
			}
			at, ok := begins[attemptKey{int64(ev.Job), uint64(ev.Fence)}]
			if ok && at > k.mono && at < until && (best == 0 || at < best) {
				best = at
			}
			if best != 0 && ev.Time.Time().After(k.wall.Add(30*time.Second)) {
				break
			}
		}
		if best != 0 {
			took = append(took, time.Duration(best-k.mono))
		}
	}
	p50, p99 := quantiles(took)
	e.say("leader killed → an agent begins what the next one dispatched: p50 %s, p99 %s over %d of %d kills", p50, p99, len(took), len(e.deaths))
	if e.mode == "failover" && (p50 > 1500*time.Millisecond || p99 > 3*time.Second) {
		e.say("SLOWER than the goal of 1.5 s and 3 s")
	}
}
