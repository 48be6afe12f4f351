package agent

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/orrery-io/orrery/job"
	"github.com/orrery-io/orrery/wire"
)

type greeting struct {
	Name string `json:"name"`
	Age  int    `json:"age"`
}

func TestAttempt(t *testing.T) {
	huge := strings.Repeat("x", job.MaxPayload)
	exit := 3
	for _, tt := range []struct {
		name    string
		handle  func(*Agent)
		mods    []func(*wire.Dispatch)
		outcome string
		result  string
		kind    string
		message string // part of it
		check   func(*testing.T, *wire.Result)
	}{
		{
			name: "a result is encoded as JSON without escaping HTML",
			handle: func(a *Agent) {
				Handle(a, "t", func(_ context.Context, j *Job[greeting]) (map[string]string, error) {
					return map[string]string{"hello": "<" + j.Args.Name + ">"}, nil
				})
			},
			mods:    []func(*wire.Dispatch){payload(`{"name":"Ann","age":4,"unknown":true}`)},
			outcome: "completed", result: `{"hello":"<Ann>"}`,
		},
		{
			name: "an absent payload is the zero value",
			handle: func(a *Agent) {
				Handle(a, "t", func(_ context.Context, j *Job[greeting]) (int, error) { return j.Args.Age, nil })
			},
			outcome: "completed", result: `0`,
		},
		{
			name: "raw JSON passes untouched",
			handle: func(a *Agent) {
				Handle(a, "t", func(_ context.Context, j *Job[job.JSON]) (json.RawMessage, error) {
					return json.RawMessage(j.Args), nil
				})
			},
			mods:    []func(*wire.Dispatch){payload(`{"b": 1,  "a":2}`)},
			outcome: "completed", result: `{"b": 1,  "a":2}`,
		},
		{
			name: "bytes pass untouched",
			handle: func(a *Agent) {
				Handle(a, "t", func(_ context.Context, j *Job[[]byte]) ([]byte, error) { return j.Args, nil })
			},
			mods:    []func(*wire.Dispatch){func(d *wire.Dispatch) { d.PayloadBytes = []byte{0, 255} }},
			outcome: "completed",
			check: func(t *testing.T, r *wire.Result) {
				expect(t, "bytes", string(r.ResultBytes), "\x00\xff")
			},
		},
		{
			name: "a payload that doesn't fit",
			handle: func(a *Agent) {
				Handle(a, "t", func(_ context.Context, j *Job[greeting]) (int, error) { return 0, nil })
			},
			mods:    []func(*wire.Dispatch){payload(`{"name":"Ann","age":"four"}`)},
			outcome: "failed", kind: "bad_payload", message: `the payload has a string in "age" where the handler wants a fitting whole number`,
			check: isPermanent,
		},
		{
			name: "bytes where JSON is wanted",
			handle: func(a *Agent) {
				Handle(a, "t", func(_ context.Context, j *Job[greeting]) (int, error) { return 0, nil })
			},
			mods:    []func(*wire.Dispatch){func(d *wire.Dispatch) { d.PayloadBytes = []byte{1} }},
			outcome: "failed", kind: "bad_payload", message: "raw bytes", check: isPermanent,
		},
		{
			name: "an ordinary error",
			handle: func(a *Agent) {
				Handle(a, "t", func(context.Context, *Job[job.JSON]) (int, error) { return 0, errors.New("no luck") })
			},
			outcome: "failed", kind: "error", message: "no luck",
		},
		{
			name: "an error with details, wrapped",
			handle: func(a *Agent) {
				Handle(a, "t", func(context.Context, *Job[job.JSON]) (int, error) {
					return 0, fmt.Errorf("run: %w", RetryAfter(&Error{Kind: "exit", Message: "went wrong", ExitCode: &exit}, 1500*time.Microsecond))
				})
			},
			outcome: "failed", kind: "exit", message: "run: went wrong",
			check: func(t *testing.T, r *wire.Result) {
				expect(t, "exit code", *r.Error.ExitCode, 3)
				expect(t, "delay", r.Error.RetryAfter, 2)
				expect(t, "permanent", r.Error.Permanent, false)
			},
		},
		{
			name: "a panic",
			handle: func(a *Agent) {
				Handle(a, "t", func(context.Context, *Job[job.JSON]) (int, error) { panic("oh dear") })
			},
			outcome: "failed", kind: "panic", message: "oh dear",
			check: func(t *testing.T, r *wire.Result) {
				if !strings.Contains(r.Error.Stack, "TestAttempt") {
					t.Errorf("the stack doesn't show the handler:\n%s", r.Error.Stack)
				}
			},
		},
		{
			name: "a handler that ends its goroutine",
			handle: func(a *Agent) {
				Handle(a, "t", func(context.Context, *Job[job.JSON]) (int, error) { runtime.Goexit(); return 0, nil })
			},
			outcome: "failed", kind: "panic", message: "Goexit",
		},
		{
			name: "a result that is too large",
			handle: func(a *Agent) {
				Handle(a, "t", func(context.Context, *Job[job.JSON]) (string, error) { return huge, nil })
			},
			outcome: "failed", kind: "result_too_large", message: "1048578 bytes; the limit is 1048576", check: isPermanent,
		},
		{
			name: "a result of the largest size",
			handle: func(a *Agent) {
				Handle(a, "t", func(context.Context, *Job[job.JSON]) (string, error) { return huge[2:], nil })
			},
			outcome: "completed", result: `"` + huge[2:] + `"`,
		},
		{
			name: "a result that can't be encoded",
			handle: func(a *Agent) {
				Handle(a, "t", func(context.Context, *Job[job.JSON]) (any, error) { return make(chan int), nil })
			},
			outcome: "failed", kind: "bad_result", message: "cannot be encoded", check: isPermanent,
		},
		{
			name: "a result that isn't JSON",
			handle: func(a *Agent) {
				Handle(a, "t", func(context.Context, *Job[job.JSON]) (job.JSON, error) { return job.JSON("{"), nil })
			},
			outcome: "failed", kind: "bad_result", message: "not valid JSON", check: isPermanent,
		},
		{
			name: "a result that is nested too deep",
			handle: func(a *Agent) {
				Handle(a, "t", func(context.Context, *Job[job.JSON]) (job.JSON, error) {
					return job.JSON(strings.Repeat("[", 65) + strings.Repeat("]", 65)), nil
				})
			},
			outcome: "failed", kind: "bad_result", message: "65 levels", check: isPermanent,
		},
		{
			name: "a marshaler that panics",
			handle: func(a *Agent) {
				Handle(a, "t", func(context.Context, *Job[job.JSON]) (rude, error) { return rude{}, nil })
			},
			outcome: "failed", kind: "panic", message: "rude",
		},
		{
			name: "a timeout",
			handle: func(a *Agent) {
				Handle(a, "t", func(ctx context.Context, _ *Job[job.JSON]) (int, error) {
					<-ctx.Done()
					return 0, fmt.Errorf("read: %w", ctx.Err())
				})
			},
			mods:    []func(*wire.Dispatch){func(d *wire.Dispatch) { d.Timeout = 2000 }},
			outcome: "timed_out", kind: "timeout", message: "longer than its timeout",
		},
		{
			name: "work that was done in spite of a timeout",
			handle: func(a *Agent) {
				Handle(a, "t", func(ctx context.Context, _ *Job[job.JSON]) (int, error) {
					<-ctx.Done()
					return 7, nil
				})
			},
			mods:    []func(*wire.Dispatch){func(d *wire.Dispatch) { d.Timeout = 2000 }},
			outcome: "completed", result: "7",
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				n := start(t, Config{Slots: 1}, tt.handle)
				l := n.welcomed()
				// Twice, to see that the slot is free again.
				for id := job.ID(1); id <= 2; id++ {
					l.send(dispatch(id, 10, "t", tt.mods...))
					time.Sleep(2500 * time.Millisecond)
					r := l.result()
					l.send(wire.Message{ResultAck: &wire.ResultAck{Job: id, Fence: 10, Accepted: true}})
					expect(t, "job", r.Job, id)
					expect(t, "fence", r.Fence, 10)
					if r.Error != nil {
						t.Logf("failure: %s: %s", r.Error.Kind, r.Error.Message)
						expect(t, "kind", r.Error.Kind, tt.kind)
						if !strings.Contains(r.Error.Message, tt.message) {
							t.Errorf("message: got %q, want %q in it", r.Error.Message, tt.message)
						}
					}
					expect(t, "outcome", r.Outcome, tt.outcome)
					expect(t, "result", string(r.Result), tt.result)
					if tt.check != nil {
						tt.check(t, r)
					}
				}
			})
		})
	}
}

func isPermanent(t *testing.T, r *wire.Result) {
	t.Helper()
	expect(t, "permanent", r.Error.Permanent, true)
}

type rude struct{}

func (rude) MarshalJSON() ([]byte, error) { panic("rude") }

func TestDispatch(t *testing.T) {
	t.Run("work beyond the slots is acknowledged and waits in order", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			h := newHold()
			n := start(t, Config{Slots: 2}, func(a *Agent) { Handle(a, "hold", h.run) })
			l := n.welcomed()
			l.send(dispatch(5, 1, "hold"), dispatch(3, 2, "hold"), dispatch(4, 3, "hold"), dispatch(1, 4, "hold"))
			expectAll(t, "messages", l.kinds(), "ack", "ack", "ack", "ack")
			expect(t, "running", len(h.jobs()), 2)
			h.free <- nil
			expectAll(t, "next", h.jobs(), 4)
			h.free <- nil
			expectAll(t, "next", h.jobs(), 1)
		})
	})
	t.Run("a dispatch that comes twice runs once and is acknowledged twice", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			h := newHold()
			n := start(t, Config{Slots: 4}, func(a *Agent) { Handle(a, "hold", h.run) })
			l := n.welcomed()
			l.send(dispatch(1, 7, "hold"), dispatch(1, 7, "hold"))
			expectAll(t, "messages", l.kinds(), "ack", "ack")
			expectAll(t, "begun", h.jobs(), 1)
			h.free <- nil
			expectAll(t, "messages", l.kinds(), "result")
			l.send(dispatch(1, 7, "hold"))
			expectAll(t, "before the result is acknowledged", l.kinds(), "ack")
			l.send(wire.Message{ResultAck: &wire.ResultAck{Job: 1, Fence: 7, Accepted: true}})
			l.send(dispatch(1, 7, "hold"))
			expectAll(t, "after it", l.kinds(), "ack")
			expect(t, "begun again", len(h.jobs()), 0)
		})
	})
	t.Run("an unknown type is handed back with the reason", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			n := start(t, Config{}, func(*Agent) {})
			l := n.welcomed()
			l.send(dispatch(1, 7, "what"))
			msgs := l.all()
			if len(msgs) != 1 || msgs[0].Reject == nil || !strings.Contains(msgs[0].Reject.Reason, `"what"`) {
				t.Fatalf("got %+v", msgs)
			}
		})
	})
	t.Run("a newer attempt of the same job waits for the end of the older one", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			h := newHold()
			h.deaf = true
			n := start(t, Config{Slots: 4}, func(a *Agent) { Handle(a, "hold", h.run) })
			l := n.welcomed()
			l.send(dispatch(1, 7, "hold"))
			expectAll(t, "begun", h.jobs(), 1)
			l.send(dispatch(1, 8, "hold"), dispatch(1, 9, "hold"), dispatch(1, 6, "hold"))
			expect(t, "begun beside the older one", len(h.jobs()), 0)
			expectAll(t, "messages", l.kinds(), "ack", "ack", "ack")
			h.free <- nil
			expectAll(t, "begun after it", h.jobs(), 1)
			expect(t, "messages of the older one", len(l.all()), 0)
			h.free <- nil
			expect(t, "fence", l.result().Fence, 9)
			expect(t, "begun in the end", len(h.jobs()), 0)
		})
	})
	t.Run("a start is told after a second, and never of short work", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			h := newHold()
			n := start(t, Config{Slots: 2}, func(a *Agent) { Handle(a, "hold", h.run) })
			l := n.welcomed()
			l.send(dispatch(1, 7, "hold"))
			time.Sleep(900 * time.Millisecond)
			h.free <- nil
			expectAll(t, "short work", l.kinds(), "ack", "result")
			l.send(wire.Message{ResultAck: &wire.ResultAck{Job: 1, Fence: 7, Accepted: true}})
			l.send(dispatch(2, 8, "hold"))
			time.Sleep(1500 * time.Millisecond)
			msgs := l.all()
			if len(msgs) != 2 || msgs[1].Start == nil || msgs[1].Start.Job != 2 || msgs[1].Start.Running < 1000 {
				t.Fatalf("got %+v", msgs)
			}
			time.Sleep(10 * time.Second)
			expect(t, "told again", len(l.all()), 0)
		})
	})
}

func TestCancel(t *testing.T) {
	setup := func(t *testing.T) (*hold, *fakeLink) {
		h := newHold()
		n := start(t, Config{Slots: 1}, func(a *Agent) { Handle(a, "hold", h.run) })
		l := n.welcomed()
		l.send(dispatch(1, 7, "hold"), dispatch(2, 8, "hold"))
		expectAll(t, "begun", h.jobs(), 1)
		expectAll(t, "messages", l.kinds(), "ack", "ack")
		return h, l
	}
	cancel := func(id job.ID, fence job.Fence, drop bool) wire.Message {
		return wire.Message{Cancel: &wire.Cancel{Job: id, Fence: fence, Reason: "not needed", Drop: drop}}
	}
	t.Run("running work is told the cause and reported as cancelled", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			h, l := setup(t)
			l.send(cancel(1, 7, false))
			expectCause(t, h, ErrCancelled)
			r := l.result()
			expect(t, "outcome", r.Outcome, "cancelled")
			expect(t, "message", r.Error.Message, "the job was cancelled: not needed")
			expectAll(t, "next", h.jobs(), 2)
		})
	})
	t.Run("waiting work is reported as cancelled and never begins", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			h, l := setup(t)
			l.send(cancel(2, 8, false))
			expect(t, "outcome", l.result().Outcome, "cancelled")
			h.free <- nil
			expect(t, "begun", len(h.jobs()), 0)
		})
	})
	t.Run("dropped work is stopped and nothing is reported", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			h, l := setup(t)
			l.send(cancel(2, 8, true), cancel(1, 7, true))
			expectCause(t, h, ErrDropped)
			expect(t, "messages", len(l.all()), 0)
			expect(t, "begun", len(h.jobs()), 0)
			time.Sleep(testHeartbeat)
			expect(t, "held", len(l.lastHeartbeat().Held), 0)
		})
	})
	t.Run("an old fence cancels nothing", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			_, l := setup(t)
			l.send(cancel(1, 6, false), cancel(99, 7, false))
			expect(t, "messages", len(l.all()), 0)
		})
	})
}

func TestMiddleware(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var trace []string
		wrap := func(name string) Middleware {
			return func(next HandlerFunc) HandlerFunc {
				return func(ctx context.Context, j *RawJob) (any, error) {
					trace = append(trace, name+" before "+j.Type)
					out, err := next(ctx, j)
					trace = append(trace, name+" after")
					return fmt.Sprint(name, "(", out, ")"), err
				}
			}
		}
		n := start(t, Config{}, func(a *Agent) {
			a.Use(wrap("outer"), wrap("inner"))
			Handle(a, "t", func(context.Context, *Job[job.JSON]) (int, error) { return 1, nil })
		})
		l := n.welcomed()
		l.send(dispatch(1, 7, "t"))
		expect(t, "result", string(l.result().Result), `"outer(inner(1))"`)
		expectAll(t, "trace", trace, "outer before t", "inner before t", "inner after", "outer after")
	})
}
