package fsm

//msgp:replace job.ID with:int64

import (
	"github.com/orrery-io/orrery/command"
	"github.com/orrery-io/orrery/job"
)

// keyRow is what an idempotency key stands for.
type keyRow struct {
	Job  job.ID `msg:"j"`
	Hash []byte `msg:"h,omitempty"`
}

// attemptKey names one attempt.
//
//msgp:ignore attemptKey
type attemptKey struct {
	job   job.ID
	fence job.Fence
}

// tickKey names one entry of the history of a schedule.
//
//msgp:ignore tickKey
type tickKey struct {
	schedule string
	seq      int64
}

// logHead is what is known of an attempt's log besides its lines: which chunks
// hold them, and how much was cut from the middle.
type logHead struct {
	// Chunks are in the order of their lines: first Head of them, which are never
	// cut, then those of the tail.
	Chunks []chunkRef `msg:"c"`
	Head   int        `msg:"h,omitempty"`
	// HeadBytes and TailBytes count the text of the kept lines. HeadFull is set by
	// the first line that no longer fitted.
	HeadBytes int64 `msg:"hb,omitempty"`
	TailBytes int64 `msg:"tb,omitempty"`
	HeadFull  bool  `msg:"hf,omitempty"`
	// LastSeq is the newest line's; lines up to it that come again are dropped.
	LastSeq int64 `msg:"s,omitempty"`
	// CutLines and CutBytes are what is missing between head and tail.
	CutLines int64 `msg:"cl,omitempty"`
	CutBytes int64 `msg:"cb,omitempty"`
}

// chunkRef is one chunk of a log.
type chunkRef struct {
	ID    int64 `msg:"i"`
	Lines int   `msg:"l"`
	Bytes int   `msg:"b"`
}

// QueueInfo is a queue with how many jobs it has in each state.
type QueueInfo struct {
	job.Queue `msg:"q"`
	// Counts is indexed by job.State; index 0 is not used.
	Counts [10]int64 `msg:"c"`
}

// Waiting is how many jobs wait for an agent.
func (q QueueInfo) Waiting() int64 { return q.Counts[job.Pending] }

// requestRow is the first answer to a request id.
type requestRow struct {
	ID     string         `msg:"i"`
	Result command.Result `msg:"r"`
}

// requestRows are those of one log entry.
type requestRows []requestRow
