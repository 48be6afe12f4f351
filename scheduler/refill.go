package scheduler

import (
	"context"
	"slices"

	"github.com/orrery-io/orrery/fsm"
	"github.com/orrery-io/orrery/internal/obs"
)

// refill asks for more of a group's jobs from the database.
func (t *term) refill(g *group) {
	if g.filling || g.paused || !g.served() {
		return
	}
	g.filling = true
	t.refills = append(t.refills, g)
	kick(t.refillKick)
}

// refillLoop fills the windows that run low, one after the other.
func (t *term) refillLoop(ctx context.Context) error {
	for {
		t.mu.Lock()
		groups := t.refills
		t.refills = nil
		t.mu.Unlock()
		if len(groups) == 0 {
			select {
			case <-ctx.Done():
				return nil
			case <-t.refillKick:
				continue
			}
		}
		for _, g := range groups {
			if err := t.fillWindow(ctx, g); err != nil {
				if ctx.Err() != nil {
					return nil //nolint:nilerr // the term is over
				}
				// Not a reason to end the term: other groups go on.
				t.log.ErrorContext(ctx, "window not refilled", obs.Queue(g.key.queue), obs.JobType(g.key.typ), obs.Err(err))
				if !sleep(ctx, pause) {
					return nil
				}
			}
		}
	}
}

// fillWindow reads the jobs that follow those in the window. Three things keep the
// window exact although the database may lag behind the log:
//
//   - the flush before the read makes everything visible that was applied before it;
//   - what becomes ready behind the window while the read is going on is kept in
//     group.late, and offered again when the window reaches further;
//   - what was dispatched or ended since is left out by ReadyJobs, which knows the
//     newest version of each row. That also has the jobs in the cache when their
//     dispatch is applied.
func (t *term) fillWindow(ctx context.Context, g *group) error {
	t.mu.Lock()
	after, limit := g.win.through, windowSize-g.win.len()
	t.mu.Unlock()

	var (
		entries []entry
		reached entry
		all     bool
	)
	err := t.s.machine.Flush(ctx)
	if err == nil {
		entries, reached, all, err = t.read(ctx, g.key, after, limit)
	}
	t.s.metrics.refills.Inc()

	t.mu.Lock()
	defer t.mu.Unlock()
	late := g.late
	g.filling, g.late = false, nil
	if err != nil {
		// Another event, or the next agent, asks again.
		return err
	}
	if g.win.through != after || g.win.complete {
		// The window was cut meanwhile: what was read lies behind it.
		t.feedGroup(g)
		return nil
	}
	entries = slices.DeleteFunc(entries, func(e entry) bool { return t.attempts[e.id] != nil })
	g.win.fill(entries, reached, all)
	for _, e := range late {
		g.win.add(e)
	}
	t.feedGroup(g)
	t.tidy(g)
	return nil
}

// read returns the waiting jobs of a group behind after, where the read has come
// to, and whether that was all.
func (t *term) read(ctx context.Context, k groupKey, after entry, limit int) (entries []entry, reached entry, all bool, err error) {
	pos := fsm.ReadyPos{Priority: int(after.priority), ReadyAt: after.readyAt, ID: after.id}
	rows, err := t.s.machine.ReadyJobs(ctx, k.queue, k.typ, pos, limit)
	if err != nil {
		return nil, entry{}, false, err
	}
	entries = make([]entry, len(rows))
	for i, row := range rows {
		entries[i] = entryOf(row)
		reached = entries[i]
	}
	return entries, reached, len(rows) < limit, nil
}
