package bench

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// fakeNode answers submissions inside a bubble of synctest, where time is exact.
type fakeNode struct {
	// answer says what becomes of the n-th request, counted from 1, after how long.
	answer func(n int) (status int, head, body string, after time.Duration)

	mu   sync.Mutex
	seen []seen
}

// seen is a request as it came.
type seen struct {
	at   time.Duration
	path string
	id   string
	jobs int
}

const created = `{"id":1}`

// load puts load on the node, and returns the measurement. Its clock is at zero
// when it begins.
func (f *fakeNode) load(t *testing.T, ctx context.Context, cfg Config) (*run, error) {
	t.Helper()
	cfg.Addrs = []string{"http://node"}
	r, err := newRun(cfg)
	if err != nil {
		t.Fatal(err)
	}
	var serving sync.WaitGroup
	r.watch = newWatcher(nil, "")
	r.sleep = time.Sleep
	r.dial = func(context.Context, target) (net.Conn, error) {
		ours, theirs := net.Pipe()
		serving.Go(func() { f.serve(theirs, r.now) })
		return ours, nil
	}
	err = r.load(ctx)
	serving.Wait()
	return r, err
}

func (f *fakeNode) serve(c net.Conn, now func() time.Duration) {
	defer c.Close()
	r := bufio.NewReader(c)
	for {
		req, err := http.ReadRequest(r)
		if err != nil {
			return
		}
		body, err := io.ReadAll(req.Body)
		if err != nil {
			return
		}
		f.mu.Lock()
		f.seen = append(f.seen, seen{now(), req.URL.Path, req.Header.Get("Orrery-Request-Id"), strings.Count(string(body), JobType)})
		n := len(f.seen)
		f.mu.Unlock()
		status, head, text, after := http.StatusCreated, "", created, time.Duration(0)
		if f.answer != nil {
			status, head, text, after = f.answer(n)
		}
		time.Sleep(after)
		if status == 0 {
			return // no answer
		}
		if _, err := fmt.Fprintf(c, "HTTP/1.1 %d x\r\n%sContent-Length: %d\r\n\r\n%s", status, head, len(text), text); err != nil {
			return
		}
	}
}

// stalls makes a node answer at once, but for one stall.
func stalls(nth int, d time.Duration) func(int) (int, string, string, time.Duration) {
	return func(n int) (int, string, string, time.Duration) {
		if n == nth {
			return http.StatusCreated, "", created, d
		}
		return http.StatusCreated, "", created, time.Millisecond
	}
}

// TestOpenLoop stalls the node for half of a measurement with one connection. In the
// open loop every request that was due meanwhile has waited, and shows it; in the
// closed loop only one has, and hides the rest.
func TestOpenLoop(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fakeNode{answer: stalls(200, time.Second)}
		r, err := f.load(t, t.Context(), Config{Mode: Submit, Connections: 1, Rate: 200, Duration: 2 * time.Second, Warmup: -1})
		if err != nil {
			t.Fatal(err)
		}
		// 199 requests took 1 ms. One was due at 995 ms, and was answered at 1995. Those
		// due at 1000 ms, 1005 ms... waited for it; as many are sent in the 5 ms that are
		// left, and those of the last 10 ms, which are not late.
		l := r.request.summary()
		if l.Count != 400 || l.P50 != millisOf(time.Millisecond) && l.P50 < 1 || !near(l.Max, 1000) {
			t.Errorf("latencies %+v", l)
		}
		if !near(l.P90, 800) || !near(l.P99, 980) {
			t.Errorf("P90 is %.1f ms, want about 800; P99 is %.1f, want about 980", l.P90, l.P99)
		}
		sent := int64(len(f.seen))
		if late := r.counters.late.Load(); late < 190 || late > 200 {
			t.Errorf("%d requests are late", late)
		}
		if unsent := r.counters.unsent.Load(); sent+unsent != 400 || r.counters.acked.Load() != sent {
			t.Errorf("%d requests were sent, %d were not, %d jobs are acknowledged; there were 400", sent, unsent, r.counters.acked.Load())
		}
	})
}

func TestClosedLoop(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fakeNode{answer: stalls(200, time.Second)}
		r, err := f.load(t, t.Context(), Config{Mode: Submit, Connections: 1, Duration: 2 * time.Second, Warmup: -1})
		if err != nil {
			t.Fatal(err)
		}
		l := r.request.summary()
		if !near(l.P99, 1) || !near(l.Max, 1000) {
			t.Errorf("latencies %+v", l)
		}
		if n := int64(len(f.seen)); r.counters.acked.Load() != n || l.Count != n || n < 1000 {
			t.Errorf("%d requests, %d acknowledged, %d latencies", n, r.counters.acked.Load(), l.Count)
		}
	})
}

// TestPace takes the times at which requests arrive: an open loop has a plan, and
// doesn't drift from it.
func TestPace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fakeNode{answer: stalls(0, 0)}
		_, err := f.load(t, t.Context(), Config{Mode: Submit, Connections: 4, Rate: 300, Batch: 3, Duration: time.Second, Warmup: time.Second})
		if err == nil || !strings.Contains(err.Error(), "answered for") {
			t.Fatalf("an answer that isn't one to a batch: %v", err)
		}
	})
	synctest.Test(t, func(t *testing.T) {
		f := &fakeNode{answer: func(int) (int, string, string, time.Duration) {
			return http.StatusOK, "", `{"items":[],"accepted":2,"refused":1}`, time.Millisecond
		}}
		r, err := f.load(t, t.Context(), Config{Mode: Submit, Connections: 4, Rate: 300, Batch: 3, Duration: time.Second, Warmup: time.Second})
		if err != nil {
			t.Fatal(err)
		}
		for i, s := range f.seen {
			if want := time.Duration(i) * 10 * time.Millisecond; s.at != want || s.jobs != 3 || s.path != "/v1/jobs/batch" {
				t.Fatalf("request %d of %d jobs came to %s at %s, want %s", i, s.jobs, s.path, s.at, want)
			}
		}
		c := r.counters
		if len(f.seen) != 200 || c.acked.Load() != 400 || c.inAcked.Load() != 200 || c.refused.Load() != 200 || r.request.summary().Count != 100 {
			t.Errorf("%d requests, %d jobs acknowledged, %d of them after the warm-up, %d refused, %d latencies",
				len(f.seen), c.acked.Load(), c.inAcked.Load(), c.refused.Load(), r.request.summary().Count)
		}
	})
}

// TestTries has the node fail once, each time in another way, and looks at what comes
// of it and when the second try comes.
func TestTries(t *testing.T) {
	const problem = `{"code":"overloaded","detail":"slower"}`
	for _, tt := range []struct {
		name   string
		status int
		head   string
		// kind is what is counted, from and to when the second try may come.
		kind     string
		from, to time.Duration
	}{
		{"too many requests are sent again when the node says", 429, "Retry-After: 2\r\n", "429 overloaded", 2 * time.Second, 3 * time.Second},
		{"too many requests without a time", 429, "", "429 overloaded", 100 * time.Millisecond, 150 * time.Millisecond},
		{"no leader", 503, "", "503 overloaded", retryPause, retryPause},
		{"an unknown outcome", 504, "", "504 overloaded", retryPause, retryPause},
		{"a lost connection", 0, "", "connection lost", retryPause, retryPause},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := &fakeNode{answer: func(n int) (int, string, string, time.Duration) {
					if n == 1 {
						return tt.status, tt.head, problem, 0
					}
					return http.StatusCreated, "", created, 0
				}}
				r, err := f.load(t, t.Context(), Config{Mode: Submit, Connections: 1, Jobs: 1})
				if err != nil || len(f.seen) != 2 {
					t.Fatalf("%d requests, %v", len(f.seen), err)
				}
				if f.seen[0].id != f.seen[1].id || f.seen[0].id == "" {
					t.Errorf("the tries have the ids %q and %q", f.seen[0].id, f.seen[1].id)
				}
				if at := f.seen[1].at; at < tt.from || at > tt.to {
					t.Errorf("the second try came after %s", at)
				}
				kinds, total := r.counters.troubles()
				if total != 1 || kinds[tt.kind].Count != 1 || (r.counters.throttle.Load() == 1) != (tt.status == 429) {
					t.Errorf("counted %v", kinds)
				}
				if l := r.request.summary(); l.Count != 1 || !near(l.Max, millisOf(f.seen[1].at)) {
					t.Errorf("the latency does not count from the first try: %+v", l)
				}
			})
		})
	}
}

// TestGivenUp never gets an answer: what became of the jobs is not known, and that is
// what must be said.
func TestGivenUp(t *testing.T) {
	for _, tt := range []struct {
		status           int
		unknown, refused int64
	}{{0, 1, 0}, {504, 1, 0}, {503, 0, 1}, {429, 0, 1}} {
		synctest.Test(t, func(t *testing.T) {
			f := &fakeNode{answer: func(int) (int, string, string, time.Duration) { return tt.status, "", "{}", 0 }}
			r, err := f.load(t, t.Context(), Config{Mode: Submit, Connections: 1, Jobs: 1})
			c := r.counters
			if err != nil || c.acked.Load() != 0 || c.unknown.Load() != tt.unknown || c.refused.Load() != tt.refused {
				t.Errorf("status %d: %d unknown, %d refused, %d acknowledged, %v", tt.status, c.unknown.Load(), c.refused.Load(), c.acked.Load(), err)
			}
			if last := f.seen[len(f.seen)-1].at; last > giveUpAfter || last < giveUpAfter/2 {
				t.Errorf("status %d: the last try came after %s", tt.status, last)
			}
		})
	}
}

func TestRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fakeNode{answer: func(int) (int, string, string, time.Duration) {
			return http.StatusUnauthorized, "", `{"detail":"no token"}`, 0
		}}
		_, err := f.load(t, t.Context(), Config{Mode: Submit, Connections: 3, Duration: time.Hour})
		if !errors.Is(err, errRefused) || !strings.Contains(err.Error(), "no token") {
			t.Errorf("the error is %v", err)
		}
	})
}

// TestLoadEnds cancels loads that wait: for the next time, for a node that is
// overloaded, for room. What is on its way is waited for.
func TestLoadEnds(t *testing.T) {
	why := errors.New("Ctrl-C")
	slow := func(int) (int, string, string, time.Duration) {
		return http.StatusCreated, "", created, 500 * time.Millisecond
	}
	for _, tt := range []struct {
		name   string
		cfg    Config
		answer func(int) (int, string, string, time.Duration)
		acked  int64
	}{
		{"an open loop that is slow", Config{Mode: Submit, Connections: 2, Rate: 0.001, Duration: time.Hour}, slow, 1},
		{"a closed loop", Config{Mode: Submit, Connections: 2, Duration: time.Hour}, slow, 20},
		{"an overloaded node", Config{Mode: Submit, Connections: 2, Duration: time.Hour}, func(int) (int, string, string, time.Duration) {
			return 429, "Retry-After: 60\r\n", "", 0
		}, 0},
		{"nothing is recorded", Config{Mode: EndToEnd, Connections: 2, Batch: 1, InFlight: 5, Duration: time.Hour}, slow, 5},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ctx, cancel := context.WithCancelCause(t.Context())
				time.AfterFunc(4750*time.Millisecond, func() { cancel(why) })
				f := &fakeNode{answer: tt.answer}
				r, err := f.load(t, ctx, tt.cfg)
				if !errors.Is(err, why) {
					t.Errorf("the error is %v", err)
				}
				if r.now() > 6*time.Second || r.counters.acked.Load() != tt.acked {
					t.Errorf("ended after %s with %d jobs acknowledged, want %d", r.now(), r.counters.acked.Load(), tt.acked)
				}
			})
		})
	}
}

// TestWindow lets jobs in only as others are recorded.
func TestWindow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWindow(3)
		if !w.enter(2) {
			t.Fatal("no room in an empty window")
		}
		in := make(chan bool, 1)
		go func() { in <- w.enter(2) }()
		synctest.Wait()
		if len(in) != 0 {
			t.Fatal("four jobs are in a window for three")
		}
		w.leave(1)
		if !<-in {
			t.Fatal("refused")
		}
		go func() { in <- w.enter(3) }()
		ctx, cancel := context.WithCancel(t.Context())
		defer w.shutWith(ctx)()
		cancel()
		if <-in {
			t.Error("let in after the end")
		}
	})
}

func millisOf(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

// near reports whether two numbers of milliseconds are equal but for 2%, or 3 ms, of
// which a histogram takes the smallest part.
func near(got, want float64) bool {
	d := got - want
	return d <= max(want*0.02, 3) && -d <= max(want*0.02, 3)
}
