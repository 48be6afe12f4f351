package agent

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/orrery-io/orrery/job"
	"github.com/orrery-io/orrery/wire"
)

func ack(id job.ID, fence job.Fence) wire.Message {
	return wire.Message{ResultAck: &wire.ResultAck{Job: id, Fence: fence, Accepted: true}}
}

func TestReconnect(t *testing.T) {
	t.Run("what is held is told, and results go out again until they are acknowledged", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			h := newHold()
			n := start(t, Config{Slots: 2}, func(a *Agent) { Handle(a, "hold", h.run) })
			l := n.welcomed()
			l.send(dispatch(1, 10, "hold"), dispatch(2, 11, "hold"), dispatch(3, 12, "hold"))
			expect(t, "running", len(h.jobs()), 2)
			h.free <- nil // one of them; its result goes out and is not acknowledged
			sent := l.result()
			expectAll(t, "begun", h.jobs(), 3)
			l.cut()

			l2, hello := n.next()
			expect(t, "outbox", fmt.Sprint(hello.Outbox), fmt.Sprintf("[{%d %d false}]", sent.Job, sent.Fence))
			expect(t, "held", len(hello.Held), 2)
			expect(t, "the handlers were told to stop", len(h.ends), 0)
			h.free <- nil // ends before the welcome
			expect(t, "messages before the welcome", len(l2.all()), 0)
			l2.send(wire.Message{Welcome: welcome()})
			expectAll(t, "messages after it", l2.kinds(), "result", "result")
			l2.send(ack(sent.Job, sent.Fence))
			h.free <- nil
			expectAll(t, "the last", l2.kinds(), "result")
			l2.cut()

			_, hello = n.next()
			expect(t, "held in the end", len(hello.Held), 0)
			expect(t, "outbox in the end", len(hello.Outbox), 2)
		})
	})
	t.Run("what the welcome drops is stopped and not reported", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			h := newHold()
			n := start(t, Config{Slots: 2}, func(a *Agent) { Handle(a, "hold", h.run) })
			l := n.welcomed()
			l.send(dispatch(1, 10, "hold"), dispatch(2, 11, "hold"), dispatch(3, 12, "hold"))
			synctest.Wait()
			h.free <- nil
			done := l.result()
			l.cut()
			l2, hello := n.next()
			w := welcome()
			w.Drop = append(hello.Held, hello.Outbox...)
			l2.send(wire.Message{Welcome: w})
			expectCause(t, h, ErrDropped)
			expectCause(t, h, ErrDropped)
			expect(t, "messages", len(l2.all()), 0)
			l2.send(ack(done.Job, done.Fence)) // comes too late and changes nothing
			time.Sleep(testHeartbeat)
			expect(t, "held", len(l2.lastHeartbeat().Held), 0)
		})
	})
	t.Run("a result without an answer is sent again on the same connection", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			h := newHold()
			n := start(t, Config{}, func(a *Agent) { Handle(a, "hold", h.run) })
			l := n.welcomed()
			l.send(dispatch(1, 10, "hold"))
			synctest.Wait()
			h.free <- nil
			expectAll(t, "messages", l.kinds(), "ack", "result")
			time.Sleep(testHeartbeat)
			expect(t, "listed", len(l.lastHeartbeat().Held), 1)
			time.Sleep(2 * testHeartbeat)
			expectAll(t, "messages", l.kinds(), "result")
			l.send(ack(1, 10))
			time.Sleep(5 * testHeartbeat)
			expect(t, "after the answer", len(l.all()), 0)
		})
	})
	t.Run("a new leader's welcome on the same connection gets results and starts again", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			h := newHold()
			n := start(t, Config{Slots: 2}, func(a *Agent) { Handle(a, "hold", h.run) })
			l := n.welcomed()
			l.send(dispatch(1, 10, "hold"), dispatch(2, 11, "hold"), dispatch(3, 12, "hold"))
			synctest.Wait()
			h.free <- nil
			time.Sleep(1100 * time.Millisecond)
			expectAll(t, "messages", l.kinds(), "ack", "ack", "ack", "result", "start", "start")
			w := welcome()
			w.Drop = []wire.Held{{Job: 3, Fence: 12}}
			l.send(wire.Message{Welcome: w})
			expectCause(t, h, ErrDropped)
			time.Sleep(time.Second)
			// They are about different jobs, and nothing promises their order.
			expectAll(t, "messages", slices.Sorted(slices.Values(l.kinds())), "result", "start")
		})
	})
	t.Run("addresses are tried in turn, those learnt from nodes too", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			n := start(t, Config{Addrs: []string{"two:1", "https://three/base/"}}, func(*Agent) {})
			seen := map[string]int{}
			for range 3 {
				l, _ := n.next()
				seen[l.addr]++
				l.cut()
			}
			for _, addr := range []string{"http://one", "http://two:1", "https://three/base"} {
				expect(t, addr, seen[addr], 1)
			}
			l, _ := n.next()
			w := welcome()
			w.Nodes = []string{"http://four", "http://one", "::bad::", "ftp://five"}
			l.send(wire.Message{Welcome: w})
			l.send(wire.Message{Bye: &wire.Bye{Reason: "moving", Reconnect: true}})
			for range 4 {
				l, _ := n.next()
				seen[l.addr]++
				l.cut()
			}
			expect(t, "tries of the learnt one", seen["http://four"], 1)
			expect(t, "addresses", len(seen), 4)
		})
	})
	t.Run("pauses grow with jitter, and are short again after a steady session", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			n := start(t, Config{}, func(*Agent) {})
			n.answerWith(errors.New("no route"))
			time.Sleep(10 * time.Minute)
			for len(n.links) > 0 {
				<-n.links // the agent may have been faster than the refusal
			}
			n.answerWith(nil)
			l := n.welcomed()
			tries := n.attempts()
			longest := time.Duration(0)
			for i := 2; i < len(tries); i++ {
				pause := tries[i].Sub(tries[i-1])
				longest = max(longest, pause)
				if pause < minBackoff || pause > maxBackoff {
					t.Fatalf("pause %d is %s", i, pause)
				}
			}
			if longest < time.Second {
				t.Errorf("the longest of the pauses is %s", longest)
			}
			time.Sleep(steady)
			l.cut()
			began := time.Now()
			n.next()
			if pause := time.Since(began); pause > 3*minBackoff {
				t.Errorf("the pause after a steady session is %s", pause)
			}
		})
	})
	t.Run("a node that takes no notice of the hello is left for another", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			n := start(t, Config{}, func(*Agent) {})
			n.next()
			n.next()
		})
	})
	t.Run("a node that no longer answers heartbeats is left while the lease still holds", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			h := newHold()
			n := start(t, Config{}, func(a *Agent) { Handle(a, "hold", h.run) })
			l := n.welcomed()
			l.send(dispatch(1, 10, "hold"))
			expect(t, "running", len(h.jobs()), 1)
			l.silence(true)
			_, hello := n.next()
			expect(t, "held", len(hello.Held), 1)
			expect(t, "told to stop", len(h.ends), 0)
		})
	})
}

func TestRefusal(t *testing.T) {
	for _, tt := range []struct {
		name string
		fail func(*fakeNode)
	}{
		{"instead of a welcome", func(n *fakeNode) {
			l, _ := n.next()
			l.send(wire.Message{Error: &wire.Error{Code: "protocol", Message: "too old", Fatal: true}})
		}},
		{"later", func(n *fakeNode) {
			l := n.welcomed()
			l.send(wire.Message{Error: &wire.Error{Code: "protocol", Message: "too old", Fatal: true}})
		}},
	} {
		t.Run("an error that is final ends Run, "+tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				n := start(t, Config{}, func(*Agent) {})
				tt.fail(n)
				err := n.wait()
				refused, ok := errors.AsType[*RefusedError](err)
				if !ok || refused.Code != "protocol" || !strings.Contains(err.Error(), "http://one refuses the agent: too old") {
					t.Fatalf("Run returned %v", err)
				}
			})
		})
	}
	t.Run("an error that isn't final doesn't", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			n := start(t, Config{}, func(*Agent) {})
			l := n.welcomed()
			l.send(wire.Message{Error: &wire.Error{Code: "replaced", Message: "connected twice"}})
			n.welcomed()
		})
	})
}
