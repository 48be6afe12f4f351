package job

//msgp:replace Time with:int64
//msgp:replace Duration with:int64
//msgp:replace State with:uint8
//msgp:replace JSON with:[]byte

// AgentStatus is how an agent stands as the cluster recorded it.
type AgentStatus uint8

// The statuses. The numbers are stored and never change.
const (
	// AgentReady is connected and takes work.
	AgentReady AgentStatus = iota + 1
	// AgentDraining is connected, finishes what it has, and takes nothing new.
	AgentDraining
	// AgentDisconnected has no connection; its leases may still run.
	AgentDisconnected
	// AgentLost was silent for longer than its lease.
	AgentLost
)

// Capability is a job type that an agent handles, and in which version.
type Capability struct {
	Type    string `json:"type" msg:"t"`
	Version string `json:"version,omitempty" msg:"v,omitempty"`
}

// Agent is the row of one agent: who it is and what it can do. How busy it is
// right now is soft state and not in here.
type Agent struct {
	// ID is chosen by the agent and stays the same when it reconnects.
	ID           string       `json:"id" msg:"id"`
	Name         string       `json:"name" msg:"n"`
	Group        string       `json:"group,omitempty" msg:"g,omitempty"`
	Labels       Labels       `json:"labels,omitempty" msg:"l,omitempty"`
	Capabilities []Capability `json:"capabilities" msg:"c"`
	// Queues are those that the agent takes work from.
	Queues []string `json:"queues" msg:"q"`
	// Slots is how many jobs it runs at once.
	Slots int `json:"slots" msg:"s"`
	// Version is that of the agent's program.
	Version string `json:"version,omitempty" msg:"v,omitempty"`

	Status AgentStatus `json:"status" msg:"st"`
	// Session is the newest connection; Node is the node that holds it.
	Session string `json:"session,omitempty" msg:"se,omitempty"`
	Node    string `json:"node,omitempty" msg:"no,omitempty"`
	// SessionIndex is the log index at which Session was recorded. Attempts with a
	// greater fence were dispatched while it was the newest.
	SessionIndex uint64 `json:"-" msg:"si,omitempty"`
	// FirstSeenAt, ConnectedAt and DisconnectedAt are the leader's clock.
	FirstSeenAt    Time `json:"first_seen_at" msg:"fs"`
	ConnectedAt    Time `json:"connected_at" msg:"ca"`
	DisconnectedAt Time `json:"disconnected_at,omitempty,omitzero" msg:"da,omitempty"`
}
