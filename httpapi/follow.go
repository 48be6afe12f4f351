package httpapi

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"time"

	"github.com/orrery-io/orrery/agentconn"
	"github.com/orrery-io/orrery/job"
)

// lookEvery is how often the kept log is looked at for lines that did not come
// live: those of an agent on another node, or dropped because the client was slow.
const lookEvery = time.Second

// maxEarly bounds the live lines that wait for those in front of them.
const maxEarly = 2000

func newTicker() *time.Ticker { return time.NewTicker(keepAliveEvery) }

// pauseStream waits until something wakes a stream that has sent all there is, and
// keeps it alive meanwhile. more is false when the stream is to end.
func pauseStream(ctx context.Context, s *stream, wake <-chan struct{}, alive <-chan time.Time, id string) (more bool, err error) {
	for {
		select {
		case <-ctx.Done():
			return false, nil
		case <-wake:
			return true, nil
		case <-alive:
			if err := s.alive(id); err != nil {
				return false, err
			}
		}
	}
}

// logFollower writes the log of a job as it grows. Lines come twice, live from the
// hub and kept from the machine; what was shown is remembered by attempt and line.
type logFollower struct {
	api *API
	s   *stream
	id  job.ID
	// only is the one attempt that was asked for; 0 means all from the newest on.
	only int
	// attempt is the one being shown, after its last line that was.
	attempt int
	after   int64
	tail    int
	cut     map[int]bool
	// early are live lines that came before those in front of them.
	early []LogLine
}

// followLog streams lines until the job ends.
func (a *API) followLog(w *response, r *http.Request, format string, req logRequest) error {
	ctx, stop := a.open(r.Context())
	defer stop()
	// Live lines first, so that none is lost between the two.
	live := a.hub.FollowLog(req.id)
	defer live.Close()
	watch := a.watchers.watch(req.id, false)
	defer watch.close()
	s := newStream(w, r, format)
	if s == nil {
		return nil
	}
	s.retry()
	f := &logFollower{api: a, s: s, id: req.id, attempt: req.attempt, after: req.after, tail: req.tail, cut: map[int]bool{}}
	if req.only {
		f.only = req.attempt
	}
	if err := f.run(ctx, live.C, watch.wake); err != nil && !errors.Is(err, job.ErrJobNotFound) {
		a.fail(ctx, s, err)
	}
	return nil
}

func (f *logFollower) run(ctx context.Context, live <-chan agentconn.Update, wake <-chan struct{}) error {
	alive, look := newTicker(), time.NewTicker(lookEvery)
	defer alive.Stop()
	defer look.Stop()
	j, over, err := f.catchUp(ctx)
	for err == nil && !over {
		if err = f.s.flush(); err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return nil
		case u, ok := <-live:
			if !ok {
				live = nil // the hub has ended; what is kept goes on
				continue
			}
			j, over, err = f.show(ctx, j, u)
		case <-wake:
			j, over, err = f.catchUp(ctx)
		case <-look.C:
			j, over, err = f.catchUp(ctx)
		case <-alive.C:
			err = f.s.alive("")
		}
	}
	if err != nil {
		return err
	}
	if f.s.format == typeSSE {
		if err := f.s.event("", "end", ended{f.id, j.State}); err != nil {
			return err
		}
	}
	return f.s.flush()
}

// catchUp shows what is kept and was not shown, and reports whether there can be
// no more.
func (f *logFollower) catchUp(ctx context.Context) (j *job.Job, over bool, err error) {
	// The job first: the lines of an attempt are recorded before its end is.
	if j, err = f.api.machine.Job(ctx, f.id); err != nil {
		return nil, false, err
	}
	newest := j.Attempt()
	if f.attempt == 0 {
		f.attempt = newest
	}
	for f.attempt > 0 {
		if err := f.kept(ctx, j); err != nil {
			return j, false, err
		}
		if f.only != 0 || f.attempt >= newest {
			break
		}
		f.attempt, f.after = f.attempt+1, 0
	}
	if err := f.drain(); err != nil {
		return j, false, err
	}
	over = j.State.Terminal() || f.only != 0 && (f.only < newest || attemptOver(j, f.only))
	return j, over, nil
}

func attemptOver(j *job.Job, number int) bool {
	for i := range j.Attempts {
		if j.Attempts[i].Number == number {
			return j.Attempts[i].FinishedAt != 0
		}
	}
	return true // so old that it is no longer kept
}

// kept shows the kept lines of the current attempt, page by page.
func (f *logFollower) kept(ctx context.Context, j *job.Job) error {
	for {
		page, err := f.api.logPage(ctx, j, logRequest{id: f.id, attempt: f.attempt, after: f.after, tail: f.tail, limit: 1000})
		if err != nil {
			return err
		}
		f.tail = 0
		if page.Cut != nil && !f.cut[f.attempt] && f.s.format == typeSSE {
			f.cut[f.attempt] = true
			if err := f.s.event("", "cut", page.Cut); err != nil {
				return err
			}
		}
		for _, l := range page.Lines {
			if err := f.line(l); err != nil {
				return err
			}
		}
		if page.NextAfter == 0 {
			return nil
		}
	}
}

// show takes a live update. Lines that do not follow what was shown wait until the
// kept log has closed the gap.
func (f *logFollower) show(ctx context.Context, j *job.Job, u agentconn.Update) (*job.Job, bool, error) {
	number, over := attemptOf(j, u.Fence), false
	if number == 0 || f.only == 0 && number > f.attempt {
		var err error
		if j, over, err = f.catchUp(ctx); err != nil || over {
			return j, over, err
		}
		number = attemptOf(j, u.Fence)
	}
	if number == 0 || number != f.attempt {
		return j, over, nil
	}
	if u.Progress != nil && f.s.format == typeSSE {
		if err := f.s.event("", "progress", u.Progress); err != nil {
			return j, over, err
		}
	}
	if u.Dropped > 0 {
		f.early = nil // what was dropped comes from the kept log
	}
	for _, l := range u.Lines {
		f.early = append(f.early, LogLine{Attempt: number, Fence: u.Fence, LogLine: l})
	}
	return j, over, f.drain()
}

// drain shows the early lines that follow what was shown.
func (f *logFollower) drain() error {
	n := 0
	for _, l := range f.early {
		if l.Attempt == f.attempt && l.Seq > f.after+1 {
			break
		}
		n++
		if l.Attempt != f.attempt {
			continue
		}
		if err := f.line(l); err != nil {
			return err
		}
	}
	if n = max(n, len(f.early)-maxEarly); n > 0 {
		f.early = slices.Delete(f.early, 0, n)
	}
	return nil
}

// attemptOf is the number of the attempt with that fence, 0 when there is none.
func attemptOf(j *job.Job, fence job.Fence) int {
	for i := range j.Attempts {
		if j.Attempts[i].Fence == fence {
			return j.Attempts[i].Number
		}
	}
	return 0
}

func (f *logFollower) line(l LogLine) error {
	if l.Seq <= f.after {
		return nil
	}
	f.after = l.Seq
	return f.s.event(lineID(l), "log", l)
}
