package cluster

import (
	"context"
	"fmt"
	"io"
	"log"
	"log/slog"
	"slices"

	"github.com/hashicorp/go-hclog"
)

// raftLog lets raft write to slog. What raft calls info is debug to us: it tells
// each step of an ordinary election.
type raftLog struct {
	log  *slog.Logger
	name string
	args []any
}

var _ hclog.Logger = (*raftLog)(nil)

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
	ctx := context.Background()
	if !r.log.Enabled(ctx, level(l)) {
		return
	}
	for i, a := range args {
		if f, ok := a.(hclog.Format); ok && len(f) > 0 {
			if format, ok := f[0].(string); ok {
				args[i] = fmt.Sprintf(format, f[1:]...)
			}
		}
	}
	r.log.Log(ctx, level(l), "raft: "+msg, args...) //nolint:sloglint // the library's own words
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
	return &raftLog{log: r.log.With(args...), name: r.name, args: append(slices.Clip(r.args), args...)}
}

// Name implements hclog.Logger.
func (r *raftLog) Name() string { return r.name }

// Named implements hclog.Logger.
func (r *raftLog) Named(name string) hclog.Logger {
	return &raftLog{log: r.log, name: name, args: r.args}
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
