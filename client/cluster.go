package client

import (
	"context"
	"net/http"
	"net/url"

	"github.com/orrery-io/orrery/job"
)

// Agent is an agent as the cluster recorded it, and how busy it is.
type Agent struct {
	job.Agent
	// Load is nil when the agent is not connected, or the node that answered does
	// not lead.
	Load *AgentLoad `json:"load,omitempty"`
}

// AgentLoad is how busy an agent is right now.
type AgentLoad struct {
	Connected bool     `json:"connected"`
	Session   string   `json:"session,omitempty"`
	Node      string   `json:"node,omitempty"`
	Since     job.Time `json:"since,omitzero"`
	// Held is how many attempts the agent has, Waiting how many of those have not
	// begun, by its last heartbeat.
	Held    int `json:"held"`
	Waiting int `json:"waiting"`
	// Credit is how many more it would be given now.
	Credit int `json:"credit"`
	// LastHeartbeat is by the leader's clock.
	LastHeartbeat job.Time           `json:"last_heartbeat,omitzero"`
	Gauges        map[string]float64 `json:"gauges,omitempty"`
}

// Agents returns all agents that the cluster remembers.
func (c *Client) Agents(ctx context.Context) ([]Agent, error) {
	var page struct {
		Agents []Agent `json:"agents"`
	}
	err := c.call(ctx, request{method: http.MethodGet, path: "/v1/agents"}, &page)
	return page.Agents, err
}

// Agent returns one agent.
func (c *Client) Agent(ctx context.Context, id string) (*Agent, error) {
	a := new(Agent)
	if err := c.call(ctx, request{method: http.MethodGet, path: "/v1/agents/" + url.PathEscape(id)}, a); err != nil {
		return nil, err
	}
	return a, nil
}

// Cluster is how the node that answered sees the cluster.
type Cluster struct {
	// ClusterID stays the same for the life of the cluster.
	ClusterID string `json:"cluster_id"`
	// Version is that of the program on the node, Node the node's id.
	Version string `json:"version"`
	Node    string `json:"node"`
	// Leader is the id of the node that decides, "" while there is none.
	Leader string `json:"leader"`
	// State is "starting", "follower", "candidate", "leader" or "stopped".
	State string `json:"state"`
	Term  uint64 `json:"term"`
	// Commit, Applied, Synced and Snapshot are indexes of the log: up to where it is
	// decided, executed, in the database on disk, and marked there.
	Commit   uint64 `json:"commit"`
	Applied  uint64 `json:"applied"`
	Synced   uint64 `json:"synced"`
	Snapshot uint64 `json:"snapshot"`
	// LogFirst and LogLast are the entries of the log that are kept.
	LogFirst uint64 `json:"log_first"`
	LogLast  uint64 `json:"log_last"`
	// LastContact is when the leader was last heard of; unset on the leader.
	LastContact job.Time `json:"last_contact,omitzero"`
	Servers     []Server `json:"servers"`
}

// Server is a member of the cluster.
type Server struct {
	ID      string `json:"id"`
	Address string `json:"address"`
	Voter   bool   `json:"voter"`
}

// Cluster returns the cluster as the node that answers sees it.
func (c *Client) Cluster(ctx context.Context) (*Cluster, error) {
	cl := new(Cluster)
	if err := c.call(ctx, request{method: http.MethodGet, path: "/v1/cluster"}, cl); err != nil {
		return nil, err
	}
	return cl, nil
}
