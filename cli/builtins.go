package cli

import (
	"github.com/orrery-io/orrery/agent"
	"github.com/orrery-io/orrery/agent/builtin"
)

// newBuiltinAgent makes an agent with the handlers that come with Orrery; exec is
// among them only when asked for.
func (a *app) newBuiltinAgent(cfg agent.Config, exec bool) (*agent.Agent, error) {
	ag, err := agent.New(cfg)
	if err != nil {
		return nil, err
	}
	builtin.Register(ag)
	if exec {
		builtin.RegisterExec(ag, builtin.ExecConfig{Programs: a.programs})
	}
	return ag, nil
}
