package bench

import (
	"fmt"
	"maps"
	"sync"
	"sync/atomic"
	"time"
)

// counters is everything that a measurement counts. Fields that begin with "in"
// count only what fell into the measured time.
type counters struct {
	requests, acked, refused, unknown atomic.Int64
	inRequests, inAcked, inRecorded   atomic.Int64
	// started counts calls of the handler, again those that were not a job's first.
	started, again atomic.Int64
	// recorded results are those that an agent was told to be; untold those that it was
	// told to forget, which is the same unless the job is executed again.
	recorded, notAccepted  atomic.Int64
	untold                 atomic.Int64
	late, unsent, throttle atomic.Int64
	// firstStart and lastRecorded are times since the measurement's clock began.
	firstStart, lastRecorded atomic.Int64

	mu     sync.Mutex
	errors map[string]Trouble
}

// Trouble is one kind of failure.
type Trouble struct {
	Count int64 `json:"count"`
	// Example is the text of the first one.
	Example string `json:"example,omitempty"`
}

func newCounters() *counters { return &counters{errors: map[string]Trouble{}} }

// trouble counts a try that failed.
func (c *counters) trouble(kind string, example string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	t := c.errors[kind]
	t.Count++
	if t.Example == "" {
		t.Example = clip(example, 200)
	}
	c.errors[kind] = t
}

// troubles is a copy of what failed so far, and how much in all.
func (c *counters) troubles() (kinds map[string]Trouble, total int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, t := range c.errors {
		total += t.Count
	}
	return maps.Clone(c.errors), total
}

// span is the measured time, in nanoseconds since the clock of the measurement
// began. Both ends are zero until it has begun.
type span struct{ begin, end atomic.Int64 }

// set makes [begin, end) the measured time.
func (s *span) set(begin, end time.Duration) {
	s.end.Store(int64(end))
	s.begin.Store(int64(begin))
}

// cut ends it at t, when that is earlier.
func (s *span) cut(t time.Duration) {
	if int64(t) < s.end.Load() {
		s.end.Store(max(int64(t), s.begin.Load()))
	}
}

func (s *span) has(t time.Duration) bool {
	return int64(t) < s.end.Load() && int64(t) >= s.begin.Load()
}

func (s *span) length() time.Duration { return time.Duration(s.end.Load() - s.begin.Load()) }

// clip shortens a text to n bytes or a little more.
func clip(s string, n int) string {
	if len(s) <= n {
		return s
	}
	return fmt.Sprintf("%.*s…", n, s)
}
