package cli

import (
	"context"
	"time"

	"github.com/orrery-io/orrery/server"
	"github.com/spf13/cobra"
)

const defaultData = "orrery-data"

func newServer(a *app) *cobra.Command {
	var cfg server.Config
	var logs logFlags
	cmd := &cobra.Command{
		Use:   "server",
		Short: "Run a node",
		Long: `Run a node. It stores everything in the data folder; nothing else is needed.

A node that other machines can reach needs a token, which its users and agents
give with --token-file.`,
		Example: `  orrery server --data /var/lib/orrery
  head -c 24 /dev/urandom | base64 > token
  orrery server --data /var/lib/orrery --http :7700 --token-file token`,
		Args: nothing(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			var err error
			if cfg.Token, err = a.token(); err != nil {
				return err
			}
			if cfg.Log, err = logs.logger(a.err); err != nil {
				return err
			}
			cfg.Version = version()
			return withNode(cmd.Context(), cfg, func(ctx context.Context, s *server.Server) error {
				a.printf("node ready at %s, data in %s\n", localURL(s.Addr()), cfg.Data)
				return untilInterrupted(ctx)
			})
		},
	}
	nodeFlags(cmd, &cfg)
	cmd.Flags().DurationVar(&cfg.Lease, "lease", 15*time.Second, "how long an agent may be silent before its work is given to another")
	logs.declare(cmd, "info")
	return cmd
}

// nodeFlags declares what every command has that runs a node of one's own.
func nodeFlags(cmd *cobra.Command, cfg *server.Config) {
	cmd.Flags().StringVar(&cfg.Data, "data", defaultData, "`folder` for everything that the node stores")
	cmd.Flags().StringVar(&cfg.HTTP, "http", "127.0.0.1:7700", "`address` to listen on; port 0 takes a free one")
	_ = cmd.MarkFlagDirname("data")
}
