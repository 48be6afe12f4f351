package agentconn

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/orrery-io/orrery/job"
	"github.com/orrery-io/orrery/wire"
	"github.com/prometheus/client_golang/prometheus"
)

// unwired is a session without a socket, and its leader.
func unwired(f wire.Format) (*session, *leader) {
	l := newLeader()
	h := New(Config{Node: "n1", ToLeader: l.take, Registerer: prometheus.NewRegistry()})
	return &session{hub: h, id: "s1", agent: "a1", format: f, hello: hello("a1"), wake: make(chan struct{}, 1)}, l
}

// said returns all that the leader was told, an entry for each message.
func (l *leader) said() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	var out []string
	for _, env := range l.envs {
		for _, m := range env.Messages {
			switch {
			case m.Log != nil:
				out = append(out, fmt.Sprintf("log %d of %d: %d lines", m.Log.Job, m.Log.Fence, len(m.Log.Lines)))
			case m.Progress != nil:
				out = append(out, fmt.Sprintf("progress %d of %d: %v", m.Progress.Job, m.Progress.Fence, m.Progress.Percent))
			default:
				out = append(out, m.Kind())
			}
		}
	}
	l.envs = nil
	return out
}

func logOf(id job.ID, fence job.Fence, texts ...string) wire.Message {
	m := &wire.Log{Job: id, Fence: fence}
	for i, t := range texts {
		m.Lines = append(m.Lines, wire.LogLine{Seq: int64(i + 1), Time: 1, Level: "info", Text: t})
	}
	return wire.Message{Log: m}
}

func progressOf(id job.ID, fence job.Fence, percent float64) wire.Message {
	return wire.Message{Progress: &wire.Progress{Job: id, Fence: fence, Percent: percent}}
}

func resultOf(id job.ID, fence job.Fence) wire.Message {
	return wire.Message{Result: &wire.Result{Job: id, Fence: fence, Outcome: "completed"}}
}

func TestGather(t *testing.T) {
	relay := func(t *testing.T, s *session, msgs ...wire.Message) {
		t.Helper()
		if e := s.relay(msgs); e != nil {
			t.Fatal(e.reason)
		}
	}
	want := func(t *testing.T, when string, l *leader, want ...string) {
		t.Helper()
		if got := l.said(); !slices.Equal(got, want) {
			t.Errorf("%s: got %q, want %q", when, got, want)
		}
	}

	t.Run("passes_lines_on_after_a_second", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			s, l := unwired(wire.Msgpack)
			for range 10 {
				relay(t, s, logOf(1, 2, "x"), progressOf(1, 2, 5), logOf(3, 2, "y"))
			}
			relay(t, s, progressOf(1, 2, 6))
			want(t, "at once", l)
			time.Sleep(gatherFor)
			synctest.Wait()
			got := l.said()
			slices.Sort(got)
			if !slices.Equal(got, []string{"log 1 of 2: 10 lines", "log 3 of 2: 10 lines", "progress 1 of 2: 6"}) {
				t.Errorf("after a second: %q", got)
			}
			time.Sleep(time.Minute)
			want(t, "later", l)
			if s.timer != nil || s.open != nil || s.pending != 0 {
				t.Error("an idle session keeps something")
			}
			relay(t, s, logOf(1, 2, "z"))
			time.Sleep(gatherFor)
			synctest.Wait()
			want(t, "the next time", l, "log 1 of 2: 1 lines")
		})
	})

	t.Run("passes_everything_on_before_the_result", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			s, l := unwired(wire.Msgpack)
			relay(t, s, logOf(1, 2, "a"), progressOf(1, 2, 50), logOf(9, 2, "other"))
			relay(t, s, logOf(1, 2, "b"), resultOf(7, 2), resultOf(1, 2))
			want(t, "at once", l, "result", "log 1 of 2: 2 lines", "progress 1 of 2: 50", "result")
			relay(t, s, wire.Message{Reject: &wire.Reject{Job: 9, Fence: 2}})
			want(t, "before the reject", l, "log 9 of 2: 1 lines", "reject")
			time.Sleep(time.Minute)
			want(t, "later", l)
		})
	})

	t.Run("tells_attempts_of_one_job_apart", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			s, l := unwired(wire.Msgpack)
			relay(t, s, logOf(1, 2, "a"), logOf(1, 3, "b", "c"))
			relay(t, s, resultOf(1, 3))
			want(t, "at once", l, "log 1 of 3: 2 lines", "result")
			time.Sleep(gatherFor)
			synctest.Wait()
			want(t, "after a second", l, "log 1 of 2: 1 lines")
		})
	})

	t.Run("passes_full_chunks_on_at_once", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			s, l := unwired(wire.Msgpack)
			line := strings.Repeat("x", 1000-lineOverhead)
			relay(t, s, logOf(1, 2, slices.Repeat([]string{line}, 70)...))
			want(t, "at once", l, "log 1 of 2: 32 lines", "log 1 of 2: 32 lines")
			relay(t, s, resultOf(1, 2))
			want(t, "before the result", l, "log 1 of 2: 6 lines", "result")
			relay(t, s, logOf(1, 2, "small", strings.Repeat("x", maxLine), "small"), resultOf(1, 2))
			want(t, "a long line", l, "log 1 of 2: 1 lines", "log 1 of 2: 1 lines", "log 1 of 2: 1 lines", "result")
		})
	})

	t.Run("leaves_out_what_comes_too_fast_and_says_so", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			s, l := unwired(wire.Msgpack)
			total := 0
			lines := func() (texts []string, last string) {
				l.mu.Lock()
				defer l.mu.Unlock()
				for _, env := range l.envs {
					for _, m := range env.Messages {
						for _, line := range m.Log.Lines {
							texts = append(texts, line.Text)
							last = line.Level + " " + line.Text
							total += len(line.Text)
						}
					}
				}
				l.envs = nil
				return texts, last
			}
			line := strings.Repeat("x", 1024-lineOverhead)
			for range 10 {
				relay(t, s, logOf(1, 2, slices.Repeat([]string{line}, 100)...))
			}
			time.Sleep(gatherFor)
			synctest.Wait()
			texts, last := lines()
			if len(texts) != 257 || last != fmt.Sprintf("warn [744 lines of %d bytes left out: more than 256 KiB within a second]", 744*len(line)) {
				t.Errorf("%d lines, the last: %s", len(texts), last)
			}
			relay(t, s, logOf(1, 2, "slowly now"))
			time.Sleep(gatherFor)
			synctest.Wait()
			if texts, _ := lines(); !slices.Equal(texts, []string{"slowly now"}) {
				t.Errorf("later: %q", texts)
			}
		})
	})

	t.Run("is_bounded_over_all_attempts", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			s, l := unwired(wire.Msgpack)
			for i := range 100 {
				relay(t, s, logOf(job.ID(i+1), 2, strings.Repeat("x", 20<<10)))
				if s.pending > maxGathered {
					t.Fatalf("%d bytes wait", s.pending)
				}
			}
			if len(l.said()) == 0 {
				t.Error("nothing was passed on")
			}
			s.stopGathering()
		})
	})

	t.Run("passes_the_rest_on_before_the_end", func(t *testing.T) {
		b := setup(t)
		p, _ := b.connect(t, wire.Msgpack, "a1")
		p.send(t, logOf(1, 2, "last words"))
		p.send(t, wire.Message{Bye: &wire.Bye{}})
		b.leader.next(t) // bye
		if env := b.leader.next(t); len(env.Messages) != 1 || env.Messages[0].Log == nil {
			t.Errorf("got %s", show(env))
		}
		if env := b.leader.next(t); env.Down == nil {
			t.Errorf("got %s", show(env))
		}
	})
}

func TestLeaderChanged(t *testing.T) {
	formats(t, func(t *testing.T, f wire.Format) {
		b := setup(t)
		p := b.dial(t, f)
		h := hello("a1")
		h.Held = []wire.Held{{Job: 1, Fence: 2}, {Job: 2, Fence: 2, Waiting: true}}
		h.Outbox = []wire.Held{{Job: 3, Fence: 2}}
		p.send(t, wire.Message{Hello: h})
		up := b.leader.up(t)
		say := func(msgs ...wire.Message) {
			t.Helper()
			p.send(t, msgs...)
			b.leader.next(t)
		}
		expect := func(when string, held, outbox []wire.Held) {
			t.Helper()
			b.hub.LeaderChanged()
			env := b.leader.up(t)
			if env.Session != up.Session {
				t.Errorf("%s: another session", when)
			}
			equal(t, when+": held", env.Up.Held, held)
			equal(t, when+": outbox", env.Up.Outbox, outbox)
		}
		expect("hello", h.Held, h.Outbox)

		say(
			wire.Message{Ack: &wire.Ack{Job: 4, Fence: 5}}, wire.Message{Ack: &wire.Ack{Job: 5, Fence: 5}}, wire.Message{Ack: &wire.Ack{Job: 6, Fence: 5}},
			wire.Message{Start: &wire.Start{Job: 4, Fence: 5}}, wire.Message{Reject: &wire.Reject{Job: 5, Fence: 5}}, resultOf(1, 2),
		)
		expect("acks, start, reject, result",
			[]wire.Held{{Job: 2, Fence: 2, Waiting: true}, {Job: 4, Fence: 5}, {Job: 6, Fence: 5, Waiting: true}},
			[]wire.Held{{Job: 1, Fence: 2}, {Job: 3, Fence: 2}})

		b.to(up, wire.Message{ResultAck: &wire.ResultAck{Job: 1, Fence: 2, Accepted: true}})
		p.receive(t)
		say(wire.Message{Heartbeat: &wire.Heartbeat{Seq: 1, Held: []wire.Held{{Job: 2, Fence: 2}, {Job: 3, Fence: 2}}}})
		expect("heartbeat and acknowledgement", []wire.Held{{Job: 2, Fence: 2}}, []wire.Held{{Job: 3, Fence: 2}})

		b.to(up, wire.Message{Beat: &wire.Beat{Seq: 1, Drop: []wire.Held{{Job: 3, Fence: 2}}}}, wire.Message{Cancel: &wire.Cancel{Job: 2, Fence: 2, Drop: true}})
		p.receive(t)
		expect("drops", nil, nil)

		say(wire.Message{Drain: &wire.Drain{}})
		b.hub.LeaderChanged()
		if env := b.leader.up(t); !env.Up.Draining {
			t.Error("the new leader is not told that the agent drains")
		}
	})

	t.Run("says_nothing_of_connections_without_hello", func(t *testing.T) {
		b := setup(t)
		b.dial(t, wire.JSON)
		b.hub.LeaderChanged()
		if got := b.leader.said(); len(got) != 0 {
			t.Errorf("got %q", got)
		}
	})
}

func TestTooManyAttempts(t *testing.T) {
	s, _ := unwired(wire.Msgpack)
	for i := range maxAttempts {
		s.track([]wire.Message{{Ack: &wire.Ack{Job: job.ID(i + 1), Fence: 1}}})
	}
	if e := s.relay([]wire.Message{{Ack: &wire.Ack{Job: maxAttempts + 1, Fence: 1}}}); e == nil || e.code != "too_many_attempts" {
		t.Errorf("got %v", e)
	}
}

func TestBounds(t *testing.T) {
	big := `"` + strings.Repeat("x", job.MaxPayload) + `"`
	code := 3
	for _, tt := range []struct {
		name string
		in   wire.Result
		want wire.Result
	}{
		{
			"a good result stays",
			wire.Result{Outcome: "completed", Result: job.JSON(`[1]`)},
			wire.Result{Outcome: "completed", Result: job.JSON(`[1]`)},
		},
		{
			"the largest stays",
			wire.Result{Outcome: "completed", ResultBytes: make([]byte, job.MaxPayload)},
			wire.Result{Outcome: "completed", ResultBytes: make([]byte, job.MaxPayload)},
		},
		{
			"a failure stays",
			wire.Result{Outcome: "failed", Error: &wire.Failure{Kind: "exit", Message: "m", ExitCode: &code, RetryAfter: 5}},
			wire.Result{Outcome: "failed", Error: &wire.Failure{Kind: "exit", Message: "m", ExitCode: &code, RetryAfter: 5}},
		},
		{
			"a larger one fails",
			wire.Result{Outcome: "completed", Result: job.JSON(big)},
			wire.Result{Outcome: "failed", Error: &wire.Failure{Kind: "result_too_large", Message: "the result is 1048578 bytes; the limit is 1048576", Permanent: true}},
		},
		{
			"one that is not JSON fails",
			wire.Result{Outcome: "completed", Result: job.JSON(`{`)},
			wire.Result{Outcome: "failed", Error: &wire.Failure{Kind: "result_invalid", Message: "the result is not JSON in UTF-8", Permanent: true}},
		},
		{
			"one that is not UTF-8 fails",
			wire.Result{Outcome: "completed", Result: job.JSON("\"\xff\"")},
			wire.Result{Outcome: "failed", Error: &wire.Failure{Kind: "result_invalid", Message: "the result is not JSON in UTF-8", Permanent: true}},
		},
		{
			"one that is too deep fails",
			wire.Result{Outcome: "completed", Result: job.JSON(strings.Repeat("[", 65) + strings.Repeat("]", 65))},
			wire.Result{Outcome: "failed", Error: &wire.Failure{Kind: "result_invalid", Message: "the result is nested more than 64 levels deep", Permanent: true}},
		},
		{
			"two at once fail",
			wire.Result{Outcome: "completed", Result: job.JSON(`1`), ResultBytes: []byte{1}},
			wire.Result{Outcome: "failed", Error: &wire.Failure{Kind: "result_invalid", Message: "the agent gave both result and result_bytes", Permanent: true}},
		},
		{
			"an unknown outcome fails",
			wire.Result{Outcome: "lost"},
			wire.Result{Outcome: "failed", Error: &wire.Failure{
				Kind: "result_invalid", Permanent: true,
				Message: `the agent reported the outcome "lost", which is none of completed, failed, timed_out, cancelled`,
			}},
		},
		{
			"a failure gets a reason",
			wire.Result{Outcome: "failed"},
			wire.Result{Outcome: "failed", Error: &wire.Failure{Kind: "error", Message: "the agent gave no reason"}},
		},
		{
			"a reason gets a kind",
			wire.Result{Outcome: "timed_out", Error: &wire.Failure{RetryAfter: -1}},
			wire.Result{Outcome: "timed_out", Error: &wire.Failure{Kind: "error"}},
		},
		{
			"a long reason is cut",
			wire.Result{Outcome: "failed", Error: &wire.Failure{Kind: "k", Message: strings.Repeat("m", maxMessage+7)}},
			wire.Result{Outcome: "failed", Error: &wire.Failure{Kind: "k", Message: strings.Repeat("m", maxMessage) + "… [7 bytes cut]"}},
		},
		{
			"what completed has no error",
			wire.Result{Outcome: "completed", Error: &wire.Failure{Kind: "k"}},
			wire.Result{Outcome: "completed"},
		},
	} {
		t.Run("result/"+strings.ReplaceAll(tt.name, " ", "_"), func(t *testing.T) {
			s, l := unwired(wire.Msgpack)
			tt.in.Job, tt.in.Fence, tt.want.Job, tt.want.Fence = 1, 2, 1, 2
			if e := s.relay([]wire.Message{{Result: &tt.in}}); e != nil {
				t.Fatal(e.reason)
			}
			equal(t, "result", l.next(t).Messages[0].Result, tt.want)
		})
	}

	t.Run("lines_are_cut", func(t *testing.T) {
		m := logOf(1, 2, strings.Repeat("x", maxLine+10), "a\xffb")
		m.Log.Lines[1].Level = "fatal"
		boundLines(m.Log.Lines)
		if got := m.Log.Lines[0].Text; !strings.HasSuffix(got, "x… [10 bytes cut]") || len(got) > maxLine+30 {
			t.Errorf("%d bytes", len(got))
		}
		if got := m.Log.Lines[1]; got.Text != "a\uFFFDb" || got.Level != "info" {
			t.Errorf("got %s", show(got))
		}
	})

	t.Run("progress_is_a_percentage", func(t *testing.T) {
		for in, want := range map[float64]float64{-1: 0, 50.5: 50.5, 101: 100, math.Inf(1): 100} {
			p := &wire.Progress{Percent: in, Step: -1, Message: strings.Repeat("x", 5000)}
			boundProgress(p)
			if p.Percent != want || p.Step != 0 || len(p.Message) > 1100 {
				t.Errorf("%v became %v", in, p)
			}
		}
		p := &wire.Progress{Percent: math.NaN()}
		if boundProgress(p); p.Percent != 0 {
			t.Errorf("got %v", p.Percent)
		}
	})

	t.Run("gauges_are_numbers", func(t *testing.T) {
		h := &wire.Heartbeat{Gauges: map[string]float64{"cpu": 0.5, "nan": math.NaN(), "inf": math.Inf(-1), "a b": 1}}
		boundGauges(h)
		equal(t, "gauges", h.Gauges, map[string]float64{"cpu": 0.5})
		for i := range maxGauges + 1 {
			h.Gauges[fmt.Sprint("g", i)] = 1
		}
		if boundGauges(h); len(h.Gauges) != 0 {
			t.Errorf("%d gauges", len(h.Gauges))
		}
	})
}

func TestFollower(t *testing.T) {
	t.Run("sees_lines_and_progress_at_once", func(t *testing.T) {
		b := setup(t)
		p, _ := b.connect(t, wire.JSON, "a1")
		f, other, same := b.hub.FollowLog(1), b.hub.FollowLog(2), b.hub.FollowLog(1)
		defer other.Close()
		defer same.Close()
		p.send(t, logOf(1, 2, "a", "b"), progressOf(1, 2, 50), logOf(3, 2, "nobody looks"), logOf(2, 2, "other"))
		equal(t, "lines", <-f.C, Update{Job: 1, Fence: 2, Lines: []job.LogLine{{Seq: 1, Time: 1, Level: "info", Text: "a"}, {Seq: 2, Time: 1, Level: "info", Text: "b"}}})
		equal(t, "progress", <-f.C, Update{Job: 1, Fence: 2, Progress: &job.Progress{Percent: 50}})
		equal(t, "the other job", (<-other.C).Lines[0].Text, "other")
		equal(t, "the second follower", len((<-same.C).Lines), 2)
		f.Close()
		f.Close()
		if _, ok := <-f.C; ok {
			t.Error("a closed follower goes on")
		}
		p.send(t, logOf(1, 2, "c"))
		if u := <-same.C; u.Progress == nil {
			t.Errorf("got %s", show(u))
		}
		equal(t, "after the first one left", (<-same.C).Lines[0].Text, "c")
	})

	t.Run("that_is_slow_is_told_how_much_it_missed", func(t *testing.T) {
		s, _ := unwired(wire.JSON)
		f := s.hub.FollowLog(1)
		const sent = followerUpdates + 10
		for i := range sent {
			s.hub.followers.publish([]wire.Message{logOf(1, 2, fmt.Sprint(i), "x")})
		}
		seen, dropped := 0, 0
		for range followerUpdates {
			u := <-f.C
			seen += len(u.Lines)
			dropped += u.Dropped
		}
		if seen != 2*followerUpdates || dropped != 20 {
			t.Errorf("%d seen and %d dropped of %d", seen, dropped, 2*sent)
		}
		s.hub.followers.publish([]wire.Message{logOf(1, 2, "now")})
		equal(t, "afterwards", (<-f.C).Dropped, 0)
		f.Close()
		if s.hub.followers.count.Load() != 0 || len(s.hub.followers.byJob) != 0 {
			t.Error("something is left of it")
		}
	})

	t.Run("gets_large_logs_in_pieces", func(t *testing.T) {
		s, _ := unwired(wire.JSON)
		f := s.hub.FollowLog(1)
		defer f.Close()
		s.hub.followers.publish([]wire.Message{logOf(1, 2, slices.Repeat([]string{strings.Repeat("x", 30<<10)}, 5)...)})
		for _, want := range []int{2, 2, 1} {
			equal(t, "lines", len((<-f.C).Lines), want)
		}
	})

	t.Run("of_a_hub_that_has_ended_ends_at_once", func(t *testing.T) {
		b := setup(t)
		b.stop()
		<-b.done
		if _, ok := <-b.hub.FollowLog(1).C; ok {
			t.Error("it goes on")
		}
	})
}
