package link

import (
	"bytes"
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/orrery-io/orrery/job"
)

func TestStream(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, a, b := pair(t)
		b.HandleStream("count", func(_ context.Context, _ string, body []byte, send func([]byte) error) error {
			for i := range 10_000 {
				if err := send(bytes.Repeat(body, i%100)); err != nil {
					return err
				}
			}
			return nil
		})
		b.HandleStream("fail", func(_ context.Context, from string, _ []byte, send func([]byte) error) error {
			if err := send([]byte(from)); err != nil {
				return err
			}
			return job.Errorf(job.Conflict, "enough", "that is enough")
		})
		b.HandleStream("panic", func(context.Context, string, []byte, func([]byte) error) error { panic("oh") })
		a.HandleStream("count", b.streams["count"])
		run(t, a)
		run(t, b)
		for _, node := range []string{"b", "a"} {
			i := 0
			for item, err := range a.Stream(t.Context(), node, "count", []byte("x")) {
				if err != nil || len(item) != i%100 {
					t.Fatalf("item %d of %s: %d bytes, %v", i, node, len(item), err)
				}
				i++
			}
			if i != 10_000 {
				t.Errorf("%d items of %s", i, node)
			}
		}
		i := 0
		for item, err := range a.Stream(t.Context(), "b", "fail", nil) {
			if i++; i == 1 && string(item) == "a" && err == nil {
				continue
			}
			wantCode(t, err, job.Conflict, "enough")
		}
		if i != 2 {
			t.Errorf("%d items of a stream that fails", i)
		}
		for _, bad := range []struct {
			node, method, code string
			kind               job.ErrorKind
		}{
			{"b", "panic", "panic", job.Internal},
			{"b", "what", "unknown_method", job.Invalid},
			{"a", "what", "unknown_method", job.Invalid},
			{"nobody", "count", "node_unreachable", job.Unavailable},
		} {
			for _, err := range a.Stream(t.Context(), bad.node, bad.method, nil) {
				wantCode(t, err, bad.kind, bad.code)
			}
		}
	})
}

// TestStream_slow reads one stream slowly and another not at all: nothing else is held
// up, and the handler is not far ahead of its reader.
func TestStream_slow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, a, b := pair(t)
		sent, ended := 0, error(nil)
		b.HandleStream("flood", func(_ context.Context, _ string, _ []byte, send func([]byte) error) error {
			for {
				if ended = send(make([]byte, 10_000)); ended != nil {
					return ended
				}
				sent++
			}
		})
		run(t, a)
		run(t, b)
		read := 0
		for _, err := range a.Stream(t.Context(), "b", "flood", nil) {
			if err != nil {
				t.Fatal(err)
			}
			read++
			synctest.Wait()
			if ahead := sent - read; ahead > 28 {
				t.Fatalf("the handler is %d items ahead", ahead)
			}
			if _, err := a.Call(t.Context(), "b", "echo", nil); err != nil {
				t.Fatal(err)
			}
			if read == 200 {
				break
			}
		}
		synctest.Wait()
		if !errors.Is(ended, context.Canceled) {
			t.Errorf("the handler was told %v", ended)
		}
	})
}

// TestStream_ends ends streams from either side while nothing comes.
func TestStream_ends(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, a, b := pair(t)
		open := 0
		b.HandleStream("silence", func(ctx context.Context, _ string, _ []byte, _ func([]byte) error) error {
			open++
			<-ctx.Done()
			open--
			return ctx.Err()
		})
		run(t, a)
		stop := run(t, b)
		ctx, cancel := context.WithTimeoutCause(t.Context(), time.Minute, errors.New("no more"))
		defer cancel()
		for _, err := range a.Stream(ctx, "b", "silence", nil) {
			if err == nil || err.Error() != "no more" {
				t.Errorf("got %v", err)
			}
		}
		synctest.Wait()
		if open != 0 {
			t.Error("the handler goes on")
		}
		got := make(chan error)
		go func() {
			for _, err := range a.Stream(t.Context(), "b", "silence", nil) {
				got <- err
			}
		}()
		synctest.Wait()
		stop()
		wantCode(t, <-got, job.Unavailable, "link_broken")
		if open != 0 {
			t.Error("the handler goes on")
		}
	})
}

// TestOverload has more requests under way than are allowed.
func TestOverload(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, a, b := pair(t, func(c *Config) { c.MaxRequests = 10; c.MaxRequestBytes = 10_000 })
		free := make(chan struct{})
		b.Handle("wait", func(context.Context, string, []byte) ([]byte, error) { <-free; return nil, nil })
		run(t, a)
		run(t, b)
		results := make(chan error, 20)
		for range 12 {
			go func() { _, err := a.Call(t.Context(), "b", "wait", nil); results <- err }()
		}
		for range 2 {
			wantCode(t, <-results, job.Overloaded, "node_overloaded")
		}
		for _, err := range a.Stream(t.Context(), "b", "echo", nil) {
			wantCode(t, err, job.Invalid, "unknown_method")
		}
		close(free)
		for range 10 {
			if err := <-results; err != nil {
				t.Error(err)
			}
		}
		free = make(chan struct{})
		for range 2 {
			go func() { _, err := a.Call(t.Context(), "b", "wait", make([]byte, 6000)); results <- err }()
		}
		wantCode(t, <-results, job.Overloaded, "node_overloaded")
		close(free)
		if err := <-results; err != nil {
			t.Error(err)
		}
		synctest.Wait()
		if n := b.sum(func(c *conn) int { return c.held + len(c.serving) }); n != 0 {
			t.Errorf("%d bytes and requests are still counted", n)
		}
	})
}
