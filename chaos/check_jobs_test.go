//go:build linux

package chaos

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/orrery-io/orrery/client"
	"github.com/orrery-io/orrery/job"
)

// drainLimit is how long all jobs may take to end once nothing is broken any more.
const drainLimit = 90 * time.Second

// active are the states of a job that has not ended.
var active = []job.State{job.Scheduled, job.Pending, job.Dispatched, job.Running}

// drain waits until all work has ended.
func (e *env) drain(ctx context.Context) time.Duration {
	start := time.Now()
	var left []*job.Job
	for time.Since(start) < drainLimit && ctx.Err() == nil {
		var err error
		left, err = e.list(ctx, e.nodes[0], client.Filter{Types: []string{"work", tickType}, States: active})
		if err == nil && len(left) == 0 {
			return time.Since(start)
		}
		pauseFor(ctx, 200*time.Millisecond)
	}
	for _, j := range left {
		e.found.violated(2, "job %d (%s) is still %s after %s", j.ID, j.Metadata, j.State, drainLimit)
	}
	if len(left) == 0 && ctx.Err() == nil {
		e.found.violated(2, "the jobs could not be listed for %s", drainLimit)
	}
	return time.Since(start)
}

// list returns the jobs that a node has, asked directly and linearizably.
func (e *env) list(ctx context.Context, n *node, f client.Filter) ([]*job.Job, error) {
	c, err := client.New(client.Config{Token: token, Addr: n.http})
	if err != nil {
		return nil, err
	}
	var out []*job.Job
	for j, err := range c.List(ctx, client.ListOptions{Filter: f, Linearizable: true, PageSize: 500}) {
		if err != nil {
			return nil, fmt.Errorf("list the jobs of %s: %w", n.name, err)
		}
		out = append(out, j)
	}
	return out, nil
}

// submitted is what was asked for, by token.
type submitted struct {
	acked   map[string]job.ID
	unknown map[string]bool
}

// checkJobs compares what was acknowledged with what a node has: invariant 1.
func checkJobs(node string, s submitted, jobs []*job.Job, f *findings) {
	has := map[string][]job.ID{}
	for _, j := range jobs {
		token := tokenOf(j)
		has[token] = append(has[token], j.ID)
	}
	for token, id := range s.acked {
		switch ids := has[token]; {
		case len(ids) == 0:
			f.violated(1, "%s does not have job %d (%s), which was acknowledged", node, id, token)
		case len(ids) > 1:
			f.violated(1, "%s has the jobs %v for one submission (%s), acknowledged as %d", node, ids, token, id)
		case ids[0] != id:
			f.violated(1, "%s has job %d for %s, which was acknowledged as %d", node, ids[0], token, id)
		}
	}
	for token := range s.unknown {
		if ids := has[token]; len(ids) > 1 {
			f.violated(1, "%s has the jobs %v for one submission with an unknown outcome (%s)", node, ids, token)
		}
	}
	for token, ids := range has {
		if _, ok := s.acked[token]; !ok && !s.unknown[token] {
			f.violated(1, "%s has job %d, which nobody submitted", node, ids[0])
		}
	}
}

func tokenOf(j *job.Job) string {
	for _, l := range j.Metadata {
		if l.Key == "token" {
			return l.Value
		}
	}
	return ""
}

// checkSame compares the rows of two nodes.
func checkSame(a, b string, x, y []*job.Job, f *findings) {
	rows := map[job.ID]string{}
	for _, j := range x {
		rows[j.ID] = rowText(j)
	}
	for _, j := range y {
		if text := rowText(j); rows[j.ID] != text {
			f.violated(4, "job %d on %s: %s; on %s: %s", j.ID, a, rows[j.ID], b, text)
		}
		delete(rows, j.ID)
	}
	for id := range rows {
		f.violated(4, "job %d is on %s and not on %s", id, a, b)
	}
}

func rowText(j *job.Job) string {
	text, err := json.Marshal(j)
	if err != nil {
		panic(err)
	}
	return string(text)
}

// checkResults looks at ended jobs: whose result is it that was recorded.
func checkResults(jobs []*job.Job, res map[int64][]uint64, f *findings) {
	for _, j := range jobs {
		if j.State != job.Completed {
			continue
		}
		var o outcome
		if err := json.Unmarshal(j.Result, &o); err != nil {
			f.violated(3, "job %d is completed with the result %s", j.ID, j.Result)
			continue
		}
		last := j.Attempts[len(j.Attempts)-1]
		if o.Fence != uint64(j.Fence) || o.Fence != uint64(last.Fence) || o.Agent != last.Agent {
			f.violated(3, "job %d is completed by attempt %d of %s, but its result comes from fence %d of %s", j.ID, last.Fence, last.Agent, o.Fence, o.Agent)
		}
		if o.Token != tokenOf(j) {
			f.violated(1, "job %d (%s) has the result of %s", j.ID, tokenOf(j), o.Token)
		}
		w := res[int64(j.ID)]
		if isStubborn(j) {
			continue
		}
		if len(w) == 0 || w[len(w)-1] != uint64(j.Fence) {
			f.violated(3, "job %d is completed with fence %d, but the resource saw last of %v", j.ID, j.Fence, w)
		}
	}
}

func isStubborn(j *job.Job) bool {
	var w work
	return json.Unmarshal(j.Payload, &w) == nil && w.Kind == stubborn
}

// life is what the feed says of one job, replayed.
type life struct {
	fence job.Fence // of the open attempt, 0 for none
	last  job.Fence
	ended bool
	seen  bool
	gone  bool
}

// dispatch is an attempt as the feed has it.
type dispatch struct {
	agent string
	at    time.Time
}

// attemptKey is one attempt of a job.
type attemptKey struct {
	job   int64
	fence uint64
}

// checkFeed replays all events: leases don't overlap, fences rise, one end per life
// of a job. It returns all dispatches.
func checkFeed(events []job.Event, f *findings) map[attemptKey]dispatch {
	lives := map[job.ID]*life{}
	dispatches := map[attemptKey]dispatch{}
	for _, ev := range events {
		if ev.Job == 0 {
			continue
		}
		l := lives[ev.Job]
		if l == nil {
			l = &life{}
			lives[ev.Job] = l
		}
		if ev.Type == job.JobDispatched {
			dispatches[attemptKey{int64(ev.Job), uint64(ev.Fence)}] = dispatch{ev.Agent, ev.Time.Time()}
		}
		if why := l.next(ev); why != "" {
			f.violated(invariantOf(ev.Type), "event %s %s of job %d: %s", ev.ID, ev.Type, ev.Job, why)
		}
	}
	return dispatches
}

func invariantOf(t job.EventType) int {
	switch t {
	case job.JobDispatched, job.JobStarted, job.JobProgressed, job.JobLost, job.JobRevoked, job.JobRetrying:
		return 3
	default:
		return 2
	}
}

// next takes one event, and says what is wrong with it.
func (l *life) next(ev job.Event) string {
	if ev.Type == job.JobSubmitted {
		if l.seen {
			return "it was submitted before"
		}
		l.seen = true
		return ""
	}
	if !l.seen || l.gone {
		return "there is no such job"
	}
	switch ev.Type {
	case job.JobDispatched:
		switch {
		case l.ended:
			return "it has ended"
		case l.fence != 0:
			return fmt.Sprintf("attempt %d still has the lease", l.fence)
		case ev.Fence <= l.last:
			return fmt.Sprintf("fence %d does not rise above %d", ev.Fence, l.last)
		}
		l.fence, l.last = ev.Fence, ev.Fence
	case job.JobStarted, job.JobProgressed, job.JobCancelRequested:
		if l.fence == 0 || ev.Fence != l.fence {
			return fmt.Sprintf("fence %d, but the open attempt is %d", ev.Fence, l.fence)
		}
	case job.JobLost, job.JobRevoked, job.JobRetrying:
		if l.fence == 0 || ev.Fence != l.fence {
			return fmt.Sprintf("fence %d, but the open attempt is %d", ev.Fence, l.fence)
		}
		l.fence = 0
	case job.JobCompleted, job.JobFailed, job.JobTimedOut, job.JobCancelled, job.JobExpired:
		if l.ended {
			return "it has ended before"
		}
		if l.fence != 0 && ev.Fence != l.fence {
			return fmt.Sprintf("fence %d, but the open attempt is %d", ev.Fence, l.fence)
		}
		l.ended, l.fence = true, 0
	case job.JobRetried, job.JobRedriven:
		if l.fence != 0 {
			return "an attempt is open"
		}
		l.ended = false
	case job.JobDeleted:
		l.gone = true
	default:
	}
	return ""
}

// checkFeeds compares the feed of a node with the reference: the same ids, the same
// content, in the same order. A node may have dropped the oldest.
func checkFeeds(name string, have, want []job.Event, f *findings) {
	if len(have) == 0 && len(want) > 0 {
		f.violated(6, "the feed of %s is empty", name)
		return
	}
	for len(want) > 0 && len(have) > 0 && want[0].ID.Less(have[0].ID) {
		want = want[1:]
	}
	for i := range min(len(have), len(want)) {
		if have[i].ID != want[i].ID {
			f.violated(6, "the feed of %s has event %s where others have %s", name, have[i].ID, want[i].ID)
			return
		}
		if sum(have[i]) != sum(want[i]) {
			f.violated(6, "event %s differs: on %s %+v, before %+v", have[i].ID, name, have[i], want[i])
		}
	}
	if len(have) < len(want) {
		f.violated(6, "the feed of %s ends at %s, but a listener saw %s", name, have[len(have)-1].ID, want[len(want)-1].ID)
	}
}

// execution is what one process did of one attempt.
type execution struct {
	key   attemptKey
	agent string
	run   int
	begin int64
	last  int64 // the last sign of work
	steps []int64
}

// checkExecutions compares what the agents did with what was decided, and with each
// other: nobody works on what another has. pauses are when an agent was stopped: it
// cannot know that its lease is over until it goes on, so what it does in that
// moment is the resource's to refuse.
func checkExecutions(stamps []stamp, dispatches map[attemptKey]dispatch, pauses map[string][]interval, f *findings) (executions, late int) {
	type id struct {
		attemptKey
		run int
	}
	all := map[id]*execution{}
	for _, s := range stamps {
		k := id{attemptKey{s.Job, s.Fence}, s.Run}
		x := all[k]
		if s.What == "begin" {
			if x != nil {
				f.violated(3, "agent %s began attempt %d of job %d twice", s.Agent, s.Fence, s.Job)
			}
			x = &execution{key: k.attemptKey, agent: s.Agent, run: s.Run, begin: s.At}
			all[k] = x
			if d, ok := dispatches[k.attemptKey]; !ok || d.agent != s.Agent {
				f.violated(3, "agent %s began attempt %d of job %d, which the log does not give it", s.Agent, s.Fence, s.Job)
			}
		}
		if x == nil {
			continue
		}
		x.last = max(x.last, s.At)
		if s.What != "quit" { // a handler may notice its end as late as it likes
			x.steps = append(x.steps, s.At)
		}
	}
	byJob := map[int64][]*execution{}
	for _, x := range all {
		byJob[x.key.job] = append(byJob[x.key.job], x)
	}
	for _, list := range byJob {
		slices.SortFunc(list, func(a, b *execution) int { return int(a.begin - b.begin) })
		for i, x := range list {
			for _, y := range list[i+1:] {
				if y.key == x.key {
					f.violated(3, "attempt %d of job %d was begun by two processes", x.key.fence, x.key.job)
				}
				if y.key.fence < x.key.fence && !wasPaused(pauses[y.agent], x.begin, y.begin) {
					f.violated(3, "agent %s began attempt %d of job %d after attempt %d had begun", y.agent, y.key.fence, y.key.job, x.key.fence)
				}
				for _, at := range x.steps {
					if at <= y.begin {
						continue
					}
					if wasPaused(pauses[x.agent], x.begin, at) {
						late++
						continue
					}
					f.violated(3, "agent %s still worked on attempt %d of job %d %s after %s had begun attempt %d",
						x.agent, x.key.fence, x.key.job, time.Duration(at-y.begin), y.agent, y.key.fence)
				}
			}
		}
	}
	return len(all), late
}

// wasPaused reports whether an agent was stopped at some time in between.
func wasPaused(pauses []interval, from, to int64) bool {
	return slices.ContainsFunc(pauses, func(p interval) bool { return p.from < to && (p.to == 0 || p.to > from) })
}

// copyOf is what has been asked for up to now.
func (l *jobLoad) copyOf() submitted {
	l.mu.Lock()
	defer l.mu.Unlock()
	return submitted{acked: maps.Clone(l.acked), unknown: maps.Clone(l.unknown)}
}
