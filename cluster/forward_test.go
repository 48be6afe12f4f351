package cluster

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/orrery-io/orrery/command"
	"github.com/orrery-io/orrery/job"
)

func TestForwarder_ends_requests_to_a_leader_that_hangs(t *testing.T) {
	for _, tt := range []struct {
		name    string
		leaders []string // that are known afterwards
		want    time.Duration
	}{
		{"when no other leads", []string{""}, lastAnswers},
		{"soon when another one leads", []string{"", "b"}, successorAnswers},
		{"soon when another one leads at once", []string{"b"}, successorAnswers},
		{"soon when this node leads", []string{"", "this"}, successorAnswers},
		{"not so soon when it leads again", []string{"", "a"}, lastAnswers},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := newForwarder(Config{MaxQueuedItems: 100, MaxQueuedBytes: 1 << 20})
				defer f.end()
				f.send = func(ctx context.Context, _ string, _ []*call) (uint64, []verdict, error) {
					<-ctx.Done()
					return 0, nil, context.Cause(ctx)
				}
				f.leaderIs("a")
				done := make(chan error, 1)
				go func() {
					_, _, err := f.propose(t.Context(), []command.Item{{Command: &command.Verify{}}})
					done <- err
				}()
				synctest.Wait()
				began := time.Now()
				for _, id := range tt.leaders {
					if id == "this" {
						f.thisLeads()
						continue
					}
					f.leaderIs(id)
				}
				if err := <-done; !errors.Is(err, job.ErrOutcomeUnknown) {
					t.Errorf("it ends with %v", err)
				}
				if took := time.Since(began); took != tt.want {
					t.Errorf("after %v, want %v", took, tt.want)
				}
			})
		})
	}
}
