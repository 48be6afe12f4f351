package agent

import (
	"context"
	"errors"
	"fmt"
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
			expectAll(t, "messages", l.kinds(), "start", "result")
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
			var tries []time.Time
			n := start(t, Config{}, func(a *Agent) {})
			n.refuse = func(string) error {
				tries = append(tries, time.Now())
				if len(tries) <= 60 {
					return errors.New("no route")
				}
				return nil
			}
			l := n.welcomed()
			longest := time.Duration(0)
			for i := 2; i < len(tries); i++ {
				pause := tries[i].Sub(tries[i-1])
				longest = max(longest, pause)
				if pause < minBackoff || pause > maxBackoff {
					t.Fatalf("pause %d is %s", i, pause)
				}
			}
			if longest < time.Second {
				t.Errorf("the longest of 60 pauses is %s", longest)
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

func TestLease(t *testing.T) {
	t.Run("heartbeats list what is held", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			h := newHold()
			n := start(t, Config{Slots: 1, Gauges: func() map[string]float64 { return map[string]float64{"cpu": 0.5} }}, func(a *Agent) { Handle(a, "hold", h.run) })
			l := n.welcomed()
			l.send(dispatch(1, 10, "hold"), dispatch(2, 11, "hold"))
			time.Sleep(10 * testHeartbeat)
			hb := l.lastHeartbeat()
			expect(t, "held", len(hb.Held), 2)
			for _, held := range hb.Held {
				expect(t, "waiting", held.Waiting, held.Job == 2)
			}
			expect(t, "gauge", hb.Gauges["cpu"], 0.5)
			l.mu.Lock()
			defer l.mu.Unlock()
			if got := len(l.heartbeats); got < 9 || got > 11 {
				t.Errorf("%d heartbeats in ten times their distance", got)
			}
		})
	})
	t.Run("without an answer, work is told to stop before the lease ends", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			h := newHold()
			n := start(t, Config{Slots: 1}, func(a *Agent) { Handle(a, "hold", h.run) })
			l := n.welcomed()
			welcomed := time.Now()
			l.send(dispatch(1, 10, "hold"), dispatch(2, 11, "hold"))
			expectAll(t, "begun", h.jobs(), 1)
			l.cut()
			n.refuse = func(string) error { return errors.New("no route") }
			cause := <-h.ends
			if !errors.Is(cause, ErrLeaseLost) {
				t.Fatalf("cause: %v", cause)
			}
			if after := time.Since(welcomed); after < testLease-testMargin || after > testLease-testMargin+tickEvery {
				t.Errorf("told after %s", after)
			}
			expect(t, "what waited has begun", len(h.jobs()), 0)
			n.refuse = nil

			// The one that was stopped is gone; the other is still there and begins
			// once the node has said that it is ours.
			l2, hello := n.next()
			expect(t, "held", fmt.Sprint(hello.Held), "[{2 11 true}]")
			expect(t, "begun before the welcome", len(h.jobs()), 0)
			l2.send(wire.Message{Welcome: welcome()})
			expectAll(t, "begun after it", h.jobs(), 2)
		})
	})
	t.Run("work that ends in spite of a lost lease is reported, for the fence to decide", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			h := newHold()
			h.deaf = true
			n := start(t, Config{Slots: 1}, func(a *Agent) { Handle(a, "hold", h.run) })
			l := n.welcomed()
			l.send(dispatch(1, 10, "hold"))
			synctest.Wait()
			n.refuse = func(string) error { return errors.New("no route") }
			l.cut()
			time.Sleep(2 * testLease)
			n.refuse = nil
			l2, hello := n.next()
			expect(t, "held while it runs", len(hello.Held), 1)
			l2.send(wire.Message{Welcome: welcome()})
			h.free <- nil
			expect(t, "outcome", l2.result().Outcome, "completed")
		})
	})
	t.Run("an answer renews from when the heartbeat was sent", func(t *testing.T) {
		var l lease
		t0 := time.Now()
		at := func(s int) time.Time { return t0.Add(time.Duration(s) * time.Second) }
		expect(t, "valid before a welcome", l.valid(0, t0), false)
		l.renew(testLease, testMargin, testHeartbeat, t0)
		expect(t, "valid", l.valid(0, at(11)), true)
		expect(t, "valid at the end", l.valid(0, at(12)), false)
		first := l.send(at(5))
		second := l.send(at(10))
		l.answered(first)
		expect(t, "end after the first answer", l.until(0), at(17))
		l.answered(first - 100)
		expect(t, "end after a wrong answer", l.until(0), at(17))
		l.answered(second)
		expect(t, "end after the second answer", l.until(0), at(22))
		expect(t, "end of a longer lease", l.until(time.Minute), at(10+57))
		expect(t, "end of a shorter lease", l.until(time.Second), at(22))
		late := l.send(at(15))
		l.again(testLease, testMargin, testHeartbeat)
		l.answered(late)
		expect(t, "end after an old leader's answer", l.until(0), at(22))
		l.renew(testLease, testMargin, testHeartbeat, at(1))
		expect(t, "end after an older hello", l.until(0), at(22))
	})
	t.Run("a job's longer lease is honoured", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			h := newHold()
			n := start(t, Config{Slots: 2}, func(a *Agent) { Handle(a, "hold", h.run) })
			l := n.welcomed()
			began := time.Now()
			l.send(dispatch(1, 10, "hold"), dispatch(2, 11, "hold", func(d *wire.Dispatch) { d.Lease = time.Minute.Milliseconds() }))
			synctest.Wait()
			n.refuse = func(string) error { return errors.New("no route") }
			l.cut()
			<-h.ends
			if after := time.Since(began); after > testLease {
				t.Errorf("the ordinary one was told after %s", after)
			}
			<-h.ends
			if after := time.Since(began); after < 50*time.Second || after > time.Minute {
				t.Errorf("the one with the longer lease was told after %s", after)
			}
		})
	})
	t.Run("after a pause of the process nothing begins before the leader has answered", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			h := newHold()
			n := start(t, Config{Slots: 1}, func(a *Agent) { Handle(a, "hold", h.run) })
			l := n.welcomed()
			l.send(dispatch(1, 10, "hold"), dispatch(2, 11, "hold"), dispatch(3, 12, "hold"))
			expectAll(t, "begun", h.jobs(), 1)
			l.silence(true)

			// The clock jumps; then the handler, the queue and the reader are all
			// free to go on.
			b := n.agent.bench
			b.mu.Lock()
			b.now = func() time.Time { return time.Now().Add(time.Minute) }
			b.mu.Unlock()
			l.send(dispatch(4, 13, "hold"))
			h.free <- nil
			expect(t, "begun with a lease that has ended", len(h.jobs()), 0)

			time.Sleep(tickEvery)
			hb := l.lastHeartbeat()
			l.send(wire.Message{Beat: &wire.Beat{Seq: hb.Seq, Drop: []wire.Held{{Job: 2, Fence: 11}}}})
			expectAll(t, "begun after the answer", h.jobs(), 3)
		})
	})
	t.Run("after a pause of the process running work is told to stop", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			h := newHold()
			n := start(t, Config{Slots: 1}, func(a *Agent) { Handle(a, "hold", h.run) })
			l := n.welcomed()
			l.send(dispatch(1, 10, "hold"))
			synctest.Wait()
			l.silence(true)
			b := n.agent.bench
			b.mu.Lock()
			b.now = func() time.Time { return time.Now().Add(time.Minute) }
			b.mu.Unlock()
			time.Sleep(tickEvery)
			expectCause(t, h, ErrLeaseLost)
			for _, m := range l.all() {
				if m.Result != nil {
					t.Errorf("it was reported: %+v", m.Result)
				}
			}
		})
	})
	t.Run("a beat drops what another agent has", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			h := newHold()
			n := start(t, Config{Slots: 1}, func(a *Agent) { Handle(a, "hold", h.run) })
			l := n.welcomed()
			l.send(dispatch(1, 10, "hold"), dispatch(2, 11, "hold"))
			synctest.Wait()
			l.send(wire.Message{Beat: &wire.Beat{Drop: []wire.Held{{Job: 1, Fence: 10}, {Job: 9, Fence: 9}}}})
			expectCause(t, h, ErrDropped)
			expectAll(t, "messages", l.kinds(), "ack", "ack")
			expectAll(t, "begun", h.jobs(), 1, 2)
		})
	})
}

func TestDrain(t *testing.T) {
	setup := func(t *testing.T, cfg Config) (*hold, *fakeNode, *fakeLink) {
		h := newHold()
		cfg.Slots = 1
		n := start(t, cfg, func(a *Agent) { Handle(a, "hold", h.run) })
		l := n.welcomed()
		l.send(dispatch(1, 10, "hold"), dispatch(2, 11, "hold"))
		expectAll(t, "messages", l.kinds(), "ack", "ack")
		expectAll(t, "begun", h.jobs(), 1)
		return h, n, l
	}
	t.Run("what waits is handed back, what runs is finished, then goodbye", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			h, n, l := setup(t, Config{})
			n.stop()
			msgs := l.all()
			if len(msgs) != 2 || msgs[0].Drain == nil || msgs[1].Reject == nil || msgs[1].Reject.Job != 2 {
				t.Fatalf("got %+v", msgs)
			}
			l.send(dispatch(3, 12, "hold")) // crossed the drain
			expectAll(t, "messages", l.kinds(), "reject")
			h.free <- nil
			expect(t, "outcome", l.result().Outcome, "completed")
			time.Sleep(time.Second)
			expect(t, "left before the acknowledgement", len(n.ended), 0)
			l.send(ack(1, 10))
			expect(t, "Run", n.wait(), nil)
			expectAll(t, "last words", l.kinds(), "bye")
			expect(t, "held at last", len(l.lastHeartbeat().Held), 0)
			expect(t, "closed in order", l.leftInPeace, true)
			expect(t, "connections", len(n.links), 0)
		})
	})
	t.Run("what takes too long is told to stop and not reported", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			h, n, l := setup(t, Config{DrainTimeout: 7 * time.Second})
			began := time.Now()
			n.stop()
			expect(t, "Run", n.wait(), nil)
			expect(t, "after", time.Since(began), 7*time.Second)
			expectCause(t, h, ErrStopped)
			expectAll(t, "messages", l.kinds(), "drain", "reject", "start", "bye")
			expect(t, "held at last", len(l.lastHeartbeat().Held), 0)
		})
	})
	t.Run("a handler that doesn't listen is left behind", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			h, n, l := setup(t, Config{DrainTimeout: -1})
			h.deaf = true
			// Another one, because the first looks at its context.
			h.free <- nil
			l.result()
			l.send(ack(1, 10))
			expectAll(t, "begun", h.jobs(), 2)
			n.stop()
			expect(t, "Run", n.wait(), nil)
			expect(t, "held at last", len(l.lastHeartbeat().Held), 1)
			h.free <- nil
		})
	})
	t.Run("draining goes on over a new connection", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			h, n, l := setup(t, Config{})
			n.stop()
			l.all()
			l.cut()
			l2, hello := n.next()
			expect(t, "draining", hello.Draining, true)
			expect(t, "held", len(hello.Held), 1)
			l2.send(wire.Message{Welcome: welcome()})
			synctest.Wait()
			h.free <- nil
			l2.result()
			l2.send(ack(1, 10))
			expect(t, "Run", n.wait(), nil)
		})
	})
	t.Run("without a connection and without work it ends at once", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			n := start(t, Config{}, func(*Agent) {})
			l := n.welcomed()
			n.refuse = func(string) error { return errors.New("no route") }
			l.cut()
			synctest.Wait()
			n.stop()
			began := time.Now()
			expect(t, "Run", n.wait(), nil)
			expect(t, "after", time.Since(began), 0)
		})
	})
	t.Run("a node can ask for it", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			h, n, l := setup(t, Config{})
			l.send(wire.Message{Drain: &wire.Drain{Reason: "maintenance"}})
			expectAll(t, "messages", l.kinds(), "drain", "reject")
			h.free <- nil
			l.result()
			l.send(ack(1, 10))
			expect(t, "Run", n.wait(), nil)
		})
	})
	t.Run("Close doesn't wait for the work", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			h, n, l := setup(t, Config{})
			n.stop()
			synctest.Wait()
			if err := n.agent.Close(); err != nil {
				t.Fatal(err)
			}
			expectCause(t, h, ErrStopped)
			expect(t, "Run", n.wait(), nil)
			expectAll(t, "messages", l.kinds(), "drain", "reject", "bye")
		})
	})
	t.Run("Run after Close or a second time is refused", func(t *testing.T) {
		a, err := New(Config{Addrs: []string{"x"}})
		if err != nil {
			t.Fatal(err)
		}
		if err := a.Close(); err != nil {
			t.Fatal(err)
		}
		if a.Run(context.Background()) == nil { //nolint:usetesting // it doesn't run
			t.Error("Run after Close returned nil")
		}
	})
}
