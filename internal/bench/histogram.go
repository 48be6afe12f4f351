package bench

import (
	"sync"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
)

// Bounds of what a histogram holds, and its precision: three digits of every
// value. What is longer is counted as the longest.
const (
	shortest = time.Microsecond
	longest  = time.Hour
	digits   = 3
)

// latencies gathers one kind of latency from many goroutines.
type latencies struct {
	name   string
	shards []shard
}

type shard struct {
	mu sync.Mutex
	h  *hdrhistogram.Histogram
	_  [40]byte // a cache line for each
}

func newHistogram() *hdrhistogram.Histogram {
	return hdrhistogram.New(int64(shortest), int64(longest), digits)
}

// newLatencies has several shards, so that those who record seldom wait for each
// other.
func newLatencies(name string) *latencies {
	l := &latencies{name: name, shards: make([]shard, 8)}
	for i := range l.shards {
		l.shards[i].h = newHistogram()
	}
	return l
}

// add records a latency. Goroutines that pass different numbers seldom meet.
func (l *latencies) add(i int, d time.Duration) { l.addN(i, d, 1) }

func (l *latencies) addN(i int, d time.Duration, n int64) {
	s := &l.shards[i%len(l.shards)]
	s.mu.Lock()
	defer s.mu.Unlock()
	// It cannot be out of range.
	_ = s.h.RecordValues(int64(min(max(d, 0), longest)), n)
}

// merged is everything recorded so far.
func (l *latencies) merged() *hdrhistogram.Histogram {
	all := newHistogram()
	for i := range l.shards {
		s := &l.shards[i]
		s.mu.Lock()
		all.Merge(s.h)
		s.mu.Unlock()
	}
	return all
}

// Percentiles are what became of one kind of latency, in milliseconds.
type Percentiles struct {
	// Name is request, start or recorded: until the answer to the submission, until
	// the handler was called, until the result was recorded.
	Name  string  `json:"name"`
	Count int64   `json:"count"`
	Mean  float64 `json:"mean_ms"`
	P50   float64 `json:"p50_ms"`
	P90   float64 `json:"p90_ms"`
	P99   float64 `json:"p99_ms"`
	P999  float64 `json:"p99_9_ms"`
	Max   float64 `json:"max_ms"`
}

func (l *latencies) summary() Percentiles {
	h := l.merged()
	ms := func(ns float64) float64 { return ns / float64(time.Millisecond) }
	at := func(q float64) float64 { return ms(float64(h.ValueAtQuantile(q))) }
	return Percentiles{
		Name: l.name, Count: h.TotalCount(), Mean: ms(h.Mean()),
		P50: at(50), P90: at(90), P99: at(99), P999: at(99.9), Max: ms(float64(h.Max())),
	}
}
