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
	// Load is nil when the agent is not connected, or while there is no leader to ask.
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
