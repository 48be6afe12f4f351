// Package fsm is the state machine: it applies the entries of the log to rows in
// memory, writes them behind to SQLite, and answers every question about them.
//
// The way of an entry:
//
//	Apply ──▶ overlay table ──▶ flusher ──▶ SQLite ◀── read-only pool ◀── lists
//	  │        (dirty rows,       (newest version of each dirty row,
//	  │         cache)             applied index: one transaction)
//	  └────▶ ring of events ──▶ subscriptions
//
// A row is an immutable struct. Apply makes a new version and puts it into an
// overlay table; whoever reads by key sees it at once. The flusher writes the
// newest version of each row that changed, so a job that lives shorter than a
// flush costs one row. Durability is the log's: what was not flushed when the
// process dies comes again from the log, and entries up to the applied index that
// SQLite holds are skipped.
//
// The files apply*.go are a function of (state, entry): no clock, no randomness,
// no goroutine, no map order that reaches a row. Everything with a policy was
// decided by the leader and is in the command; apply checks preconditions and
// stores.
//
// The local database is also the snapshot: a marker says which log index it stands
// for, and CopyTo makes a consistent copy when another node needs one. A copy that
// was received becomes the next generation, a folder of its own (generation.go), and
// a database is refused beside SQLite's write-ahead log of another one (stamp.go).
package fsm

//go:generate go tool -modfile=../tools.mod msgp -unexported -tests=false -io=false -file=rows.go -o=rows_gen.go
