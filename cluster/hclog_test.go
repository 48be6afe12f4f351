package cluster

import (
	"bytes"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft"
)

// TestRaftLog lets raft complain about two nodes that are away for an hour.
func TestRaftLog(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out bytes.Buffer
		log := newRaftLog(slog.New(slog.NewTextHandler(&out, &slog.HandlerOptions{Level: slog.LevelInfo})), "raft").With("node", "n1")
		for range 3600 * 4 {
			for _, id := range []raft.ServerID{"n2", "n3"} {
				log.Error("failed to heartbeat to", "peer", id, "error", errors.New("gone"))
			}
			log.Info("election won")
			time.Sleep(time.Second / 4)
		}
		lines := strings.Split(strings.TrimSpace(out.String()), "\n")
		if len(lines) != 2*3600/30 {
			t.Errorf("%d lines in an hour", len(lines))
		}
		if first := lines[0]; !strings.Contains(first, "level=WARN") || !strings.Contains(first, "peer=n2") || strings.Contains(first, "more_since") {
			t.Errorf("the first line is %s", first)
		}
		if last := lines[len(lines)-1]; !strings.Contains(last, "peer=n3") || !strings.Contains(last, "more_since=119") {
			t.Errorf("the last line is %s", last)
		}
		out.Reset()
		log.Error("failed to append to logs", "error", hclog.Fmt("disk %s", "full"))
		if got := out.String(); !strings.Contains(got, "level=ERROR") || !strings.Contains(got, "disk full") {
			t.Errorf("an error of this node: %s", got)
		}
	})
}
