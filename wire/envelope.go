package wire

// Envelope carries messages of one agent's session between the node that holds
// its socket and the leader. Order within a session is kept in both directions.
type Envelope struct {
	// Session names the connection. It is unique in the cluster.
	Session string `msg:"s"`
	// Node holds the socket.
	Node string `msg:"n"`
	// Agent is the agent's id.
	Agent string `msg:"a"`
	// Up opens the session at the leader; the first envelope of a session, and
	// again whenever the leader has changed (with what the agent holds now).
	Up *Hello `msg:"u,omitempty"`
	// Again comes with an Up of a session that the agent was welcomed to before.
	Again bool `msg:"g,omitempty"`
	// Sent comes with Up and Down: dispatches that the node has given to the agent,
	// or with Up is about to, and of which it has not heard since. Others that were
	// not acknowledged have not reached the node, or will not reach the agent.
	Sent []Held `msg:"t,omitempty"`
	// Down ends it: from the node, the connection is gone; from the leader, the
	// node shall close the connection, telling the agent Down.
	Down *Error `msg:"d,omitempty"`
	// Messages are the agent's, or for the agent.
	Messages []Message `msg:"m,omitempty"`
}
