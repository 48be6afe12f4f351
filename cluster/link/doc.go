// Package link lets the nodes of a cluster speak with each other: requests with an
// answer, one-way messages, and streams.
//
// A Mesh keeps one connection for each direction and pair of nodes. All that one
// node has to say to another goes over the connection that it made itself, in order;
// the answers come back on it. A connection is a WebSocket whose binary messages are
// frames, and a frame is an array of small messages: whatever waited while the frame
// before was being written. So an idle link sends at once, and a busy one in large
// pieces, without a timer.
//
//	Call, Send, Stream ──▶ queue ──▶ writer ──▶ frames ──▶ reader ──▶ handlers
//	                                                                     │
//	callers ◀── reader ◀── frames ◀── writer ◀── queue ◀── answers, items
//
// # What a caller learns
//
// Call returns the handler's answer or its *job.Error. When nothing of the request
// has left this node the error is of the kind job.Unavailable, with the code
// "node_unreachable"; when it was sent and the connection broke before the answer
// came, it is job.ErrOutcomeUnknown. Send says only whether the message was queued:
// what was queued may still be lost with the connection, and then OnDown and, when
// there is a new one, OnUp tell of it.
//
// # What is bounded
//
// What waits to be written to a node is bounded in bytes. A Call, a stream's opening
// and an answer wait for room; a Send finds the queue full and is dropped, which its
// result says. Each stream has credit in bytes, so that a reader that is slow, or has
// stopped, holds up its own stream only. A node that has too many requests of another
// under way refuses more of them as job.Overloaded. Frames and messages are bounded
// in bytes; whoever sends larger ones, or what is no frame, loses the connection.
//
// # Broken connections
//
// Both sides send something at least every Config.Beat, and take the other for dead
// when nothing came for Config.Silence. The side that made the connection makes a new
// one by itself while it is wanted. When a node connects a second time, its older
// connection ends first: nothing of it is handled once the newer one's messages are.
package link

//go:generate go tool -modfile=../../tools.mod msgp -unexported=true -tests=false -io=false -file=message.go -o=message_gen.go
