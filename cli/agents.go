package cli

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/orrery-io/orrery/client"
	"github.com/orrery-io/orrery/job"
	"github.com/spf13/cobra"
)

func newAgents(a *app) *cobra.Command {
	ls := func(cmd *cobra.Command, _ []string) error { return a.listAgents(cmd) }
	cmd := isGroup(&cobra.Command{
		Use:   "agents",
		Short: "List agents and how busy they are",
		Example: `  orrery agents
  orrery agents show worker-1`,
	})
	// Alone it lists; a word that it does not know is still an error.
	unknown := cmd.RunE
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if len(args) == 0 {
			return ls(cmd, args)
		}
		return unknown(cmd, args)
	}
	cmd.AddCommand(&cobra.Command{Use: "ls", Aliases: []string{"list"}, Short: "List agents", Args: nothing(), RunE: ls}, newAgentsShow(a))
	return cmd
}

func (a *app) listAgents(cmd *cobra.Command) error {
	c, err := a.client()
	if err != nil {
		return err
	}
	agents, err := c.Agents(cmd.Context())
	switch {
	case err != nil:
		return err
	case a.json:
		return lines(a, agents)
	case len(agents) == 0:
		a.notef("no agent has connected yet; `orrery agent` starts one\n")
		return nil
	}
	now := time.Now()
	t := newTable(a.out, "ID", "NAME", "GROUP", "STATUS", "BUSY", "QUEUES", "TYPES", "SINCE")
	for _, ag := range agents {
		t.row(ag.ID, ag.Name, ag.Group, ag.Status, busy(ag), strings.Join(ag.Queues, ","),
			clipText(strings.Join(types(ag), ","), 50), age(agentSince(ag), now))
	}
	return t.end()
}

func newAgentsShow(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "show ID",
		Short: "Show an agent",
		Args:  takes(1, 1, "the id of an agent"),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := a.client()
			if err != nil {
				return err
			}
			ag, err := c.Agent(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			if a.json {
				return a.document(ag)
			}
			now := time.Now()
			return fields(a.out,
				"agent", ag.ID, "name", ag.Name, "group", ag.Group, "status", ag.Status, "busy", busy(*ag),
				"labels", labelText(ag.Labels), "queues", strings.Join(ag.Queues, ", "), "types", strings.Join(types(*ag), ", "),
				"version", ag.Version, "node", ag.Node, "session", ag.Session,
				"first seen", moment(ag.FirstSeenAt, now), "connected", moment(ag.ConnectedAt, now),
				"disconnected", moment(ag.DisconnectedAt, now), "gauges", gauges(ag.Load),
			)
		},
	}
}

func busy(ag client.Agent) string {
	if ag.Load == nil {
		return fmt.Sprintf("-/%d", ag.Slots)
	}
	text := fmt.Sprintf("%d/%d", ag.Load.Held-ag.Load.Waiting, ag.Slots)
	if ag.Load.Waiting > 0 {
		text += fmt.Sprintf(" +%d", ag.Load.Waiting)
	}
	return text
}

func types(ag client.Agent) []string {
	names := make([]string, len(ag.Capabilities))
	for i, c := range ag.Capabilities {
		names[i] = c.Type
	}
	return names
}

// agentSince is when the agent came into the status that it has.
func agentSince(ag client.Agent) job.Time {
	if ag.Status == job.AgentReady || ag.Status == job.AgentDraining || ag.DisconnectedAt == 0 {
		return ag.ConnectedAt
	}
	return ag.DisconnectedAt
}

func gauges(l *client.AgentLoad) string {
	if l == nil {
		return ""
	}
	parts := make([]string, 0, len(l.Gauges))
	for k, v := range l.Gauges {
		parts = append(parts, fmt.Sprintf("%s=%g", k, v))
	}
	slices.Sort(parts)
	return strings.Join(parts, ", ")
}
