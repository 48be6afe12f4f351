package cli

import (
	"github.com/spf13/cobra"
)

func newJob(a *app) *cobra.Command {
	cmd := isGroup(&cobra.Command{
		Use:     "job",
		Aliases: []string{"jobs"},
		Short:   "Submit, find, follow and change jobs",
	})
	cmd.AddCommand(
		newJobSubmit(a), newJobLs(a), newJobShow(a), newJobLogs(a), newJobWait(a),
		newJobCancel(a), newJobRetry(a), newJobPromote(a),
	)
	return cmd
}
