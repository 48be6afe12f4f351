package agentconn

import "github.com/orrery-io/orrery/wire"

// A result stays with the agent until it is acknowledged; a reject is said once. If it
// were lost on its way to the leader, the next heartbeat would look as if the agent had
// lost the attempt. So the node repeats it, before each heartbeat and whenever the
// session is announced, until the leader has answered a heartbeat that came after it.

// maxRejects bounds what is repeated of one session; the oldest go first.
const maxRejects = 4096

// rejects are guarded by session.up.
type rejects struct {
	list []rejected
}

type rejected struct {
	reject *wire.Reject
	// seq is that of the first heartbeat that came after it; 0 is none yet.
	seq uint64
}

// note takes the rejects of a frame, and returns the frame with those that are to be
// repeated. beaten is the last heartbeat that was answered.
func (r *rejects) note(msgs []wire.Message, beaten uint64) []wire.Message {
	done := 0
	for done < len(r.list) && r.list[done].seq != 0 && r.list[done].seq <= beaten {
		done++
	}
	if r.list = r.list[done:]; len(r.list) == 0 {
		r.list = nil
	}
	repeat := len(r.list)
	var out []wire.Message
	for i, m := range msgs {
		switch {
		case m.Reject != nil:
			r.list = append(r.list, rejected{reject: m.Reject})
		case m.Heartbeat != nil && len(r.list) > 0:
			if out == nil {
				out = append(make([]wire.Message, 0, len(msgs)+repeat), msgs[:i]...)
			}
			for k := range r.list {
				if k < repeat {
					out = append(out, wire.Message{Reject: r.list[k].reject})
				}
				if r.list[k].seq == 0 {
					r.list[k].seq = m.Heartbeat.Seq
				}
			}
			repeat = 0
		}
		if out != nil {
			out = append(out, m)
		}
	}
	if over := len(r.list) - maxRejects; over > 0 {
		r.list = r.list[over:]
	}
	if out == nil {
		return msgs
	}
	return out
}

// all returns them as messages.
func (r *rejects) all() []wire.Message {
	var msgs []wire.Message
	for _, x := range r.list {
		msgs = append(msgs, wire.Message{Reject: x.reject})
	}
	return msgs
}
