package clustertest

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/orrery-io/orrery/cluster"
	"github.com/orrery-io/orrery/command"
	"github.com/orrery-io/orrery/fsm"
	"github.com/orrery-io/orrery/job"
	"github.com/prometheus/client_golang/prometheus"
)

// slow is a machine on a disk that takes its time.
type slow struct {
	cluster.Machine
	until <-chan struct{} // closed when it need not be slow any longer
}

// Apply takes 200 ms for each entry: much longer than any machine takes to make one.
func (s slow) Apply(entries []fsm.Entry) ([][]command.Result, error) {
	select {
	case <-time.After(time.Duration(len(entries)) * 200 * time.Millisecond):
	case <-s.until:
	}
	return s.Machine.Apply(entries)
}

// TestOverload has one of three real nodes fall behind under more load than it can
// take. New jobs are refused then, so it never needs a copy of the database, and what
// was accepted is there.
func TestOverload(t *testing.T) {
	if testing.Short() {
		t.Skip("takes seconds of real time")
	}
	const keeps = 8 << 20
	registries := make([]*prometheus.Registry, 3)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	c := Start(t, Config{Real: true, Change: func(i int, cfg *cluster.Config) {
		registries[i] = prometheus.NewRegistry()
		cfg.Registerer, cfg.SnapshotThreshold = registries[i], keeps
		if i == 2 {
			cfg.Machine = slow{cfg.Machine, ctx.Done()}
		}
	}})
	tired := c.Nodes[2]
	l := c.Leader()
	if l == tired { // let one lead that isn't tired
		if _, err := l.Transfer(t.Context(), c.Nodes[0].ID); err != nil {
			t.Fatal(err)
		}
		l = c.Leader(tired)
	}
	payload := `"` + strings.Repeat("x", 1000) + `"`
	var mu sync.Mutex
	var accepted []job.ID
	refused, furthest := 0, uint64(0)
	var all sync.WaitGroup
	for i := range 16 {
		all.Go(func() {
			on := c.Nodes[i%2].Up()
			for ctx.Err() == nil {
				results, err := on.Propose(ctx, Submit(payload, ""), Submit(payload, ""), Submit(payload, ""), Submit(payload, ""))
				mu.Lock()
				switch job.KindOf(err) {
				case job.Overloaded:
					refused++
				default:
					if err != nil && ctx.Err() == nil {
						t.Error(err)
					}
				}
				for _, r := range results {
					accepted = append(accepted, r.Job)
				}
				if job.KindOf(err) == job.Overloaded && refused > 300 {
					cancel()
				}
				mu.Unlock()
				if job.KindOf(err) == job.Overloaded {
					time.Sleep(20 * time.Millisecond) // a client would take a second
				}
			}
		})
	}
	all.Go(func() {
		for ctx.Err() == nil {
			mine, _ := l.Disk.Applied()
			theirs, _ := tired.Disk.Applied()
			furthest = max(furthest, mine-min(mine, theirs))
			time.Sleep(10 * time.Millisecond)
		}
	})
	limit := time.AfterFunc(time.Minute, cancel)
	all.Wait()
	limit.Stop()
	if refused < 300 || len(accepted) == 0 {
		t.Errorf("%d accepted, %d refused", len(accepted), refused)
	}
	for _, id := range accepted {
		if _, err := tired.Disk.Job(t.Context(), id); err != nil {
			if err := tired.Disk.WaitApplied(t.Context(), l.Status().Applied); err != nil {
				t.Fatal(err)
			}
			if _, err := tired.Disk.Job(t.Context(), id); err != nil {
				t.Fatalf("job %d was accepted: %v", id, err)
			}
		}
	}
	c.Agree()
	for i, reg := range registries {
		for _, name := range []string{"orrery_cluster_snapshot_copies_total", "orrery_cluster_snapshot_installs_total"} {
			if v := value(t, reg, name); v != 0 {
				t.Errorf("%s is %v on node %d", name, v, i+1)
			}
		}
	}
	if v := value(t, registries[c.Index(l)], "orrery_cluster_refused_submissions_total"); v < float64(refused) {
		t.Errorf("%v refusals counted, %d seen", v, refused)
	}
	t.Logf("%d accepted, %d calls refused, at most %d entries behind, %s", len(accepted), refused, furthest, fmt.Sprint(l.Status().LogFirst))
}

// value is a counter or gauge without labels.
func value(t *testing.T, reg *prometheus.Registry, name string) float64 {
	t.Helper()
	all, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range all {
		if f.GetName() == name {
			m := f.GetMetric()[0]
			return m.GetCounter().GetValue() + m.GetGauge().GetValue()
		}
	}
	t.Fatalf("no metric %s", name)
	return 0
}
