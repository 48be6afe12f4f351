package cli

import (
	"context"
	"fmt"

	"github.com/orrery-io/orrery/client"
	"github.com/orrery-io/orrery/job"
	"github.com/spf13/cobra"
)

// submitFlags are those of `job submit` that are no field of a submission.
type submitFlags struct {
	jobFlags
	wait   bool
	follow bool
	quiet  bool
}

func newJobSubmit(a *app) *cobra.Command {
	var s client.Submission
	var f submitFlags
	cmd := &cobra.Command{
		Use:   "submit TYPE [flags] [-- ARGV...]",
		Short: "Submit a job",
		Long: `Submit a job. When the command returns, the job is stored durably.

The payload is any JSON: given directly, read from a file with @FILE, or from
stdin with "-". What stands after "--" becomes the payload {"argv": [...]}, which
the exec handler of "orrery agent --exec" runs.`,
		Example: `  orrery job submit echo --payload '{"hello":"world"}' --wait
  orrery job submit exec --follow -- uname -a
  orrery job submit report.build --payload @report.json --queue slow --delay 10m
  generate | orrery job submit import --payload - --key import-2027-01-31`,
		Args: func(cmd *cobra.Command, args []string) error {
			if dash := cmd.ArgsLenAtDash(); dash >= 0 {
				args = args[:dash]
			}
			return takes(1, 1, "the type of the job (a command to execute stands after --)")(cmd, args)
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			s.Type = args[0]
			if s.Delay != 0 && s.RunAt != 0 {
				return usagef("give --delay or --run-at, not both")
			}
			if err := f.fill(a, cmd, &s, args); err != nil {
				return err
			}
			return a.submit(cmd.Context(), s, f)
		},
	}
	flags := cmd.Flags()
	f.declare(cmd, &s)
	flags.Var(timeFlag{&s.RunAt, false}, "run-at", "run it only at this `time`")
	flags.StringVar(&s.IdempotencyKey, "key", "", "idempotency `key`: a second submission with it returns the first job")
	flags.BoolVar(&f.wait, "wait", false, "wait for its end; exit code 3 when that is a bad one")
	flags.BoolVar(&f.follow, "follow", false, "show its log while waiting for its end")
	flags.BoolVarP(&f.quiet, "quiet", "q", false, "print only its id")
	return cmd
}

// submit submits, and shows as much of the rest as was asked for.
func (a *app) submit(ctx context.Context, s client.Submission, f submitFlags) error {
	c, err := a.client()
	if err != nil {
		return err
	}
	var j *job.Job
	if f.wait && !f.follow {
		if j, err = c.SubmitAndWait(ctx, s); err != nil {
			return a.unfinished(ctx, j, err)
		}
	} else if j, err = c.Submit(ctx, s); err != nil {
		return err
	}
	return a.submitted(ctx, c, j, f)
}

// submitted shows a job that was recorded, and as much of the rest as was asked for.
func (a *app) submitted(ctx context.Context, c *client.Client, j *job.Job, f submitFlags) (err error) {
	if !a.json && !f.quiet && (f.follow || !f.wait) {
		a.printf("job %d %s: %s in queue %s%s\n", j.ID, j.State, j.Type, j.Queue, whenReady(j))
	}
	if f.follow {
		if err := a.followLog(ctx, c, j.ID); err != nil {
			return a.unfinished(ctx, j, err)
		}
	}
	if (f.follow || f.wait) && !j.State.Terminal() {
		if j, err = c.Wait(ctx, j.ID); err != nil {
			return a.unfinished(ctx, j, err)
		}
	}
	switch {
	case a.json:
		if err := a.document(j); err != nil {
			return err
		}
	case f.quiet:
		a.printf("%d\n", j.ID)
	}
	if f.wait || f.follow {
		return a.ended(j, !f.quiet && !a.json)
	}
	return nil
}

func whenReady(j *job.Job) string {
	if j.State != job.Scheduled {
		return ""
	}
	return ", ready at " + j.ReadyAt.String()
}

// unfinished is the error of waiting for a job that goes on without us.
func (a *app) unfinished(ctx context.Context, j *job.Job, err error) error {
	if j == nil || ctx.Err() == nil {
		return err
	}
	return &exitError{
		code: exitInterrupted, text: fmt.Sprintf("interrupted; job %d is %s and goes on", j.ID, j.State),
		hint: fmt.Sprintf("`orrery job wait %d` waits for it, `orrery job cancel %d` stops it", j.ID, j.ID),
	}
}
