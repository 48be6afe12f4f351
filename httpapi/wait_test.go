package httpapi

import (
	"testing"
	"testing/synctest"

	"github.com/orrery-io/orrery/job"
)

// TestWatchers_share_a_subscription: many waiters, one look at each event.
func TestWatchers_share_a_subscription(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		feed := make(chan []job.Event)
		opened := 0
		ws := &watchers{log: discard(), subscribe: func() subscription { opened++; return chanFeed(feed) }}
		var waiters []*watcher
		for range 1000 {
			waiters = append(waiters, ws.watch(1, true))
		}
		other, all := ws.watch(2, true), ws.watch(1, false)
		woken := func(w *watcher) bool {
			select {
			case <-w.wake:
				return true
			default:
				return false
			}
		}
		feed <- []job.Event{{Type: job.JobStarted, Job: 1}}
		synctest.Wait()
		if woken(waiters[0]) || !woken(all) {
			t.Error("an event that is not the end wakes those who wait for the end, or not the others")
		}
		feed <- []job.Event{{Type: job.JobCompleted, Job: 1}, {Type: job.JobFailed, Job: 3}}
		synctest.Wait()
		for _, w := range waiters {
			if !woken(w) {
				t.Fatal("a waiter sleeps on")
			}
			w.close()
		}
		all.close()
		if woken(other) {
			t.Error("the waiter of another job was woken")
		}
		close(feed) // the feed breaks off: everybody looks again
		synctest.Wait()
		if !woken(other) {
			t.Error("nobody was woken when the feed broke off")
		}
		other.close()
		if len(ws.byJob) != 0 {
			t.Errorf("%d jobs are still watched", len(ws.byJob))
		}
		ws.close()
		ws.close()
		if opened < 2 {
			t.Errorf("%d subscriptions", opened)
		}
		if w := ws.watch(1, true); w == nil {
			t.Error("no watcher after close")
		}
	})
}
