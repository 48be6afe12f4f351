package cli

import (
	"context"
	"fmt"

	"github.com/orrery-io/orrery/client"
	"github.com/orrery-io/orrery/job"
	"github.com/spf13/cobra"
)

func newJobCancel(a *app) *cobra.Command {
	var reason string
	cmd := &cobra.Command{
		Use:     "cancel ID...",
		Short:   "End waiting jobs, and ask running ones to stop",
		Example: `  orrery job cancel 42 43 --reason "wrong input"`,
		Args:    takes(1, -1, "the ids of jobs"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.change(cmd.Context(), args, func(ctx context.Context, c *client.Client, id job.ID) (*job.Job, error) {
				return c.Cancel(ctx, id, reason)
			})
		},
	}
	cmd.Flags().StringVar(&reason, "reason", "", "why; it is kept with the job")
	return cmd
}

func newJobRetry(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "retry ID...",
		Short: "Run jobs again that ended badly, or wait between attempts",
		Long: `Run jobs again that failed, timed out, expired or were cancelled, or run now
those that wait between two attempts.`,
		Args: takes(1, -1, "the ids of jobs"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.change(cmd.Context(), args, func(ctx context.Context, c *client.Client, id job.ID) (*job.Job, error) {
				return c.Retry(ctx, id)
			})
		},
	}
}

func newJobPromote(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "promote ID...",
		Short: "Run delayed jobs now",
		Args:  takes(1, -1, "the ids of jobs"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.change(cmd.Context(), args, func(ctx context.Context, c *client.Client, id job.ID) (*job.Job, error) {
				return c.Promote(ctx, id)
			})
		},
	}
}

// change does something to each job in turn. Those that refuse are reported, and
// the others done all the same.
func (a *app) change(ctx context.Context, args []string, do func(context.Context, *client.Client, job.ID) (*job.Job, error)) error {
	ids, err := jobIDs(args)
	if err != nil {
		return err
	}
	c, err := a.client()
	if err != nil {
		return err
	}
	refused := 0
	for _, id := range ids {
		j, err := do(ctx, c, id)
		switch {
		case err != nil && (len(ids) == 1 || ctx.Err() != nil):
			return err
		case err != nil:
			refused++
			report(a.err, fmt.Errorf("job %d: %w", id, err))
		case a.json:
			if err := a.line(j); err != nil {
				return err
			}
		default:
			a.printf("job %d is %s\n", j.ID, stateNote(j))
		}
	}
	if refused > 0 {
		return failuref("", "%d of %d were refused", refused, len(ids))
	}
	return nil
}
