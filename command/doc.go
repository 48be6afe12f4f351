// Package command is the vocabulary of the log: every kind of fact that the
// leader may record, and how an entry of the log is encoded.
//
// An Entry is what one Raft log entry carries: the leader's clock, the version of
// the program that wrote it, and many Items, each a Command with an optional
// request id. The leader computes everything that needs a clock, randomness or a
// policy and puts it into the command; the state machine (fsm) only checks
// preconditions and stores. A Result answers each item.
//
// Fields may be added to a command at any time: decoders skip what they do not
// know. A new Kind may be written only when every node knows it; a node that
// meets an unknown Kind stops, naming the version that wrote it.
//
// A list in a command holds at most 100,000 elements. Encoding refuses more, so
// that decoding may: a damaged length must not make a node allocate gigabytes. A
// byte string has a limit of its own in its field's tag, 64 MiB, which is what one
// command may have: nothing may be encoded that cannot be decoded, because every
// node would stop at it for good.
package command

//go:generate go tool -modfile=../tools.mod msgp -tests=false -io=false -file=job.go -o=job_gen.go
//go:generate go tool -modfile=../tools.mod msgp -tests=false -io=false -file=schedule.go -o=schedule_gen.go
//go:generate go tool -modfile=../tools.mod msgp -tests=false -io=false -file=cluster.go -o=cluster_gen.go
//go:generate go tool -modfile=../tools.mod msgp -tests=false -io=false -file=result.go -o=result_gen.go
