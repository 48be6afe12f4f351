package command

//msgp:limit arrays:100000 maps:100000 marshal:true

//msgp:replace job.Time with:int64
//msgp:replace job.TickAction with:uint8

import "github.com/orrery-io/orrery/job"

// SetSchedule makes a schedule or gives it another definition.
type SetSchedule struct {
	Name string           `msg:"n"`
	Spec job.ScheduleSpec `msg:"s"`
	// Rev is the revision that the definition was made from, zero when there was no
	// such schedule; with another one it is refused.
	Rev uint64 `msg:"r,omitempty"`
	// Anchor is where intervals count from; it is only looked at for a new schedule.
	Anchor job.Time `msg:"a"`
	// Cursor is the moment up to which nothing fires (any more): now for a new
	// schedule or one that has got other times, zero to leave it.
	Cursor job.Time `msg:"c,omitempty"`
	// Next is the first planned time behind the cursor, zero for none.
	Next job.Time `msg:"x,omitempty"`
}

// PauseSchedule pauses or resumes a schedule.
type PauseSchedule struct {
	Name   string `msg:"n"`
	Paused bool   `msg:"p,omitempty"`
	Reason string `msg:"r,omitempty"`
	// Until is when a paused one goes on by itself; zero means never.
	Until job.Time `msg:"u,omitempty"`
	// Rev has the command refused when the schedule has another revision; zero takes
	// any.
	Rev uint64 `msg:"v,omitempty"`
}

// DeleteSchedule removes a schedule with its history. Its jobs stay.
type DeleteSchedule struct {
	Name string `msg:"n"`
	// Rev has the command refused when the schedule has another revision; zero takes
	// any.
	Rev uint64 `msg:"v,omitempty"`
}

// Tick records what becomes of a planned time of a schedule, or of several in a row.
// It is refused when the planned time is not behind the schedule's cursor, which it
// moves: so each is decided once.
type Tick struct {
	Schedule string `msg:"s"`
	// Rev is the revision for which it was decided; with another one it is refused.
	Rev     uint64   `msg:"v"`
	Planned job.Time `msg:"p"`
	// Through is the last one of several; zero for one. Count is how many there are,
	// at least that many with AtLeast.
	Through job.Time `msg:"t,omitempty"`
	Count   int      `msg:"c"`
	AtLeast bool     `msg:"l,omitempty"`
	// Action is TickFired or TickCaughtUp, which make the job and are refused while
	// jobs are open that may not be; TickQueued; or TickMissed, TickSkipped,
	// TickPaused.
	Action job.TickAction `msg:"a"`
	Reason string         `msg:"r,omitempty"`
	// Next is the first planned time behind this, zero for none.
	Next job.Time `msg:"x,omitempty"`
}

// RunSchedule makes jobs of a schedule by hand, whatever its times and its overlap
// policy are.
type RunSchedule struct {
	Schedule string `msg:"s"`
	// Times are the planned times of the past to make jobs for, in order; none makes
	// one job for no planned time.
	Times  []job.Time `msg:"t,omitempty"`
	Reason string     `msg:"r,omitempty"`
}
