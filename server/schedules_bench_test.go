package server

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/orrery-io/orrery/command"
	"github.com/orrery-io/orrery/job"
)

// BenchmarkRestart is a node's start until it is ready, with schedules that have not
// come due: what they add to it is the difference between the two.
func BenchmarkRestart(b *testing.B) {
	for _, n := range []int{0, 100_000} {
		b.Run(fmt.Sprint("schedules=", n), func(b *testing.B) {
			dir := b.TempDir()
			stop, s := startIn(b, dir)
			now := job.At(time.Now())
			spec := job.ScheduleSpec{Expressions: []string{"0 3 1 1 *"}, Timezone: "Europe/Berlin", Template: job.Template{Spec: job.Spec{Type: "report", Payload: job.JSON(`{"for":"everybody"}`)}}}
			spec.Normalize()
			for i := 0; i < n; i += 500 {
				items := make([]command.Item, 500)
				for k := range items {
					items[k].Command = &command.SetSchedule{Name: fmt.Sprint("schedule-", i+k), Spec: spec, Anchor: now, Cursor: now, Next: now.Add(300 * job.Day)}
				}
				if _, err := s.node.Propose(b.Context(), items...); err != nil {
					b.Fatal(err)
				}
			}
			stop()
			for b.Loop() {
				stop, s = startIn(b, dir)
				b.StopTimer()
				if got := len(s.machine.Schedules()); got != n {
					b.Fatalf("%d schedules, want %d", got, n)
				}
				stop()
				b.StartTimer()
			}
		})
	}
}

// startIn starts a node in a folder, waits until it is ready, and returns what stops
// it.
func startIn(b *testing.B, dir string) (stop func(), s *Server) {
	b.Helper()
	s, err := New(Config{Data: dir, HTTP: "127.0.0.1:0", Version: "bench"})
	if err != nil {
		b.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(b.Context()))
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := s.Run(ctx); err != nil {
			b.Errorf("node: %v", err)
		}
	})
	<-s.Ready()
	return sync.OnceFunc(func() {
		cancel()
		wg.Wait()
	}), s
}
