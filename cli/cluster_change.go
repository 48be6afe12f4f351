package cli

import (
	"fmt"
	"maps"
	"slices"

	"github.com/orrery-io/orrery/client"
	"github.com/spf13/cobra"
)

func newClusterRemove(a *app) *cobra.Command {
	var yes, force bool
	cmd := &cobra.Command{
		Use:   "remove ID",
		Short: "Take a node out of the cluster for good",
		Long: `Take a node out of the cluster. If it runs it stops; it can come back only as a
new node, with an empty data folder. The others need fewer for a majority then, so
take out a node that is gone for good before the next one fails.

A beginning of the id is enough when no other has it.`,
		Example: `  orrery cluster remove n-k3xq7w2abc
  orrery cluster drain n-k3xq7w2abc && orrery cluster remove n-k3xq7w2abc --yes`,
		Args: takes(1, 1, "the id of a node"),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := a.client()
			if err != nil {
				return err
			}
			m, err := a.member(cmd.Context(), c, args[0])
			if err != nil {
				return err
			}
			if !yes {
				if err := a.confirm(cmd.Context(), removeQuestion(m)); err != nil {
					return err
				}
			}
			cl, err := c.RemoveMember(cmd.Context(), m.ID, force)
			switch {
			case err != nil:
				return err
			case a.json:
				return a.document(cl)
			}
			a.printf("%s is no member any more; %s left\n", m.ID, count(len(cl.Servers), "node"))
			return nil
		},
	}
	cmd.Flags().BoolVarP(&yes, "yes", "y", false, "don't ask")
	cmd.Flags().BoolVar(&force, "force", false, "also when too few of the others answer for a majority; it takes effect when they do")
	return cmd
}

func removeQuestion(m client.Member) string {
	what := m.ID
	if m.Address != "" {
		what += " (" + m.Address + ")"
	}
	switch {
	case m.Leader:
		return what + " leads. It will hand that on, stop, and can come back only with an empty data folder. Go on?"
	case m.Alive:
		return what + " lives. It will stop, and can come back only with an empty data folder. Go on?"
	}
	return what + " will be no member any more, and can come back only with an empty data folder. Go on?"
}

func newClusterTransfer(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "transfer [ID]",
		Short: "Make another node the leader",
		Long: `Make another node the leader: the one that is named, or the one that is nearest
to the leader's state. Requests wait for a moment, and none fails.`,
		Args: takes(0, 1, "the id of a node, or nothing"),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := a.client()
			if err != nil {
				return err
			}
			to := ""
			if len(args) > 0 {
				m, err := a.member(cmd.Context(), c, args[0])
				if err != nil {
					return err
				}
				to = m.ID
			}
			leader, err := c.TransferLeadership(cmd.Context(), to)
			switch {
			case err != nil:
				return err
			case a.json:
				return a.document(map[string]string{"leader": leader})
			}
			a.printf("%s leads now\n", leader)
			return nil
		},
	}
}

func newClusterDrain(a *app) *cobra.Command {
	var off bool
	cmd := &cobra.Command{
		Use:   "drain ID",
		Short: "Let a node give its agents away, before it is stopped",
		Long: `Let a node give its agents away. They connect to other nodes and keep the jobs
that they run; the node takes no new ones, and /readyz says that it is not ready. It
stays a member and keeps its vote. With --off, or a restart, that ends.`,
		Args: takes(1, 1, "the id of a node"),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := a.client()
			if err != nil {
				return err
			}
			m, err := a.member(cmd.Context(), c, args[0])
			if err != nil {
				return err
			}
			cl, err := c.Drain(cmd.Context(), m.ID, !off)
			switch {
			case err != nil:
				return err
			case a.json:
				return a.document(cl)
			case off:
				a.printf("%s takes agents again\n", m.ID)
			default:
				a.printf("%s gives its agents away and takes no new ones\n", m.ID)
			}
			return nil
		},
	}
	cmd.Flags().BoolVar(&off, "off", false, "end the draining")
	return cmd
}

func newClusterVerify(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "verify",
		Short: "Check that all nodes hold the same",
		Long: `Let every node hash all its rows at the same place of the log, and compare. It
ends with code 1 when a node differs or has not answered.`,
		Args: nothing(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := a.client()
			if err != nil {
				return err
			}
			v, err := c.Verify(cmd.Context())
			if err != nil {
				return err
			}
			if a.json {
				err = a.document(v)
			} else {
				err = a.showVerification(v)
			}
			if err == nil {
				err = verdict(v)
			}
			return err
		},
	}
}

func (a *app) showVerification(v *client.Verification) error {
	t := newTable(a.out, "ID", "HASH AT "+fmt.Sprint(v.Index))
	for _, id := range slices.Sorted(maps.Keys(v.Hashes)) {
		t.row(id, v.Hashes[id])
	}
	for _, id := range v.Missing {
		t.row(id, "no answer")
	}
	if err := t.end(); err != nil {
		return err
	}
	if v.Equal && len(v.Missing) == 0 {
		a.printf("\nall %d hold the same\n", len(v.Hashes))
	}
	return nil
}

// verdict is the error of a verification that did not show that all are equal.
func verdict(v *client.Verification) error {
	switch {
	case !v.Equal:
		return failuref("stop the node whose hash differs from the others', move its db folder away and start it again: it gets a copy from the leader; please report this, with the log of that node",
			"the nodes do not hold the same")
	case len(v.Missing) > 0:
		return failuref("`orrery cluster status` says how they are", "%s did not answer; the others hold the same", count(len(v.Missing), "node"))
	}
	return nil
}

func newClusterSnapshot(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "snapshot",
		Short: "Make a node sync its database and cut its log",
		Long: `Make the node that is asked sync its database and cut its log. A node does so by
itself; this makes its next start shorter.`,
		Args: nothing(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := a.client()
			if err != nil {
				return err
			}
			index, err := c.Snapshot(cmd.Context())
			switch {
			case err != nil:
				return err
			case a.json:
				return a.document(map[string]uint64{"index": index})
			}
			a.printf("everything up to %d is in the database, on disk\n", index)
			return nil
		},
	}
}
