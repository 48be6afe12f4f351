package link

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/orrery-io/orrery/job"
	"github.com/prometheus/client_golang/prometheus"
)

// valueOf reads a counter or gauge.
func valueOf(t *testing.T, c prometheus.Collector) float64 {
	t.Helper()
	reg := prometheus.NewRegistry()
	reg.MustRegister(c)
	families, err := reg.Gather()
	if err != nil || len(families) != 1 {
		t.Fatalf("%d metrics, %v", len(families), err)
	}
	m := families[0].GetMetric()[0]
	return m.GetCounter().GetValue() + m.GetGauge().GetValue()
}

// fuse is a connection that breaks when a number of bytes have been written.
type fuse struct {
	net.Conn

	left *atomic.Int64
}

func (c *fuse) Write(p []byte) (int, error) {
	if left := c.left.Add(-int64(len(p))); left < 0 {
		n, _ := c.Conn.Write(p[:max(0, len(p)+int(left))])
		_ = c.Close()
		return n, io.ErrClosedPipe
	}
	return c.Conn.Write(p)
}

// TestBroken breaks the connection after every number of bytes, in either direction.
// What a caller is told must be true, and messages arrive in order and once.
func TestBroken(t *testing.T) {
	for _, direction := range []string{"out", "back"} {
		for bytes := int64(0); bytes < 1200; bytes += 7 {
			t.Run(fmt.Sprintf("%s after %d bytes", direction, bytes), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) { breakAfter(t, direction == "out", bytes) })
			})
		}
	}
}

func breakAfter(t *testing.T, out bool, bytes int64) {
	n, a, b := pair(t, func(c *Config) { c.Beat = 100 * time.Millisecond })
	left := new(atomic.Int64)
	left.Store(bytes)
	n.wrap = func(_, _ string, x, y net.Conn) (net.Conn, net.Conn) {
		if out {
			x = &fuse{x, left}
		} else {
			y = &fuse{y, left}
		}
		return x, y
	}
	var mu sync.Mutex
	executed := map[string]int{}
	var notes []int
	b.Handle("do", func(_ context.Context, _ string, body []byte) ([]byte, error) {
		mu.Lock()
		defer mu.Unlock()
		executed[string(body)]++
		return body, nil
	})
	b.HandleSend("note", func(_ string, body []byte) {
		var i int
		_, _ = fmt.Sscan(string(body), &i)
		notes = append(notes, i)
	})
	b.HandleStream("count", func(_ context.Context, _ string, _ []byte, send func([]byte) error) error {
		for i := range 5 {
			if err := send(fmt.Append(nil, i)); err != nil {
				return err
			}
		}
		return nil
	})
	var states []string
	next := 0
	a.OnUp(func(string) {
		states = append(states, "up")
		for range 5 {
			a.Send("b", "note", fmt.Append(nil, next))
			next++
		}
	})
	a.OnDown(func(string) { states = append(states, "down") })
	run(t, a)
	run(t, b)
	a.Connect("b")
	var wg sync.WaitGroup
	for i := range 12 {
		wg.Go(func() {
			want := fmt.Sprint("call ", i)
			got, err := a.Call(t.Context(), "b", "do", []byte(want))
			mu.Lock()
			times := executed[want]
			mu.Unlock()
			switch {
			case times > 1:
				t.Errorf("%s was executed %d times", want, times)
			case err == nil && (times != 1 || string(got) != want):
				t.Errorf("%s was answered %q and executed %d times", want, got, times)
			case err == nil, errors.Is(err, job.ErrOutcomeUnknown):
			case times == 0:
				wantCode(t, err, job.Unavailable, "node_unreachable")
			default:
				t.Errorf("%s was executed, and the caller told %v", want, err)
			}
		})
	}
	seen, ended := 0, false
	for item, err := range a.Stream(t.Context(), "b", "count", nil) {
		switch {
		case err != nil:
			if job.KindOf(err) != job.Unavailable {
				t.Errorf("the stream ended with %v", err)
			}
			ended = true
		case string(item) != fmt.Sprint(seen):
			t.Errorf("got item %q, want %d", item, seen)
		default:
			seen++
		}
	}
	if !ended && seen != 5 {
		t.Errorf("the stream ended after %d items without an error", seen)
	}
	wg.Wait()
	// It comes back by itself.
	left.Store(1 << 40)
	time.Sleep(10 * time.Second)
	if got, err := a.Call(t.Context(), "b", "do", []byte("at last")); err != nil || string(got) != "at last" {
		t.Errorf("after it was mended: %q, %v", got, err)
	}
	synctest.Wait() // nothing is handled any more
	if !slices.IsSorted(notes) || len(slices.Compact(slices.Clone(notes))) != len(notes) {
		t.Errorf("got the messages %v", notes)
	}
	for i, s := range states {
		if want := [...]string{"up", "down"}[i%2]; s != want {
			t.Errorf("the link went %v", states)
			break
		}
	}
}

// TestSilence is about a node that vanishes without a word.
func TestSilence(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n, a, b := pair(t)
		gone := &valve{}
		n.wrap = func(_, _ string, x, y net.Conn) (net.Conn, net.Conn) { return x, gone.on(y) }
		run(t, a)
		run(t, b)
		a.Connect("b")
		synctest.Wait()
		time.Sleep(time.Hour) // an idle connection stays
		if n.dials != 1 {
			t.Fatalf("%d connections were made in an idle hour", n.dials)
		}
		gone.shut()
		began := time.Now()
		_, err := a.Call(t.Context(), "b", "echo", nil)
		if !errors.Is(err, job.ErrOutcomeUnknown) {
			t.Fatalf("got %v", err)
		}
		if took := time.Since(began); took > 4*time.Second {
			t.Errorf("it took %s to notice", took)
		}
		gone.open()
		if _, err := a.Call(t.Context(), "b", "echo", nil); err != nil {
			t.Errorf("afterwards: %v", err)
		}
	})
}

// TestContext is about callers who give up.
func TestContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n, a, b := pair(t)
		held := &valve{}
		n.wrap = func(_, _ string, x, y net.Conn) (net.Conn, net.Conn) { return held.on(x), y }
		var causes []error
		b.Handle("wait", func(ctx context.Context, _ string, _ []byte) ([]byte, error) {
			<-ctx.Done()
			causes = append(causes, ctx.Err())
			return nil, ctx.Err()
		})
		ran := false
		b.Handle("never", func(context.Context, string, []byte) ([]byte, error) { ran = true; return nil, nil })
		run(t, a)
		stop := run(t, b)
		short := func() context.Context {
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			t.Cleanup(cancel)
			return ctx
		}

		_, err := a.Call(short(), "b", "wait", nil)
		if !errors.Is(err, job.ErrOutcomeUnknown) || !errors.Is(err, context.DeadlineExceeded) {
			t.Fatalf("got %v for a request under way", err)
		}
		synctest.Wait()
		if len(causes) != 1 {
			t.Error("the handler was not told")
		}

		// In the queue, and not written: it is taken back.
		held.shut()
		a.Connect("b")
		go func() { _, _ = a.Call(t.Context(), "b", "echo", nil) }() // the writer holds this one
		synctest.Wait()
		_, err = a.Call(short(), "b", "never", nil)
		wantCode(t, err, job.Unavailable, "node_unreachable")
		held.open()
		synctest.Wait()
		if _, err := a.Call(t.Context(), "b", "echo", nil); err != nil || ran {
			t.Fatalf("a request that was taken back was handled: %v; afterwards: %v", ran, err)
		}

		// The node stops while a request is under way.
		result := make(chan error)
		go func() { _, err := a.Call(t.Context(), "b", "wait", nil); result <- err }()
		synctest.Wait()
		stop()
		if err := <-result; !errors.Is(err, job.ErrOutcomeUnknown) {
			t.Fatalf("got %v from a node that stopped", err)
		}
		if len(causes) != 2 {
			t.Error("the handler was not told that its node stops")
		}
		_, err = a.Call(short(), "b", "wait", nil)
		wantCode(t, err, job.Unavailable, "node_unreachable")
	})
}

// TestReconnect is about nodes that come later, or come and go.
func TestReconnect(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n, a, b := pair(t)
		n.cut = map[string]bool{"b": true}
		ups, downs := 0, 0
		a.OnUp(func(node string) {
			if !a.Connected(node) {
				t.Error("a link is up and not connected")
			}
			ups++
		})
		a.OnDown(func(string) { downs++ })
		run(t, a)
		run(t, b)
		a.Connect("b")
		time.Sleep(time.Minute)
		synctest.Wait()
		if n.dials < 25 || n.dials > 120 {
			t.Errorf("%d attempts in a minute", n.dials)
		}
		_, err := a.Call(t.Context(), "b", "echo", nil)
		wantCode(t, err, job.Unavailable, "node_unreachable")
		n.mu.Lock()
		n.cut = nil
		n.mu.Unlock()
		// A node that connects is there: a does not wait for its next attempt.
		if _, err := b.Call(t.Context(), "a", "nothing", nil); job.KindOf(err) != job.Invalid {
			t.Fatal(err)
		}
		time.Sleep(100 * time.Millisecond)
		synctest.Wait()
		if ups != 1 || downs != 0 {
			t.Fatalf("up %d times, down %d times", ups, downs)
		}
		a.Disconnect("b")
		synctest.Wait()
		if downs != 1 || a.Connected("b") {
			t.Fatalf("down %d times after Disconnect", downs)
		}
		before := n.dials
		time.Sleep(time.Minute)
		if n.dials != before {
			t.Error("a connection that is not wanted was made")
		}
		if _, err := a.Call(t.Context(), "b", "echo", nil); err != nil {
			t.Fatal(err)
		}
		// What only a call has asked for does not stay.
		time.Sleep(2 * time.Minute)
		synctest.Wait()
		if a.Connected("b") || ups != 2 || downs != 2 {
			t.Errorf("connected %v, up %d times, down %d times", a.Connected("b"), ups, downs)
		}
	})
}

// TestSuperseded is about a node that connects while its older connection still
// seems to be open.
func TestSuperseded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := new(network)
		b := n.mesh("b")
		var got []string
		b.HandleSend("note", func(_ string, body []byte) {
			time.Sleep(time.Second) // so that much waits
			got = append(got, string(body))
		})
		b.Handle("echo", func(_ context.Context, _ string, body []byte) ([]byte, error) { return body, nil })
		run(t, b)
		// Two meshes that say they are the same node: an old process and a new one.
		quiet := func(c *Config) { c.Silence = time.Hour }
		older, newer := n.mesh("a", quiet), n.mesh("a", quiet)
		run(t, older)
		run(t, newer)
		older.Connect("b")
		synctest.Wait()
		for i := range 100 {
			older.Send("b", "note", fmt.Append(nil, "old ", i))
		}
		time.Sleep(10 * time.Second)
		older.Disconnect("b")
		newer.Connect("b")
		time.Sleep(2 * time.Second)
		for i := range 100 {
			newer.Send("b", "note", fmt.Append(nil, "new ", i))
		}
		if _, err := newer.Call(t.Context(), "b", "echo", nil); err != nil {
			t.Fatal(err)
		}
		if len(got) < 110 || got[0] != "old 0" || got[len(got)-1] != "new 99" {
			t.Fatalf("got %q", got)
		}
		first := slices.Index(got, "new 0")
		if len(got)-first != 100 {
			t.Errorf("messages of the old connection came after those of the new one: %q", got)
		}
	})
}

func TestEpoch(t *testing.T) {
	e := newEpochs()
	first, second, other := e.next(), e.next(), newEpochs().next()
	got, err := parseEpoch(first.String())
	if err != nil || got != first {
		t.Errorf("got %v, %v, want %v", got, err, first)
	}
	if !first.before(second) || second.before(first) || first.before(first) || other.before(second) || first.before(other) {
		t.Error("the order of connections is wrong")
	}
	for _, bad := range []string{"", "x", "-1", "x-y", "x--1"} {
		if _, err := parseEpoch(bad); err == nil {
			t.Errorf("%q was taken", bad)
		}
	}
}
