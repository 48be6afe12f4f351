package clustertest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/orrery-io/orrery/cluster"
	"github.com/orrery-io/orrery/command"
	"github.com/orrery-io/orrery/job"
)

// bubbles runs subtests in virtual time.
func bubbles(t *testing.T) func(name string, test func(t *testing.T)) {
	return func(name string, test func(t *testing.T)) {
		t.Run(name, func(t *testing.T) { synctest.Test(t, test) })
	}
}

func TestForward(t *testing.T) {
	run := bubbles(t)
	run("a follower records, and reads what it has recorded", func(t *testing.T) {
		c := Start(t, Config{})
		for i, f := range c.Followers() {
			for j := range 10 {
				payload := fmt.Sprint(i*10 + j)
				results, err := f.Propose(t.Context(), Submit(payload, ""))
				if err != nil {
					t.Fatal(err)
				}
				if jobs := f.Memory.Jobs(); !slices.Contains(jobs, payload) || jobs[results[0].Job-1] != payload {
					t.Fatalf("%s has %v after it was told job %d", f.ID, jobs, results[0].Job)
				}
			}
		}
		c.Agree()
	})

	run("a call may be larger than a request to the leader", func(t *testing.T) {
		c := Start(t, Config{})
		f := c.Followers()[0]
		var items []command.Item
		for i := range 2000 {
			items = append(items, Submit(fmt.Sprintf("%q", strconv.Itoa(i)+strings.Repeat(" ", 10_000)), ""))
		}
		results, err := f.Propose(t.Context(), items...)
		if err != nil || len(results) != len(items) {
			t.Fatalf("%d results, %v", len(results), err)
		}
		jobs := f.Memory.Jobs()
		for i, r := range results {
			if want := fmt.Sprintf("%q", strconv.Itoa(i)+strings.Repeat(" ", 10_000)); jobs[r.Job-1] != want {
				t.Fatalf("item %d became %.20s", i, jobs[r.Job-1])
			}
		}
		c.Agree()
	})

	run("nobody waits for raft to tell what is committed", func(t *testing.T) {
		c := Start(t, Config{})
		c.Net.SetAll(Way{Delay: time.Millisecond})
		l, began := c.Leader(), time.Now()
		for _, f := range c.Followers() {
			for range 10 {
				c.Record(f, Submit("1", ""))
				c.Record(l, Submit("2", ""))
				index, err := f.ReadIndex(t.Context())
				if applied, _ := l.Memory.Applied(); err != nil || index != applied {
					t.Errorf("ReadIndex = %d, %v; the leader has applied %d", index, err, applied)
				}
			}
		}
		if took := time.Since(began); took > 400*time.Millisecond { // virtual; raft alone takes 100 ms each time
			t.Errorf("20 writes and reads took %s", took)
		}
	})

	run("many callers share few requests, and each gets its own results", func(t *testing.T) {
		c := Start(t, Config{})
		f := c.Followers()[0]
		c.Net.SetAll(Way{Delay: 5 * time.Millisecond})
		var all sync.WaitGroup
		for i := range 500 {
			all.Go(func() {
				items := []command.Item{Submit(fmt.Sprintf("%d-a", i), ""), Submit(fmt.Sprintf("%d-b", i), "")}
				results, err := f.Propose(t.Context(), items...)
				if err != nil {
					t.Error(err)
					return
				}
				jobs := f.Memory.Jobs()
				if len(results) != 2 || jobs[results[0].Job-1] != fmt.Sprintf("%d-a", i) || jobs[results[1].Job-1] != fmt.Sprintf("%d-b", i) {
					t.Errorf("call %d: %+v", i, results)
				}
			})
		}
		all.Wait()
		if n := c.Calls("cluster.propose"); n > 20 {
			t.Errorf("%d requests for 500 calls", n)
		}
	})

	run("a call larger than an entry is recorded", func(t *testing.T) {
		c := Start(t, Config{})
		f := c.Followers()[0]
		var items []command.Item
		for i := range 5000 {
			items = append(items, Submit(strconv.Itoa(i), ""))
		}
		results, err := f.Propose(t.Context(), items...)
		if err != nil || len(results) != 5000 {
			t.Fatal(len(results), err)
		}
		for i, p := range f.Memory.Jobs() {
			if p != strconv.Itoa(i) {
				t.Fatalf("job %d is %s", i, p)
			}
		}
	})

	run("a bad item is refused alone", func(t *testing.T) {
		c := Start(t, Config{})
		f := c.Followers()[0]
		if _, err := f.Propose(t.Context(), Submit("1", string(make([]byte, command.MaxRequestID+1)))); job.KindOf(err) != job.Invalid {
			t.Errorf("long request id: %v", err)
		}
		if results, err := f.Propose(t.Context()); results != nil || err != nil {
			t.Errorf("no items: %v, %v", results, err)
		}
	})

	run("a call waits for a leader, and not for ever", func(t *testing.T) {
		c := Start(t, Config{})
		l := c.Leader()
		f := c.Followers()[0]
		l.Crash()
		began := time.Now()
		if _, err := f.Propose(t.Context(), Submit("1", "")); err != nil {
			t.Fatalf("after %s: %v", time.Since(began), err)
		}
		for _, n := range c.Nodes {
			if n != f && n.Node != nil {
				n.Crash()
			}
		}
		c.await("no leader was known", func() bool { return f.Leader() == "" })
		began = time.Now()
		if _, err := f.Propose(t.Context(), Submit("2", "")); !errors.Is(err, job.ErrNotLeader) {
			t.Errorf("Propose without a majority: %v", err)
		}
		if _, err := f.ReadIndex(t.Context()); !errors.Is(err, job.ErrNotLeader) {
			t.Errorf("ReadIndex without a majority: %v", err)
		}
		if took := time.Since(began); took < 9*time.Second || took > 11*time.Second { // virtual
			t.Errorf("waited %s", took)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := f.Propose(ctx, Submit("3", "")); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Propose with a deadline: %v", err)
		}
	})

	run("what is in flight when the leader goes has an unknown outcome", func(t *testing.T) {
		c := Start(t, Config{})
		l := c.Leader()
		f := c.Followers()[0]
		release := l.Memory.Hold()
		got := make(chan error, 1)
		go func() {
			_, err := f.Propose(t.Context(), Submit("in flight", ""))
			got <- err
		}()
		synctest.Wait()
		c.Net.Isolate(l.ID)
		release()
		if err := <-got; !errors.Is(err, job.ErrOutcomeUnknown) {
			t.Errorf("error %v", err)
		}
		// What goes to the old leader before its successor is known is in flight, too.
		c.await("another node led", func() bool { return f.Leader() != "" && f.Leader() != l.ID })
		if _, err := f.Propose(t.Context(), Submit("after", "")); err != nil {
			t.Error(err)
		}
		c.Net.Heal()
		c.Agree()
	})

	run("a leader that hangs holds nobody up once there is another", func(t *testing.T) {
		c := Start(t, Config{})
		l := c.Leader()
		f := c.Followers()[0]
		defer l.Memory.Hold()()
		var all sync.WaitGroup
		for i := range 8 {
			all.Go(func() {
				if _, err := f.Propose(t.Context(), Submit(fmt.Sprint(i), "")); err != nil && !errors.Is(err, job.ErrOutcomeUnknown) {
					t.Errorf("error %v", err)
				}
			})
		}
		synctest.Wait()
		// Raft's messages are cut, the requests on their way wait for an answer.
		c.Net.CutRaft(l.ID, true)
		all.Wait()
		if _, err := f.Propose(t.Context(), Submit("after", "")); err != nil {
			t.Error(err)
		}
		c.Net.CutRaft(l.ID, false)
	})

	run("commands of a term are recorded in it or not at all", func(t *testing.T) {
		terms := make(chan context.Context, 8)
		c := Start(t, Config{Change: func(_ int, cfg *cluster.Config) {
			cfg.Lead = func(ctx context.Context, _ uint64) error { terms <- ctx; <-ctx.Done(); return nil }
		}})
		l := c.Leader()
		ctx := <-terms
		c.Record(l, Submit("1", ""))
		if _, err := l.Propose(ctx, Submit("2", "")); err != nil {
			t.Error(err)
		}
		f := c.Followers()[0]
		if _, err := f.Propose(ctx, Submit("3", "")); !errors.Is(err, job.ErrNotLeader) {
			t.Errorf("a follower forwarded a leader's decision: %v", err)
		}
		c.Net.Isolate(l.ID)
		c.Leader(l)
		<-ctx.Done()
		if _, err := l.Propose(ctx, Submit("4", "")); err == nil {
			t.Error("a deposed leader's decision was recorded")
		}
		c.Net.Heal()
		c.Agree()
	})

	run("everybody hears of the leader", func(t *testing.T) {
		var mu sync.Mutex
		heard := map[string][]string{}
		c := Start(t, Config{Prepare: func(n *Node) {
			n.OnLeader(func(id string) {
				mu.Lock()
				defer mu.Unlock()
				heard[n.ID] = append(heard[n.ID], id)
			})
		}})
		first := c.Leader()
		c.Followers()
		c.Net.Isolate(first.ID)
		second := c.Leader(first)
		c.Net.Heal()
		c.await("all knew the second leader", func() bool {
			for _, n := range c.Nodes {
				if n.Node.Leader() != second.ID {
					return false
				}
			}
			return true
		})
		synctest.Wait()
		mu.Lock()
		defer mu.Unlock()
		for id, list := range heard {
			if !slices.Contains(list, first.ID) || list[len(list)-1] != second.ID {
				t.Errorf("%s heard of %v, the leaders were %s and %s", id, list, first.ID, second.ID)
			}
		}
	})
}
