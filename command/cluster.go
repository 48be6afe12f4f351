package command

//msgp:limit arrays:100000 maps:100000 marshal:true

import "github.com/orrery-io/orrery/job"

// SetAgent records an agent's row: at registration, and when it changes. The
// state machine fills in FirstSeenAt and keeps it.
type SetAgent struct {
	Agent job.Agent `msg:"a"`
}

// AgentGone records that a session ended. It is passed over when the agent has a
// newer session.
type AgentGone struct {
	ID      string          `msg:"i"`
	Session string          `msg:"s"`
	Status  job.AgentStatus `msg:"t"`
}

// ForgetAgents removes the rows of agents that have been gone for long. Connected
// ones are passed over.
type ForgetAgents struct {
	IDs []string `msg:"i"`
}

// Init gives a new cluster its id. It is refused when there is one already, unless it
// is the one to be replaced.
type Init struct {
	ClusterID string `msg:"c"`
	// Replaces is the id before, "" for a new cluster.
	Replaces string `msg:"r,omitempty"`
}

// Migrate brings the schema to a version, on every node at the same entry.
type Migrate struct {
	To int `msg:"t"`
}

// TrimFeed drops the stored events up to and including those of an entry.
type TrimFeed struct {
	Through uint64 `msg:"t"`
}

// Verify makes every node hash its logical rows as they are after this entry, while
// it goes on. The hash is no result: fsm.Machine.Hash has it.
type Verify struct{}
