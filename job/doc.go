// Package job holds the words of Orrery's domain: what a job, an attempt, a
// queue, a schedule, an agent and an event are, which states a job passes through,
// and the kinds of error that every layer speaks of.
//
// It is a leaf: it imports nothing of Orrery, does no I/O and reads no clock.
// The same structs are stored as rows, carried in the log and on the wire
// (MessagePack, generated), and shown by the HTTP API (JSON).
//
// A job's life, as the table in state.go has it:
//
//	           submit                  dispatch              start
//	scheduled ───────▶ pending ─────────────────▶ dispatched ─────▶ running
//	    ▲     ready       ▲                            │               │
//	    └─── retry later ─┴──── retry, lost, revoked ──┴───────────────┤
//	                                                                   ▼
//	                       completed | failed | timed_out | cancelled | expired
//
// Rows are immutable: whoever changes one makes a copy first.
package job

//go:generate go tool -modfile=../tools.mod msgp -unexported=false -tests=false -io=false -file=job.go -o=job_gen.go
//go:generate go tool -modfile=../tools.mod msgp -tests=false -io=false -file=values.go -o=values_gen.go
//go:generate go tool -modfile=../tools.mod msgp -tests=false -io=false -file=schedule.go -o=schedule_gen.go
//go:generate go tool -modfile=../tools.mod msgp -tests=false -io=false -file=agent.go -o=agent_gen.go
//go:generate go tool -modfile=../tools.mod msgp -tests=false -io=false -file=event.go -o=event_gen.go
//go:generate go tool -modfile=../tools.mod msgp -tests=false -io=false -file=errors.go -o=errors_gen.go
