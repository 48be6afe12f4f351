package agent

import (
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/orrery-io/orrery/wire"
)

func TestLease(t *testing.T) {
	t.Run("heartbeats list what is held", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			h := newHold()
			n := start(t, Config{Slots: 1, Gauges: func() map[string]float64 { return map[string]float64{"cpu": 0.5} }}, func(a *Agent) { Handle(a, "hold", h.run) })
			l := n.welcomed()
			time.Sleep(testHeartbeat - time.Second)
			l.send(dispatch(1, 10, "hold"), dispatch(2, 11, "hold"))
			time.Sleep(time.Second + time.Millisecond)
			hb := l.lastHeartbeat()
			expect(t, "held", len(hb.Held), 2)
			for _, held := range hb.Held {
				expect(t, "waiting", held.Waiting, held.Job == 2)
			}
			time.Sleep(9 * testHeartbeat)
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
			n.answerWith(errors.New("no route"))
			cause := <-h.ends
			if !errors.Is(cause, ErrLeaseLost) {
				t.Fatalf("cause: %v", cause)
			}
			if after := time.Since(welcomed); after < testLease-testMargin || after > testLease-testMargin+tickEvery {
				t.Errorf("told after %s", after)
			}
			expect(t, "what waited has begun", len(h.jobs()), 0)
			n.answerWith(nil)

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
			n.answerWith(errors.New("no route"))
			l.cut()
			time.Sleep(2 * testLease)
			n.answerWith(nil)
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
			n.answerWith(errors.New("no route"))
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
