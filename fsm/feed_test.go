package fsm

import (
	"context"
	"errors"
	"fmt"
	"math"
	"reflect"
	"sync/atomic"
	"testing"
	"testing/synctest"

	"github.com/orrery-io/orrery/command"
	"github.com/orrery-io/orrery/job"
)

// read takes events until it has n.
func read(t *testing.T, s *Subscription, n int) []job.Event {
	t.Helper()
	var all []job.Event
	for len(all) < n {
		events, err := s.Next(t.Context())
		if err != nil {
			t.Fatalf("after %d events: %v", len(all), err)
		}
		if len(events) == 0 {
			t.Fatal("no events and no error")
		}
		all = append(all, events...)
	}
	if len(all) != n {
		t.Fatalf("got %d events, want %d", len(all), n)
	}
	return all
}

// plain takes away what is not stored.
func plain(events []job.Event) []job.Event {
	out := make([]job.Event, len(events))
	for i, e := range events {
		e.Row, e.AgentRow = nil, nil
		out[i] = e
	}
	return out
}

func TestFeed(t *testing.T) {
	// fill makes entries of several events each.
	fill := func(b *bundle, entries int) {
		for range entries {
			b.apply(submission(nil), submission(nil), submission(nil))
		}
	}
	t.Run("the ring, SQLite and a restart tell the same", func(t *testing.T) {
		b := setup(t, Config{})
		fill(b, 50)
		live := plain(read(t, b.m.Subscribe(job.EventID{}), 150))
		for i := 1; i < len(live); i++ {
			if !live[i-1].ID.Less(live[i].ID) {
				t.Fatalf("%s before %s", live[i-1].ID, live[i].ID)
			}
		}
		b.reopen()
		if stored := read(t, b.m.Subscribe(job.EventID{}), 150); !reflect.DeepEqual(live, stored) {
			t.Errorf("stored events differ:\n%+v\n%+v", live[0], stored[0])
		}
	})
	t.Run("a listener resumes anywhere without a gap or a repeat", func(t *testing.T) {
		b := setup(t, Config{})
		fill(b, 5)
		all := plain(read(t, b.m.Subscribe(job.EventID{}), 15))
		for range 2 {
			for i, e := range all[:14] {
				if got := plain(read(t, b.m.Subscribe(e.ID), 14-i)); !reflect.DeepEqual(got, all[i+1:]) {
					t.Errorf("after %s: %v", e.ID, got)
				}
			}
			b.reopen()
		}
	})
	t.Run("between ring and SQLite there is no seam", func(t *testing.T) {
		b := setup(t, Config{})
		fill(b, 30)
		b.reopen()
		fill(b, 30) // these are in the ring
		all := read(t, b.m.Subscribe(job.EventID{}), 180)
		for i, e := range all {
			if want := (job.EventID{Index: uint64(i/3 + 1), N: uint32(i % 3)}); e.ID != want {
				t.Fatalf("event %d has id %s, want %s", i, e.ID, want)
			}
		}
	})
	t.Run("the ring is bounded by count and reads on from SQLite", func(t *testing.T) {
		b := setup(t, Config{})
		batch := make([]command.Command, 1000)
		for i := range batch {
			batch[i] = submission(nil)
		}
		slow := b.m.Subscribe(job.EventID{})
		const entries = ringEvents/1000 + 20
		for range entries {
			b.apply(batch...)
			b.flush()
		}
		r := &b.m.ring
		if r.events > ringEvents || r.base == 0 {
			t.Errorf("the ring holds %d events, its base is %d", r.events, r.base)
		}
		seen := read(t, slow, 1000*entries)
		for i, e := range seen {
			if want := (job.EventID{Index: uint64(i/1000 + 1), N: uint32(i % 1000)}); e.ID != want {
				t.Fatalf("event %d has id %s, want %s", i, e.ID, want)
			}
		}
	})
	t.Run("the ring is bounded by bytes", func(t *testing.T) {
		b := setup(t, Config{})
		big := job.JSON(`"` + string(make([]byte, job.MaxPayload-2)) + `"`)
		for range 2 * ringBytes / job.MaxPayload {
			b.do(submission(func(x *job.Spec) { x.Payload = big }))
			b.flush()
		}
		if b.m.ring.bytes > ringBytes {
			t.Errorf("the ring holds %d bytes", b.m.ring.bytes)
		}
		read(t, b.m.Subscribe(job.EventID{}), 2*ringBytes/job.MaxPayload)
	})
	t.Run("waits for the next event and for its context", func(t *testing.T) {
		b := setup(t, Config{})
		s := b.m.Subscribe(b.m.LastEvent())
		got := make(chan []job.Event)
		go func() {
			events, _ := s.Next(t.Context())
			got <- events
		}()
		b.do(submission(nil))
		if events := <-got; len(events) != 1 || events[0].Row == nil {
			t.Errorf("got %+v", events)
		}
		gone := errors.New("gone")
		ctx, cancel := context.WithCancelCause(t.Context())
		cancel(gone)
		if _, err := s.Next(ctx); !errors.Is(err, gone) {
			t.Errorf("got %v", err)
		}
	})
	t.Run("what is trimmed is refused, what is kept is not", func(t *testing.T) {
		b := setup(t, Config{})
		fill(b, 10)
		b.do(&command.TrimFeed{Through: 4})
		for range 2 {
			for _, after := range []job.EventID{{}, {Index: 2, N: math.MaxUint32}, {Index: 4, N: 1}} {
				_, err := b.m.Subscribe(after).Next(t.Context())
				wantCode(t, err, "events_trimmed")
			}
			if first := b.m.FirstEvent(); first != endOf(4) {
				t.Errorf("first event %s", first)
			}
			events := read(t, b.m.Subscribe(b.m.FirstEvent()), 18)
			if events[0].ID.Index != 5 {
				t.Errorf("begins with %s", events[0].ID)
			}
			if events, err := b.m.JobEvents(t.Context(), 1); err != nil || len(events) > 1 {
				t.Errorf("events of an old job: %v, %v", events, err)
			}
			b.reopen()
		}
		b.do(&command.TrimFeed{Through: 2}) // backwards: nothing happens
		b.do(&command.TrimFeed{Through: math.MaxUint64})
		b.flush()
		if got := b.m.FirstEvent(); got != endOf(b.index-1) {
			t.Errorf("first event %s, a trim reaches up to the entry before its own", got)
		}
		if n := b.m.Stats().FeedBytes; n != 0 {
			t.Errorf("%d bytes are said to be stored", n)
		}
	})
	t.Run("the leader is asked to trim when it is over its size", func(t *testing.T) {
		b := setup(t, Config{FeedBytes: 2000})
		if _, ok := b.m.FeedToTrim(); ok {
			t.Error("an empty feed is to be trimmed")
		}
		fill(b, 200)
		b.flush()
		size := b.m.Stats().FeedBytes
		through, ok := b.m.FeedToTrim()
		if !ok || through == 0 || through >= b.index {
			t.Fatalf("through %d, %v; the feed has %d bytes", through, ok, size)
		}
		b.do(&command.TrimFeed{Through: through})
		b.flush()
		if n := b.m.Stats().FeedBytes; n > 2000 || n < 1000 {
			t.Errorf("%d bytes are left", n)
		}
		var sum int64
		if err := b.m.store.lists.QueryRowContext(t.Context(), "SELECT sum(length(doc)) FROM feed").Scan(&sum); err != nil || sum != b.m.Stats().FeedBytes {
			t.Errorf("the size is kept as %d, and is %d, %v", b.m.Stats().FeedBytes, sum, err)
		}
		if _, ok := b.m.FeedToTrim(); ok {
			t.Error("it is to be trimmed again")
		}
	})
}

func TestSignal(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var s signal
		s.broadcast() // nobody listens
		var woken atomic.Int64
		for range 5 {
			ch := s.wait()
			go func() { <-ch; woken.Add(1) }()
		}
		synctest.Wait()
		if n := woken.Load(); n != 0 {
			t.Errorf("%d woke by themselves", n)
		}
		s.broadcast()
		synctest.Wait()
		if n := woken.Load(); n != 5 {
			t.Errorf("%d of 5 woke", n)
		}
	})
}

func TestBatchCode(t *testing.T) {
	x := &batch{index: 77, time: 123456, events: []job.Event{
		{Type: job.JobSubmitted, Job: 5, JobType: "a", Queue: "default", State: job.Pending},
		{Type: job.JobDispatched, Job: 5, JobType: "a", Queue: "default", State: job.Dispatched, Fence: 77, Attempt: 1, Agent: "g"},
		{Type: job.JobFailed, Job: 2, JobType: "b", Queue: "default", State: job.Failed, Fence: 9, Attempt: 300, Agent: "g", Detail: "no"},
		{Type: job.AgentGone, Agent: "g", Detail: "lost"},
		{Type: job.JobSubmitted, Job: math.MaxInt64},
		{Type: job.JobSubmitted, Job: 1},
	}}
	for i := range 40 { // more words than are looked back for
		x.events = append(x.events, job.Event{Type: job.JobReady, Job: job.ID(i), JobType: fmt.Sprint("t", i%20), Queue: fmt.Sprint("q", i%3)})
	}
	for i := range x.events {
		x.events[i].ID = job.EventID{Index: 77, N: uint32(i)}
		x.events[i].Time = x.time
	}
	doc := appendBatch(nil, x)
	got, err := decodeBatch(77, doc)
	if err != nil || !reflect.DeepEqual(got.events, x.events) || got.time != x.time {
		t.Fatalf("got %+v, %v", got, err)
	}
	for n := range doc {
		if _, err := decodeBatch(77, doc[:n]); err == nil {
			t.Errorf("%d of %d bytes were decoded", n, len(doc))
		}
	}
	if _, err := decodeBatch(77, append(doc, 0)); err == nil {
		t.Error("a byte too many was decoded")
	}
}

func FuzzDecodeBatch(f *testing.F) {
	f.Add(appendBatch(nil, &batch{time: 1, events: []job.Event{{Type: job.JobReady, Job: 1, JobType: "a", Queue: "a"}, {Job: 3, Detail: "x"}}}))
	f.Add([]byte{feedFormat, 0, 0xdd, 0xff, 0xff, 0xff, 0xff})
	f.Fuzz(func(t *testing.T, doc []byte) {
		x, err := decodeBatch(1, doc)
		if err != nil {
			return
		}
		again, err := decodeBatch(1, appendBatch(nil, x))
		if err != nil || !reflect.DeepEqual(x, again) {
			t.Errorf("%+v became %+v, %v", x, again, err)
		}
	})
}
