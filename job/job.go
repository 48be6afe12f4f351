package job

//msgp:replace Time with:int64
//msgp:replace Duration with:int64
//msgp:replace State with:uint8
//msgp:replace JSON with:[]byte

import "strconv"

// ID names a job. Ids come from one sequence assigned in apply: they grow in the
// order in which things were recorded, are the same on every node, and are never
// used twice. Zero is no job.
type ID int64

// String returns the decimal form.
func (id ID) String() string { return strconv.FormatInt(int64(id), 10) }

// Fence tells attempts of one job apart: the log index of the dispatch. It only
// grows; whatever carries an older one is refused. Zero means "no attempt".
type Fence uint64

// Backoff is how the delay between attempts grows.
type Backoff uint8

// The backoffs. The zero value is exponential.
const (
	Exponential Backoff = iota
	Linear
	Fixed
	List
)

// Retry is the policy for the delay between a failed attempt and the next one.
// The zero value means the defaults of DefaultRetry.
type Retry struct {
	Backoff    Backoff    `json:"backoff,omitempty" msg:"b,omitempty"`
	Initial    Duration   `json:"initial,omitempty" msg:"i,omitempty"`
	Max        Duration   `json:"max,omitempty" msg:"m,omitempty"`
	Multiplier float64    `json:"multiplier,omitempty" msg:"x,omitempty"`
	Delays     []Duration `json:"delays,omitempty" msg:"d,omitempty"`
	// NoJitter switches the jitter (±25 %) off.
	NoJitter bool `json:"no_jitter,omitempty" msg:"n,omitempty"`
}

// Spec is what a submission asks for, checked and with its defaults filled in.
type Spec struct {
	Type  string `json:"type" msg:"t"`
	Queue string `json:"queue" msg:"q"`
	// Payload is any JSON value; PayloadBytes are raw bytes. At most one is set.
	Payload      JSON   `json:"payload,omitempty" msg:"p,omitempty"`
	PayloadBytes []byte `json:"payload_bytes,omitempty" msg:"pb,omitempty"`
	// Priority is 0 to 9, higher first.
	Priority int `json:"priority" msg:"pr,omitempty"`
	// MaxAttempts counts executions that failed or timed out; at least 1.
	MaxAttempts int `json:"max_attempts" msg:"ma,omitempty"`
	// Retry is the delay policy between attempts.
	Retry Retry `json:"retry,omitzero" msg:"r,omitempty"`
	// Timeout bounds one attempt; zero means no limit.
	Timeout Duration `json:"timeout,omitempty" msg:"to,omitempty"`
	// Lease is how long an agent may be silent before its attempt is lost; zero
	// means the node's default (15 s). It lengthens that of the agent's session and
	// never shortens it: one heartbeat renews all that an agent has.
	Lease Duration `json:"lease,omitempty" msg:"le,omitempty"`
	// ExpiresAt is the deadline for the first start; zero means none.
	ExpiresAt Time `json:"expires_at,omitempty,omitzero" msg:"ex,omitempty"`
	// RunAt is when the job may first run; zero means at once.
	RunAt         Time     `json:"run_at,omitempty,omitzero" msg:"ra,omitempty"`
	Tags          []string `json:"tags,omitempty" msg:"tg,omitempty"`
	Metadata      Labels   `json:"metadata,omitempty" msg:"md,omitempty"`
	CorrelationID string   `json:"correlation_id,omitempty" msg:"ci,omitempty"`
	Traceparent   string   `json:"traceparent,omitempty" msg:"tp,omitempty"`
	// IdempotencyKey makes a repeated submission return the first job.
	IdempotencyKey string `json:"idempotency_key,omitempty" msg:"ik,omitempty"`
	// Retention is how long the job is kept after it ended; zero means the node's
	// default for its end state.
	Retention Duration `json:"retention,omitempty" msg:"rt,omitempty"`
}

// Job is one row: a piece of work, where it stands, and all its attempts.
// Rows are immutable; apply makes a new version with Clone.
type Job struct {
	ID   ID `json:"id" msg:"id"`
	Spec `msg:"s"`

	State State `json:"state" msg:"st"`
	// Rev grows by one with every recorded change of this job.
	Rev uint64 `json:"revision" msg:"rv"`
	// CreatedAt is when the submission was recorded, by the leader's clock.
	CreatedAt Time `json:"created_at" msg:"ca"`
	// ReadyAt is when a waiting job may run; in Pending it orders the queue within
	// one priority.
	ReadyAt Time `json:"ready_at,omitempty,omitzero" msg:"rd,omitempty"`
	// StartedAt is the dispatch of the newest attempt.
	StartedAt Time `json:"started_at,omitempty,omitzero" msg:"sa,omitempty"`
	// FinishedAt is when the job reached its end state.
	FinishedAt Time `json:"finished_at,omitempty,omitzero" msg:"fa,omitempty"`

	// Fence is that of the newest attempt. It is kept after the attempt's end.
	Fence Fence `json:"fence,omitempty" msg:"f,omitempty"`
	// Agent has the job in Dispatched and Running, and had it last otherwise.
	Agent string `json:"agent,omitempty" msg:"ag,omitempty"`
	// Failures counts attempts that failed or timed out: what MaxAttempts bounds.
	Failures int `json:"failures" msg:"nf,omitempty"`
	// Lost counts attempts whose agent vanished.
	Lost int `json:"lost" msg:"nl,omitempty"`
	// Attempts holds the newest attempts, at most MaxAttemptsKept, oldest first.
	// While the job is Dispatched or Running the last one is open (no FinishedAt).
	Attempts []Attempt `json:"attempts,omitempty" msg:"at,omitempty"`
	// AttemptsDropped counts older attempts that are no longer kept.
	AttemptsDropped int `json:"attempts_dropped,omitempty" msg:"ad,omitempty"`

	Result      JSON     `json:"result,omitempty" msg:"re,omitempty"`
	ResultBytes []byte   `json:"result_bytes,omitempty" msg:"rb,omitempty"`
	Error       *Failure `json:"error,omitempty" msg:"er,omitempty"`

	Progress *Progress `json:"progress,omitempty" msg:"pg,omitempty"`

	// CancelRequested is set while a running job is being asked to stop.
	CancelRequested bool   `json:"cancel_requested,omitempty" msg:"cr,omitempty"`
	CancelReason    string `json:"cancel_reason,omitempty" msg:"cx,omitempty"`

	// Schedule is the name of the schedule that made the job, and Tick the planned
	// time that it stands for, zero for one made by hand.
	Schedule string `json:"schedule,omitempty" msg:"sc,omitempty"`
	Tick     Time   `json:"tick,omitempty,omitzero" msg:"tk,omitempty"`

	// Trail holds the log indexes at which the job changed, the newest
	// MaxTrail of them, oldest first: where its events are in the feed.
	Trail []uint64 `json:"-" msg:"tr,omitempty"`
}

// Clone returns a copy whose scalar fields and slice of attempts may be changed.
// What else it points to (payload, labels, failures) is shared and immutable.
func (j *Job) Clone() *Job {
	c := *j
	c.Attempts = append(make([]Attempt, 0, len(j.Attempts)+1), j.Attempts...)
	return &c
}

// Attempt returns the number of the newest attempt, counted from 1; zero when the
// job was never dispatched.
func (j *Job) Attempt() int {
	if n := len(j.Attempts); n > 0 {
		return j.Attempts[n-1].Number
	}
	return j.AttemptsDropped
}

// Begun reports whether an agent ever took the job: it has an attempt that was
// not revoked. ExpiresAt no longer counts then.
func (j *Job) Begun() bool {
	if j.AttemptsDropped > 0 {
		return true
	}
	for i := range j.Attempts {
		if j.Attempts[i].Outcome != OutcomeRevoked {
			return true
		}
	}
	return false
}

// Outcome is how an attempt ended.
type Outcome uint8

// The outcomes. The zero Outcome means that the attempt has not ended.
const (
	// OutcomeCompleted means that the handler returned a result.
	OutcomeCompleted Outcome = iota + 1
	// OutcomeFailed means that the handler returned an error or panicked.
	OutcomeFailed
	// OutcomeTimedOut means that the attempt took longer than its timeout.
	OutcomeTimedOut
	// OutcomeLost means that the agent was silent for longer than the lease.
	OutcomeLost
	// OutcomeRevoked means that the agent never began: it did not acknowledge the
	// dispatch, refused it, or handed it back.
	OutcomeRevoked
	// OutcomeCancelled means that the attempt stopped because it was asked to.
	OutcomeCancelled
)

// Attempt is one execution of a job on one agent.
type Attempt struct {
	// Number counts from 1.
	Number int    `json:"number" msg:"n"`
	Fence  Fence  `json:"fence" msg:"f"`
	Agent  string `json:"agent" msg:"a"`
	Node   string `json:"node,omitempty" msg:"no,omitempty"`
	// DispatchedAt and the other times are the leader's.
	DispatchedAt Time     `json:"dispatched_at" msg:"d"`
	FinishedAt   Time     `json:"finished_at,omitempty,omitzero" msg:"e,omitempty"`
	Outcome      Outcome  `json:"outcome,omitempty,omitzero" msg:"o,omitempty"`
	Error        *Failure `json:"error,omitempty" msg:"er,omitempty"`
	// Logged is set once the attempt has a log.
	Logged bool `json:"logged,omitempty" msg:"lg,omitempty"`
}

// Failure says why an attempt, or a job, did not end well.
type Failure struct {
	// Kind groups failures: "error", "panic", "timeout", "exit", "lost",
	// "no_handler", or a word of the handler's own.
	Kind    string `json:"kind" msg:"k"`
	Message string `json:"message" msg:"m,omitempty"`
	Stack   string `json:"stack,omitempty" msg:"s,omitempty"`
	// ExitCode is set when the attempt was a process that ended with a code.
	ExitCode *int `json:"exit_code,omitempty" msg:"x,omitempty"`
	// Permanent means that the handler said not to retry.
	Permanent bool `json:"permanent,omitempty" msg:"p,omitempty"`
}

// Progress is how far the handler says it is.
type Progress struct {
	Percent float64 `json:"percent,omitempty" msg:"p,omitempty"`
	Step    int     `json:"step,omitempty" msg:"s,omitempty"`
	Steps   int     `json:"steps,omitempty" msg:"n,omitempty"`
	Message string  `json:"message,omitempty" msg:"m,omitempty"`
	At      Time    `json:"at,omitempty,omitzero" msg:"a,omitempty"`
}

// LogLine is one line that a handler logged.
type LogLine struct {
	// Seq counts the lines of one attempt from 1.
	Seq int64 `json:"seq" msg:"s"`
	// Time is the agent's clock.
	Time Time `json:"time" msg:"t"`
	// Level is debug, info, warn or error; for the output of a process, stdout or
	// stderr.
	Level string `json:"level" msg:"l"`
	Text  string `json:"text" msg:"x"`
}

// LogChunk is what is stored of a log at once: consecutive lines of one attempt.
type LogChunk struct {
	Fence Fence     `json:"fence" msg:"f"`
	Lines []LogLine `json:"lines" msg:"l"`
}

// Queue is one queue: it exists from the first job in it.
type Queue struct {
	Name   string `json:"name" msg:"n"`
	Paused bool   `json:"paused" msg:"p,omitempty"`
	// Reason says why it is paused.
	Reason   string `json:"reason,omitempty" msg:"r,omitempty"`
	PausedAt Time   `json:"paused_at,omitempty,omitzero" msg:"pa,omitempty"`
}
