package cli

import (
	"context"
	"fmt"
	"time"

	"github.com/orrery-io/orrery/job"
	"github.com/spf13/cobra"
)

func newJobWait(a *app) *cobra.Command {
	var timeout job.Duration
	cmd := &cobra.Command{
		Use:   "wait ID",
		Short: "Wait for the end of a job",
		Long: `Wait for the end of a job and show how it ended. The exit code is 0 when it
completed, and 3 when it ended in any other way.`,
		Example: `  orrery job wait 42
  orrery job wait 42 --timeout 5m --json | jq .result`,
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
			ctx := cmd.Context()
			if timeout > 0 {
				late := failuref(fmt.Sprintf("`orrery job show %d` says more", ids[0]), "job %d has not ended within %s", ids[0], timeout)
				var cancel context.CancelFunc
				ctx, cancel = context.WithTimeoutCause(ctx, timeout.Duration(), late)
				defer cancel()
			}
			j, err := c.Wait(ctx, ids[0])
			if err != nil {
				return a.unfinished(cmd.Context(), j, err)
			}
			if a.json {
				if err := a.document(j); err != nil {
					return err
				}
			}
			return a.ended(j, !a.json)
		},
	}
	cmd.Flags().Var(durationFlag{&timeout}, "timeout", "wait no longer than this `duration`")
	return cmd
}

// ended shows how a job ended, when shown is set, and returns the error that gives
// the exit code.
func (a *app) ended(j *job.Job, shown bool) error {
	if shown {
		a.printf("job %d %s%s%s\n", j.ID, j.State, lasted(j), afterAttempts(j))
		if text := resultText(j); text != "" {
			a.printf("%s\n", printable(text))
		}
	}
	if j.State == job.Completed {
		return nil
	}
	e := &exitError{code: exitJob, text: fmt.Sprintf("job %d %s", j.ID, badEnd(j))}
	if j.State.DeadLetter() {
		e.hint = fmt.Sprintf("`orrery job logs %d` shows its log, `orrery job retry %d` runs it again", j.ID, j.ID)
	}
	return e
}

// badEnd says in words how a job ended.
func badEnd(j *job.Job) string {
	switch {
	case j.State == job.Cancelled && j.CancelReason != "":
		return "was cancelled: " + j.CancelReason
	case j.State == job.Cancelled:
		return "was cancelled"
	case j.Error == nil:
		return j.State.String()
	case j.State == job.TimedOut:
		return "timed out: " + j.Error.Message
	}
	return fmt.Sprintf("failed with %s: %s", j.Error.Kind, j.Error.Message)
}

// lasted is how long the job took from submission to end.
func lasted(j *job.Job) string {
	if j.FinishedAt == 0 {
		return ""
	}
	return " after " + took(j.FinishedAt.Sub(j.CreatedAt).Duration())
}

func afterAttempts(j *job.Job) string {
	if n := j.Attempt(); n > 1 {
		return fmt.Sprintf(", in attempt %d", n)
	}
	return ""
}

// resultText is the result for people; "" when there is none.
func resultText(j *job.Job) string {
	switch {
	case len(j.Result) > 0:
		return pretty(j.Result)
	case len(j.ResultBytes) > 0:
		return fmt.Sprintf("(%d bytes; --json has them in base64)", len(j.ResultBytes))
	}
	return ""
}

// runTime is how long an attempt took, or takes already.
func runTime(at job.Attempt, now time.Time) string {
	end := now
	if at.FinishedAt != 0 {
		end = at.FinishedAt.Time()
	}
	return took(end.Sub(at.DispatchedAt.Time()))
}
