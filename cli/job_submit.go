package cli

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"

	"github.com/orrery-io/orrery/client"
	"github.com/orrery-io/orrery/job"
	"github.com/spf13/cobra"
)

// submitFlags are those of `job submit` that are no field of a submission.
type submitFlags struct {
	payload  string
	priority int
	wait     bool
	follow   bool
	quiet    bool
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
			if cmd.Flags().Changed("priority") {
				s.Priority = &f.priority
			}
			if err := a.payload(cmd, &s, f.payload, args); err != nil {
				return err
			}
			return a.submit(cmd.Context(), s, f)
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&f.payload, "payload", "", "the payload as `JSON`, @FILE, or - for stdin")
	flags.StringVar(&s.Queue, "queue", "", "`queue` to wait in (default \"default\")")
	flags.IntVar(&f.priority, "priority", job.DefaultPriority, "0 to 9, higher first")
	flags.Var(durationFlag{&s.Delay}, "delay", "run it only after this `duration`")
	flags.Var(timeFlag{&s.RunAt, false}, "run-at", "run it only at this `time`")
	flags.IntVar(&s.MaxAttempts, "max-attempts", 0, "how often it may fail (default 5)")
	flags.Var(durationFlag{&s.Timeout}, "timeout", "`duration` that one attempt may take")
	flags.Var(durationFlag{&s.ExpiresIn}, "expires-in", "give up when it was not started within this `duration`")
	flags.Var(durationFlag{&s.Lease}, "lease", "`duration` that its agent may be silent")
	flags.Var(durationFlag{&s.Retention}, "retention", "`duration` to keep it after its end")
	flags.StringSliceVar(&s.Tags, "tag", nil, "`tags` to find it by")
	flags.Var(pairsFlag{&s.Metadata}, "meta", "metadata, `key=value`; may be repeated")
	flags.StringVar(&s.CorrelationID, "correlation-id", "", "`id` of what it belongs to")
	flags.StringVar(&s.IdempotencyKey, "key", "", "idempotency `key`: a second submission with it returns the first job")
	flags.BoolVar(&f.wait, "wait", false, "wait for its end; exit code 3 when that is a bad one")
	flags.BoolVar(&f.follow, "follow", false, "show its log while waiting for its end")
	flags.BoolVarP(&f.quiet, "quiet", "q", false, "print only its id")
	return cmd
}

// payload fills in what the job is to work on.
func (a *app) payload(cmd *cobra.Command, s *client.Submission, text string, args []string) error {
	dash := cmd.ArgsLenAtDash()
	if dash >= 0 {
		switch {
		case cmd.Flags().Changed("payload"):
			return usagef("give --payload or a command after --, not both")
		case len(args) == dash:
			return usagef("a command is missing after --")
		}
		s.Payload = map[string][]string{"argv": args[dash:]}
		return nil
	}
	if !cmd.Flags().Changed("payload") {
		return nil
	}
	b, err := a.readInput(text, job.MaxPayload)
	if err != nil {
		return err
	}
	if err := checkJSON(b); err != nil {
		e := usagef("the payload is not JSON: %s", err)
		e.hint = `quote it for the shell: --payload '{"name":"Ada"}', and text: --payload '"text"'`
		return e
	}
	s.Payload = json.RawMessage(b)
	return nil
}

func checkJSON(b []byte) error {
	if strings.TrimSpace(string(b)) == "" {
		return fmt.Errorf("it is empty")
	}
	var v json.RawMessage
	return json.Unmarshal(b, &v)
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
	if !a.json && !f.quiet && (f.follow || !f.wait) {
		a.printf("job %d %s: %s in queue %s%s\n", j.ID, j.State, j.Type, j.Queue, whenReady(j))
	}
	if f.follow {
		if err := a.followLog(ctx, c, j.ID); err != nil {
			return a.unfinished(ctx, j, err)
		}
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
