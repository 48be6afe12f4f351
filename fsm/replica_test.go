package fsm

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/orrery-io/orrery/command"
	"github.com/orrery-io/orrery/job"
)

// author writes a random log: commands that fit, commands that do not fit, and
// commands that come again. It looks at a model machine to find what fits.
type author struct {
	r     *rand.Rand
	b     *bundle
	last  job.ID
	round int
}

func (a *author) some() job.ID {
	if a.last == 0 {
		return 1
	}
	// Mostly new ones, now and then an old one or one that never was.
	switch a.r.IntN(20) {
	case 0:
		return job.ID(a.r.Int64N(int64(a.last))) + 1
	case 1:
		return a.last + 100
	default:
		return max(1, a.last-job.ID(a.r.Int64N(30)))
	}
}

func (a *author) fence(id job.ID) job.Fence {
	j, err := a.b.m.Job(context.Background(), id)
	if err != nil || a.r.IntN(15) == 0 {
		return job.Fence(a.r.Uint64N(100))
	}
	return j.Fence
}

func (a *author) submit() *command.Submit {
	c := submission(func(x *job.Spec) {
		x.Type = fmt.Sprint("type-", a.r.IntN(3))
		x.Queue = fmt.Sprint("queue-", a.r.IntN(3))
		x.Priority = a.r.IntN(10)
		x.Payload = job.JSON(fmt.Sprintf(`{"n":%d,"pad":"%0*d"}`, a.r.IntN(1000), a.r.IntN(300), 0))
		if a.r.IntN(4) == 0 {
			x.RunAt = a.b.now + job.Time(a.r.IntN(40)) - 10
		}
		if a.r.IntN(5) == 0 {
			x.ExpiresAt = a.b.now + job.Time(a.r.IntN(30))
		}
		if a.r.IntN(3) == 0 {
			x.IdempotencyKey = fmt.Sprint("key-", a.r.IntN(60))
		}
		if a.r.IntN(3) == 0 {
			x.Tags = []string{"a", "b"}
			x.Metadata = job.Labels{{Key: "k", Value: fmt.Sprint(a.r.IntN(5))}}
			x.Retry = job.Retry{Backoff: job.List, Delays: []job.Duration{1, 2}}
		}
	})
	c.BodyHash = []byte{byte(a.r.IntN(2))}
	if a.r.IntN(3) == 0 {
		to := assign()
		c.Assign = &to
	}
	return c
}

func (a *author) command() command.Command {
	id := a.some()
	if a.r.IntN(4) == 0 {
		return a.scheduling()
	}
	switch a.r.IntN(25) {
	case 0, 1, 2, 3:
		return a.submit()
	case 4:
		c := &command.SubmitAll{}
		for range a.r.IntN(4) {
			c.Jobs = append(c.Jobs, *a.submit())
		}
		return c
	case 5:
		return &command.Ready{Jobs: []job.ID{a.some(), a.some(), a.some()}}
	case 6, 7, 8, 9:
		return &command.Dispatch{Job: id, Assign: assign()}
	case 10:
		return &command.Start{Job: id, Fence: a.fence(id)}
	case 11:
		return &command.Progress{Job: id, Fence: a.fence(id), Progress: job.Progress{Percent: a.r.Float64(), Message: "on the way"}}
	case 12, 13:
		return &command.AppendLog{Job: id, Fence: a.fence(id), Lines: lines(1+a.r.IntN(50), a.r.IntN(30), a.r.IntN(400))}
	case 14, 15, 16, 17:
		c := &command.Finish{Job: id, Fence: a.fence(id), Outcome: job.Outcome(1 + a.r.IntN(6)), Next: job.States[a.r.IntN(len(job.States))]}
		if a.r.IntN(2) == 0 {
			c.Outcome, c.Next, c.Result = job.OutcomeCompleted, job.Completed, job.JSON(`{"ok":true}`)
		} else if a.r.IntN(2) == 0 {
			code := a.r.IntN(3)
			c.Error = &job.Failure{Kind: "exit", Message: "failed", ExitCode: &code}
			c.RunAt = a.b.now + job.Time(a.r.IntN(20))
		}
		return c
	case 18:
		return &command.Cancel{Job: id, Reason: "because"}
	case 19:
		return &command.Expire{Job: id}
	case 20:
		return &command.Retry{Job: id}
	case 21:
		return &command.Promote{Job: id}
	case 22:
		return &command.Redrive{Jobs: []job.ID{id, a.some()}, Queue: "queue-1"}
	case 23:
		return &command.Delete{Jobs: []job.ID{id, a.some(), a.some()}, OnlyDead: a.r.IntN(2) == 0}
	default:
		return a.rare()
	}
}

// scheduling writes about a few schedules, mostly from what they are now.
func (a *author) scheduling() command.Command {
	name := fmt.Sprint("schedule-", a.r.IntN(4))
	s, err := a.b.m.Schedule(name)
	if err != nil || a.r.IntN(30) == 0 {
		s = &job.Schedule{}
	}
	soon := func() job.Time { return a.b.now + job.Time(a.r.IntN(30)) }
	switch n := a.r.IntN(30); {
	case s.Rev == 0 || n < 3:
		c := &command.SetSchedule{Name: name, Rev: s.Rev, Anchor: 1000, Spec: job.ScheduleSpec{
			Expressions: []string{"@daily"}, Overlap: job.OverlapPolicy(a.r.IntN(4)),
			Template: job.Template{Spec: a.submit().Spec, Delay: job.Duration(a.r.IntN(2)), ExpiresIn: job.Duration(a.r.IntN(2) * 20)},
		}}
		if s.Rev == 0 || a.r.IntN(2) == 0 {
			c.Cursor, c.Next = a.b.now, soon()
		}
		return c
	case n < 6:
		return &command.PauseSchedule{Name: name, Paused: n < 5, Reason: "why", Until: soon()}
	case n == 6:
		return &command.DeleteSchedule{Name: name, Rev: s.Rev}
	case n == 7:
		return &command.RunSchedule{Schedule: name, Reason: "by hand"}
	case n == 8:
		return &command.RunSchedule{Schedule: name, Times: make([]job.Time, a.r.IntN(2*job.MaxTicksKept))}
	case n < 20 && len(s.OpenJobs) > 0:
		return &command.Cancel{Job: s.OpenJobs[a.r.IntN(len(s.OpenJobs))], Reason: "make way"}
	default:
		return &command.Tick{
			Schedule: name, Rev: s.Rev, Planned: max(s.Cursor, a.b.now-5) + job.Time(a.r.IntN(4)), Count: 1 + a.r.IntN(3),
			Action: job.TickAction(1 + a.r.IntN(7)), Reason: "so", Next: soon(),
		}
	}
}

func (a *author) rare() command.Command {
	switch a.r.IntN(30) {
	case 0, 6, 7, 8:
		return &command.SetQueue{Queue: fmt.Sprint("queue-", a.r.IntN(3)), Paused: a.r.IntN(3) == 0, Reason: "why"}
	case 1, 9, 10, 11, 12:
		return &command.SetAgent{Agent: job.Agent{ID: fmt.Sprint("agent-", a.r.IntN(3)), Session: fmt.Sprint("s", a.r.IntN(3)), Status: job.AgentReady, ConnectedAt: a.b.now}}
	case 2, 13, 14, 15, 16:
		return &command.AgentGone{ID: fmt.Sprint("agent-", a.r.IntN(3)), Session: fmt.Sprint("s", a.r.IntN(3)), Status: job.AgentLost}
	case 3:
		return &command.ForgetAgents{IDs: []string{"agent-0", "agent-1"}}
	case 4:
		return &command.Verify{}
	case 5:
		return &command.TrimFeed{Through: a.b.index - min(a.b.index, a.r.Uint64N(200))}
	default:
		return &command.Init{ClusterID: fmt.Sprint("cluster-", a.r.IntN(3))}
	}
}

// write applies entries to the model, and so to the log.
func (a *author) write(entries int) {
	for range entries {
		items := make([]command.Item, 1+a.r.IntN(12))
		for i := range items {
			items[i].Command = a.command()
			if a.r.IntN(3) == 0 {
				items[i].RequestID = fmt.Sprint("request-", a.r.IntN(400))
			}
		}
		for _, r := range a.b.items(items...) {
			a.last = max(a.last, r.Job)
			for _, id := range r.Jobs {
				a.last = max(a.last, id)
			}
		}
	}
}

// kill stops the machine as the end of its process would: nothing more is
// flushed.
func (b *bundle) kill() {
	b.t.Helper()
	if err := b.m.Close(); err != nil {
		b.t.Error(err)
	}
	b.stop = func() {}
	b.m = nil
}

// openKilled opens the database again, and gives it what it has missed.
func (b *bundle) openKilled() {
	b.t.Helper()
	m, err := Open(context.Background(), b.cfg)
	if err != nil {
		b.t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- m.Run(context.Background()) }()
	b.m = m
	b.stop = func() {
		if err := m.flushNow(flushReason{sync: true, force: true}); err != nil {
			b.t.Error(err)
		}
		if err := m.Close(); err != nil {
			b.t.Error(err)
		}
		if err := <-done; !errors.Is(err, job.ErrClosed) {
			b.t.Errorf("run: %v", err)
		}
	}
	b.index, _ = m.Applied()
}

// everything that is in a feed.
func feedOf(t *testing.T, m *Machine) []job.Event {
	t.Helper()
	s := m.Subscribe(m.FirstEvent())
	var all []job.Event
	for s.Cursor().Less(m.LastEvent()) {
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		events, err := s.drain(ctx)
		if err != nil {
			t.Fatal(err)
		}
		if len(events) == 0 {
			break
		}
		all = append(all, plain(events)...)
	}
	return all
}

// drain is Next without waiting.
func (s *Subscription) drain(ctx context.Context) ([]job.Event, error) {
	for {
		events, base, ok := s.m.ring.after(s.cursor)
		if !ok {
			var err error
			if events, err = s.m.storedEvents(context.WithoutCancel(ctx), s.cursor, base); err != nil {
				return nil, err
			}
			if len(events) == 0 {
				s.cursor = endOf(base)
				continue
			}
		}
		if len(events) > 0 {
			s.cursor = events[len(events)-1].ID
		}
		return events, nil
	}
}

// TestReplicas replays a random log on machines that flush, restart, die and
// install snapshots at different moments, and compares everything that must be the
// same: results, hashes, rows, feeds.
func TestReplicas(t *testing.T) {
	for seed := range uint64(4) {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			t.Parallel()
			r := rand.New(rand.NewPCG(seed, 42))
			cfg := func(flush int) Config {
				return Config{LogCap: 20 << 10, CachedJobs: 64, requests: 100, DirtyRows: flush, FlushEvery: 1}
			}
			model := setup(t, cfg(1000))
			replica := setup(t, cfg(40))
			replica.stop()
			replica.kill()
			replica.openKilled()
			third := setup(t, cfg(10))
			a := &author{r: r, b: model}
			model.do(&command.Migrate{To: NewestSchema})
			for a.round = range 8 {
				a.write(50)
				// The replica gets the entries in pieces, dies in between, and gets what it
				// had not flushed again.
				for range 3 {
					missing := model.log[replica.index:]
					n := r.IntN(len(missing) + 1)
					results, err := replica.m.Apply(missing[:n])
					if err != nil {
						t.Fatal(err)
					}
					if want := model.gave[replica.index:][:n]; n > 0 && !reflect.DeepEqual(results, want) {
						t.Fatalf("entries after %d gave %+v, want %+v", replica.index, results, want)
					}
					if r.IntN(2) == 0 {
						replica.flush()
					}
					if r.IntN(2) == 0 {
						replica.kill()
						replica.openKilled()
					} else {
						replica.index, _ = replica.m.Applied()
					}
				}
				replica.replay(model.log[replica.index:])
				// The third one lags behind, and gets a snapshot at times.
				if a.round%4 == 3 {
					model.m.StoreConfiguration(model.index, []byte("conf"))
					model.mark(model.index)
					path := filepath.Join(t.TempDir(), "snapshot")
					if _, err := model.m.CopyTo(t.Context(), path); err != nil {
						t.Fatal(err)
					}
					if _, err := third.m.Install(t.Context(), path, Marker{}); err != nil {
						t.Fatal(err)
					}
					third.index = model.index
				} else if a.round%4 != 2 {
					third.replay(model.log[third.index:])
				}
				if a.round%4 == 2 {
					continue
				}
				compare(t, model, replica, third)
			}
		})
	}
}

// compare applies a Verify to all machines, and looks at what they answer.
func compare(t *testing.T, bundles ...*bundle) {
	t.Helper()
	first := bundles[0]
	want := first.verify()
	entry := first.log[len(first.log)-1]
	feed := feedOf(t, first.m)
	for i, b := range bundles[1:] {
		b.now = first.now
		if _, err := b.m.Apply([]Entry{entry}); err != nil {
			t.Fatal(err)
		}
		b.index = entry.Index
		if got := b.hash(entry.Index); !bytes.Equal(got, want) {
			t.Errorf("machine %d: hash %x, want %x", i+1, got, want)
			tell(t, first, b)
			t.FailNow()
		}
		if !reflect.DeepEqual(b.m.Queues(), first.m.Queues()) {
			t.Errorf("machine %d: queues differ", i+1)
		}
		if got, want := b.m.Schedules(), first.m.Schedules(); !reflect.DeepEqual(got, want) {
			t.Errorf("machine %d: schedules are %+v, want %+v", i+1, got, want)
		}
		if got := feedOf(t, b.m); !reflect.DeepEqual(got, feed) {
			t.Errorf("machine %d: %d events, want %d", i+1, len(got), len(feed))
		}
		for id := job.ID(1); id <= first.m.state.lastID; id += 7 {
			x, err1 := first.m.Job(t.Context(), id)
			y, err2 := b.m.Job(t.Context(), id)
			if !errors.Is(err1, err2) || x != nil && (x.Rev != y.Rev || x.State != y.State) {
				t.Errorf("machine %d: job %d is %+v (%v), want %+v (%v)", i+1, id, y, err2, x, err1)
			}
		}
	}
}

// tell says in which tables two machines differ.
func tell(t *testing.T, a, b *bundle) {
	t.Helper()
	for _, query := range logicalOf(a.m.SchemaVersion()) {
		dump := func(x *bundle) (rows []string) {
			err := x.m.store.each(t.Context(), query, func(r row) error {
				cols, err := r.Columns()
				if err != nil {
					return err
				}
				values := make([]any, len(cols))
				for i := range values {
					values[i] = new(any)
				}
				if err := r.Scan(values...); err != nil {
					return err
				}
				var line strings.Builder
				for i := range values {
					line.WriteString(fmt.Sprintf(" %s=%q", cols[i], fmt.Sprint(*values[i].(*any))))
				}
				rows = append(rows, line.String())
				return nil
			})
			if err != nil {
				t.Fatal(err)
			}
			return rows
		}
		x, y := dump(a), dump(b)
		for i := range max(len(x), len(y)) {
			switch {
			case i >= len(x), i >= len(y):
				t.Logf("%s: %d rows and %d", query, len(x), len(y))
				return
			case x[i] != y[i]:
				t.Logf("%s:\n%.600s\n%.600s", query, x[i], y[i])
				return
			}
		}
	}
}
