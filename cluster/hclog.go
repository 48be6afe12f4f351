package cluster

import (
	"context"
	"fmt"
	"io"
	"log"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"
)

// raftLog lets raft write to slog. What raft calls info is debug to us: it tells
// each step of an ordinary election. What it repeats, several times in a second while
// another node is away, is told from time to time.
type raftLog struct {
	log  *slog.Logger
	name string
	args []any
	told *told
}

var _ hclog.Logger = (*raftLog)(nil)

func newRaftLog(log *slog.Logger, name string) *raftLog {
	return &raftLog{log: log, name: name, told: &told{last: map[string]*retelling{}}}
}

// told remembers what was told not long ago.
type told struct {
	mu   sync.Mutex
	last map[string]*retelling // by message and the node it is about
}

type retelling struct {
	at   time.Time
	more int // left out since
}

const (
	repeatAfter = 30 * time.Second
	repeatsKept = 256 // messages that are remembered
)

// again reports whether to tell a message now, and how often it was left out.
func (t *told) again(msg string) (left int, ok bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	last := t.last[msg]
	if last != nil && time.Since(last.at) < repeatAfter {
		last.more++
		return 0, false
	}
	if last != nil {
		left = last.more
	}
	if len(t.last) >= repeatsKept {
		clear(t.last)
	}
	t.last[msg] = &retelling{at: time.Now()}
	return left, true
}

// aboutOthers are messages that another node doesn't answer. That is no error of this
// one.
var aboutOthers = []string{
	"failed to appendEntries to", "failed to heartbeat to", "failed to pipeline appendEntries",
	"failed to start pipeline replication to", "failed to make requestVote RPC", "failed to contact",
	"failed to send snapshot to", "failed to install snapshot", "failed to open snapshot", "failed to get log",
}

// whom are the keys of arguments that name another node.
var whom = []any{"peer", "server-id", "target", "from", "candidate"}

func level(l hclog.Level) slog.Level {
	switch l {
	case hclog.Warn:
		return slog.LevelWarn
	case hclog.Error:
		return slog.LevelError
	default:
		return slog.LevelDebug
	}
}

// Log implements hclog.Logger.
func (r *raftLog) Log(l hclog.Level, msg string, args ...any) {
	ctx, at := context.Background(), level(l)
	if at == slog.LevelError && slices.Contains(aboutOthers, msg) {
		at = slog.LevelWarn
	}
	if at >= slog.LevelWarn {
		left, ok := r.told.again(msg + subject(args))
		switch {
		case !ok:
			at = slog.LevelDebug
		case left > 0:
			args = append(slices.Clip(args), "more_since", left)
		}
	}
	if !r.log.Enabled(ctx, at) {
		return
	}
	for i, a := range args {
		if f, ok := a.(hclog.Format); ok && len(f) > 0 {
			if format, ok := f[0].(string); ok {
				args[i] = fmt.Sprintf(format, f[1:]...)
			}
		}
	}
	r.log.Log(ctx, at, "raft: "+msg, args...) //nolint:sloglint // the library's own words
}

// subject returns the node that a message is about, "" for none.
func subject(args []any) string {
	for i := 0; i+1 < len(args); i += 2 {
		if slices.Contains(whom, args[i]) {
			return fmt.Sprintf(" %v", args[i+1])
		}
	}
	return ""
}

// Trace implements hclog.Logger.
func (r *raftLog) Trace(msg string, args ...any) { r.Log(hclog.Trace, msg, args...) }

// Debug implements hclog.Logger.
func (r *raftLog) Debug(msg string, args ...any) { r.Log(hclog.Debug, msg, args...) }

// Info implements hclog.Logger.
func (r *raftLog) Info(msg string, args ...any) { r.Log(hclog.Info, msg, args...) }

// Warn implements hclog.Logger.
func (r *raftLog) Warn(msg string, args ...any) { r.Log(hclog.Warn, msg, args...) }

// Error implements hclog.Logger.
func (r *raftLog) Error(msg string, args ...any) { r.Log(hclog.Error, msg, args...) }

func (r *raftLog) enabled(l slog.Level) bool { return r.log.Enabled(context.Background(), l) }

// IsTrace implements hclog.Logger.
func (r *raftLog) IsTrace() bool { return false }

// IsDebug implements hclog.Logger.
func (r *raftLog) IsDebug() bool { return r.enabled(slog.LevelDebug) }

// IsInfo implements hclog.Logger.
func (r *raftLog) IsInfo() bool { return r.enabled(slog.LevelDebug) }

// IsWarn implements hclog.Logger.
func (r *raftLog) IsWarn() bool { return r.enabled(slog.LevelWarn) }

// IsError implements hclog.Logger.
func (r *raftLog) IsError() bool { return r.enabled(slog.LevelError) }

// ImpliedArgs implements hclog.Logger.
func (r *raftLog) ImpliedArgs() []any { return r.args }

// With implements hclog.Logger.
func (r *raftLog) With(args ...any) hclog.Logger {
	return &raftLog{log: r.log.With(args...), name: r.name, args: append(slices.Clip(r.args), args...), told: r.told}
}

// Name implements hclog.Logger.
func (r *raftLog) Name() string { return r.name }

// Named implements hclog.Logger.
func (r *raftLog) Named(name string) hclog.Logger {
	return &raftLog{log: r.log, name: name, args: r.args, told: r.told}
}

// ResetNamed implements hclog.Logger.
func (r *raftLog) ResetNamed(name string) hclog.Logger { return r.Named(name) }

// SetLevel implements hclog.Logger. The handler of slog decides instead.
func (r *raftLog) SetLevel(hclog.Level) {}

// GetLevel implements hclog.Logger.
func (r *raftLog) GetLevel() hclog.Level {
	if r.IsDebug() {
		return hclog.Debug
	}
	return hclog.Warn
}

// StandardLogger implements hclog.Logger.
func (r *raftLog) StandardLogger(*hclog.StandardLoggerOptions) *log.Logger {
	return slog.NewLogLogger(r.log.Handler(), slog.LevelDebug)
}

// StandardWriter implements hclog.Logger.
func (r *raftLog) StandardWriter(opts *hclog.StandardLoggerOptions) io.Writer {
	return r.StandardLogger(opts).Writer()
}
