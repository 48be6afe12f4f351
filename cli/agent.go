package cli

import (
	"cmp"

	"github.com/orrery-io/orrery/agent"
	"github.com/orrery-io/orrery/job"
	"github.com/spf13/cobra"
)

func newAgent(a *app) *cobra.Command {
	var cfg agent.Config
	var exec bool
	var drain job.Duration
	var logs logFlags
	cmd := &cobra.Command{
		Use:   "agent",
		Short: "Run an agent that executes jobs on this machine",
		Long: `Run an agent. It connects to a node, takes jobs from its queues and executes
them; on Ctrl-C or SIGTERM it finishes what it has and leaves.

It handles the job types echo, sleep and fail, and with --exec also exec, which
runs the command {"argv": [...]} without a shell.`,
		Example: `  orrery agent --exec --slots 8
  orrery agent --addr http://10.0.0.1:7700,http://10.0.0.2:7700 --token-file token \
    --exec --queues build,default --group builders --label os=linux`,
		Args: nothing(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			var err error
			if cfg.Token, err = a.token(); err != nil {
				return err
			}
			if cfg.Log, err = logs.logger(a.err); err != nil {
				return err
			}
			cfg.Addrs, cfg.Version, cfg.DrainTimeout = a.nodes(), version(), drain.Duration()
			cfg.Name = cmp.Or(cfg.Name, cfg.ID)
			ag, err := a.newBuiltinAgent(cfg, exec)
			if err != nil {
				return usagef("%s", err)
			}
			return a.runAgent(cmd.Context(), ag, cfg.DrainTimeout)
		},
	}
	flags := cmd.Flags()
	flags.BoolVar(&exec, "exec", false, "let jobs run commands on this machine")
	flags.StringSliceVar(&cfg.Queues, "queues", nil, "`queues` to take jobs from (default \"default\")")
	flags.IntVar(&cfg.Slots, "slots", 0, "how many jobs to run at once (default one per processor)")
	flags.StringVar(&cfg.ID, "id", "", "`id` that stays the same over restarts (default: the host's name and a random suffix)")
	flags.StringVar(&cfg.Name, "name", "", "`name` for people (default: the id, or the host's name)")
	flags.StringVar(&cfg.Group, "group", "", "`group` that the agent belongs to")
	flags.Var(pairsFlag{&cfg.Labels}, "label", "label, `key=value`; may be repeated")
	drain = 30 * job.Second
	flags.Var(durationFlag{&drain}, "drain", "`duration` that running jobs get to finish on exit")
	logs.declare(cmd, "info")
	return cmd
}
