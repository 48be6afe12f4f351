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
	// Load is nil when the agent is not connected.
	Load *AgentLoad `json:"load,omitempty"`
}

// AgentLoad is how busy an agent is right now.
type AgentLoad struct {
	// Held is how many attempts the agent has, Waiting how many of those have not
	// begun.
	Held    int `json:"held"`
	Waiting int `json:"waiting"`
	Slots   int `json:"slots"`
	// LastHeartbeat is the leader's clock.
	LastHeartbeat job.Time           `json:"last_heartbeat,omitzero"`
	Gauges        map[string]float64 `json:"gauges,omitempty"`
}

// Agents returns all agents that the cluster remembers.
func (c *Client) Agents(ctx context.Context) ([]Agent, error) {
	var page struct {
		Items []Agent `json:"items"`
	}
	err := c.call(ctx, request{method: http.MethodGet, path: "/v1/agents"}, &page)
	return page.Items, err
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
	ID string `json:"id"`
	// Node is the node that answered, Leader the one that decides; empty when
	// there is none.
	Node    string `json:"node"`
	Leader  string `json:"leader,omitempty"`
	State   string `json:"state"`
	Version string `json:"version,omitempty"`
	Term    uint64 `json:"term"`
	// Commit and Applied are indexes of the log.
	Commit  uint64 `json:"commit"`
	Applied uint64 `json:"applied"`
}

// Cluster returns the cluster as the node that answers sees it.
func (c *Client) Cluster(ctx context.Context) (*Cluster, error) {
	cl := new(Cluster)
	if err := c.call(ctx, request{method: http.MethodGet, path: "/v1/cluster"}, cl); err != nil {
		return nil, err
	}
	return cl, nil
}
