package wire

//msgp:replace job.Time with:int64
//msgp:replace job.Duration with:int64
//msgp:replace job.ID with:int64
//msgp:replace job.Fence with:uint64
//msgp:replace job.Outcome with:uint8
//msgp:replace job.JSON with:[]byte
//msgp:replace job.Capability with:capability

import "github.com/orrery-io/orrery/job"

// Protocol is the version that this package speaks. A hello with another major
// version is refused.
const Protocol = 1

// The WebSocket subprotocols, in order of preference.
const (
	SubprotocolMsgpack = "orrery.v1.msgpack"
	SubprotocolJSON    = "orrery.v1.json"
)

// Path is where agents connect.
const Path = "/v1/agents/connect"

// Message is one message: exactly one field is set. A message with none is of a
// kind that this program does not know.
type Message struct {
	// From the agent.
	Hello     *Hello     `json:"hello,omitempty" msg:"hello,omitempty"`
	Ack       *Ack       `json:"ack,omitempty" msg:"ack,omitempty"`
	Reject    *Reject    `json:"reject,omitempty" msg:"reject,omitempty"`
	Start     *Start     `json:"start,omitempty" msg:"start,omitempty"`
	Progress  *Progress  `json:"progress,omitempty" msg:"progress,omitempty"`
	Log       *Log       `json:"log,omitempty" msg:"log,omitempty"`
	Result    *Result    `json:"result,omitempty" msg:"result,omitempty"`
	Heartbeat *Heartbeat `json:"heartbeat,omitempty" msg:"heartbeat,omitempty"`

	// To the agent.
	Welcome   *Welcome   `json:"welcome,omitempty" msg:"welcome,omitempty"`
	Dispatch  *Dispatch  `json:"dispatch,omitempty" msg:"dispatch,omitempty"`
	ResultAck *ResultAck `json:"result_ack,omitempty" msg:"result_ack,omitempty"`
	Cancel    *Cancel    `json:"cancel,omitempty" msg:"cancel,omitempty"`
	Beat      *Beat      `json:"beat,omitempty" msg:"beat,omitempty"`
	Nodes     *Nodes     `json:"nodes,omitempty" msg:"nodes,omitempty"`
	Error     *Error     `json:"error,omitempty" msg:"error,omitempty"`

	// Both ways.
	Drain *Drain `json:"drain,omitempty" msg:"drain,omitempty"`
	Bye   *Bye   `json:"bye,omitempty" msg:"bye,omitempty"`
}

// Held names an attempt that an agent has.
type Held struct {
	Job   job.ID    `json:"job" msg:"job"`
	Fence job.Fence `json:"fence" msg:"fence"`
	// Waiting means that the attempt is in the agent's own queue and its handler
	// has not begun.
	Waiting bool `json:"waiting,omitempty" msg:"waiting,omitempty"`
}

// Hello is an agent's first message: who it is, and what it still has from an
// earlier connection.
type Hello struct {
	Protocol     int               `json:"protocol" msg:"protocol"`
	ID           string            `json:"id" msg:"id"`
	Name         string            `json:"name,omitempty" msg:"name,omitempty"`
	Group        string            `json:"group,omitempty" msg:"group,omitempty"`
	Labels       map[string]string `json:"labels,omitempty" msg:"labels,omitempty"`
	Capabilities []job.Capability  `json:"capabilities" msg:"capabilities"`
	// Queues defaults to ["default"].
	Queues []string `json:"queues,omitempty" msg:"queues,omitempty"`
	// Slots is how many jobs run at once; at least 1.
	Slots int `json:"slots" msg:"slots"`
	// Version is that of the agent's program, SDK that of the library it uses.
	Version string `json:"version,omitempty" msg:"version,omitempty"`
	SDK     string `json:"sdk,omitempty" msg:"sdk,omitempty"`
	// Held are the attempts that the agent still has; Outbox those whose results
	// it will send again, because they were not acknowledged.
	Held   []Held `json:"held,omitempty" msg:"held,omitempty"`
	Outbox []Held `json:"outbox,omitempty" msg:"outbox,omitempty"`
	// Draining means that the agent wants nothing new.
	Draining bool `json:"draining,omitempty" msg:"draining,omitempty"`
}

// Welcome answers Hello. Times are in milliseconds.
type Welcome struct {
	Session string `json:"session" msg:"session"`
	Node    string `json:"node" msg:"node"`
	Cluster string `json:"cluster" msg:"cluster"`
	// Lease is how long the agent may be without a Beat before its work is given
	// away. It must have stopped everything Margin before that.
	Lease  int64 `json:"lease_ms" msg:"lease_ms"`
	Margin int64 `json:"margin_ms" msg:"margin_ms"`
	// Heartbeat is how often to send one.
	Heartbeat int64    `json:"heartbeat_ms" msg:"heartbeat_ms"`
	Nodes     []string `json:"nodes,omitempty" msg:"nodes,omitempty"`
	// Drop are attempts of Hello.Held that the agent no longer owns: it stops them
	// and reports nothing.
	Drop []Held `json:"drop,omitempty" msg:"drop,omitempty"`
}

// Dispatch gives an attempt to the agent.
type Dispatch struct {
	Job   job.ID    `json:"job" msg:"job"`
	Fence job.Fence `json:"fence" msg:"fence"`
	Type  string    `json:"type" msg:"type"`
	Queue string    `json:"queue" msg:"queue"`
	// Attempt counts from 1.
	Attempt       int               `json:"attempt" msg:"attempt"`
	MaxAttempts   int               `json:"max_attempts" msg:"max_attempts"`
	Priority      int               `json:"priority,omitempty" msg:"priority,omitempty"`
	Payload       job.JSON          `json:"payload,omitempty" msg:"payload,omitempty"`
	PayloadBytes  []byte            `json:"payload_bytes,omitempty" msg:"payload_bytes,omitempty"`
	CreatedAt     int64             `json:"created_at_ms" msg:"created_at_ms"`
	Timeout       int64             `json:"timeout_ms,omitempty" msg:"timeout_ms,omitempty"`
	Lease         int64             `json:"lease_ms,omitempty" msg:"lease_ms,omitempty"`
	Metadata      map[string]string `json:"metadata,omitempty" msg:"metadata,omitempty"`
	Tags          []string          `json:"tags,omitempty" msg:"tags,omitempty"`
	CorrelationID string            `json:"correlation_id,omitempty" msg:"correlation_id,omitempty"`
	Traceparent   string            `json:"traceparent,omitempty" msg:"traceparent,omitempty"`
	// Schedule is the name of the schedule that made the job, Tick the planned time
	// that it stands for, in milliseconds; zero for one made by hand.
	Schedule string `json:"schedule,omitempty" msg:"schedule,omitempty"`
	Tick     int64  `json:"tick_ms,omitempty" msg:"tick_ms,omitempty"`
}

// Ack says that the agent has a dispatch and will execute it.
type Ack struct {
	Job   job.ID    `json:"job" msg:"job"`
	Fence job.Fence `json:"fence" msg:"fence"`
}

// Reject hands an attempt back whose handler has not begun.
type Reject struct {
	Job    job.ID    `json:"job" msg:"job"`
	Fence  job.Fence `json:"fence" msg:"fence"`
	Reason string    `json:"reason,omitempty" msg:"reason,omitempty"`
}

// Start says that a handler has been running for about a second. Agents do not
// send it for shorter attempts.
type Start struct {
	Job   job.ID    `json:"job" msg:"job"`
	Fence job.Fence `json:"fence" msg:"fence"`
	// Running is for how long already, in milliseconds.
	Running int64 `json:"running_ms" msg:"running_ms"`
}

// Progress says how far a handler is. The last one within a short time wins.
type Progress struct {
	Job     job.ID    `json:"job" msg:"job"`
	Fence   job.Fence `json:"fence" msg:"fence"`
	Percent float64   `json:"percent,omitempty" msg:"percent,omitempty"`
	Step    int       `json:"step,omitempty" msg:"step,omitempty"`
	Steps   int       `json:"steps,omitempty" msg:"steps,omitempty"`
	Message string    `json:"message,omitempty" msg:"message,omitempty"`
}

// LogLine is one line of an attempt's log.
type LogLine struct {
	// Seq counts the attempt's lines from 1.
	Seq   int64  `json:"seq" msg:"seq"`
	Time  int64  `json:"time_ms" msg:"time_ms"`
	Level string `json:"level" msg:"level"`
	Text  string `json:"text" msg:"text"`
}

// Log carries lines of an attempt's log.
type Log struct {
	Job   job.ID    `json:"job" msg:"job"`
	Fence job.Fence `json:"fence" msg:"fence"`
	Lines []LogLine `json:"lines" msg:"lines"`
}

// Result ends an attempt. The agent keeps it until ResultAck.
type Result struct {
	Job   job.ID    `json:"job" msg:"job"`
	Fence job.Fence `json:"fence" msg:"fence"`
	// Outcome is completed, failed, timed_out or cancelled.
	Outcome     string   `json:"outcome" msg:"outcome"`
	Result      job.JSON `json:"result,omitempty" msg:"result,omitempty"`
	ResultBytes []byte   `json:"result_bytes,omitempty" msg:"result_bytes,omitempty"`
	Error       *Failure `json:"error,omitempty" msg:"error,omitempty"`
}

// Failure says why an attempt did not end well.
type Failure struct {
	Kind      string `json:"kind" msg:"kind"`
	Message   string `json:"message" msg:"message,omitempty"`
	Stack     string `json:"stack,omitempty" msg:"stack,omitempty"`
	ExitCode  *int   `json:"exit_code,omitempty" msg:"exit_code,omitempty"`
	Permanent bool   `json:"permanent,omitempty" msg:"permanent,omitempty"`
	// RetryAfter asks for this delay before the next attempt instead of the
	// policy's, in milliseconds.
	RetryAfter int64 `json:"retry_after_ms,omitempty" msg:"retry_after_ms,omitempty"`
}

// ResultAck says that a result was recorded, or refused for good; either way the
// agent forgets it.
type ResultAck struct {
	Job      job.ID    `json:"job" msg:"job"`
	Fence    job.Fence `json:"fence" msg:"fence"`
	Accepted bool      `json:"accepted" msg:"accepted"`
	Reason   string    `json:"reason,omitempty" msg:"reason,omitempty"`
}

// Cancel asks the agent to stop an attempt and to report it as cancelled.
type Cancel struct {
	Job    job.ID    `json:"job" msg:"job"`
	Fence  job.Fence `json:"fence" msg:"fence"`
	Reason string    `json:"reason,omitempty" msg:"reason,omitempty"`
	// Grace is how long the handler has to end, in milliseconds.
	Grace int64 `json:"grace_ms,omitempty" msg:"grace_ms,omitempty"`
	// Drop means that the agent no longer owns the attempt: it stops it at once
	// and reports nothing.
	Drop bool `json:"drop,omitempty" msg:"drop,omitempty"`
}

// Heartbeat renews the leases of everything that the agent holds.
type Heartbeat struct {
	// Seq comes back in the Beat that answers it.
	Seq  uint64 `json:"seq" msg:"seq"`
	Held []Held `json:"held,omitempty" msg:"held,omitempty"`
	// Gauges are whatever the agent wants to report, such as "cpu" or "queue".
	Gauges map[string]float64 `json:"gauges,omitempty" msg:"gauges,omitempty"`
}

// Beat is the leader's answer to a Heartbeat: the lease runs anew from the moment
// at which the agent sent heartbeat Seq.
type Beat struct {
	Seq uint64 `json:"seq" msg:"seq"`
	// Drop are attempts that the agent lists and no longer owns.
	Drop []Held `json:"drop,omitempty" msg:"drop,omitempty"`
}

// Nodes tells the agent where else it can connect.
type Nodes struct {
	Nodes []string `json:"nodes" msg:"nodes"`
}

// Drain, from the agent: send nothing new. To the agent: finish and leave.
type Drain struct {
	Reason string `json:"reason,omitempty" msg:"reason,omitempty"`
}

// Bye announces an orderly close of the connection.
type Bye struct {
	Reason string `json:"reason,omitempty" msg:"reason,omitempty"`
	// Reconnect, from a node: connect elsewhere and carry on.
	Reconnect bool `json:"reconnect,omitempty" msg:"reconnect,omitempty"`
}

// Error says why the node closes the connection.
type Error struct {
	Code    string `json:"code" msg:"code"`
	Message string `json:"message" msg:"message"`
	// Fatal means that reconnecting cannot help.
	Fatal bool `json:"fatal,omitempty" msg:"fatal,omitempty"`
}
