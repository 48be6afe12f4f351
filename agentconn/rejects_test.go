package agentconn

import (
	"fmt"
	"slices"
	"testing"

	"github.com/orrery-io/orrery/job"
	"github.com/orrery-io/orrery/wire"
)

func TestRejects(t *testing.T) {
	var r rejects
	reject := func(id job.ID) wire.Message { return wire.Message{Reject: &wire.Reject{Job: id, Fence: 1}} }
	beat := func(seq uint64) wire.Message { return wire.Message{Heartbeat: &wire.Heartbeat{Seq: seq}} }
	ack := wire.Message{Ack: &wire.Ack{Job: 9, Fence: 1}}
	show := func(msgs []wire.Message) (out []string) {
		for _, m := range msgs {
			switch {
			case m.Reject != nil:
				out = append(out, fmt.Sprint("reject ", m.Reject.Job))
			case m.Heartbeat != nil:
				out = append(out, fmt.Sprint("beat ", m.Heartbeat.Seq))
			default:
				out = append(out, m.Kind())
			}
		}
		return out
	}
	for i, step := range []struct {
		in     []wire.Message
		beaten uint64
		want   []string
	}{
		{[]wire.Message{ack, beat(1)}, 0, []string{"ack", "beat 1"}},
		{[]wire.Message{reject(1), ack}, 1, []string{"reject 1", "ack"}},
		{[]wire.Message{ack, beat(2), reject(2), ack}, 1, []string{"ack", "reject 1", "beat 2", "reject 2", "ack"}},
		{[]wire.Message{reject(3), beat(3)}, 1, []string{"reject 3", "reject 1", "reject 2", "beat 3"}},
		{[]wire.Message{beat(4)}, 2, []string{"reject 2", "reject 3", "beat 4"}},
		{[]wire.Message{beat(5)}, 3, []string{"beat 5"}},
		{nil, 3, nil},
	} {
		if got := show(r.note(step.in, step.beaten)); !slices.Equal(got, step.want) {
			t.Errorf("step %d: got %q, want %q", i, got, step.want)
		}
	}
	for i := range 2 * maxRejects {
		r.note([]wire.Message{reject(job.ID(i + 1))}, 0)
	}
	if all := r.all(); len(all) != maxRejects || all[0].Reject.Job != maxRejects+1 {
		t.Errorf("%d are kept, from job %d on", len(all), all[0].Reject.Job)
	}
}
