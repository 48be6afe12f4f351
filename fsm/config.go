package fsm

import (
	"cmp"
	"log/slog"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Config is what a Machine needs. Only Dir is required.
type Config struct {
	// Dir holds the file CURRENT and a folder gen-N with the database. It is
	// created when missing.
	Dir string
	// Log gets what an operator should know; nil means nowhere.
	Log *slog.Logger
	// Registerer gets the metrics; nil means nobody.
	Registerer prometheus.Registerer
	// FlushEvery is the shortest time between two flushes under load, 20 ms by
	// default. When idle, a change is flushed at once.
	FlushEvery time.Duration
	// DirtyRows bounds the jobs that SQLite does not have yet, 65,536 by default;
	// apply waits for the flusher beyond it.
	DirtyRows int
	// DirtyBytes bounds the same by the size of their payloads, 64 MiB by default.
	DirtyBytes int
	// CachedJobs bounds the jobs that have not ended and are kept in memory although
	// SQLite has them, 16,384 by default.
	CachedJobs int
	// FeedBytes is how much of the event feed is stored, 64 MiB by default: beyond
	// it FeedToTrim asks the leader for a TrimFeed.
	FeedBytes int64
	// LogCap is how many bytes of an attempt's log are kept, half of them from its
	// beginning and half from its end; 1 MiB by default. It must be the same on
	// every node.
	LogCap int

	// OnDamage is told when a read meets a row that is damaged, each time; the reader
	// gets the error. It must not wait or ask the machine. Nil does nothing.
	OnDamage func(error)

	migrations []migration // for tests; nil means those of this program
	requests   int         // for tests; how many request ids are remembered
}

func (c *Config) normalize() {
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	if c.OnDamage == nil {
		c.OnDamage = func(error) {}
	}
	c.FlushEvery = cmp.Or(c.FlushEvery, 20*time.Millisecond)
	c.DirtyRows = cmp.Or(c.DirtyRows, 1<<16)
	c.DirtyBytes = cmp.Or(c.DirtyBytes, 64<<20)
	c.CachedJobs = cmp.Or(c.CachedJobs, 1<<14)
	c.FeedBytes = cmp.Or(c.FeedBytes, 64<<20)
	c.LogCap = cmp.Or(c.LogCap, 1<<20)
	c.requests = cmp.Or(c.requests, maxRequests)
	if c.migrations == nil {
		c.migrations = migrations()
	}
}
