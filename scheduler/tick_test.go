package scheduler

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/orrery-io/orrery/command"
	"github.com/orrery-io/orrery/job"
)

// schedule records one that makes jobs of type "work"; change may be nil.
func (b *bundle) schedule(name, expression string, change func(*job.ScheduleSpec)) *job.Schedule {
	b.t.Helper()
	s := job.ScheduleSpec{Expressions: []string{expression}, Template: job.Template{Spec: normal(job.Spec{})}}
	if change != nil {
		change(&s)
	}
	s.Normalize()
	now := job.At(time.Now())
	row := &job.Schedule{Name: name, ScheduleSpec: s, Anchor: now}
	if old, err := b.machine.Schedule(name); err == nil {
		row = new(*old)
		row.ScheduleSpec = s
	}
	rule, err := Rule(row)
	if err != nil {
		b.t.Fatal(err)
	}
	b.record(&command.SetSchedule{Name: name, Spec: s, Rev: row.Rev, Anchor: now, Cursor: now, Next: NextTick(rule, now)})
	return b.row(name)
}

// row returns a schedule as it is now.
func (b *bundle) row(name string) *job.Schedule {
	b.t.Helper()
	s, err := b.machine.Schedule(name)
	if err != nil {
		b.t.Fatal(err)
	}
	return s
}

// history returns what the ticks of a schedule did, oldest first, as words such as
// "fired 00:00:05" and "missed 00:00:05-00:00:09 5".
func (b *bundle) history(name string) (all []string) {
	b.t.Helper()
	if err := b.machine.Flush(b.t.Context()); err != nil {
		b.t.Fatal(err)
	}
	ticks, err := b.machine.Ticks(b.t.Context(), name, 0, 1000)
	if err != nil {
		b.t.Fatal(err)
	}
	for _, x := range slices.Backward(ticks) {
		text := x.Action.String() + " " + clock(x.Planned)
		if x.Through != 0 {
			text += "-" + clock(x.Through)
		}
		if x.Count > 1 {
			text += fmt.Sprint(" ", x.Count)
		}
		if x.AtLeast {
			text += "+"
		}
		all = append(all, text)
	}
	return all
}

func clock(t job.Time) string { return t.Time().Format("15:04:05") }

// told fails the test unless the history of a schedule is this.
func (b *bundle) told(name string, want ...string) {
	b.t.Helper()
	if got := b.history(name); !slices.Equal(got, want) {
		b.t.Errorf("the history of %s is\n\t%s\nwant\n\t%s", name, strings.Join(got, "\n\t"), strings.Join(want, "\n\t"))
	}
}

// made returns the jobs that a schedule made, by the planned time.
func (b *bundle) made(name string) map[job.Time][]*job.Job {
	b.t.Helper()
	all := make(map[job.Time][]*job.Job)
	for id := job.ID(1); id <= b.row(name).LastJob; id++ {
		if j, err := b.machine.Job(b.t.Context(), id); err == nil && j.Schedule == name {
			all[j.Tick] = append(all[j.Tick], j)
		}
	}
	return all
}

// The bubble begins at midnight of 2000-01-01 UTC.
func TestTicks(t *testing.T) {
	t.Run("each makes one job, at its time", func(t *testing.T) {
		play(t, Config{}, func(b *bundle) {
			b.schedule("s", "*/5 * * * * *", nil)
			b.pass(5*time.Second - time.Millisecond)
			b.told("s")
			b.pass(time.Millisecond)
			b.told("s", "fired 00:00:05")
			b.pass(10 * time.Second)
			b.told("s", "fired 00:00:05", "fired 00:00:10", "fired 00:00:15")
			s := b.row("s")
			if s.Ticks.Fired != 3 || s.Open != 3 || clock(s.Next) != "00:00:20" || clock(s.LastTick) != "00:00:15" {
				t.Errorf("row %+v", s)
			}
			j := b.is(s.LastJob, job.Pending)
			if j.Schedule != "s" || j.Tick != s.LastTick || j.CreatedAt != j.Tick {
				t.Errorf("job %+v", j)
			}
		})
	})
	t.Run("a time that comes once", func(t *testing.T) {
		play(t, Config{}, func(b *bundle) {
			b.schedule("s", "@at 2000-01-01T00:01:00Z", nil)
			b.pass(time.Hour)
			b.told("s", "fired 00:01:00")
			if s := b.row("s"); s.Next != 0 {
				t.Errorf("next is %s", s.Next)
			}
		})
	})
	t.Run("jitter delays the job and not the planned time", func(t *testing.T) {
		play(t, Config{}, func(b *bundle) {
			b.schedule("s", "@every 10s", func(s *job.ScheduleSpec) { s.Jitter = 30 * job.Second })
			b.pass(3 * time.Minute)
			var last job.Time
			late := false
			ticks := b.made("s")
			for at := b.row("s").Anchor + 10_000; at <= job.At(time.Now())-30_000; at += 10_000 {
				if len(ticks[at]) != 1 {
					t.Fatalf("tick %s has %d jobs", clock(at), len(ticks[at]))
				}
				made := ticks[at][0].CreatedAt
				if made < at || made > at+60_000 || made < last {
					t.Errorf("tick %s was made at %s, the one before at %s", clock(at), clock(made), clock(last))
				}
				late = late || made > at+1000
				last = made
			}
			if !late {
				t.Error("none was delayed")
			}
		})
	})
	t.Run("a template's delay and expiry count from the tick", func(t *testing.T) {
		play(t, Config{}, func(b *bundle) {
			b.schedule("s", "@every 10s", func(s *job.ScheduleSpec) {
				s.Template.Delay, s.Template.ExpiresIn = 3*job.Second, 7*job.Second
			})
			b.pass(10 * time.Second)
			j := b.is(b.row("s").LastJob, job.Scheduled)
			if j.RunAt != j.Tick+3000 || j.ExpiresAt != j.Tick+7000 {
				t.Errorf("runs at %s, expires at %s", j.RunAt, j.ExpiresAt)
			}
		})
	})
	t.Run("other times count from the change on", func(t *testing.T) {
		play(t, Config{}, func(b *bundle) {
			b.schedule("s", "0 30 * * * *", nil)
			b.pass(20 * time.Minute)
			b.schedule("s", "0 */10 * * * *", func(s *job.ScheduleSpec) { s.CatchUp.Policy = job.CatchUpAll })
			b.pass(11 * time.Minute)
			b.told("s", "fired 00:30:00")
			b.schedule("s", "0 0 12 * * *", nil)
			b.pass(time.Hour)
			b.told("s", "fired 00:30:00")
		})
	})
	t.Run("one that was deleted doesn't fire", func(t *testing.T) {
		play(t, Config{}, func(b *bundle) {
			b.schedule("s", "@every 10s", nil)
			b.pass(15 * time.Second)
			b.record(&command.DeleteSchedule{Name: "s"})
			b.pass(time.Minute)
			b.schedule("s", "@every 1h", nil)
			b.pass(time.Minute)
			b.told("s")
			if n := b.s.term.Load().plans.count(); n != 1 {
				t.Errorf("%d plans", n)
			}
		})
	})
	t.Run("one whose expressions no node can read leaves the others alone", func(t *testing.T) {
		play(t, Config{}, func(b *bundle) {
			b.record(&command.SetSchedule{Name: "bad", Cursor: 1, Next: 2, Spec: job.ScheduleSpec{Expressions: []string{"nonsense"}, Template: job.Template{Spec: normal(job.Spec{})}}})
			b.schedule("s", "@every 10s", nil)
			b.pass(10 * time.Second)
			b.told("s", "fired 00:00:10")
			b.leadAgain()
			b.pass(10 * time.Second)
			b.told("s", "fired 00:00:10", "fired 00:00:20")
		})
	})
}

func TestCatchUp(t *testing.T) {
	for _, tt := range []struct {
		name   string
		change func(*job.ScheduleSpec)
		away   time.Duration // how long nobody leads, from 10 s on
		want   []string
	}{
		{
			"last fires the newest", nil, 30 * time.Second,
			[]string{"fired 00:00:10", "missed 00:00:20-00:00:30 2", "fired 00:00:40", "fired 00:00:50"},
		},
		{
			"last fires one that is very late", nil, time.Hour,
			[]string{"fired 00:00:10", "missed 00:00:20-01:00:00 359", "fired 01:00:10", "fired 01:00:20"},
		},
		{
			"none passes over what is late, but for a change of leaders", func(s *job.ScheduleSpec) { s.CatchUp.Policy = job.CatchUpNone }, 2*time.Second + 30*time.Second,
			[]string{"fired 00:00:10", "missed 00:00:20-00:00:30 2", "fired 00:00:40", "fired 00:00:50"},
		},
		{
			"all fires each", func(s *job.ScheduleSpec) { s.CatchUp.Policy = job.CatchUpAll }, 30 * time.Second,
			[]string{"fired 00:00:10", "caught_up 00:00:20", "caught_up 00:00:30", "fired 00:00:40", "fired 00:00:50"},
		},
		{
			"all fires the newest up to the cap", func(s *job.ScheduleSpec) { s.CatchUp = job.CatchUp{Policy: job.CatchUpAll, Max: 2} }, time.Hour,
			[]string{"fired 00:00:10", "missed 00:00:20-00:59:50 358", "caught_up 01:00:00", "fired 01:00:10", "fired 01:00:20"},
		},
		{
			"all passes over what is older than the window", func(s *job.ScheduleSpec) {
				s.CatchUp = job.CatchUp{Policy: job.CatchUpAll, Window: 15 * job.Second}
			}, time.Minute,
			[]string{"fired 00:00:10", "missed 00:00:20-00:00:50 4", "caught_up 00:01:00", "fired 00:01:10", "fired 00:01:20"},
		},
		{
			"what is missed for very long is not counted to the end", nil, 20 * time.Hour,
			[]string{"fired 00:00:10", "missed 00:00:20-20:00:00 1000+", "fired 20:00:10", "fired 20:00:20"},
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			play(t, Config{}, func(b *bundle) {
				b.schedule("s", "@every 10s", tt.change)
				b.pass(11 * time.Second)
				b.stop()
				time.Sleep(tt.away)
				b.lead()
				b.pass(10 * time.Second)
				b.told("s", tt.want...)
			})
		})
	}

	t.Run("none passes over a single one that is more than a minute late", func(t *testing.T) {
		play(t, Config{}, func(b *bundle) {
			b.schedule("s", "0 0 * * * *", func(s *job.ScheduleSpec) { s.CatchUp.Policy = job.CatchUpNone })
			b.stop()
			time.Sleep(time.Hour + time.Minute)
			b.lead()
			b.told("s", "fired 01:00:00")
			b.stop()
			time.Sleep(time.Hour + time.Second)
			b.lead()
			b.told("s", "fired 01:00:00", "missed 02:00:00")
		})
	})
	t.Run("last catches up a single one within its window", func(t *testing.T) {
		play(t, Config{}, func(b *bundle) {
			b.schedule("s", "0 0 1 * * *", nil)
			b.stop()
			time.Sleep(20 * time.Hour)
			b.lead()
			b.told("s", "caught_up 01:00:00")
			b.stop()
			time.Sleep(24 * time.Hour)
			b.lead()
			b.told("s", "caught_up 01:00:00", "caught_up 01:00:00")
			b.schedule("s", "0 0 1 * * *", func(s *job.ScheduleSpec) { s.CatchUp.Window = job.Hour })
			b.stop()
			time.Sleep(24 * time.Hour)
			b.lead()
			b.told("s", "caught_up 01:00:00", "caught_up 01:00:00", "missed 01:00:00")
		})
	})
}

func TestPause(t *testing.T) {
	t.Run("what falls into it is recorded when it ends, and never fires", func(t *testing.T) {
		play(t, Config{}, func(b *bundle) {
			b.schedule("s", "@every 10s", func(s *job.ScheduleSpec) { s.CatchUp.Policy = job.CatchUpAll })
			b.pass(15 * time.Second)
			b.record(&command.PauseSchedule{Name: "s", Paused: true, Reason: "maintenance"})
			b.pass(time.Minute)
			b.told("s", "fired 00:00:10")
			b.leadAgain()
			b.pass(time.Minute)
			b.record(&command.PauseSchedule{Name: "s"})
			b.pass(10 * time.Second)
			b.told("s", "fired 00:00:10", "paused 00:00:20-00:02:10 12", "fired 00:02:20")
			if s := b.row("s"); s.Ticks.Paused != 12 || s.Paused || s.PauseReason != "" {
				t.Errorf("row %+v", s)
			}
		})
	})
	t.Run("it ends by itself, also under another leader", func(t *testing.T) {
		play(t, Config{}, func(b *bundle) {
			b.schedule("s", "@every 10s", nil)
			until := job.At(time.Now().Add(25 * time.Second))
			b.record(&command.PauseSchedule{Name: "s", Paused: true, Until: until})
			b.pass(5 * time.Second)
			b.leadAgain()
			b.pass(26 * time.Second)
			b.told("s", "paused 00:00:10-00:00:20 2", "fired 00:00:30")
		})
	})
	t.Run("without a tick in it nothing is recorded", func(t *testing.T) {
		play(t, Config{}, func(b *bundle) {
			b.schedule("s", "@every 10s", nil)
			b.record(&command.PauseSchedule{Name: "s", Paused: true})
			b.pass(3 * time.Second)
			b.record(&command.PauseSchedule{Name: "s"})
			b.leadAgain()
			b.pass(8 * time.Second)
			b.told("s", "fired 00:00:10")
		})
	})
}

func TestOverlap(t *testing.T) {
	policy := func(p job.OverlapPolicy) func(*job.ScheduleSpec) {
		return func(s *job.ScheduleSpec) { s.Overlap = p }
	}
	t.Run("allow makes the job all the same", func(t *testing.T) {
		play(t, Config{}, func(b *bundle) {
			b.schedule("s", "@every 10s", policy(job.OverlapAllow))
			b.pass(30 * time.Second)
			if s := b.row("s"); s.Open != 3 || len(s.OpenJobs) != 3 {
				t.Errorf("row %+v", s)
			}
		})
	})
	t.Run("skip makes none while one is open, also under another leader", func(t *testing.T) {
		play(t, Config{}, func(b *bundle) {
			x := b.agent("x", 1)
			b.schedule("s", "@every 10s", policy(job.OverlapSkip))
			b.pass(10 * time.Second)
			d := x.take()
			b.pass(10 * time.Second)
			b.leadAgain()
			x.connect()
			b.pass(10 * time.Second)
			x.complete(d)
			b.pass(10 * time.Second)
			b.told("s", "fired 00:00:10", "skipped 00:00:20", "skipped 00:00:30", "fired 00:00:40")
			if s := b.row("s"); s.Ticks.Fired != 2 || s.Ticks.Skipped != 2 || s.Open != 1 {
				t.Errorf("row %+v", s)
			}
		})
	})
	t.Run("a failed attempt with another to come is open", func(t *testing.T) {
		play(t, Config{}, func(b *bundle) {
			x := b.agent("x", 1)
			b.schedule("s", "@every 10s", func(s *job.ScheduleSpec) {
				s.Overlap, s.Template.Retry = job.OverlapSkip, job.Retry{Initial: 15 * job.Second, NoJitter: true}
			})
			b.pass(10 * time.Second)
			x.result(x.take(), "failed", nil)
			b.pass(16 * time.Second)
			x.complete(x.take())
			b.pass(5 * time.Second)
			b.told("s", "fired 00:00:10", "skipped 00:00:20", "fired 00:00:30")
		})
	})
	t.Run("queue_one has one wait until the job has ended", func(t *testing.T) {
		play(t, Config{}, func(b *bundle) {
			x := b.agent("x", 1)
			b.schedule("s", "@every 10s", policy(job.OverlapQueueOne))
			b.pass(10 * time.Second)
			d := x.take()
			b.pass(25 * time.Second)
			b.told("s", "fired 00:00:10", "queued 00:00:20", "skipped 00:00:30")
			x.complete(d)
			b.told("s", "fired 00:00:10", "queued 00:00:20", "skipped 00:00:30", "fired 00:00:20")
			d = x.take()
			if j := b.job(d.Job); clock(j.Tick) != "00:00:20" || clock(j.CreatedAt) != "00:00:35" {
				t.Errorf("job of %s, made at %s", clock(j.Tick), clock(j.CreatedAt))
			}
		})
	})
	t.Run("cancel_running cancels, and fires when that has ended", func(t *testing.T) {
		play(t, Config{}, func(b *bundle) {
			x := b.agent("x", 1)
			b.schedule("s", "@every 10s", policy(job.OverlapCancelRunning))
			b.pass(10 * time.Second)
			d := x.take()
			b.pass(12 * time.Second)
			b.told("s", "fired 00:00:10", "queued 00:00:20")
			if j := b.job(d.Job); !j.CancelRequested || !strings.Contains(j.CancelReason, "schedule s") {
				t.Errorf("job %+v", j)
			}
			x.result(d, "cancelled", nil)
			b.is(d.Job, job.Cancelled)
			b.told("s", "fired 00:00:10", "queued 00:00:20", "fired 00:00:20")
			x.take()
		})
	})
	t.Run("cancel_running replaces a job that nobody has begun at once", func(t *testing.T) {
		play(t, Config{}, func(b *bundle) {
			b.schedule("s", "@every 10s", policy(job.OverlapCancelRunning))
			b.pass(20 * time.Second)
			b.told("s", "fired 00:00:10", "queued 00:00:20", "fired 00:00:20")
			if s := b.row("s"); s.Open != 1 || s.Queued != 0 {
				t.Errorf("row %+v", s)
			}
		})
	})
	t.Run("what is caught up doesn't overlap either", func(t *testing.T) {
		play(t, Config{}, func(b *bundle) {
			b.schedule("s", "@every 10s", func(s *job.ScheduleSpec) {
				s.Overlap, s.CatchUp.Policy = job.OverlapQueueOne, job.CatchUpAll
			})
			b.stop()
			time.Sleep(40 * time.Second)
			b.lead()
			b.told("s", "caught_up 00:00:10", "queued 00:00:20", "skipped 00:00:30", "skipped 00:00:40")
		})
	})
	t.Run("a pause drops what waits", func(t *testing.T) {
		play(t, Config{}, func(b *bundle) {
			x := b.agent("x", 1)
			b.schedule("s", "@every 10s", policy(job.OverlapQueueOne))
			b.pass(10 * time.Second)
			d := x.take()
			b.pass(10 * time.Second)
			b.record(&command.PauseSchedule{Name: "s", Paused: true})
			x.complete(d)
			b.pass(time.Minute)
			b.told("s", "fired 00:00:10", "queued 00:00:20", "paused 00:00:20")
		})
	})
}

// TestTicksExactlyOnce changes leaders at random moments, has proposals refused or
// their outcome unknown, and looks whether every planned time was decided once.
func TestTicksExactlyOnce(t *testing.T) {
	for seed := range uint64(6) {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			play(t, Config{}, func(b *bundle) { exactlyOnce(b, seed) })
		})
	}
}

func TestCatchUpIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		rule, err := Rule(&job.Schedule{ScheduleSpec: job.ScheduleSpec{Expressions: []string{"* * * * * *"}}})
		if err != nil {
			t.Fatal(err)
		}
		now := job.At(time.Now())
		got := newest(rule, 0, now, 3)
		if want := []job.Time{now - 2000, now - 1000, now}; !slices.Equal(got, want) {
			t.Errorf("got %v, want %v", got, want)
		}
		d := deciding{row: &job.Schedule{Cursor: 1}, rule: rule, now: now}
		d.pass(1, now-1, job.TickMissed, "")
		c := d.commands[0].(*command.Tick)
		if c.Count != maxCounted || !c.AtLeast || c.Through != now-1000 || c.Next != now {
			t.Errorf("got %+v", c)
		}
	})
}
