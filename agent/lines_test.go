package agent

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"testing/slogtest"
	"testing/synctest"
	"time"

	"github.com/orrery-io/orrery/job"
	"github.com/orrery-io/orrery/wire"
)

// talk runs one attempt with the given handler and returns the messages about it.
func talk(t *testing.T, fn func(context.Context, *Job[job.JSON]) (int, error)) []wire.Message {
	t.Helper()
	n := start(t, Config{}, func(a *Agent) { Handle(a, "t", fn) })
	l := n.welcomed()
	l.send(dispatch(1, 7, "t"))
	time.Sleep(time.Minute)
	var about []wire.Message
	for _, m := range l.all() {
		if m.Log != nil || m.Progress != nil || m.Result != nil {
			about = append(about, m)
			if m.Result != nil {
				break // it comes again without an answer
			}
		}
	}
	return about
}

func linesOf(msgs []wire.Message) []wire.LogLine {
	var lines []wire.LogLine
	for _, m := range msgs {
		if m.Log != nil {
			lines = append(lines, m.Log.Lines...)
		}
	}
	return lines
}

func TestLog(t *testing.T) {
	t.Run("lines have numbers, levels and attributes, and come before the result", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			began := time.Now()
			msgs := talk(t, func(_ context.Context, j *Job[job.JSON]) (int, error) {
				j.Logf("hello %d", 1)
				log := j.Log().With("user", "Ann Lee").WithGroup("req")
				log.Warn("slow", "took", 3*time.Second, "size", 7, slog.Group("from", "host", "h"))
				time.Sleep(time.Second)
				log.Debug("two\nlines")
				log.Error("bad", "err", errors.New("broken"), "when", began)
				j.Line("stderr", "with an end\r\n")
				j.Line("stdout", "")
				return 0, nil
			})
			if msgs[len(msgs)-1].Result == nil {
				t.Errorf("the result isn't last")
			}
			want := []struct{ level, text string }{
				{"info", "hello 1"},
				{"warn", `slow user="Ann Lee" req.took=3s req.size=7 req.from.host=h`},
				{"debug", "two"},
				{"debug", `lines user="Ann Lee"`},
				{"error", `bad user="Ann Lee" req.err=broken req.when=` + began.Format(time.RFC3339Nano)},
				{"stderr", "with an end"},
				{"stdout", ""},
			}
			lines := linesOf(msgs)
			expect(t, "lines", len(lines), len(want))
			for i, l := range lines {
				expect(t, "seq", l.Seq, int64(i+1))
				expect(t, "level", l.Level, want[i].level)
				expect(t, "text", l.Text, want[i].text)
			}
			expect(t, "time", lines[2].Time, began.Add(time.Second).UnixMilli())
		})
	})
	t.Run("a long line is cut, and bytes that are not text are replaced", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			lines := linesOf(talk(t, func(_ context.Context, j *Job[job.JSON]) (int, error) {
				j.Line("info", strings.Repeat("é", 100_000))
				j.Line("info", "a\xffb")
				return 0, nil
			}))
			if l := lines[0].Text; len(l) > maxLine || !strings.HasSuffix(l, "… (200000 bytes in all)") {
				t.Errorf("%d bytes, ending in %q", len(l), l[len(l)-40:])
			}
			expect(t, "text", lines[1].Text, "a\uFFFDb")
		})
	})
	t.Run("a flood arrives whole, in frames of a good size", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			const count = 20_000
			msgs := talk(t, func(_ context.Context, j *Job[job.JSON]) (int, error) {
				for range count {
					j.Line("stdout", strings.Repeat("x", 200))
				}
				return 0, nil
			})
			lines := linesOf(msgs)
			expect(t, "lines", len(lines), count)
			expect(t, "last number", lines[count-1].Seq, count)
			for _, m := range msgs {
				if m.Log != nil && m.Log.Msgsize() > 2*wire.SoftFrame {
					t.Errorf("a message of %d bytes", m.Log.Msgsize())
				}
			}
		})
	})
	t.Run("without a connection lines are kept up to a bound, and the rest is counted", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			const count = 10_000
			gone := make(chan bool)
			n := start(t, Config{}, func(a *Agent) {
				Handle(a, "t", func(_ context.Context, j *Job[job.JSON]) (int, error) {
					j.Logf("first")
					<-gone
					for range count {
						j.Line("stdout", strings.Repeat("x", 200))
					}
					return 0, nil
				})
			})
			l := n.welcomed()
			l.send(dispatch(1, 7, "t"))
			before := linesOf(l.all())
			l.cut()
			synctest.Wait()
			gone <- true
			l2 := n.welcomed()
			msgs := l2.all()
			lines := append(before, linesOf(msgs)...)
			kept := len(lines) - 2
			if kept < 1000 || kept >= count {
				t.Fatalf("%d of %d lines were kept", kept, count)
			}
			for i, l := range lines {
				expect(t, "seq", l.Seq, int64(i+1))
			}
			last := lines[len(lines)-1].Text
			expect(t, "the last line", last, "["+job.ID(count-kept).String()+" lines left out: the agent could not send them]")
			if msgs[len(msgs)-1].Result == nil {
				t.Errorf("the result isn't last")
			}
			expect(t, "budget in the end", n.agent.bench.out.logged.Load(), 0)
		})
	})
	t.Run("lines of a frame that could not be written go out again", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			out := newOutgoing()
			at := &attempt{out: out, raw: RawJob{ID: 1, Fence: 7}}
			out.begin(nil)
			at.line(time.Now(), "info", "one\ntwo")
			var f frame
			expect(t, "something to say", out.next(&f), true)
			at.line(time.Now(), "info", "three")
			out.unsaid(&f)
			out.end()
			out.begin(nil)
			expect(t, "something to say", out.next(&f), true)
			lines := f.msgs[0].Log.Lines
			expect(t, "lines", len(lines), 3)
			for i, l := range lines {
				expect(t, "seq", l.Seq, int64(i+1))
			}
			expect(t, "something left", out.next(&f), false)
			expect(t, "budget", out.logged.Load(), 0)
		})
	})
	t.Run("nothing is taken after the handler has returned", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			var late *Job[job.JSON]
			msgs := talk(t, func(_ context.Context, j *Job[job.JSON]) (int, error) { late = j; return 0, nil })
			late.Logf("too late")
			late.Progress(1, "too late")
			expect(t, "messages", len(msgs), 1)
			expect(t, "kept", len(late.attempt.log.lines), 0)
		})
	})
}

func TestLogHandler(t *testing.T) {
	out := newOutgoing()
	var at *attempt
	slogtest.Run(t, func(*testing.T) slog.Handler {
		at = &attempt{out: out}
		return &lineHandler{to: at}
	}, func(t *testing.T) map[string]any {
		// What slogtest wants to see of a line: the message is one word there, and
		// no value is quoted.
		l := at.log.lines[0]
		words := strings.Fields(l.Text)
		got := map[string]any{slog.LevelKey: l.Level, slog.MessageKey: words[0]}
		// A line always has a time; the handler takes the present when a record
		// has none.
		if !strings.HasSuffix(t.Name(), "zero-time") {
			got[slog.TimeKey] = l.Time
		}
		for _, w := range words[1:] {
			key, value, _ := strings.Cut(w, "=")
			in := got
			parts := strings.Split(key, ".")
			for _, p := range parts[:len(parts)-1] {
				if _, ok := in[p].(map[string]any); !ok {
					in[p] = map[string]any{}
				}
				in = in[p].(map[string]any)
			}
			in[parts[len(parts)-1]] = value
		}
		return got
	})
}

func TestProgress(t *testing.T) {
	t.Run("only the latest is sent, at a pace, and the last before the result", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			msgs := talk(t, func(_ context.Context, j *Job[job.JSON]) (int, error) {
				for i := range 1000 {
					j.Step(i+1, 1000, "working")
					time.Sleep(time.Millisecond)
				}
				return 0, nil
			})
			if n := len(msgs); n < 5 || n > 15 {
				t.Errorf("%d messages in a second", n)
			}
			last := msgs[len(msgs)-2].Progress
			if last == nil || last.Step != 1000 || last.Steps != 1000 || last.Percent != 100 || last.Message != "working" {
				t.Errorf("the last progress is %+v", last)
			}
		})
	})
	t.Run("it is bounded", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			msgs := talk(t, func(_ context.Context, j *Job[job.JSON]) (int, error) {
				j.Progress(250, strings.Repeat("x", 5000))
				time.Sleep(time.Second)
				j.Step(-3, 0, "")
				return 0, nil
			})
			expect(t, "percent", msgs[0].Progress.Percent, 100)
			if n := len(msgs[0].Progress.Message); n > maxProgress {
				t.Errorf("a message of %d bytes", n)
			}
			expect(t, "step", msgs[1].Progress.Step, 0)
		})
	})
}
