package cli

import (
	"io"
	"log/slog"
	"strings"

	"github.com/spf13/cobra"
)

// logFlags say how much a node or an agent tells on stderr.
type logFlags struct {
	level, format string
	verbose       bool
}

func (f *logFlags) declare(cmd *cobra.Command, level string) {
	flags := cmd.Flags()
	flags.StringVar(&f.level, "log-level", level, "least `level` to log: debug, info, warn or error")
	flags.StringVar(&f.format, "log-format", "text", "how to log: text or json")
	flags.BoolVarP(&f.verbose, "verbose", "v", false, "log everything, like --log-level debug")
}

func (f *logFlags) logger(w io.Writer) (*slog.Logger, error) {
	var level slog.Level
	switch f.level {
	case "debug", "info", "warn", "error":
		_ = level.UnmarshalText([]byte(f.level))
	default:
		return nil, usagef("--log-level %s: it must be debug, info, warn or error", clipText(f.level, 20))
	}
	if f.verbose {
		level = slog.LevelDebug
	}
	opts := &slog.HandlerOptions{Level: level}
	switch strings.ToLower(f.format) {
	case "text":
		return slog.New(slog.NewTextHandler(w, opts)), nil
	case "json":
		return slog.New(slog.NewJSONHandler(w, opts)), nil
	}
	return nil, usagef("--log-format %s: it must be text or json", clipText(f.format, 20))
}
