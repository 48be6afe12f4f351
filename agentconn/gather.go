package agentconn

import (
	"fmt"
	"time"

	"github.com/coder/websocket"
	"github.com/orrery-io/orrery/wire"
)

// How logs are gathered, so that lines written one by one cost few entries of the
// cluster's log, and an attempt that writes without end costs a bounded number.
const (
	gatherFor = time.Second // at most, from the first line
	chunkSize = 32 << 10    // bytes of a chunk, unless one line is longer
	// logBurst is how many bytes of one attempt are passed on within gatherFor;
	// what goes beyond is left out, and the log says so.
	logBurst = 256 << 10
	// lineOverhead is what a line costs beside its text.
	lineOverhead = 32
	// maxGathered bounds what waits in one session.
	maxGathered = 1 << 20
)

// gather holds log lines and progress that were not passed on yet. It is guarded
// by session.up.
type gather struct {
	open    map[attempt]*gathered
	pending int // bytes in all of open
	timer   *time.Timer
}

// gathered is what waits of one attempt.
type gathered struct {
	lines    []wire.LogLine
	size     int
	progress *wire.Progress
	passed   int // bytes since the last time that the timer fired
	left     left
}

// left describes lines that were left out.
type left struct {
	first, lines, bytes int64
	time                int64
}

// relay checks what the agent sent and gives it to the leader: the rest of the
// frame at once, log lines and progress after at most gatherFor, but always before
// the result of their attempt.
func (s *session) relay(msgs []wire.Message) *ending {
	good, e := s.check(msgs)
	msgs = msgs[:good]
	if len(msgs) == 0 {
		return e
	}
	if !s.track(msgs) {
		return fault("too_many_attempts", "the agent speaks of more attempts than it can have", websocket.StatusPolicyViolation, true)
	}
	s.hub.followers.publish(msgs)
	s.up.Lock()
	defer s.up.Unlock()
	if out := s.sift(s.rejects.note(msgs, s.answered())); len(out) > 0 {
		s.toLeader(wire.Envelope{Messages: out})
	}
	return e
}

// sift returns what of msgs goes to the leader now, with what waited and comes
// before it, and gathers the rest.
func (s *session) sift(msgs []wire.Message) []wire.Message {
	if len(s.open) == 0 && !hasLogs(msgs) {
		return msgs
	}
	out := make([]wire.Message, 0, len(msgs))
	for _, m := range msgs {
		switch {
		case m.Log != nil:
			out = s.gatherLog(out, m.Log)
		case m.Progress != nil:
			s.of(attempt{m.Progress.Job, m.Progress.Fence}).progress = m.Progress
		case m.Result != nil:
			out = s.settle(out, attempt{m.Result.Job, m.Result.Fence})
			out = append(out, m)
		case m.Reject != nil:
			out = s.settle(out, attempt{m.Reject.Job, m.Reject.Fence})
			out = append(out, m)
		default:
			out = append(out, m)
		}
	}
	if s.pending > maxGathered {
		out = s.passAll(out)
	}
	if len(s.open) > 0 && s.timer == nil {
		s.timer = time.AfterFunc(gatherFor, s.tick)
	}
	return out
}

func hasLogs(msgs []wire.Message) bool {
	for i := range msgs {
		if msgs[i].Log != nil || msgs[i].Progress != nil {
			return true
		}
	}
	return false
}

// of returns what waits of an attempt.
func (s *session) of(a attempt) *gathered {
	g := s.open[a]
	if g == nil {
		if s.open == nil {
			s.open = make(map[attempt]*gathered)
		}
		g = new(gathered)
		s.open[a] = g
	}
	return g
}

// gatherLog takes lines in, and appends chunks that are full to out.
func (s *session) gatherLog(out []wire.Message, l *wire.Log) []wire.Message {
	s.hub.metrics.logLines.Add(float64(len(l.Lines)))
	a := attempt{l.Job, l.Fence}
	g := s.of(a)
	for _, line := range l.Lines {
		size := len(line.Text) + lineOverhead
		if g.passed+g.size+size > logBurst || g.left.lines > 0 {
			if g.left.lines == 0 {
				g.left.first, g.left.time = line.Seq, line.Time
			}
			g.left.lines++
			g.left.bytes += int64(len(line.Text))
			s.hub.metrics.logDropped.Inc()
			continue
		}
		if g.size+size > chunkSize {
			out = s.pass(out, a, g)
		}
		g.lines = append(g.lines, line)
		g.size += size
		s.pending += size
	}
	return out
}

// pass appends what waits of an attempt to out.
func (s *session) pass(out []wire.Message, a attempt, g *gathered) []wire.Message {
	if len(g.lines) > 0 {
		out = append(out, wire.Message{Log: &wire.Log{Job: a.job, Fence: a.fence, Lines: g.lines}})
		s.pending -= g.size
		g.passed += g.size
		g.lines, g.size = nil, 0
	}
	if g.progress != nil {
		out = append(out, wire.Message{Progress: g.progress})
		g.progress = nil
	}
	return out
}

// passRest does the same and says what was left out.
func (s *session) passRest(out []wire.Message, a attempt, g *gathered) []wire.Message {
	if n := g.left; n.lines > 0 {
		g.lines = append(g.lines, wire.LogLine{
			Seq: n.first, Time: n.time, Level: "warn",
			Text: fmt.Sprintf("[%d lines of %d bytes left out: more than %d KiB within a second]", n.lines, n.bytes, logBurst>>10),
		})
		g.left = left{}
	}
	return s.pass(out, a, g)
}

// settle passes on what waits of an attempt that has ended.
func (s *session) settle(out []wire.Message, a attempt) []wire.Message {
	if g := s.open[a]; g != nil {
		out = s.passRest(out, a, g)
		delete(s.open, a)
	}
	return out
}

func (s *session) passAll(out []wire.Message) []wire.Message {
	for a, g := range s.open {
		out = s.passRest(out, a, g)
	}
	clear(s.open)
	return out
}

// flush gives the leader all that waits; s.up is held.
func (s *session) flush() {
	if out := s.passAll(nil); len(out) > 0 {
		s.toLeader(wire.Envelope{Messages: out})
	}
}

// tick is called by the timer.
func (s *session) tick() {
	s.up.Lock()
	defer s.up.Unlock()
	s.timer = nil
	if !s.down {
		s.flush()
		s.open = nil // an idle session keeps no memory for it
	}
}

// stopGathering ends the timer; s.up is held.
func (s *session) stopGathering() {
	if s.timer != nil {
		s.timer.Stop()
		s.timer = nil
	}
}
