package scheduler

import (
	"time"

	"github.com/orrery-io/orrery/command"
	"github.com/orrery-io/orrery/job"
	"github.com/orrery-io/orrery/wire"
)

// progressEvery is how often the progress of one attempt is recorded at most.
const progressEvery = time.Second

// maxLogBacklog bounds the log lines that wait to be recorded, in bytes. What comes
// beyond is dropped and counted: it has been shown live, and the work goes on.
const maxLogBacklog = 64 << 20

// ack takes an agent's word that it has a dispatch.
func (t *term) ack(a *agent, m *wire.Ack, now time.Duration) {
	if att := t.owns(a, m.Job, m.Fence); att != nil {
		t.acknowledge(att, now)
	}
}

// started takes an agent's word that a handler has been running for a while.
func (t *term) started(a *agent, m *wire.Start, now time.Duration, fx *effects) {
	att := t.owns(a, m.Job, m.Fence)
	if att == nil || att.finishing {
		return
	}
	t.acknowledge(att, now)
	att.waiting = false
	t.begin(att, now-time.Duration(max(0, m.Running))*time.Millisecond, now)
	if !att.running {
		t.recordStart(att, fx)
	}
}

func (t *term) recordStart(att *attempt, fx *effects) {
	att.running = true
	fx.propose(&command.Start{Job: att.id, Fence: att.fence}, nil)
}

// progressOf keeps the newest progress of an attempt, and has it recorded at once
// or when the last record is old enough.
func (t *term) progressOf(a *agent, m *wire.Progress, now time.Duration, fx *effects) {
	att := t.owns(a, m.Job, m.Fence)
	if att == nil || att.finishing {
		return
	}
	att.progress = &job.Progress{
		Percent: m.Percent, Step: m.Step, Steps: m.Steps, Message: clip(m.Message, maxFailureMessage), At: job.At(time.Now()),
	}
	if att.progressed == 0 || att.progressed+progressEvery <= now {
		t.recordProgress(att, now, fx)
	} else {
		att.progressAt = att.progressed + progressEvery
	}
	t.arm(att)
}

func (t *term) recordProgress(att *attempt, now time.Duration, fx *effects) {
	p := *att.progress
	att.progress, att.progressed, att.progressAt = nil, max(now, 1), 0
	fx.propose(&command.Progress{Job: att.id, Fence: att.fence, Progress: p}, nil)
}

// logOf has lines of an attempt's log recorded. They come before its end, because
// the record loop keeps the order.
func (t *term) logOf(a *agent, m *wire.Log, fx *effects) {
	att := t.owns(a, m.Job, m.Fence)
	if att == nil || att.finishing {
		return
	}
	size, last := 0, att.logSeq
	lines := make([]job.LogLine, 0, len(m.Lines))
	for _, l := range m.Lines {
		// After a broken connection lines may come again.
		if l.Seq > last {
			last = l.Seq
			lines = append(lines, job.LogLine{Seq: l.Seq, Time: job.Time(l.Time), Level: l.Level, Text: l.Text})
			size += len(l.Text) + 32
		}
	}
	if len(lines) == 0 {
		return
	}
	att.logSeq = last
	if t.logBacklog+size > maxLogBacklog {
		t.s.metrics.droppedLogLines.Add(float64(len(lines)))
		return
	}
	t.logBacklog += size
	fx.propose(&command.AppendLog{Job: att.id, Fence: att.fence, Lines: lines}, func(command.Result, error, *effects) {
		t.logBacklog -= size
	})
}
