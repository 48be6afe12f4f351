package httpapi

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/orrery-io/orrery/internal/obs"
	"github.com/orrery-io/orrery/job"
)

// subscription is what watchers need of fsm.Subscription.
type subscription interface {
	Next(ctx context.Context) ([]job.Event, error)
}

// watchers wake requests that wait for something to happen to one job. However
// many there are, they share one subscription to the feed, and an event costs one
// look into a map. The subscription begins with the first watcher and ends with
// close.
type watchers struct {
	// subscribe opens the feed after what has happened so far.
	subscribe func() subscription
	log       *slog.Logger

	mu    sync.Mutex
	byJob map[job.ID][]*watcher
	// stop ends the pump; nil when it does not run. done is closed by it.
	stop   context.CancelFunc
	done   chan struct{}
	closed bool
}

// watcher waits for one job.
type watcher struct {
	all *watchers
	id  job.ID
	// wake has room for one: being woken twice is being woken once. Whoever waits
	// looks at the job afterwards.
	wake chan struct{}
	// ending means that only the end of the job matters.
	ending bool
}

// watch begins to watch a job. Everything that is recorded after it returns wakes
// the watcher, so look at the job only then. The caller closes the watcher.
func (ws *watchers) watch(id job.ID, ending bool) *watcher {
	w := &watcher{all: ws, id: id, wake: make(chan struct{}, 1), ending: ending}
	ws.mu.Lock()
	defer ws.mu.Unlock()
	if ws.byJob == nil {
		ws.byJob = map[job.ID][]*watcher{}
	}
	ws.byJob[id] = append(ws.byJob[id], w)
	if ws.stop == nil && !ws.closed {
		ctx, stop := context.WithCancel(context.Background())
		ws.stop, ws.done = stop, make(chan struct{})
		go ws.pump(ctx, ws.subscribe())
	}
	return w
}

// close ends the watching.
func (w *watcher) close() {
	ws := w.all
	ws.mu.Lock()
	defer ws.mu.Unlock()
	list := ws.byJob[w.id]
	for i, x := range list {
		if x == w {
			list[i] = list[len(list)-1]
			list[len(list)-1] = nil
			list = list[:len(list)-1]
			break
		}
	}
	if len(list) == 0 {
		delete(ws.byJob, w.id)
		return
	}
	ws.byJob[w.id] = list
}

func (w *watcher) notify() {
	select {
	case w.wake <- struct{}{}:
	default:
	}
}

// pump hands events to watchers until ctx ends.
func (ws *watchers) pump(ctx context.Context, sub subscription) {
	defer close(ws.done)
	for {
		events, err := sub.Next(ctx)
		if ctx.Err() != nil {
			return
		}
		if err != nil {
			// Nothing is lost: everybody looks for themselves, and the feed is
			// taken up again where it is now.
			ws.log.WarnContext(ctx, "feed for waiting requests broke off", obs.Err(err))
			sub = ws.subscribe()
			ws.wakeAll()
			select {
			case <-ctx.Done():
				return
			case <-time.After(100 * time.Millisecond):
			}
			continue
		}
		ws.hand(events)
	}
}

func (ws *watchers) hand(events []job.Event) {
	ws.mu.Lock()
	defer ws.mu.Unlock()
	if len(ws.byJob) == 0 {
		return
	}
	for i := range events {
		e := &events[i]
		if e.Job == 0 {
			continue
		}
		list := ws.byJob[e.Job]
		if len(list) == 0 {
			continue
		}
		over := e.Ended() || e.Type == job.JobDeleted
		for _, w := range list {
			if over || !w.ending {
				w.notify()
			}
		}
	}
}

func (ws *watchers) wakeAll() {
	ws.mu.Lock()
	defer ws.mu.Unlock()
	for _, list := range ws.byJob {
		for _, w := range list {
			w.notify()
		}
	}
}

// close ends the pump and waits for it.
func (ws *watchers) close() {
	ws.mu.Lock()
	ws.closed = true
	stop, done := ws.stop, ws.done
	ws.mu.Unlock()
	if stop != nil {
		stop()
		<-done
	}
}

// awaitEnd returns the job once it has ended, or as it is when the time has passed
// or the node closes.
func (a *API) awaitEnd(ctx context.Context, id job.ID, d time.Duration) (*job.Job, error) {
	return a.await(ctx, id, d, true, func(j *job.Job) (bool, error) { return j.State.Terminal(), nil })
}

// await returns the job as soon as enough says so, or as it is when the time has
// passed or the node closes.
func (a *API) await(ctx context.Context, id job.ID, d time.Duration, ending bool, enough func(*job.Job) (bool, error)) (*job.Job, error) {
	w := a.watchers.watch(id, ending)
	defer w.close()
	waiting, stop := a.open(ctx)
	defer stop()
	timer := time.NewTimer(d)
	defer timer.Stop()
	for {
		j, err := a.machine.Job(ctx, id)
		if err != nil {
			return nil, err
		}
		if ok, err := enough(j); ok || err != nil {
			return j, err
		}
		select {
		case <-w.wake:
		case <-timer.C:
			return j, nil
		case <-waiting.Done():
			return j, ctx.Err()
		}
	}
}
