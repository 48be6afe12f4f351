// Package wire defines what agents and nodes say to each other: the messages, the
// frames that carry them, and the envelopes in which a node relays an agent's
// messages to the leader and back.
//
// A frame is an array of messages. A message is an object with exactly one field,
// whose name is the kind: [{"ack":{…}},{"result":{…}}]. A receiver skips kinds and
// fields that it does not know. In the subprotocol orrery.v1.json a frame is one
// WebSocket text message of JSON; in orrery.v1.msgpack it is one binary message of
// MessagePack with the same field names.
//
// docs/agent-protocol.md tells the protocol from an agent's side.
package wire

//go:generate go tool -modfile=../tools.mod msgp -tests=false -io=false -file=message.go -o=message_gen.go
//go:generate go tool -modfile=../tools.mod msgp -tests=false -io=false -file=envelope.go -o=envelope_gen.go
//go:generate go tool -modfile=../tools.mod msgp -unexported=true -tests=false -io=false -file=capability.go -o=capability_gen.go
