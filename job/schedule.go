package job

//msgp:replace Time with:int64
//msgp:replace Duration with:int64
//msgp:replace ID with:int64

// CatchUpPolicy says what becomes of ticks that could not fire in their time: no
// node could decide, or the clock was set forward.
type CatchUpPolicy uint8

// The policies. The numbers are stored and never change.
const (
	// CatchUpLast fires the newest of them and records the others as missed.
	CatchUpLast CatchUpPolicy = iota
	// CatchUpNone records all of them as missed, but for one that is at most
	// OnTime late.
	CatchUpNone
	// CatchUpAll fires each of them, in order.
	CatchUpAll
)

// CatchUp says which missed ticks still fire. The zero value fires the newest when it
// is at most a day old.
type CatchUp struct {
	Policy CatchUpPolicy `json:"policy" msg:"p,omitempty"`
	// Window is how late a tick may be and still fire; zero means DefaultCatchUpWindow.
	Window Duration `json:"window,omitempty" msg:"w,omitempty"`
	// Max bounds how many fire at once with CatchUpAll, the newest; zero means
	// DefaultCatchUpMax.
	Max int `json:"max,omitempty" msg:"m,omitempty"`
}

// OverlapPolicy says what a tick does while jobs of the same schedule have not ended.
type OverlapPolicy uint8

// The policies. The numbers are stored and never change.
const (
	// OverlapAllow makes the job all the same.
	OverlapAllow OverlapPolicy = iota
	// OverlapSkip makes none.
	OverlapSkip
	// OverlapQueueOne makes it when they have ended; a tick that comes while one waits
	// already is skipped.
	OverlapQueueOne
	// OverlapCancelRunning cancels them, and makes it when they have ended; the newest
	// tick replaces one that waits already.
	OverlapCancelRunning
)

// Template is the job that a tick makes: a submission without a moment of its own.
type Template struct {
	Spec `msg:"s"`
	// Delay counts from the tick's being recorded to the job's RunAt, and ExpiresIn
	// to its ExpiresAt. Zero means none.
	Delay     Duration `json:"delay,omitempty" msg:"d,omitempty"`
	ExpiresIn Duration `json:"expires_in,omitempty" msg:"x,omitempty"`
}

// ScheduleSpec is what a user says of a schedule, checked and with defaults filled in.
// The words of Expressions and Exclude are those of package cron.
type ScheduleSpec struct {
	Description string `json:"description,omitempty" msg:"ds,omitempty"`
	// Expressions say when; a moment that several name counts once.
	Expressions []string `json:"expressions" msg:"ex"`
	// Timezone is the IANA name of the zone in which they are read.
	Timezone string `json:"timezone" msg:"tz"`
	// Start and End bound the planned times, Start included, End not; zero means no
	// bound.
	Start Time `json:"start,omitempty,omitzero" msg:"st,omitempty"`
	End   Time `json:"end,omitempty,omitzero" msg:"en,omitempty"`
	// Exclude takes dates and weekly windows out.
	Exclude []string `json:"exclude,omitempty" msg:"xc,omitempty"`
	// Jitter delays each tick by something below it that is always the same for the
	// same tick.
	Jitter  Duration      `json:"jitter,omitempty" msg:"ji,omitempty"`
	CatchUp CatchUp       `json:"catch_up" msg:"cu"`
	Overlap OverlapPolicy `json:"overlap" msg:"ov,omitempty"`
	// Template is what a tick makes.
	Template Template `json:"template" msg:"te"`
}

// Schedule is the row of one schedule. Rows are immutable; apply makes a new version.
type Schedule struct {
	// ID comes from the sequence of all ids: jobs of a schedule of the same name that
	// was deleted have smaller ones.
	ID           ID     `json:"id" msg:"id"`
	Name         string `json:"name" msg:"n"`
	ScheduleSpec `msg:"s"`

	// Rev is the log index at which the definition was changed last, pausing and
	// resuming included. Ticks leave it alone.
	Rev uint64 `json:"revision" msg:"rv"`
	// CreatedAt and UpdatedAt, of the definition, are the leader's clock.
	CreatedAt Time `json:"created_at" msg:"ca"`
	UpdatedAt Time `json:"updated_at" msg:"ua"`
	// Anchor is where intervals without an anchor of their own count from.
	Anchor Time `json:"anchor" msg:"an"`

	Paused      bool   `json:"paused" msg:"p,omitempty"`
	PauseReason string `json:"pause_reason,omitempty" msg:"pr,omitempty"`
	PausedAt    Time   `json:"paused_at,omitempty,omitzero" msg:"pa,omitempty"`
	// PausedUntil is when it goes on by itself; zero means never.
	PausedUntil Time `json:"paused_until,omitempty,omitzero" msg:"pu,omitempty"`
	// PausedThrough is when it was resumed last: what was planned up to then does not
	// fire.
	PausedThrough Time `json:"-" msg:"pt,omitempty"`

	// Cursor is the planned time up to which every tick has been decided.
	Cursor Time `json:"-" msg:"cu"`
	// Next is the planned time of the first tick after Cursor, as whoever moved the
	// cursor computed it; zero means that there is none.
	Next Time `json:"next_at,omitempty,omitzero" msg:"nx,omitempty"`
	// Queued is the planned time of the tick that waits for open jobs to end; zero
	// means none.
	Queued Time `json:"queued,omitempty,omitzero" msg:"qu,omitempty"`
	// Open counts the schedule's jobs that have not ended; OpenJobs has the newest
	// MaxOpenJobs of them, oldest first.
	Open     int64 `json:"open" msg:"op,omitempty"`
	OpenJobs []ID  `json:"open_jobs,omitempty" msg:"oj,omitempty"`

	// Ticks counts what ticks did.
	Ticks TickCounts `json:"ticks" msg:"tc"`
	// LastTick is the planned time of the newest tick that made a job, LastJob that
	// job.
	LastTick Time `json:"last_tick,omitempty,omitzero" msg:"lt,omitempty"`
	LastJob  ID   `json:"last_job,omitempty" msg:"lj,omitempty"`
	// Seq is the number of the newest entry of the history.
	Seq int64 `json:"-" msg:"sq,omitempty"`
}

// TickCounts counts what the ticks of a schedule did since it was made.
type TickCounts struct {
	// Fired made a job, in time or caught up.
	Fired int64 `json:"fired" msg:"f,omitempty"`
	// Missed were too late for the catch-up policy.
	Missed int64 `json:"missed" msg:"m,omitempty"`
	// Skipped gave way to open jobs, or to a newer tick.
	Skipped int64 `json:"skipped" msg:"s,omitempty"`
	// Paused fell into a pause.
	Paused int64 `json:"paused" msg:"p,omitempty"`
}

// TickAction is what a tick did.
type TickAction uint8

// The actions. The numbers are stored and never change.
const (
	// TickFired made its job in time.
	TickFired TickAction = iota + 1
	// TickCaughtUp made its job late, by the catch-up policy.
	TickCaughtUp
	// TickMissed was too late for the catch-up policy.
	TickMissed
	// TickSkipped gave way to open jobs, or to a newer tick, by the overlap policy.
	TickSkipped
	// TickQueued waits for open jobs to end, by the overlap policy. When they have, a
	// second entry says that the tick fired.
	TickQueued
	// TickPaused fell into a pause.
	TickPaused
	// TickChanged was due when the schedule got other times.
	TickChanged
	// TickManual is a job made by hand, beside the planned ones.
	TickManual
	// TickBackfilled is a job made by hand for a planned time of the past.
	TickBackfilled
)

// Tick is one entry of a schedule's history: what became of a planned time, or of
// several in a row.
type Tick struct {
	// Seq numbers the entries of one schedule.
	Seq int64 `json:"seq" msg:"q"`
	// Planned is the planned time, the first one of several.
	Planned Time `json:"planned_at" msg:"p"`
	// Through is the last one of several; zero for one.
	Through Time `json:"through,omitempty,omitzero" msg:"t,omitempty"`
	// Count is how many there are; AtLeast means that nobody counted further.
	Count   int  `json:"count" msg:"c"`
	AtLeast bool `json:"at_least,omitempty" msg:"l,omitempty"`
	// At is when it was recorded, by the leader's clock.
	At     Time       `json:"at" msg:"a"`
	Action TickAction `json:"action" msg:"x"`
	// Reason says why, in a sentence; empty when the action says it all.
	Reason string `json:"reason,omitempty" msg:"r,omitempty"`
	// Job is what the tick made, of several that were backfilled the first one.
	Job ID `json:"job,omitempty" msg:"j,omitempty"`
}

// Limits and defaults of schedules.
const (
	// MaxExpressions and MaxExclusions bound the lists of a schedule, MaxExpression
	// each of their strings, in bytes.
	MaxExpressions = 20
	MaxExclusions  = 200
	MaxExpression  = 200
	// MaxDescription is in bytes.
	MaxDescription = 1000
	// MaxOpenJobs bounds Schedule.OpenJobs.
	MaxOpenJobs = 100
	// MaxTicksKept bounds the history of one schedule, in entries.
	MaxTicksKept = 200
	// MaxBackfill bounds the jobs of one backfill.
	MaxBackfill = MaxBatch

	// OnTime is how late the newest tick may be and still fire whatever the catch-up
	// policy is: a change of leaders is no miss.
	OnTime = Minute

	DefaultCatchUpWindow = Day
	DefaultCatchUpMax    = 100
	// MaxCatchUp bounds catch_up.max.
	MaxCatchUp = 1000
)

// Job returns the spec of a job that the template makes at a moment.
func (t *Template) Job(now Time) Spec {
	s := t.Spec
	if t.Delay > 0 {
		s.RunAt = now.Add(t.Delay)
	}
	if t.ExpiresIn > 0 {
		s.ExpiresAt = now.Add(t.ExpiresIn)
	}
	return s
}

// Normalize fills in defaults. It does not check anything.
func (s *ScheduleSpec) Normalize() {
	if s.Timezone == "" {
		s.Timezone = "UTC"
	}
	if s.CatchUp.Window == 0 {
		s.CatchUp.Window = DefaultCatchUpWindow
	}
	if s.CatchUp.Max == 0 {
		s.CatchUp.Max = DefaultCatchUpMax
	}
	s.Template.Normalize()
}
