package obs

import (
	"log/slog"
	"time"
)

// JobID names the job that a log record is about.
func JobID[T ~int64](id T) slog.Attr { return slog.Int64("job_id", int64(id)) }

// Fence names the attempt.
func Fence[T ~uint64](f T) slog.Attr { return slog.Uint64("fence", uint64(f)) }

// JobType is the type of a job.
func JobType(t string) slog.Attr { return slog.String("job_type", t) }

// Queue names a queue.
func Queue(name string) slog.Attr { return slog.String("queue", name) }

// Schedule names a schedule.
func Schedule(name string) slog.Attr { return slog.String("schedule", name) }

// Agent is the id of an agent.
func Agent(id string) slog.Attr { return slog.String("agent", id) }

// Session names one connection of an agent.
func Session(s string) slog.Attr { return slog.String("session", s) }

// Node is the id of a node.
func Node(id string) slog.Attr { return slog.String("node", id) }

// Index is a log index.
func Index(i uint64) slog.Attr { return slog.Uint64("index", i) }

// Term is a leadership term.
func Term(t uint64) slog.Attr { return slog.Uint64("term", t) }

// Addr is a network address.
func Addr(a string) slog.Attr { return slog.String("addr", a) }

// Path is a file or folder.
func Path(p string) slog.Attr { return slog.String("path", p) }

// Count is how many.
func Count(n int) slog.Attr { return slog.Int("count", n) }

// Bytes is a size.
func Bytes(n int64) slog.Attr { return slog.Int64("bytes", n) }

// Took is how long something lasted.
func Took(d time.Duration) slog.Attr { return slog.Duration("took", d) }

// Err is the error.
func Err(err error) slog.Attr { return slog.Any("error", err) }

// Reason is a sentence.
func Reason(s string) slog.Attr { return slog.String("reason", s) }

// Member is the id of another node that a log record is about.
func Member(id string) slog.Attr { return slog.String("member", id) }

// Leader is the id of the node that leads.
func Leader(id string) slog.Attr { return slog.String("leader", id) }

// Cluster is the id of a cluster.
func Cluster(id string) slog.Attr { return slog.String("cluster", id) }

// Schema is a version of the database's schema.
func Schema(v int) slog.Attr { return slog.Int("schema", v) }

// Was is a value before it changed.
func Was(s string) slog.Attr { return slog.String("was", s) }

// Draining is whether a node gives its agents away.
func Draining(on bool) slog.Attr { return slog.Bool("draining", on) }

// Stacks are those of all goroutines.
func Stacks(s string) slog.Attr { return slog.String("stacks", s) }
