//go:build linux

package chaos

import (
	"fmt"
	"strconv"
	"strings"
	"testing"

	"github.com/orrery-io/orrery/client"
	"github.com/orrery-io/orrery/job"
)

// dawn is when the schedule of a script is made; its planned times are 1, 2, 3 …
// seconds later.
const dawn = job.Time(1_800_000_000_000)

func plannedAt(n int) job.Time { return dawn + job.Time(n)*tickEvery }

// storyOf makes a feed from a script about one schedule: "fired 1" and "missed 2-4 3"
// are about planned times, "ended 1" is about the newest job of a tick, "by hand" makes
// job 99 and "ended by hand" ends it, "at 7" sets the clock, which otherwise shows the
// newest planned time that was spoken of, and a little.
func storyOf(t *testing.T, name, script string) (events []job.Event) {
	t.Helper()
	now, jobs := dawn+500, map[string]job.ID{}
	add := func(typ job.EventType, id job.ID, text string) {
		events = append(events, job.Event{ID: job.EventID{Index: uint64(len(events)) + 1}, Time: now, Type: typ, Schedule: name, Job: id, Detail: text})
	}
	number := func(s string) int {
		n, err := strconv.Atoi(s)
		if err != nil {
			t.Fatalf("%s: %v", script, err)
		}
		return n
	}
	for line := range strings.SplitSeq("create, "+script, ", ") {
		word, rest, _ := strings.Cut(line, " ")
		switch {
		case word == "create":
			add(job.ScheduleSet, 0, "created")
		case word == "change":
			add(job.ScheduleSet, 0, "changed")
		case word == "delete":
			add(job.ScheduleDeleted, 0, "")
		case word == "pause":
			add(job.SchedulePaused, 0, "")
		case word == "resume":
			add(job.ScheduleResumed, 0, "")
		case word == "by":
			add(job.ScheduleFired, 99, "")
			jobs["by hand"] = 99
		case word == "ended":
			add(job.JobCompleted, jobs[rest], "")
			events[len(events)-1].Schedule = ""
		case word == "removed":
			add(job.JobDeleted, jobs[rest], "")
			events[len(events)-1].Schedule = ""
		case word == "at":
			now = plannedAt(number(rest)) + 10
		case word == "fired":
			now = max(now+10, plannedAt(number(rest))+10)
			jobs[rest] = job.ID(100 + len(events))
			add(job.ScheduleFired, jobs[rest], plannedAt(number(rest)).String())
		case word == "early":
			add(job.ScheduleFired, 1, plannedAt(number(rest)).String())
		default:
			span, count, _ := strings.Cut(rest, " ")
			from, to, several := strings.Cut(span, "-")
			text := word + " " + plannedAt(number(from)).String()
			now = max(now, plannedAt(number(from))+10)
			if several {
				text += " to " + plannedAt(number(to)).String()
				now = max(now, plannedAt(number(to))+10)
			}
			if n, more := strings.CutSuffix(count, "+"); more {
				text += ", at least " + n + " ticks"
			} else if count != "" {
				text += ", " + count + " ticks"
			}
			typ := job.ScheduleSkipped
			if word == "queued" {
				typ = job.ScheduleQueued
			}
			add(typ, 0, text+": because")
		}
	}
	return events
}

func TestCheckTicks(t *testing.T) {
	last := routine{name: "s"}
	none := routine{name: "s", catchUp: job.CatchUp{Policy: job.CatchUpNone}}
	all := routine{name: "s", catchUp: job.CatchUp{Policy: job.CatchUpAll, Max: 3}}
	skip := routine{name: "s", overlap: job.OverlapSkip}
	queue := routine{name: "s", overlap: job.OverlapQueueOne}
	cancel := routine{name: "s", overlap: job.OverlapCancelRunning}
	replaced := routine{name: "s", use: replaces}
	tests := []struct {
		name   string
		of     routine
		script string
		want   string
	}{
		{"each makes one job", last, "fired 1, fired 2, fired 3, ended 1", ""},
		{"a doubled tick", last, "fired 1, fired 2, fired 2", "8 8"},
		{"a tick that fires and is missed", last, "fired 1, fired 2, at 3, missed 2, fired 3", "8"},
		{"a tick that is missed and fires", last, "fired 1, at 4, missed 2-3 2, fired 3", "8"},
		{"a silent gap", last, "fired 1, fired 3", "8"},
		{"a silent gap at the beginning", last, "fired 2", "8"},
		{"a gap that is told", last, "fired 1, at 4, missed 2-3 2, fired 4", ""},
		{"a gap that is told by half", last, "fired 1, at 4, missed 2, fired 4", "8"},
		{"missed ticks that are miscounted", last, "fired 1, at 5, missed 2-4 2, fired 5", "8"},
		{"so many that nobody counted them", last, "fired 1, at 9, missed 2-8 4+, fired 9", ""},
		{"more than there are", last, "fired 1, at 9, missed 2-8 9+, fired 9", "8"},
		{"one that fires before its time", last, "fired 1, early 2", "8"},

		{"last misses the newest", last, "fired 1, missed 2-3 2", "8"},
		{"none misses the newest, which is late", none, "fired 1, at 90, missed 2-88 87", ""},
		{"none misses what is not late", none, "fired 1, missed 2", "8"},
		{"all fires each", all, "fired 1, at 4, fired 2, fired 3, fired 4", ""},
		{"all misses one", all, "fired 1, at 3, missed 2, fired 3", "8"},
		{"all misses what is beyond its cap", all, "fired 1, at 7, missed 2-4 3, fired 5, fired 6, fired 7", ""},
		{"all misses more than that", all, "fired 1, at 7, missed 2-5 4, fired 6, fired 7", "8"},

		{"skip waits until the job has ended", skip, "fired 1, skipped 2, at 3, ended 1, fired 3", ""},
		{"two open jobs under skip", skip, "fired 1, fired 2", "8"},
		{"a tick beside a job by hand under skip", skip, "fired 1, ended 1, by hand, fired 2", "8"},
		{"a job by hand beside that of a tick", skip, "fired 1, by hand, ended 1, ended by hand, fired 2", ""},
		{"skipped although nothing was open for long", skip, "fired 1, ended 1, skipped 2, skipped 3, skipped 4, skipped 5, skipped 6, skipped 7", "8"},
		{"skipped although overlap is allowed", last, "fired 1, skipped 2", "8"},
		{"queue_one fires when the job has ended", queue, "fired 1, queued 2, skipped 3, ended 1, fired 2, ended 2, fired 4", ""},
		{"two open jobs under queue_one", queue, "fired 1, queued 2, fired 2", "8"},
		{"what waits is not told again", queue, "fired 1, queued 2, ended 1, fired 3", ""},
		{"two wait", queue, "fired 1, queued 2, queued 3", "8"},
		{"cancel_running replaces what waits", cancel, "fired 1, queued 2, skipped 2, queued 3, ended 1, fired 3", ""},
		{"two open jobs under cancel_running", cancel, "fired 1, queued 2, fired 2", "8"},

		{"a pause", last, "fired 1, pause, at 4, resume, paused 2-4 3, fired 5", ""},
		{"a job inside a pause", last, "fired 1, pause, fired 2, at 4, resume, paused 3-4 2", "8"},
		{"a job for a time in a pause, when it has ended", last, "fired 1, pause, at 4, resume, fired 2, paused 3-4 2, fired 5", "8"},
		{"a silent pause", last, "fired 1, pause, at 4, resume, fired 5", "8"},
		{"a pause that takes what comes later", last, "fired 1, pause, at 4, resume, paused 2-6 5", "8"},
		{"a tick that waits when the pause begins", queue, "fired 1, queued 2, paused 2, pause", "8"},
		{"a tick that waits, and no pause begins", queue, "fired 1, queued 2, paused 2, fired 3", "8 8"},

		{"other times", replaced, "fired 1, at 3, changed 2 1+, change, fired 4", ""},
		{"other times, and too much is left out", replaced, "fired 1, at 3, changed 2 1+, change, fired 5", "8"},
		{"a change that nobody made", last, "fired 1, changed 2 1+", "8"},
		{"a schedule that was made twice", last, "fired 1, create", "8"},
		{"one that was deleted goes on", last, "fired 1, delete, fired 2", "8"},
		{"an event that nobody can read", last, "fired 1, vanished 2", "8"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			events := storyOf(t, "s", tt.script)
			lives := []*scheduleLife{{routine: tt.of, id: 7, anchor: dawn}}
			if got := seen(func(f *findings) { checkTicks(events, lives, nil, f) }); got != tt.want {
				t.Errorf("saw %q, want %q", got, tt.want)
			}
		})
	}
}

func TestCheckTicksOfTwoLives(t *testing.T) {
	of := routine{name: "s", use: renews}
	lives := []*scheduleLife{{routine: of, id: 7, anchor: dawn}, {routine: of, id: 9, anchor: plannedAt(3)}}
	tests := []struct {
		name, script string
		want         string
	}{
		{"the second begins anew", "fired 1, delete, at 3, create, fired 4", ""},
		{"the second fires a tick of the first", "fired 1, delete, at 3, create, fired 2, fired 4", "8"},
		{"the second was never made", "fired 1, fired 2, delete", "8"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := seen(func(f *findings) { checkTicks(storyOf(t, "s", tt.script), lives, nil, f) }); got != tt.want {
				t.Errorf("saw %q, want %q", got, tt.want)
			}
		})
	}
}

// A node whose clock is set back between a decision and its record writes too early a
// time; that is no violation near such a moment, and one elsewhere.
func TestCheckTicksNearAJump(t *testing.T) {
	events := storyOf(t, "s", "fired 1, early 2")
	lives := []*scheduleLife{{routine: routine{name: "s"}, id: 7, anchor: dawn}}
	for _, tt := range []struct {
		name string
		at   job.Time
		want string
	}{
		{"near", plannedAt(2), ""},
		{"long after", plannedAt(60), "8"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := seen(func(f *findings) { checkTicks(events, lives, []jump{{tt.at, 5 * job.Second}}, f) }); got != tt.want {
				t.Errorf("saw %q, want %q", got, tt.want)
			}
		})
	}
}

func TestCheckTicksAtTheEnd(t *testing.T) {
	// The life is as the script says, unless change makes it wrong.
	const script = "fired 1, queued 2, skipped 3, ended 1, fired 2, queued 4, at 6, skipped 5"
	tests := []struct {
		name   string
		change func(x *scheduleLife)
		want   string
	}{
		{"as the feed says", func(*scheduleLife) {}, ""},
		{"a wrong counter", func(x *scheduleLife) { x.row.Ticks.Skipped = 1 }, "8"},
		{"another one waits", func(x *scheduleLife) { x.row.Queued = plannedAt(5) }, "8"},
		{"another schedule", func(x *scheduleLife) { x.row.ID = 8 }, "8"},
		{"nothing was decided for long", func(x *scheduleLife) { x.at = plannedAt(11) }, "8"},
		{"an entry is missing", func(x *scheduleLife) { x.ticks = x.ticks[1:] }, "8 8"},
		{"an entry has another action", func(x *scheduleLife) { x.ticks[0].Action = job.TickMissed }, "8"},
		{"an entry has another job", func(x *scheduleLife) { x.ticks[len(x.ticks)-1].Job++ }, "8"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			events := storyOf(t, "s", script)
			row := &client.Schedule{Schedule: job.Schedule{ID: 7, Queued: plannedAt(4), Ticks: job.TickCounts{Fired: 2, Skipped: 2}}}
			x := &scheduleLife{routine: routine{name: "s", overlap: job.OverlapQueueOne}, id: 7, anchor: dawn, row: row, at: plannedAt(7)}
			for _, ev := range events {
				if ev.Schedule == "" || ev.Type == job.ScheduleSet {
					continue
				}
				te, err := readTick(ev)
				if err != nil {
					t.Fatal(err)
				}
				x.ticks = append([]*client.Tick{{Tick: job.Tick{Planned: te.from, Count: 1, At: ev.Time, Action: te.action, Job: ev.Job}}}, x.ticks...)
			}
			tt.change(x)
			if got := seen(func(f *findings) { checkTicks(events, []*scheduleLife{x}, nil, f) }); got != tt.want {
				t.Errorf("saw %q, want %q", got, tt.want)
			}
		})
	}
}

func TestCheckTickJobs(t *testing.T) {
	made := map[job.ID]*madeJob{1: {schedule: "s", planned: plannedAt(1)}, 2: {schedule: "s"}, 3: {schedule: "s", planned: plannedAt(2), deleted: true}}
	of := func(id job.ID, planned job.Time) *job.Job {
		return &job.Job{ID: id, Schedule: "s", Tick: planned}
	}
	done := func(j *job.Job, token string) *job.Job {
		j.State, j.Result = job.Completed, job.JSON(fmt.Sprintf(`{"token":%q}`, token))
		return j
	}
	tests := []struct {
		name string
		jobs []*job.Job
		want string
	}{
		{"all there, but what was deleted", []*job.Job{of(1, plannedAt(1)), of(2, 0)}, ""},
		{"ended well", []*job.Job{done(of(1, plannedAt(1)), "s "+plannedAt(1).String()), done(of(2, 0), "s ")}, ""},
		{"the agent was told another tick", []*job.Job{done(of(1, plannedAt(1)), "s "+plannedAt(2).String()), of(2, 0)}, "8"},
		{"one is missing", []*job.Job{of(2, 0)}, "8"},
		{"one of another tick", []*job.Job{of(1, plannedAt(5)), of(2, 0)}, "8"},
		{"one that the feed does not know", []*job.Job{of(1, plannedAt(1)), of(2, 0), of(9, plannedAt(1))}, "8"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := seen(func(f *findings) { checkTickJobs("n1", tt.jobs, made, f) }); got != tt.want {
				t.Errorf("saw %q, want %q", got, tt.want)
			}
		})
	}
}

// The words that checkTicks reads are those that the state machine writes.
func TestReadTick(t *testing.T) {
	span := plannedAt(2).String() + " to " + plannedAt(9).String()
	tests := []struct {
		typ    job.EventType
		detail string
		want   string
	}{
		{job.ScheduleFired, plannedAt(2).String(), "fired 2-2 1"},
		{job.ScheduleFired, "", "fired by hand"},
		{job.ScheduleSkipped, "missed " + span + ", 8 ticks: it could not be decided in time, and catch_up takes the newest 3 of the last 24h", "missed 2-9 8"},
		{job.ScheduleSkipped, "paused " + span + ", at least 4 ticks", "paused 2-9 4+"},
		{job.ScheduleSkipped, "changed " + plannedAt(2).String() + ", at least 1 tick: the schedule got other times before it fired", "changed 2-2 1+"},
		{job.ScheduleQueued, "queued " + plannedAt(2).String() + ": it waits until job 7: ended", "queued 2-2 1"},
		{job.ScheduleSkipped, "missed", "error"},
		{job.ScheduleSkipped, "missed soon", "error"},
	}
	for _, tt := range tests {
		te, err := readTick(job.Event{Type: tt.typ, Detail: tt.detail})
		got := "error"
		switch {
		case err != nil:
		case te.from == 0:
			got = te.action.String() + " by hand"
		default:
			got = fmt.Sprintf("%s %d-%d %d", te.action, (te.from-dawn)/tickEvery, (te.to-dawn)/tickEvery, te.count)
			if te.more {
				got += "+"
			}
		}
		if got != tt.want {
			t.Errorf("%s %q: read %s, want %s", tt.typ, tt.detail, got, tt.want)
		}
	}
}
