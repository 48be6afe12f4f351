package agent

import (
	"fmt"
	"log/slog"
	"math"
	"time"

	"github.com/orrery-io/orrery/job"
	"github.com/orrery-io/orrery/wire"
)

// Job is one attempt of a job as its handler sees it: the decoded payload, and
// what RawJob has.
type Job[In any] struct {
	*RawJob
	// Args is the decoded payload.
	Args In
}

// RawJob is one attempt of a job, its payload not decoded. The fields are not to
// be changed. The methods may be called by several goroutines, and do nothing
// after the handler has returned. A RawJob that a test makes for a handler says
// nothing to anybody.
type RawJob struct {
	ID    job.ID
	Fence job.Fence
	Type  string
	Queue string
	// Attempt counts from 1.
	Attempt     int
	MaxAttempts int
	Priority    int
	// Payload is the payload as it was submitted, when it is JSON; PayloadBytes when
	// it is raw bytes. Both may be empty.
	Payload      job.JSON
	PayloadBytes []byte
	// CreatedAt is when the submission was recorded, by the cluster's clock.
	CreatedAt time.Time
	// Timeout bounds the attempt; zero means no limit. The context has the deadline.
	Timeout       time.Duration
	Metadata      map[string]string
	Tags          []string
	CorrelationID string
	Traceparent   string
	// Schedule is the name of the schedule that made the job, "" for none. Tick is the
	// planned time that the job stands for; zero for a job made by hand.
	Schedule string
	Tick     time.Time

	attempt *attempt
}

func newRawJob(d *wire.Dispatch, at *attempt) RawJob {
	return RawJob{
		ID: d.Job, Fence: d.Fence, Type: d.Type, Queue: d.Queue,
		Attempt: d.Attempt, MaxAttempts: d.MaxAttempts, Priority: d.Priority,
		Payload: d.Payload, PayloadBytes: d.PayloadBytes,
		CreatedAt: job.Time(d.CreatedAt).Time(), Timeout: milliseconds(d.Timeout),
		Metadata: d.Metadata, Tags: d.Tags, CorrelationID: d.CorrelationID, Traceparent: d.Traceparent,
		Schedule: d.Schedule, Tick: job.Time(d.Tick).Time(),
		attempt: at,
	}
}

// Log returns a logger whose records become lines of the job's log: the message,
// then the attributes as key=value.
func (j *RawJob) Log() *slog.Logger {
	if j.attempt == nil {
		return slog.New(slog.DiscardHandler)
	}
	return slog.New(&lineHandler{to: j.attempt})
}

// Logf adds a line to the job's log at level info.
func (j *RawJob) Logf(format string, args ...any) { j.Line("info", fmt.Sprintf(format, args...)) }

// Line adds text to the job's log as it is. Level is debug, info, warn or error,
// and for the output of a process stdout or stderr. Text of several lines becomes
// several; one of more than 64 KiB is cut. When lines come faster than the
// connection takes them, Line waits a moment; when there is no connection and the
// buffer is full, lines are left out and a line says how many.
func (j *RawJob) Line(level, text string) {
	if j.attempt != nil {
		j.attempt.line(time.Now(), level, text)
	}
}

// Progress says how far the handler is, 0 to 100, and what it is doing. It may be
// called often: only the latest is sent, at most ten times per second.
func (j *RawJob) Progress(percent float64, message string) {
	if math.IsNaN(percent) {
		percent = 0
	}
	j.report(wire.Progress{Percent: min(max(percent, 0), 100), Message: message})
}

// Step says that the handler is at step n of several, like Progress.
func (j *RawJob) Step(n, of int, message string) {
	n, of = max(n, 0), max(of, 0)
	p := wire.Progress{Step: n, Steps: of, Message: message}
	if of > 0 {
		p.Percent = min(float64(n)/float64(of)*100, 100)
	}
	j.report(p)
}

func (j *RawJob) report(p wire.Progress) {
	if j.attempt != nil {
		j.attempt.progress(p)
	}
}

// milliseconds converts a length from the wire. Absurd ones are bounded.
func milliseconds(ms int64) time.Duration {
	return time.Duration(min(max(ms, 0), int64(job.MaxDuration))) * time.Millisecond
}
