//go:build linux

package chaos

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/orrery-io/orrery/job"
)

// The tests of the checkers: a history that is as it must be passes, and each kind of
// wrong one is seen.

// seen returns which invariants check finds violated, in words such as "3 3".
func seen(check func(f *findings)) string {
	var f findings
	check(&f)
	list, _ := f.all()
	var out []string
	for _, v := range list {
		out = append(out, strings.Fields(v)[1])
	}
	slices.Sort(out)
	return strings.Join(out, " ")
}

func row(id job.ID, token string) *job.Job {
	return &job.Job{ID: id, Spec: job.Spec{Metadata: job.Labels{{Key: "token", Value: token}}}}
}

func TestCheckJobs(t *testing.T) {
	s := submitted{acked: map[string]job.ID{"a": 1, "b": 2}, unknown: map[string]bool{"c": true}}
	tests := []struct {
		name string
		jobs []*job.Job
		want string
	}{
		{"all there, the unknown one not", []*job.Job{row(1, "a"), row(2, "b")}, ""},
		{"all there, the unknown one too", []*job.Job{row(1, "a"), row(2, "b"), row(3, "c")}, ""},
		{"an acknowledged one is lost", []*job.Job{row(1, "a")}, "1"},
		{"one has another id", []*job.Job{row(1, "a"), row(7, "b")}, "1"},
		{"one is there twice", []*job.Job{row(1, "a"), row(2, "b"), row(3, "b")}, "1"},
		{"the unknown one is there twice", []*job.Job{row(1, "a"), row(2, "b"), row(3, "c"), row(4, "c")}, "1"},
		{"one that nobody submitted", []*job.Job{row(1, "a"), row(2, "b"), row(9, "x")}, "1"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := seen(func(f *findings) { checkJobs("n1", s, tt.jobs, f) }); got != tt.want {
				t.Errorf("saw %q, want %q", got, tt.want)
			}
		})
	}
}

func TestCheckFeed(t *testing.T) {
	ev := func(i uint64, typ job.EventType, fence job.Fence) job.Event {
		return job.Event{ID: job.EventID{Index: i}, Type: typ, Job: 1, Fence: fence, Agent: "a"}
	}
	begin := ev(1, job.JobSubmitted, 0)
	tests := []struct {
		name string
		rest []job.Event
		want string
	}{
		{"an ordinary life", []job.Event{ev(2, job.JobDispatched, 2), ev(3, job.JobStarted, 2), ev(4, job.JobCompleted, 2)}, ""},
		{"lost and done again", []job.Event{ev(2, job.JobDispatched, 2), ev(3, job.JobLost, 2), ev(4, job.JobDispatched, 4), ev(5, job.JobCompleted, 4)}, ""},
		{"failed, retried by hand", []job.Event{ev(2, job.JobDispatched, 2), ev(3, job.JobFailed, 2), ev(4, job.JobRetried, 2), ev(5, job.JobDispatched, 5), ev(6, job.JobCompleted, 5)}, ""},
		{"cancelled before it began", []job.Event{ev(2, job.JobCancelled, 0)}, ""},
		{"dispatched while it is dispatched", []job.Event{ev(2, job.JobDispatched, 2), ev(3, job.JobDispatched, 3)}, "3"},
		{"a fence that falls", []job.Event{ev(2, job.JobDispatched, 5), ev(3, job.JobLost, 5), ev(4, job.JobDispatched, 4)}, "3"},
		{"completed twice", []job.Event{ev(2, job.JobDispatched, 2), ev(3, job.JobCompleted, 2), ev(4, job.JobCompleted, 2)}, "2"},
		{"completed by a stale attempt", []job.Event{ev(2, job.JobDispatched, 2), ev(3, job.JobLost, 2), ev(4, job.JobDispatched, 4), ev(5, job.JobCompleted, 2)}, "2"},
		{"dispatched after its end", []job.Event{ev(2, job.JobDispatched, 2), ev(3, job.JobCompleted, 2), ev(4, job.JobDispatched, 4)}, "3"},
		{"submitted twice", []job.Event{ev(2, job.JobSubmitted, 0)}, "2"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := seen(func(f *findings) { checkFeed(append([]job.Event{begin}, tt.rest...), f) }); got != tt.want {
				t.Errorf("saw %q, want %q", got, tt.want)
			}
		})
	}
}

func TestCheckFeeds(t *testing.T) {
	ev := func(i uint64, typ job.EventType) job.Event {
		return job.Event{ID: job.EventID{Index: i}, Type: typ, Job: 1}
	}
	want := []job.Event{ev(1, job.JobSubmitted), ev(2, job.JobDispatched), ev(4, job.JobCompleted)}
	tests := []struct {
		name string
		have []job.Event
		want string
	}{
		{"equal", want, ""},
		{"longer than what the listener saw", append(slices.Clone(want), ev(5, job.JobDeleted)), ""},
		{"without the oldest", want[1:], ""},
		{"a gap", []job.Event{want[0], want[2]}, "6"},
		{"another content", []job.Event{want[0], ev(2, job.JobStarted), want[2]}, "6"},
		{"shorter", want[:2], "6"},
		{"empty", nil, "6"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := seen(func(f *findings) { checkFeeds("n1", tt.have, want, f) }); got != tt.want {
				t.Errorf("saw %q, want %q", got, tt.want)
			}
		})
	}
}

func TestCheckExecutions(t *testing.T) {
	at := func(agent string, run int, fence uint64, what string, at int64) stamp {
		return stamp{Job: 1, Fence: fence, Agent: agent, What: what, At: at, Run: run}
	}
	given := map[attemptKey]dispatch{{1, 5}: {agent: "a"}, {1, 9}: {agent: "b"}}
	tests := []struct {
		name   string
		stamps []stamp
		pauses map[string][]interval
		want   string
	}{
		{"one after the other", []stamp{at("a", 1, 5, "begin", 10), at("a", 1, 5, "step", 20), at("b", 2, 9, "begin", 30), at("b", 2, 9, "end", 40)}, nil, ""},
		{"the first notices its end late, without working", []stamp{at("a", 1, 5, "begin", 10), at("b", 2, 9, "begin", 30), at("a", 1, 5, "quit", 35), at("b", 2, 9, "end", 40)}, nil, ""},
		{"both at once", []stamp{at("a", 1, 5, "begin", 10), at("b", 2, 9, "begin", 30), at("a", 1, 5, "step", 35)}, nil, "3"},
		{"both at once, but the first was stopped", []stamp{at("a", 1, 5, "begin", 10), at("b", 2, 9, "begin", 30), at("a", 1, 5, "step", 35)}, map[string][]interval{"a": {{12, 34}}}, ""},
		{"begun twice", []stamp{at("a", 1, 5, "begin", 10), at("a", 1, 5, "end", 11), at("a", 1, 5, "begin", 20)}, nil, "3"},
		{"begun by two processes", []stamp{at("a", 1, 5, "begin", 10), at("a", 2, 5, "begin", 20)}, nil, "3"},
		{"not dispatched", []stamp{at("a", 1, 6, "begin", 10)}, nil, "3"},
		{"dispatched to another", []stamp{at("b", 1, 5, "begin", 10)}, nil, "3"},
		{"the older attempt begins after the newer one", []stamp{at("b", 2, 9, "begin", 10), at("a", 1, 5, "begin", 20)}, nil, "3"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := seen(func(f *findings) { checkExecutions(tt.stamps, given, tt.pauses, f) }); got != tt.want {
				t.Errorf("saw %q, want %q", got, tt.want)
			}
		})
	}
}

func TestCheckResults(t *testing.T) {
	done := func(result string, resource ...uint64) string {
		j := row(1, "t")
		j.State, j.Fence, j.Result = job.Completed, 9, job.JSON(result)
		j.Attempts = []job.Attempt{{Fence: 5, Agent: "a"}, {Fence: 9, Agent: "b"}}
		return seen(func(f *findings) { checkResults([]*job.Job{j}, map[int64][]uint64{1: resource}, f) })
	}
	tests := []struct{ name, got, want string }{
		{"by the newest attempt", done(`{"token":"t","agent":"b","fence":9}`, 5, 9, 9), ""},
		{"by a stale attempt", done(`{"token":"t","agent":"a","fence":5}`, 5, 9), "3"},
		{"by another agent", done(`{"token":"t","agent":"a","fence":9}`, 5, 9), "3"},
		{"the result of another job", done(`{"token":"u","agent":"b","fence":9}`, 5, 9), "1"},
		{"the resource saw a newer attempt", done(`{"token":"t","agent":"b","fence":9}`, 5, 9, 12), "3"},
	}
	for _, tt := range tests {
		if tt.got != tt.want {
			t.Errorf("%s: saw %q, want %q", tt.name, tt.got, tt.want)
		}
	}
}

func TestCheckLinear(t *testing.T) {
	read := func(c int, call, end int64, rev uint64, state string) op {
		return op{Client: c, Kind: opRead, Call: call, Return: end, OK: true, Rev: rev, State: state}
	}
	write := func(c, kind int, call, end int64, ok bool) op {
		return op{Client: c, Kind: kind, Call: call, Return: end, OK: ok}
	}
	open := op{Client: 5, Kind: opCancel, Call: 10, Open: true}
	tests := []struct {
		name string
		ops  []op
		want string
	}{
		{"one after the other", []op{write(0, opCancel, 1, 2, true), read(1, 3, 4, 2, "cancelled"), write(0, opRetry, 5, 6, true), read(1, 7, 8, 3, "pending")}, ""},
		{"a read at the same time may see either", []op{write(0, opCancel, 1, 10, true), read(1, 2, 3, 1, "pending"), read(2, 4, 5, 2, "cancelled")}, ""},
		{"an open write may have happened", []op{open, read(1, 11, 12, 2, "cancelled")}, ""},
		{"an open write may not have happened", []op{open, read(1, 11, 12, 1, "pending")}, ""},
		{"an open write may happen late", []op{open, read(1, 11, 12, 1, "pending"), read(1, 13, 14, 2, "cancelled")}, ""},
		{"a stale read", []op{write(0, opCancel, 1, 2, true), read(1, 3, 4, 1, "pending")}, "5"},
		{"reads that go back", []op{write(0, opCancel, 1, 20, true), read(1, 2, 3, 2, "cancelled"), read(2, 4, 5, 1, "pending")}, "5"},
		{"a write that is lost", []op{write(0, opCancel, 1, 2, true), write(0, opCancel, 3, 4, true)}, "5"},
		{"a write that happened twice", []op{write(0, opCancel, 1, 2, false), read(1, 3, 4, 2, "cancelled")}, "5"},
		{"an open write that happens and is undone", []op{open, read(1, 11, 12, 2, "cancelled"), read(1, 13, 14, 1, "pending")}, "5"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			x := &register{id: 1, ops: tt.ops}
			dir := t.TempDir()
			if got := seen(func(f *findings) { checkLinear([]*register{x}, f, dir) }); got != tt.want {
				t.Errorf("saw %q, want %q", got, tt.want)
			}
		})
	}
}

func TestScheduleFollowsTheSeed(t *testing.T) {
	names := func(seed uint64) (out []string) {
		for _, p := range schedule(options{seed: seed, duration: time.Minute}, catalogue()) {
			out = append(out, p.fault.name+p.hold.String())
		}
		return out
	}
	if !slices.Equal(names(7), names(7)) {
		t.Error("the same seed gave two schedules")
	}
	if slices.Equal(names(7), names(8)) {
		t.Error("two seeds gave the same schedule")
	}
}

// TestNetworkKnowsWhoConnects cuts one direction between this process and a server
// behind a proxy.
func TestNetworkKnowsWhoConnects(t *testing.T) {
	res, err := newResource()
	if err != nil {
		t.Fatal(err)
	}
	defer res.close()
	n := newNetwork()
	defer n.close()
	addr, err := n.serve("resource", res.l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	if err := useResource(addr, "1", 5); err != nil {
		t.Fatal(err)
	}
	n.silence(link{"resource", clients})
	if err := useResource(addr, "1", 6); err == nil {
		t.Error("an answer came although answers are lost")
	}
	res.mu.Lock()
	highest := res.highest[1]
	res.mu.Unlock()
	if highest != 6 {
		t.Errorf("the resource has fence %d; what was asked for must happen although its answer is lost", highest)
	}
	n.heal()
	n.block(link{clients, "resource"})
	done := make(chan error, 1)
	go func() { done <- useResource(addr, "1", 7) }()
	select {
	case err := <-done:
		t.Errorf("something came through a cut link: %v", err)
	case <-time.After(300 * time.Millisecond):
	}
	n.heal()
	if err := <-done; err != nil {
		t.Errorf("after healing: %v", err)
	}
}
