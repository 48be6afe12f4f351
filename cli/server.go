package cli

import (
	"context"
	"time"

	"github.com/orrery-io/orrery/internal/config"
	"github.com/orrery-io/orrery/internal/spelling"
	"github.com/orrery-io/orrery/server"
	"github.com/spf13/cobra"
)

const defaultData = "orrery-data"

func newServer(a *app) *cobra.Command {
	var cfg server.Config
	var logs logFlags
	var file string
	cmd := &cobra.Command{
		Use:   "server",
		Short: "Run a node",
		Long: `Run a node. It stores everything in the data folder; nothing else is needed.

A node that other machines can reach needs a token, which its users and agents
give with --token-file.

With --cluster it is one of several nodes that hold the same state: three stand
the loss of one, five of two. All nodes have the same file with the cluster key.
The first ones begin the cluster together, each with --bootstrap-expect and their
number; later ones name any node that lives with --join. Once a node has been in a
cluster it finds the others again by itself.

Every flag can also be given in the environment, in capitals with ORRERY_ before
it and _ for - (ORRERY_HTTP_ADVERTISE), and in a YAML file with the flag's name as
the key. A flag goes before the environment, and that before the file.`,
		Example: `  orrery server --data /var/lib/orrery
  head -c 24 /dev/urandom | base64 > token
  orrery server --data /var/lib/orrery --http :7700 --token-file token

  orrery cluster key --out cluster.key      # once; copy it to every node
  orrery server --data /var/lib/orrery --http :7700 --token-file token \
    --cluster :7701 --cluster-key-file cluster.key \
    --bootstrap-expect 3 --join 10.0.0.1:7701,10.0.0.2:7701,10.0.0.3:7701
  orrery server --config /etc/orrery/server.yaml`,
		Args: nothing(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := a.settings(cmd, file); err != nil {
				return err
			}
			if err := checkCluster(cmd, &cfg); err != nil {
				return err
			}
			var err error
			if cfg.Token, err = a.token(); err != nil {
				return err
			}
			if cfg.Log, err = logs.logger(a.err); err != nil {
				return err
			}
			cfg.Version, cfg.Watchdog = version(), nodeWatchdog
			return a.withNode(cmd.Context(), cfg, func(ctx context.Context, s *server.Server) error {
				port := ""
				if addr := s.ClusterAddr(); addr != "" {
					port = ", cluster port " + addr
				}
				a.printf("node ready at %s%s, data in %s\n", localURL(s.Addr()), port, cfg.Data)
				return untilInterrupted(ctx)
			})
		},
	}
	nodeFlags(cmd, &cfg)
	flags := cmd.Flags()
	flags.StringVar(&file, "config", "", "YAML `file` with settings, by the names of the flags")
	flags.DurationVar(&cfg.Lease, "lease", 15*time.Second, "how long an agent may be silent before its work is given to another")
	flags.StringVar(&cfg.Cluster, "cluster", "", "`address` for the other nodes, TCP and UDP, such as :7701; without it the node is alone")
	flags.StringVar(&cfg.Advertise, "advertise", "", "`address` at which other nodes reach --cluster (default: that, or the host's private address)")
	flags.StringVar(&cfg.HTTPAdvertise, "http-advertise", "", "`URL` at which others reach --http (default: derived from the addresses)")
	flags.StringSliceVar(&cfg.Join, "join", nil, "cluster `addresses` of other nodes, separated by commas; may be repeated, one that lives is enough")
	flags.IntVar(&cfg.BootstrapExpect, "bootstrap-expect", 0, "begin a new cluster together with so many new nodes, this one included; the same `number` on each")
	flags.StringVar(&cfg.KeyFile, "cluster-key-file", "", "`file` with the cluster key, the same on every node; see `orrery cluster key`")
	flags.DurationVar(&cfg.ElectionTimeout, "election-timeout", 500*time.Millisecond, "how long a follower hears nothing from the leader before it asks for an election")
	flags.Var(offFlag{&cfg.CleanupAfter}, "cleanup-after", "how long a server may be gone before the leader removes it, or off (default 3d)")
	flags.Var(sizeFlag{&cfg.SnapshotThreshold}, "snapshot-threshold", "`size` of the log at which it is cut (default 64MiB)")
	flags.Var(offFlag{&cfg.BackupEvery}, "backup-every", "time between two backups into the data folder, or off (default 1d)")
	flags.IntVar(&cfg.BackupKeep, "backup-keep", 3, "how many of those backups are kept")
	_ = cmd.MarkFlagFilename("config", "yaml", "yml")
	_ = cmd.MarkFlagFilename("cluster-key-file")
	logs.declare(cmd, "info")
	return cmd
}

// settings fills in the flags that were not given, from the environment and the
// file.
func (a *app) settings(cmd *cobra.Command, file string) error {
	if file == "" {
		file = a.getenv(config.EnvName("config"))
	}
	err := config.Fill(cmd.Flags(), config.Source{
		File: file, Getenv: a.getenv, Nearest: spelling.Nearest,
		Except: []string{"help", "config", "addr", "json"},
	})
	if err != nil {
		return &exitError{code: exitUsage, text: err.Error()}
	}
	return nil
}

// checkCluster refuses flags that mean nothing without --cluster: who gives them
// expects a cluster.
func checkCluster(cmd *cobra.Command, cfg *server.Config) error {
	if cfg.Cluster != "" {
		return nil
	}
	for _, name := range []string{"join", "bootstrap-expect", "advertise", "cluster-key-file"} {
		if cmd.Flags().Changed(name) {
			e := usagef("--%s is for nodes of a cluster, and this one has no --cluster", name)
			e.hint = "add --cluster :7701, the address at which the other nodes reach this one"
			return e
		}
	}
	return nil
}

// nodeFlags declares what every command has that runs a node of one's own.
func nodeFlags(cmd *cobra.Command, cfg *server.Config) {
	cmd.Flags().StringVar(&cfg.Data, "data", defaultData, "`folder` for everything that the node stores")
	cmd.Flags().StringVar(&cfg.HTTP, "http", "127.0.0.1:7700", "`address` to listen on; port 0 takes a free one")
	cmd.Flags().StringVar(&cfg.Profile, "profile", "", "loopback `address` at which /debug/pprof answers, such as 127.0.0.1:6060")
	_ = cmd.MarkFlagDirname("data")
}
