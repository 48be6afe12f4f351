// Package agentconn holds the sockets of the agents that are connected to this
// node, and passes messages between them and the leader.
//
// A Hub decides nothing. It upgrades the connection, takes the agent's hello, and
// opens a session at the leader with an Up envelope; from then on what the agent
// says goes to the leader and what the leader says goes to the agent, in order,
// until the socket goes and a Down envelope ends the session. On the way it does
// what the leader should not be bothered with: it checks and bounds what agents
// send, gathers log lines and progress so that they cost few entries of the log,
// shows them live to followers, and remembers which attempts an agent has, so
// that a new leader can be told.
//
// A session has two goroutines:
//
//	socket ──▶ reader ──▶ check, bound, gather ──▶ Config.ToLeader
//	socket ◀── writer ◀── bounded queue ◀───────── Hub.Deliver
//
// The reader takes frame after frame and gives the leader one envelope for each.
// The writer sends everything that is in the queue as few frames and then looks
// again, so batches grow under load and nothing waits when there is none. Neither
// side ever waits for the other: an agent that does not read is disconnected, with
// the reason in its Down envelope.
//
// # What a link loses
//
// The leader may be on another node, and the link to it may lose what is on its way.
// Then every session is announced again, with another Up (LeaderChanged). It says what
// the agent has, which results it keeps, and which dispatches this node has given to
// it or is about to, so that the leader knows which have got lost. Down says the same
// of a session that has ended. Rejects, which agents say once, are repeated until the
// leader has answered a heartbeat that came after them (rejects.go).
package agentconn
