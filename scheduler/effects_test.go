package scheduler

import (
	"slices"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/orrery-io/orrery/wire"
)

// TestEnvelopesAreSentInTheOrderOfDecisions has the first sender stand still: what is
// decided later must not overtake it, and nobody else waits.
func TestEnvelopesAreSentInTheOrderOfDecisions(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		first := make(chan struct{})
		var mu sync.Mutex
		var got []string
		s := newScheduler(Config{Send: func(envelopes []wire.Envelope) {
			if envelopes[0].Session == "1" {
				<-first
			}
			mu.Lock()
			defer mu.Unlock()
			for _, env := range envelopes {
				got = append(got, env.Session)
			}
		}}, nil)
		term := newTerm(s, 1)
		var wg sync.WaitGroup
		for _, session := range []string{"1", "2", "3"} {
			wg.Go(func() {
				term.do(t.Context(), func(fx *effects) {
					fx.sendTo(wire.Envelope{Session: session}, wire.Message{Beat: &wire.Beat{}})
				})
			})
			synctest.Wait()
		}
		mu.Lock()
		if len(got) > 0 {
			t.Errorf("%v were sent before the first", got)
		}
		mu.Unlock()
		close(first)
		wg.Wait()
		if want := []string{"1", "2", "3"}; !slices.Equal(got, want) {
			t.Errorf("sent %v, want %v", got, want)
		}
	})
}
