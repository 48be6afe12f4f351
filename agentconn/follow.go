package agentconn

import (
	"slices"
	"sync"
	"sync/atomic"

	"github.com/orrery-io/orrery/job"
	"github.com/orrery-io/orrery/wire"
	"github.com/prometheus/client_golang/prometheus"
)

// Bounds of a follower: how many updates wait for it, and how large each is.
const (
	followerUpdates = 64
	updateSize      = 64 << 10
)

// Update is what a follower of a job is shown: lines, or progress.
type Update struct {
	Job   job.ID
	Fence job.Fence
	// Lines of the attempt's log, in order. They are shared: do not change them.
	Lines []job.LogLine
	// Progress is set when the handler reported it; its At is not.
	Progress *job.Progress
	// Dropped is how many lines were dropped since the last update because they were
	// not read fast enough. The lines' Seq shows where they are missing.
	Dropped int
}

// Follower gets what a job logs, live.
type Follower struct {
	// C carries the updates; up to 64 of at most about 64 KiB wait in it. When it is
	// full the oldest is dropped and counted in a later Update.Dropped. It is closed
	// by Close, and when the Hub ends.
	C <-chan Update

	all *followers
	id  job.ID
	// done is closed with the follower.
	done chan struct{}

	mu      sync.Mutex
	c       chan Update
	dropped int
	closed  bool
}

// Done is closed when the Follower is.
func (f *Follower) Done() <-chan struct{} { return f.done }

// Show adds an update that comes from another node. It does not block.
func (f *Follower) Show(u Update) {
	f.mu.Lock()
	f.dropped += u.Dropped
	f.mu.Unlock()
	f.send(u, f.all.dropped)
}

// Close ends the following. It may be called again.
func (f *Follower) Close() {
	f.all.remove(f)
	f.mu.Lock()
	defer f.mu.Unlock()
	if !f.closed {
		f.closed = true
		close(f.c)
		close(f.done)
	}
}

// send never blocks.
func (f *Follower) send(u Update, dropped prometheus.Counter) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.closed {
		return
	}
	for {
		u.Dropped = f.dropped
		select {
		case f.c <- u:
			f.dropped = 0
			return
		default:
		}
		select {
		case old := <-f.c:
			f.dropped += old.Dropped + len(old.Lines)
			dropped.Add(float64(len(old.Lines)))
		default:
		}
	}
}

// followers are all of a Hub, by job.
type followers struct {
	dropped prometheus.Counter
	count   atomic.Int64 // so that looking costs nothing when there are none

	mu     sync.RWMutex
	byJob  map[job.ID][]*Follower
	closed bool
}

func (l *followers) add(id job.ID) *Follower {
	c := make(chan Update, followerUpdates)
	f := &Follower{C: c, c: c, all: l, id: id, done: make(chan struct{})}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		f.closed = true
		close(c)
		close(f.done)
		return f
	}
	if l.byJob == nil {
		l.byJob = make(map[job.ID][]*Follower)
	}
	l.byJob[id] = append(slices.Clip(l.byJob[id]), f)
	l.count.Add(1)
	return f
}

func (l *followers) remove(f *Follower) {
	l.mu.Lock()
	defer l.mu.Unlock()
	i := slices.Index(l.byJob[f.id], f)
	if i < 0 {
		return
	}
	l.count.Add(-1)
	if len(l.byJob[f.id]) == 1 {
		delete(l.byJob, f.id)
		return
	}
	l.byJob[f.id] = slices.Delete(slices.Clone(l.byJob[f.id]), i, i+1)
}

func (l *followers) of(id job.ID) []*Follower {
	l.mu.RLock()
	defer l.mu.RUnlock()
	return l.byJob[id]
}

func (l *followers) closeAll() {
	l.mu.Lock()
	l.closed = true
	var all []*Follower
	for _, fs := range l.byJob {
		all = append(all, fs...)
	}
	l.mu.Unlock()
	for _, f := range all {
		f.Close()
	}
}

// publish shows followers what of msgs concerns them.
func (l *followers) publish(msgs []wire.Message) {
	if l.count.Load() == 0 {
		return
	}
	for i := range msgs {
		switch m := &msgs[i]; {
		case m.Log != nil:
			if to := l.of(m.Log.Job); len(to) > 0 {
				l.publishLog(to, m.Log)
			}
		case m.Progress != nil:
			p := m.Progress
			for _, f := range l.of(p.Job) {
				f.send(Update{Job: p.Job, Fence: p.Fence, Progress: &job.Progress{
					Percent: p.Percent, Step: p.Step, Steps: p.Steps, Message: p.Message,
				}}, l.dropped)
			}
		}
	}
}

func (l *followers) publishLog(to []*Follower, m *wire.Log) {
	lines := make([]job.LogLine, len(m.Lines))
	for i, x := range m.Lines {
		lines[i] = job.LogLine{Seq: x.Seq, Time: job.Time(x.Time), Level: x.Level, Text: x.Text}
	}
	for len(lines) > 0 {
		n, size := 0, 0
		for n < len(lines) && (n == 0 || size+len(lines[n].Text)+lineOverhead <= updateSize) {
			size += len(lines[n].Text) + lineOverhead
			n++
		}
		for _, f := range to {
			f.send(Update{Job: m.Job, Fence: m.Fence, Lines: lines[:n:n]}, l.dropped)
		}
		lines = lines[n:]
	}
}
