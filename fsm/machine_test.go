package fsm

import (
	"strings"
	"testing"

	"github.com/orrery-io/orrery/command"
	"github.com/orrery-io/orrery/job"

	"github.com/prometheus/client_golang/prometheus"
)

func TestMachine(t *testing.T) {
	t.Run("a job goes from submission to its result, and survives a restart", func(t *testing.T) {
		b := setup(t, Config{})
		id := b.do(submission(nil)).Job
		if got := b.job(id).State; got != job.Pending {
			t.Fatalf("after submit: %s", got)
		}
		a := assign()
		b.do(&command.Dispatch{Job: id, Assign: a})
		fence := b.job(id).Fence
		if fence != job.Fence(b.index) {
			t.Errorf("fence %d, want the log index %d", fence, b.index)
		}
		b.do(&command.Start{Job: id, Fence: fence})
		b.do(&command.Finish{Job: id, Fence: fence, Outcome: job.OutcomeCompleted, Next: job.Completed, Result: job.JSON(`1`)})
		for range 2 {
			j := b.job(id)
			if j.State != job.Completed || string(j.Result) != "1" || j.Rev != 4 || len(j.Attempts) != 1 || len(j.Trail) != 4 {
				t.Errorf("got %+v", j)
			}
			q, err := b.m.Queue("default")
			if err != nil || q.Counts[job.Completed] != 1 || q.Counts[job.Pending] != 0 {
				t.Errorf("queue %+v, %v", q, err)
			}
			events, err := b.m.JobEvents(t.Context(), id)
			if err != nil || len(events) != 4 {
				t.Errorf("events %v, %v", events, err)
			}
			b.reopen()
		}
	})
}

func TestBackPressure(t *testing.T) {
	t.Run("apply flushes by itself when too many jobs are dirty", func(t *testing.T) {
		m, err := Open(t.Context(), Config{Dir: t.TempDir(), DirtyRows: 10})
		if err != nil {
			t.Fatal(err)
		}
		b := &bundle{t: t, m: m, now: 1, stop: func() {}}
		t.Cleanup(b.close)
		for range 50 {
			b.apply(submission(nil), submission(nil), submission(nil))
			if n := m.Stats().DirtyJobs; n > 12 {
				t.Fatalf("%d jobs are dirty", n)
			}
		}
	})
	t.Run("or too many bytes, of newest versions", func(t *testing.T) {
		m, err := Open(t.Context(), Config{Dir: t.TempDir(), DirtyBytes: 100_000})
		if err != nil {
			t.Fatal(err)
		}
		b := &bundle{t: t, m: m, now: 1, stop: func() {}}
		t.Cleanup(b.close)
		big := submission(func(x *job.Spec) { x.Payload = make([]byte, 10_000) })
		for range 50 {
			b.do(big)
			if n := m.Stats().DirtyBytes; n > 130_000 {
				t.Fatalf("%d bytes are dirty", n)
			}
		}
		b.flush()
		id := b.do(submission(nil)).Job
		before := m.state.jobs.bytes
		b.dispatch(id)
		b.finish(id, job.OutcomeCompleted, job.Completed, nil)
		if after := m.state.jobs.bytes; after > 2*before {
			t.Errorf("one job weighs %d bytes in its third version, %d in its first", after, before)
		}
	})
}

func TestMetrics(t *testing.T) {
	r := prometheus.NewPedanticRegistry()
	b := setup(t, Config{Registerer: r})
	b.do(submission(nil))
	b.flush()
	families, err := r.Gather()
	if err != nil {
		t.Fatal(err)
	}
	got := make(map[string]float64)
	for _, f := range families {
		if !strings.HasPrefix(f.GetName(), "orrery_fsm_") || f.GetHelp() == "" {
			t.Errorf("metric %q with help %q", f.GetName(), f.GetHelp())
		}
		got[f.GetName()] = f.GetMetric()[0].GetCounter().GetValue() + f.GetMetric()[0].GetGauge().GetValue()
	}
	for name, want := range map[string]float64{
		"orrery_fsm_applied_entries_total":  1,
		"orrery_fsm_applied_commands_total": 1,
		"orrery_fsm_applied_index":          1,
		"orrery_fsm_flushed_index":          1,
	} {
		if got[name] != want {
			t.Errorf("%s is %v, want %v", name, got[name], want)
		}
	}
	b.reopen() // a closed machine leaves nothing behind in the registry
}
