package httpapi

import (
	"errors"
	"fmt"
	"net/http"

	"github.com/orrery-io/orrery/job"
	"github.com/orrery-io/orrery/scheduler"
)

// AgentInfo is an agent: what is recorded of it, and how busy it is now.
type AgentInfo struct {
	job.Agent
	Load *scheduler.AgentLoad `json:"load,omitempty" doc:"How busy the agent is; absent while it is not connected, or while there is no leader to ask."`
}

// AgentList is all agents.
type AgentList struct {
	Agents []AgentInfo `json:"agents"`
}

func (a *API) agentRoutes() []route {
	return []route{
		{
			method: http.MethodGet, path: "/v1/agents", id: "listAgents", tag: "agents",
			summary: "List agents with their load",
			params:  readParams(),
			answers: []answer{{status: http.StatusOK, doc: "All agents that are known, connected or not.", body: typeOf[AgentList]()}},
			curl:    `$ORRERY/v1/agents`,
			handle:  a.listAgents,
		},
		{
			method: http.MethodGet, path: "/v1/agents/{id}", id: "getAgent", tag: "agents",
			summary: "Get an agent with its load",
			params:  readParams(),
			answers: []answer{{status: http.StatusOK, doc: "The agent.", body: typeOf[AgentInfo]()}}, refusals: []int{http.StatusNotFound},
			curl:   `$ORRERY/v1/agents/laptop`,
			handle: a.getAgent,
		},
		{
			method: http.MethodGet, path: "/v1/agents/connect", id: "connectAgent", tag: "agents",
			summary: "Connect an agent",
			doc:     "A WebSocket upgrade with the subprotocol orrery.v1.json or orrery.v1.msgpack; docs/agent-protocol.md tells the rest.",
			answers: []answer{{status: http.StatusSwitchingProtocols, doc: "The connection is open."}},
			handle:  a.connectAgent,
		},
	}
}

func (a *API) showAgent(agent *job.Agent) AgentInfo {
	info := AgentInfo{Agent: *agent}
	if load, ok := a.scheduler.AgentLoad(agent.ID); ok {
		info.Load = &load
	}
	return info
}

func (a *API) listAgents(w *response, r *http.Request, q *query) error {
	if _, err := accept(r, typeJSON); err != nil {
		return err
	}
	if err := a.fresh(r.Context(), w, q, false); err != nil {
		return err
	}
	list := AgentList{Agents: []AgentInfo{}}
	for _, agent := range a.machine.Agents() {
		list.Agents = append(list.Agents, a.showAgent(agent))
	}
	return a.reply(w, http.StatusOK, &list)
}

func (a *API) getAgent(w *response, r *http.Request, q *query) error {
	id, err := pathName(r, "id", "an agent")
	if err != nil {
		return err
	}
	if err := a.fresh(r.Context(), w, q, false); err != nil {
		return err
	}
	agent, err := a.machine.Agent(id)
	if err != nil {
		if errors.Is(err, job.ErrAgentNotFound) {
			e := *job.ErrAgentNotFound
			e.Message = fmt.Sprintf("there is no agent %q", id)
			return &e
		}
		return err
	}
	return a.reply(w, http.StatusOK, a.showAgent(agent))
}

// connectAgent hands the connection over. It lasts as long as the agent stays.
func (a *API) connectAgent(w *response, r *http.Request, _ *query) error {
	w.stream = true
	a.hub.ServeHTTP(w, r)
	return nil
}
