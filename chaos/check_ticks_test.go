//go:build linux

package chaos

import (
	"cmp"
	"fmt"
	"regexp"
	"strconv"

	"github.com/orrery-io/orrery/job"
)

// undecidedLimit is how long before the end of the run the newest decision of a
// schedule may lie.
const undecidedLimit = 5 * job.Second

// jump is a moment of the machine's clock at which the clock of a node was set. A
// decision that was on its way then may have been recorded with a time that lies
// before its planned one by so much.
type jump struct {
	at job.Time
	by job.Duration
}

// onItsWay bounds how long a decision takes to be recorded, or an end to be known to
// who decides.
const onItsWay = job.Time(5 * job.Second)

// slackOf returns by how much a time in the log may lie too early.
func slackOf(jumps []jump) func(at job.Time) job.Time {
	return func(at job.Time) (most job.Time) {
		for _, j := range jumps {
			if d := at - j.at; d < onItsWay && d > -onItsWay {
				most = max(most, job.Time(j.by))
			}
		}
		return most
	}
}

// tickEvent is what an event says of planned times: the first and the last one, and
// how many there are.
type tickEvent struct {
	action      job.TickAction
	from, to    job.Time
	count       int64
	more        bool // nobody counted further
	job         job.ID
	at          job.Time
	entry       uint64 // of the log
	description string
}

var tickText = regexp.MustCompile(`^(\w+) (\S+?)(?: to (\S+?))?(?:, (at least )?(\d+) ticks?)?(?:: .*)?$`)

// readTick reads the detail of a schedule's event. The zero from is a job by hand.
func readTick(ev job.Event) (t tickEvent, err error) {
	t = tickEvent{count: 1, job: ev.Job, at: ev.Time, entry: ev.ID.Index, description: fmt.Sprintf("event %s %s (%s)", ev.ID, ev.Type, ev.Detail)}
	if ev.Type == job.ScheduleFired {
		t.action = job.TickFired
		err = t.from.UnmarshalText([]byte(ev.Detail))
		t.to = t.from
		return t, err
	}
	m := tickText.FindStringSubmatch(ev.Detail)
	if m == nil {
		return t, fmt.Errorf("%s can't be read", t.description)
	}
	if err := t.action.UnmarshalText([]byte(m[1])); err != nil {
		return t, err
	}
	if err := t.from.UnmarshalText([]byte(m[2])); err != nil {
		return t, err
	}
	if t.to = t.from; m[3] != "" {
		if err := t.to.UnmarshalText([]byte(m[3])); err != nil {
			return t, err
		}
	}
	if t.more = m[4] != ""; m[5] != "" {
		t.count, err = strconv.ParseInt(m[5], 10, 64)
	}
	return t, err
}

// tickReplay follows one life of a schedule through the feed.
type tickReplay struct {
	life  *scheduleLife
	found func(format string, args ...any)
	slack func(at job.Time) job.Time

	next job.Time // the first planned time without a decision
	// changed is when the schedule got other times while a tick was due: up to the
	// first tick behind that nothing more need be said. Zero when nothing is open.
	changed job.Time
	queued  job.Time // waits; zero for none
	paused  bool
	through job.Time // the end of the newest pause
	// pausing is the log entry that took away the tick that waited, because it pauses
	// the schedule; zero when nothing is open.
	pausing uint64
	counts  job.TickCounts
	told    []tickEvent // what the history must say, oldest first

	fired map[job.Time]job.ID
	// open are its jobs that have not ended, also those made by hand; lastEnd is when
	// one ended last.
	open    map[job.ID]bool
	lastEnd job.Time
}

// decided takes a decision about planned times that nobody had decided.
func (s *tickReplay) decided(t tickEvent) {
	counted := s.changed
	s.changed = 0
	switch {
	case t.from < s.next:
		s.found("%s: what is planned up to %s was decided before", t.description, s.next-tickEvery)
		return
	case counted != 0 && t.from <= floor(counted+s.slack(counted))+tickEvery:
	case t.from > s.next:
		s.found("%s: nothing was said of what was planned from %s on", t.description, s.next)
	}
	if n := int64((t.to-t.from)/tickEvery) + 1; n != t.count && (!t.more || n < t.count) {
		s.found("%s: it counts %d planned times, and there are %d", t.description, t.count, n)
	}
	s.next = t.to + tickEvery
}

// fire takes a job that a tick made.
func (s *tickReplay) fire(t tickEvent) {
	if before, ok := s.fired[t.from]; ok {
		s.found("%s made job %d, and job %d was made for the same tick", t.description, t.job, before)
	}
	s.fired[t.from] = t.job
	s.counts.Fired++
	if t.from == s.queued && s.queued != 0 {
		s.queued = 0
	} else {
		s.decided(t)
	}
	if s.paused {
		s.found("%s made job %d while the schedule is paused", t.description, t.job)
	}
	if t.from <= s.through {
		s.found("%s made job %d for a time of the pause that ended at %s", t.description, t.job, s.through)
	}
	if t.from > t.at+s.slack(t.at) {
		s.found("%s made job %d at %s, before its time", t.description, t.job, t.at)
	}
	if s.life.overlap != job.OverlapAllow && len(s.open) > 0 {
		s.found("%s made job %d while %v were open, and overlap is %s", t.description, t.job, keysOf(s.open), s.life.overlap)
	}
	s.open[t.job] = true
}

func keysOf(m map[job.ID]bool) (out []job.ID) {
	for id := range m {
		out = append(out, id)
	}
	return out
}

// pass takes planned times of which nothing comes.
func (s *tickReplay) pass(t tickEvent) {
	if t.from == s.queued && s.queued != 0 {
		s.queued = 0
		if t.action == job.TickPaused {
			s.counts.Paused++
			s.pausing = t.entry
			return
		}
	} else {
		s.decided(t)
	}
	late := t.at + s.slack(t.at)
	switch c := s.life.catchUp; t.action {
	case job.TickMissed:
		s.counts.Missed += t.count
		newer := 1 // ticks after it that were due, too, and were chosen
		if c.Policy == job.CatchUpAll {
			newer = c.Max
		}
		if t.to+job.Time(newer)*tickEvery > late {
			s.found("%s: recorded at %s, and catch_up is %s", t.description, t.at, c.Policy)
		}
	case job.TickSkipped:
		s.counts.Skipped += t.count
		switch {
		case s.life.overlap == job.OverlapAllow:
			s.found("%s, and overlap is allow", t.description)
		case len(s.open) == 0 && s.lastEnd+onItsWay+s.slack(t.at) < t.from:
			s.found("%s, and no job was open, the last one ended at %s", t.description, s.lastEnd)
		}
	case job.TickPaused:
		s.counts.Paused += t.count
		if !s.paused && t.to > s.through {
			s.found("%s, and the newest pause ended at %s", t.description, s.through)
		}
	case job.TickChanged:
		if s.life.use != replaces {
			s.found("%s, and nobody changed the schedule", t.description)
		}
		s.changed = t.at
	default:
		s.found("%s is no decision to make no job", t.description)
	}
}

// floor is the newest planned time up to a moment.
func floor(t job.Time) job.Time { return t - t%tickEvery }

// take takes an event of this life.
func (s *tickReplay) take(ev job.Event) {
	if s.pausing != 0 && (ev.Type != job.SchedulePaused || ev.ID.Index != s.pausing) {
		s.found("entry %d took the tick that waited away for a pause, and none began", s.pausing)
	}
	s.pausing = 0
	switch ev.Type {
	case job.SchedulePaused:
		s.paused = true
		return
	case job.ScheduleResumed:
		s.paused, s.through = false, ev.Time
		return
	default:
	}
	t, err := readTick(ev)
	if err != nil {
		s.found("%v", err)
		return
	}
	s.told = append(s.told, t)
	switch {
	case ev.Type == job.ScheduleFired && t.from == 0: // by hand
		s.open[t.job] = true
	case ev.Type == job.ScheduleFired:
		s.fire(t)
	case ev.Type == job.ScheduleQueued:
		s.decided(t)
		if s.queued != 0 {
			s.found("%s, and the tick of %s waited already", t.description, s.queued)
		}
		s.queued = t.from
	default:
		s.pass(t)
	}
}

// ticksSeen is what checkTicks has seen.
type ticksSeen struct {
	counts job.TickCounts
	jobs   map[job.ID]*madeJob
	pauses int
}

// checkTicks replays what the feed says of schedules: invariant 8.
func checkTicks(events []job.Event, lives []*scheduleLife, jumps []jump, f *findings) ticksSeen {
	coming := map[string][]*scheduleLife{}
	for _, x := range lives {
		coming[x.name] = append(coming[x.name], x)
	}
	seen := ticksSeen{jobs: map[job.ID]*madeJob{}}
	var all []*tickReplay
	now, owner := map[string]*tickReplay{}, map[job.ID]*tickReplay{}
	for _, ev := range events {
		switch {
		case ev.Type == job.ScheduleSet && ev.Detail == "created":
			if now[ev.Schedule] != nil || len(coming[ev.Schedule]) == 0 {
				f.violated(8, "event %s: schedule %s was made, and nobody has made one", ev.ID, ev.Schedule)
				continue
			}
			x := coming[ev.Schedule][0]
			coming[ev.Schedule] = coming[ev.Schedule][1:]
			now[x.name] = newTickReplay(x, jumps, f)
			all = append(all, now[x.name])
		case ev.Type.OfSchedule():
			s := now[ev.Schedule]
			switch {
			case s == nil:
				f.violated(8, "event %s %s (%s): there is no schedule %s", ev.ID, ev.Type, ev.Detail, ev.Schedule)
				continue
			case ev.Type == job.ScheduleDeleted:
				delete(now, ev.Schedule)
				continue
			case ev.Type == job.ScheduleSet:
				continue
			case ev.Type == job.SchedulePaused:
				seen.pauses++
			}
			s.take(ev)
			if ev.Type == job.ScheduleFired {
				owner[ev.Job] = s
				m := &madeJob{schedule: ev.Schedule}
				_ = m.planned.UnmarshalText([]byte(ev.Detail)) // take has complained
				seen.jobs[ev.Job] = m
			}
		case ev.Ended() && owner[ev.Job] != nil:
			s := owner[ev.Job]
			delete(s.open, ev.Job)
			s.lastEnd = ev.Time
		case ev.Type == job.JobDeleted && seen.jobs[ev.Job] != nil:
			seen.jobs[ev.Job].deleted = true
		}
	}
	for name, left := range coming {
		if len(left) > 0 {
			f.violated(8, "%d schedules named %s were made, of which the feed says nothing", len(left), name)
		}
	}
	for _, s := range all {
		s.end()
		seen.counts.Fired += s.counts.Fired
		seen.counts.Missed += s.counts.Missed
		seen.counts.Skipped += s.counts.Skipped
		seen.counts.Paused += s.counts.Paused
	}
	return seen
}

func newTickReplay(x *scheduleLife, jumps []jump, f *findings) *tickReplay {
	return &tickReplay{
		life: x, next: x.anchor + tickEvery, slack: slackOf(jumps),
		fired: map[job.Time]job.ID{}, open: map[job.ID]bool{},
		found: func(format string, args ...any) {
			f.violated(8, "schedule %s (%d): %s", x.name, x.id, fmt.Sprintf(format, args...))
		},
	}
}

// end compares what the feed said with the row and the history at the end of the run.
func (s *tickReplay) end() {
	x := s.life
	if x.row == nil {
		return
	}
	if x.row.ID != x.id {
		s.found("its id is %d at the end", x.row.ID)
	}
	if x.row.Ticks != s.counts {
		s.found("it counts %+v, and the feed has %+v", x.row.Ticks, s.counts)
	}
	if x.row.Queued != s.queued {
		s.found("%q waits, and by the feed %q", x.row.Queued, s.queued)
	}
	if last := s.next - tickEvery; x.at.Sub(last) > undecidedLimit {
		s.found("at %s nothing was said of what was planned after %s", x.at, last)
	}
	n := min(len(x.ticks), len(s.told))
	if len(x.ticks) != min(len(s.told), job.MaxTicksKept) {
		s.found("its history has %d entries, and the feed %d", len(x.ticks), len(s.told))
	}
	for i := range n {
		if h, t := x.ticks[i], s.told[len(s.told)-1-i]; !sameTick(&h.Tick, t) {
			s.found("its history says %+v, and the feed: %s", h.Tick, t.description)
			return
		}
	}
}

// sameTick reports whether an entry of a history says what an event said.
func sameTick(h *job.Tick, t tickEvent) bool {
	if h.Job != t.job || t.job != 0 && t.from == 0 {
		return h.Job == t.job && h.Action == job.TickManual
	}
	to, action := cmp.Or(h.Through, h.Planned), h.Action
	if action == job.TickCaughtUp {
		action = job.TickFired
	}
	return action == t.action && h.Planned == t.from && to == t.to && int64(h.Count) == t.count && h.AtLeast == t.more && h.At == t.at
}
