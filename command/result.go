package command

//msgp:replace job.Time with:int64
//msgp:replace job.ID with:int64
//msgp:replace job.Fence with:uint64
//msgp:replace job.State with:uint8
//msgp:replace job.Outcome with:uint8
//msgp:replace job.JSON with:[]byte

import "github.com/orrery-io/orrery/job"

// Result answers one item of an entry. The zero Result is a success with nothing
// to tell.
type Result struct {
	// Index is that of the log entry.
	Index uint64 `msg:"i"`
	// Job is the job that was made or, for a repeated idempotency key, found.
	Job job.ID `msg:"j,omitempty"`
	// Jobs are those of a SubmitAll, in order.
	Jobs []job.ID `msg:"js,omitempty"`
	// Existing means that Job was there before.
	Existing bool `msg:"x,omitempty"`
	// Dispatched means that a Submit's Assign was carried out.
	Dispatched bool `msg:"d,omitempty"`
	// Count is how many jobs a command on many of them changed.
	Count int `msg:"c,omitempty"`
	// Err is why the command was refused; nothing was stored then.
	Err *job.Error `msg:"e,omitempty"`
}

// Error returns Err as an error, nil for a success.
func (r Result) Error() error {
	if r.Err == nil {
		return nil
	}
	return r.Err
}
