package cluster

import (
	"context"
	"sync"
	"time"

	"github.com/orrery-io/orrery/internal/obs"
)

// OnHang and its timers need a Go runtime that runs. A disk that hangs can take that
// away: a thread that faults in a memory map stays in the kernel, and the next garbage
// collection waits for it with everything else stopped. Such a process keeps its
// connections, its locks and, for the others, its good name. So a timer of the kernel
// stands behind it, which kills the process unless it is put off in time.

// alarm is a timer of the kernel that kills the process.
type alarm interface {
	// put makes it go off after d, instead of when it would have.
	put(d time.Duration) error
	// off ends it.
	off() error
}

// writes remembers which writes to the log are under way.
type writes struct {
	mu    sync.Mutex
	next  int
	began map[int]time.Time
}

func (w *writes) begin() (end func()) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.began == nil {
		w.began = map[int]time.Time{}
	}
	w.next++
	id := w.next
	w.began[id] = time.Now()
	return func() {
		w.mu.Lock()
		defer w.mu.Unlock()
		delete(w.began, id)
	}
}

// oldest is for how long the oldest write has been under way, zero for none.
func (w *writes) oldest() (d time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, t := range w.began {
		d = max(d, time.Since(t))
	}
	return d
}

// standWatch puts the alarm off again and again, as long as writes to the log move,
// until ctx ends.
func (n *Node) standWatch(ctx context.Context, a alarm) {
	tick := time.NewTicker(n.cfg.Watchdog / 4)
	defer tick.Stop()
	for {
		if n.store.writes.oldest() < n.cfg.Watchdog && n.dead.Err() == nil {
			if err := a.put(n.cfg.Watchdog); err != nil {
				n.log.ErrorContext(ctx, "the watchdog can't be put off", obs.Err(err))
			}
		}
		select {
		case <-ctx.Done():
			if n.dead.Err() == nil {
				if err := a.off(); err != nil {
					n.log.ErrorContext(ctx, "the watchdog can't be ended", obs.Err(err))
				}
			}
			return
		case <-tick.C:
		}
	}
}

// startWatch begins to watch over the process when Config.Watchdog says so. The alarm
// of a node that has failed stays: such a process has to end.
func (n *Node) startWatch() (end func()) {
	if n.cfg.Watchdog == 0 {
		return func() {}
	}
	a, err := newAlarm()
	if err != nil {
		n.log.Warn("there is no watchdog for a runtime that hangs", obs.Err(err))
		return func() {}
	}
	ctx, cancel := context.WithCancel(context.Background())
	var watching sync.WaitGroup
	watching.Go(func() { n.standWatch(ctx, a) })
	return func() {
		cancel()
		watching.Wait()
	}
}
