package link

import "github.com/orrery-io/orrery/job"

//msgp:replace job.ErrorKind with:uint8

// kind says what a message is. A receiver passes over kinds that it doesn't know.
type kind uint8

// The kinds. The numbers are spoken between versions and never change.
const (
	// beat says that this side is there. It has nothing else.
	beat kind = iota + 1
	// request asks Method with Body; reply answers with Body or Fault. cancel says
	// that the answer, or the rest of a stream, is of no interest any more.
	request
	reply
	cancel
	// send brings Body to Method, without an answer.
	send
	// open asks for a stream; item carries one piece of it, end ends it, with a Fault
	// if it went wrong. credit says how many more bytes of items may be sent.
	open
	item
	end
	credit
)

// message is one thing that one node says to another.
type message struct {
	Kind kind `msg:"k"`
	// ID names the request or stream, on its connection. Who dials counts them.
	ID     uint64 `msg:"i,omitempty"`
	Method string `msg:"m,omitempty"`
	Credit int64  `msg:"c,omitempty"`
	Fault  *fault `msg:"f,omitempty"`
	// Body refers to the frame that it came in.
	Body []byte `msg:"b,omitempty,zerocopy"`
}

// fault is a job.Error on its way.
type fault struct {
	Kind    job.ErrorKind `msg:"k"`
	Code    string        `msg:"c,omitempty"`
	Message string        `msg:"m,omitempty"`
	Hint    string        `msg:"h,omitempty"`
}

// size is what a message costs in a queue, in bytes, a little more than encoded.
func (m *message) size() int { return len(m.Body) + len(m.Method) + overhead }

// overhead is what a message costs beside its body.
const overhead = 64
