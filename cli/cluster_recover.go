package cli

import (
	"errors"
	"fmt"
	"strings"

	"github.com/orrery-io/orrery/cluster"
	"github.com/orrery-io/orrery/job"
	"github.com/orrery-io/orrery/server"
	"github.com/spf13/cobra"
)

func newClusterRecover(a *app) *cobra.Command {
	var cfg server.RecoveryConfig
	var yes bool
	var logs logFlags
	cmd := &cobra.Command{
		Use:   "recover --data DIR",
		Short: "Go on with one node when the majority is gone for good",
		Long: `Make a new cluster of what one node has, when so many of the others are gone for
good that there is no majority any more. It works on the data folder of a node that
does not run, and asks no other.

While the lost nodes can come back, start them instead: then nothing is lost. Here
is lost what they had recorded and this node never got.

  1  Stop all nodes that are left. See to it that the lost ones never start again
     with their old data.
  2  Choose the one that is furthest (APPLIED in ` + "`orrery cluster status`" + `, asked of
     each), and keep a copy of its data folder.
  3  Run this command on its data folder, then start it as before. --join and
     --bootstrap-expect may stay: they do nothing any more.
  4  Start the others with empty data folders and --join.`,
		Example: `  orrery cluster recover --data /var/lib/orrery`,
		Args:    nothing(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			var err error
			if cfg.Log, err = logs.logger(a.err); err != nil {
				return err
			}
			cfg.Version = version()
			return a.recover(cmd, cfg, yes)
		},
	}
	cmd.Flags().StringVar(&cfg.Data, "data", "", "data `folder` of the node")
	cmd.Flags().BoolVarP(&yes, "yes", "y", false, "don't ask")
	_ = cmd.MarkFlagDirname("data")
	logs.declare(cmd, "warn")
	return cmd
}

func (a *app) recover(cmd *cobra.Command, cfg server.RecoveryConfig, yes bool) (err error) {
	ctx := cmd.Context()
	r, err := server.OpenRecovery(ctx, cfg)
	if err != nil {
		return failuref("", "%s", err)
	}
	defer func() { err = errors.Join(err, r.Close()) }()
	if !yes {
		a.notef("%s", recoveryText(r))
		if err := a.confirm(ctx, "Go on with this node alone?"); err != nil {
			return err
		}
	}
	done, err := r.Run(ctx)
	if err != nil {
		return failuref("nothing is lost by this: it can be done again", "%s", err)
	}
	if a.json {
		return a.document(map[string]any{
			"node": r.Node, "cluster_id": done.ClusterID, "former_cluster_id": done.Former,
			"last": done.Last, "recorded_at": done.Time, "gone": done.Gone,
		})
	}
	a.printf("node %s is the only one of the new cluster %s; it has everything up to %d, recorded at %s\n", r.Node, done.ClusterID, done.Last, timeText(done.Time))
	a.printf("start it as before; start others with an empty data folder and --join\n")
	return nil
}

// recoveryText says what there is, and what may be lost.
func recoveryText(r *server.Recovery) string {
	var b strings.Builder
	fmt.Fprintf(&b, "Node %s of cluster %s has what was recorded up to %s at least.\n", r.Node, r.Cluster, timeText(r.Last))
	if len(r.Others) == 0 {
		b.WriteString("It is the only member: it can be started as it is, and nothing has to be recovered.\n")
		return b.String()
	}
	fmt.Fprintf(&b, "It goes on alone, in a new cluster. No members any more are %s.\n", serverNames(r.Others))
	b.WriteString("What they have acknowledged and this node never got is lost: jobs are missing then, and some that have ended run again.\n")
	b.WriteString("They must never start again with their old data.\n")
	return b.String()
}

func serverNames(servers []cluster.Server) string {
	names := make([]string, len(servers))
	for i, s := range servers {
		names[i] = s.ID
		if s.Address != "" && s.Address != s.ID {
			names[i] += " (" + s.Address + ")"
		}
	}
	return strings.Join(names, " and ")
}

func timeText(t job.Time) string {
	if t == 0 {
		return "nothing"
	}
	return t.Time().Local().Format("2006-01-02 15:04:05")
}
