package cluster

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/raft"
)

func TestFound(t *testing.T) {
	run := func(name string, test func(t *testing.T)) {
		t.Run(name, func(t *testing.T) { synctest.Test(t, test) })
	}
	run("one writes the first entry, the cluster gets the id that was agreed upon", func(t *testing.T) {
		var asked atomic.Int32
		c := newTrio(t, func(cfg *Config) {
			founders := cfg.Founders
			cfg.Founders = nil
			first := cfg.ID == "n1"
			cfg.Found = func(context.Context) ([]raft.Server, string, error) {
				asked.Add(1)
				time.Sleep(time.Minute) // until the others are there
				if first {
					return founders, "AGREED", nil
				}
				return nil, "", nil
			}
		})
		l := c.record(t, "1")
		if n := asked.Load(); n != 3 {
			t.Errorf("Found was called %d times", n)
		}
		for i, n := range c.nodes {
			c.agree(t, i, l)
			if id := n.Status().ClusterID; id != "AGREED" {
				t.Errorf("%s is in cluster %q", n.cfg.ID, id)
			}
		}
		// The log isn't empty any more: nobody is asked again.
		for i, n := range c.nodes {
			n.machine.flush()
			if err := n.stop(); err != nil {
				t.Fatal(err)
			}
			c.start(t, i)
		}
		c.record(t, "2")
		if n := asked.Load(); n != 3 {
			t.Errorf("Found was called %d times", n)
		}
	})

	run("another founder than the first one may lead first", func(t *testing.T) {
		// The first entry has reached all, and its writer is gone.
		c := newTrio(t, func(cfg *Config) {
			founders := cfg.Founders
			cfg.Founders = nil
			cfg.Found = func(ctx context.Context) ([]raft.Server, string, error) { return founders, "AGREED", nil }
		})
		if err := c.nodes[0].stop(); err != nil {
			t.Fatal(err)
		}
		c.agree(t, 1, c.record(t, "1", 0))
		if id := c.nodes[1].Status().ClusterID; id != "AGREED" {
			t.Errorf("cluster id %q", id)
		}
	})

	run("a node that is stopped while it waits just ends", func(t *testing.T) {
		waiting := make(chan struct{})
		_, trans := raft.NewInmemTransport("n1")
		r := start(t, Config{Transport: trans, Found: func(ctx context.Context) ([]raft.Server, string, error) {
			close(waiting)
			<-ctx.Done()
			return nil, "", fmt.Errorf("wait for founders: %w", context.Cause(ctx))
		}})
		<-waiting
		if rep := r.report(); rep.State != "starting" || rep.ID != "n1" {
			t.Errorf("report %+v", rep)
		}
		if err := r.stop(); err != nil {
			t.Error(err)
		}
	})

	run("what goes wrong ends the node", func(t *testing.T) {
		_, trans := raft.NewInmemTransport("n1")
		n, err := New(Config{
			ID: "n1", Dir: t.TempDir(), Machine: newFake(nil), Transport: trans, Log: testLog(t),
			Found: func(context.Context) ([]raft.Server, string, error) {
				return nil, "", errors.New("no promise can be kept")
			},
		})
		if err != nil {
			t.Fatal(err)
		}
		if err := n.Run(t.Context()); err == nil || !strings.Contains(err.Error(), "no promise can be kept") {
			t.Errorf("Run returned %v", err)
		}
	})
}
