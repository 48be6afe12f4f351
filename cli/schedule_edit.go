package cli

import (
	"fmt"

	"github.com/orrery-io/orrery/client"
	"github.com/spf13/cobra"
)

func newScheduleEdit(a *app) *cobra.Command {
	var d client.ScheduleDefinition
	var f scheduleFlags
	cmd := &cobra.Command{
		Use:   "edit NAME [EXPRESSION...] [flags] [-- ARGV...]",
		Short: "Change parts of a schedule",
		Long: `Change parts of a schedule: what is given replaces what is there, everything else
stays. An empty value takes something away. When it gets other times it starts
counting from now on.`,
		Example: `  orrery schedule edit nightly '30 3 * * *'
  orrery schedule edit nightly --overlap skip --description 'with the new importer'
  orrery schedule edit nightly --jitter 0s`,
		Args:              atLeastName("a name, and what to change"),
		ValidArgsFunction: a.scheduleArg(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := f.fill(a, cmd, &d, args); err != nil {
				return err
			}
			patch, err := f.patch(cmd, &d)
			if err != nil {
				return err
			}
			if len(patch) == 0 {
				e := usagef("what is to change? Give an expression or flags")
				e.hint = fmt.Sprintf("`orrery schedule show %s` says how it is", args[0])
				return e
			}
			c, err := a.client()
			if err != nil {
				return err
			}
			s, err := c.PatchSchedule(cmd.Context(), args[0], patch, client.Condition{})
			if err != nil {
				return faulty(err, d.Expressions, d.Exclude)
			}
			return a.scheduleSet(cmd.Context(), c, s, "is set")
		},
	}
	f.declare(cmd, &d)
	return cmd
}
