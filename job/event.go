package job

//msgp:replace Time with:int64
//msgp:replace Duration with:int64
//msgp:replace State with:uint8
//msgp:replace JSON with:[]byte
//msgp:replace ID with:int64
//msgp:replace Fence with:uint64

import (
	"fmt"
	"strconv"
	"strings"
)

// EventID is the place of an event in the feed: the index of the log entry, and
// which of that entry's events it is, counted from 0. It is the same on every
// node. The zero EventID is before every event.
type EventID struct {
	Index uint64 `msg:"i"`
	N     uint32 `msg:"n"`
}

// String returns "index.n".
func (e EventID) String() string { return fmt.Sprintf("%d.%d", e.Index, e.N) }

// Less reports whether e comes before o in the feed.
func (e EventID) Less(o EventID) bool {
	return e.Index < o.Index || e.Index == o.Index && e.N < o.N
}

// ParseEventID is the inverse of String. A bare "index" means all of that entry.
func ParseEventID(s string) (EventID, error) {
	a, b, dot := strings.Cut(s, ".")
	i, err := strconv.ParseUint(a, 10, 64)
	if err != nil {
		return EventID{}, fmt.Errorf("%q is not an event id such as 1234.0", clip([]byte(s)))
	}
	n := uint64(1<<32 - 1)
	if dot {
		if n, err = strconv.ParseUint(b, 10, 32); err != nil {
			return EventID{}, fmt.Errorf("%q is not an event id such as 1234.0", clip([]byte(s)))
		}
	}
	return EventID{i, uint32(n)}, nil
}

// MarshalText implements encoding.TextMarshaler.
func (e EventID) MarshalText() ([]byte, error) { return []byte(e.String()), nil }

// UnmarshalText implements encoding.TextUnmarshaler.
func (e *EventID) UnmarshalText(b []byte) error {
	v, err := ParseEventID(string(b))
	if err != nil {
		return err
	}
	*e = v
	return nil
}

// EventType is what happened.
type EventType uint8

// The types. The numbers are stored and never change.
const (
	JobSubmitted EventType = iota + 1
	JobReady
	JobDispatched
	JobStarted
	JobProgressed
	JobCompleted
	// JobRetrying is an attempt that failed or timed out, with another to come.
	JobRetrying
	JobFailed
	JobTimedOut
	// JobLost is an attempt whose agent vanished; the job is waiting again.
	JobLost
	// JobRevoked is a dispatch that was taken back; the job is waiting again.
	JobRevoked
	JobCancelRequested
	JobCancelled
	JobExpired
	// JobRetried, JobPromoted and JobRedriven are done by a person or program.
	JobRetried
	JobPromoted
	JobRedriven
	JobDeleted
	QueuePaused
	QueueResumed
	AgentConnected
	AgentChanged
	AgentGone
	// ScheduleSet is a schedule that was made or changed.
	ScheduleSet
	ScheduleDeleted
	SchedulePaused
	ScheduleResumed
	// ScheduleFired made a job: a tick, in time or late, or somebody by hand.
	ScheduleFired
	// ScheduleSkipped is one or several ticks that made none.
	ScheduleSkipped
	// ScheduleQueued is a tick that waits for open jobs of its schedule to end.
	ScheduleQueued
)

var eventNames = [...]string{
	"", "job.submitted", "job.ready", "job.dispatched", "job.started", "job.progressed", "job.completed",
	"job.retrying", "job.failed", "job.timed_out", "job.lost", "job.revoked", "job.cancel_requested", "job.cancelled",
	"job.expired", "job.retried", "job.promoted", "job.redriven", "job.deleted",
	"queue.paused", "queue.resumed", "agent.connected", "agent.changed", "agent.gone",
	"schedule.set", "schedule.deleted", "schedule.paused", "schedule.resumed", "schedule.fired", "schedule.skipped", "schedule.queued",
}

// EventTypes lists the names of all event types.
func EventTypes() []string { return eventNames[1:] }

// String returns the word used in API, CLI and docs, such as "job.completed".
func (t EventType) String() string {
	if int(t) < len(eventNames) {
		return eventNames[t]
	}
	return fmt.Sprintf("event(%d)", uint8(t))
}

// ParseEventType is the inverse of String.
func ParseEventType(s string) (EventType, error) {
	for i, n := range eventNames {
		if i > 0 && n == s {
			return EventType(i), nil
		}
	}
	return 0, fmt.Errorf("%q is not an event type", clip([]byte(s)))
}

// MarshalText implements encoding.TextMarshaler.
func (t EventType) MarshalText() ([]byte, error) { return []byte(t.String()), nil }

// UnmarshalText implements encoding.TextUnmarshaler.
func (t *EventType) UnmarshalText(b []byte) error {
	v, err := ParseEventType(string(b))
	if err != nil {
		return err
	}
	*t = v
	return nil
}

// Event is one entry of the ordered, replayable feed of everything that happened.
type Event struct {
	ID EventID `json:"id" msg:"-"`
	// Time is the leader's clock, from the log entry.
	Time Time      `json:"time" msg:"-"`
	Type EventType `json:"type" msg:"e"`

	Job     ID     `json:"job,omitempty" msg:"j,omitempty"`
	JobType string `json:"job_type,omitempty" msg:"t,omitempty"`
	Queue   string `json:"queue,omitempty" msg:"q,omitempty"`
	// State is the job's after the event.
	State State `json:"state,omitempty,omitzero" msg:"s,omitempty"`
	Fence Fence `json:"fence,omitempty" msg:"f,omitempty"`
	// Attempt is the number of the attempt that the event is about.
	Attempt int    `json:"attempt,omitempty" msg:"n,omitempty"`
	Agent   string `json:"agent,omitempty" msg:"a,omitempty"`
	// Schedule is set in events about schedules.
	Schedule string `json:"schedule,omitempty" msg:"sc,omitempty"`
	// Detail is a sentence for people: an error message, a reason.
	Detail string `json:"detail,omitempty" msg:"d,omitempty"`

	// Row is the job as the log entry of the event left it, when this node applied
	// that entry lately; nil for JobDeleted. It is nil in events read back from the
	// store, and never leaves the process.
	Row *Job `json:"-" msg:"-"`
	// AgentRow is the like for events about agents.
	AgentRow *Agent `json:"-" msg:"-"`
}

// OfSchedule reports whether the type is about a schedule.
func (t EventType) OfSchedule() bool { return t >= ScheduleSet && t <= ScheduleQueued }

// Ended reports whether the event is the job's one transition to an end state.
func (e Event) Ended() bool {
	switch e.Type {
	case JobCompleted, JobFailed, JobTimedOut, JobCancelled, JobExpired:
		return true
	default:
		return false
	}
}
