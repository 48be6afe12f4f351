package command

//msgp:limit arrays:100000 maps:100000 marshal:true

//msgp:replace job.Time with:int64
//msgp:replace job.ID with:int64
//msgp:replace job.Fence with:uint64
//msgp:replace job.State with:uint8
//msgp:replace job.Outcome with:uint8
//msgp:replace job.JSON with:[]byte

import "github.com/orrery-io/orrery/job"

// Submit records a new job.
type Submit struct {
	Spec job.Spec `msg:"s"`
	// BodyHash tells whether a repeated idempotency key came with the same body.
	// It is only looked at when Spec.IdempotencyKey is set.
	BodyHash []byte `msg:"h,omitempty,limit=67108864"`
	// Assign dispatches the job in the same entry, because an agent is free.
	Assign *Assign `msg:"a,omitempty"`
}

// SubmitAll records several jobs, or none of them when one is refused.
type SubmitAll struct {
	Jobs []Submit `msg:"j"`
}

// Assign names the agent that gets a job.
type Assign struct {
	Agent   string `msg:"a"`
	Session string `msg:"s"`
	Node    string `msg:"n"`
}

// Ready makes jobs pending whose time has come. Jobs that are no longer
// scheduled are passed over.
type Ready struct {
	Jobs []job.ID `msg:"j"`
}

// Dispatch gives a pending job to an agent. The log index becomes its fence.
type Dispatch struct {
	Job    job.ID `msg:"j"`
	Assign Assign `msg:"a"`
}

// Start records that an attempt has been running for a while.
type Start struct {
	Job   job.ID    `msg:"j"`
	Fence job.Fence `msg:"f"`
}

// Progress records how far an attempt is.
type Progress struct {
	Job      job.ID       `msg:"j"`
	Fence    job.Fence    `msg:"f"`
	Progress job.Progress `msg:"p"`
}

// AppendLog stores lines of an attempt's log.
type AppendLog struct {
	Job   job.ID        `msg:"j"`
	Fence job.Fence     `msg:"f"`
	Lines []job.LogLine `msg:"l"`
}

// Finish ends an attempt, and says what becomes of the job.
type Finish struct {
	Job     job.ID      `msg:"j"`
	Fence   job.Fence   `msg:"f"`
	Outcome job.Outcome `msg:"o"`
	// Next is the job's state afterwards: an end state, Pending, or Scheduled
	// together with RunAt. The leader decides it; the state table checks it.
	Next  job.State `msg:"n"`
	RunAt job.Time  `msg:"r,omitempty"`

	Result      job.JSON     `msg:"re,omitempty,limit=67108864"`
	ResultBytes []byte       `msg:"rb,omitempty,limit=67108864"`
	Error       *job.Failure `msg:"e,omitempty"`
}

// Cancel ends a waiting job, and asks an active one to stop.
type Cancel struct {
	Job    job.ID `msg:"j"`
	Reason string `msg:"r,omitempty"`
}

// Expire ends a job that was not started by its deadline.
type Expire struct {
	Job job.ID `msg:"j"`
}

// Retry makes an ended job run again, or one between two attempts run now. It
// gets a full set of attempts again when it had none left.
type Retry struct {
	Job job.ID `msg:"j"`
}

// Promote makes a delayed job run now.
type Promote struct {
	Job job.ID `msg:"j"`
}

// Redrive takes jobs out of the dead letters and makes them pending with a full
// set of attempts. Jobs that are not dead letters are passed over and not counted
// in the Result.
type Redrive struct {
	Jobs []job.ID `msg:"j"`
	// Payload and Queue replace the jobs' own when set.
	Payload job.JSON `msg:"p,omitempty,limit=67108864"`
	Queue   string   `msg:"q,omitempty"`
}

// Delete removes ended jobs with all that belongs to them. Jobs that have not
// ended are passed over and not counted in the Result.
type Delete struct {
	Jobs []job.ID `msg:"j"`
	// OnlyDead passes over everything that is not a dead letter.
	OnlyDead bool `msg:"d,omitempty"`
}

// SetQueue pauses or resumes a queue. The queue need not exist yet.
type SetQueue struct {
	Queue  string `msg:"q"`
	Paused bool   `msg:"p,omitempty"`
	Reason string `msg:"r,omitempty"`
}
