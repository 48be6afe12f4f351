package cli

import (
	"context"

	"github.com/orrery-io/orrery/client"
	"github.com/orrery-io/orrery/job"
	"github.com/spf13/cobra"
)

func newJobLogs(a *app) *cobra.Command {
	var opts client.LogOptions
	var raw bool
	cmd := &cobra.Command{
		Use:   "logs ID",
		Short: "Show the log of a job",
		Long: `Show the log of a job: of its newest attempt, or with --follow of all that come
until the job has ended.`,
		Example: `  orrery job logs 42 --tail 100
  orrery job logs 42 --follow
  orrery job logs 42 --attempt 1 --raw > output.txt`,
		Args: takes(1, 1, "the id of a job"),
		RunE: func(cmd *cobra.Command, args []string) error {
			ids, err := jobIDs(args)
			if err != nil {
				return err
			}
			c, err := a.client()
			if err != nil {
				return err
			}
			return a.showLog(cmd.Context(), c, ids[0], opts, raw)
		},
	}
	flags := cmd.Flags()
	flags.BoolVarP(&opts.Follow, "follow", "f", false, "go on until the job has ended")
	flags.IntVar(&opts.Tail, "tail", 0, "only the last `lines`")
	flags.IntVar(&opts.Attempt, "attempt", 0, "of this attempt instead of the newest")
	flags.BoolVar(&raw, "raw", false, "only the text, unchanged")
	return cmd
}

// followLog shows the log until the job has ended.
func (a *app) followLog(ctx context.Context, c *client.Client, id job.ID) error {
	if a.json {
		return nil // the one document to come has no room for lines
	}
	return a.showLog(ctx, c, id, client.LogOptions{Follow: true}, false)
}

func (a *app) showLog(ctx context.Context, c *client.Client, id job.ID, opts client.LogOptions, raw bool) error {
	opts.OnCut = func(cut client.LogCut) {
		a.notef("%s in the middle were not kept\n", count(cut.Lines, "line"))
	}
	attempt, n := 0, 0
	for l, err := range c.Logs(ctx, id, opts) {
		if err != nil {
			if n > 0 && ctx.Err() != nil && opts.Follow {
				return &exitError{code: exitInterrupted}
			}
			return err
		}
		n++
		switch {
		case a.json:
			if err := a.line(l); err != nil {
				return err
			}
		case raw:
			a.printf("%s\n", l.Text)
		default:
			if attempt != 0 && attempt != l.Attempt {
				a.notef("attempt %d\n", l.Attempt)
			}
			attempt = l.Attempt
			a.printf("%s %-6s %s\n", l.Time.Time().Local().Format("15:04:05.000"), l.Level, printable(l.Text))
		}
	}
	if n == 0 && !opts.Follow && !a.json {
		a.notef("job %d has logged nothing\n", id)
	}
	return nil
}
