package cli

import (
	"fmt"
	"time"

	"github.com/orrery-io/orrery/client"
	"github.com/orrery-io/orrery/job"
	"github.com/spf13/cobra"
)

func newJobLs(a *app) *cobra.Command {
	var opts client.ListOptions
	cmd := &cobra.Command{
		Use:     "ls",
		Aliases: []string{"list"},
		Short:   "List jobs, newest first",
		Example: `  orrery job ls --state pending,running
  orrery job ls --type email.send --since 1h --limit 0
  orrery job ls --meta customer=17 --json | jq -r .id`,
		Args: nothing(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if opts.Limit < 0 {
				return usagef("--limit is %d; it must be 0 (all) or more", opts.Limit)
			}
			return a.listJobs(cmd, opts)
		},
	}
	flags := cmd.Flags()
	flags.Var(statesFlag{&opts.States}, "state", "only in these `states`")
	states := make([]string, len(job.States))
	for i, s := range job.States {
		states[i] = s.String()
	}
	_ = cmd.RegisterFlagCompletionFunc("state", cobra.FixedCompletions(states, cobra.ShellCompDirectiveNoFileComp))
	filterFlags(cmd, &opts.Filter)
	flags.StringSliceVar(&opts.Schedules, "schedule", nil, "only those that these `schedules` made")
	_ = cmd.RegisterFlagCompletionFunc("schedule", a.scheduleArg(-1))
	flags.StringSliceVar(&opts.Agents, "agent", nil, "only those of these `agents`")
	flags.StringVar(&opts.Text, "text", "", "only those that contain this `text`")
	flags.StringVar(&opts.CorrelationID, "correlation-id", "", "only those that belong to this `id`")
	flags.IntVar(&opts.Limit, "limit", 20, "how many at most; 0 shows all")
	return cmd
}

func (a *app) listJobs(cmd *cobra.Command, opts client.ListOptions) error {
	c, err := a.client()
	if err != nil {
		return err
	}
	limit := opts.Limit
	if limit > 0 {
		opts.Limit++ // one more tells whether there is more
	}
	opts.Linearizable = true
	opts.PageSize = 500
	n, now := 0, time.Now()
	t := newTable(a.out, "ID", "TYPE", "QUEUE", "STATE", "PRI", "TRY", "AGE", "TOOK", "AGENT", "NOTE")
	for j, err := range c.List(cmd.Context(), opts) {
		if err != nil {
			return err
		}
		if n++; limit > 0 && n > limit {
			break
		}
		if a.json {
			if err := a.line(j); err != nil {
				return err
			}
			continue
		}
		t.row(j.ID, j.Type, j.Queue, j.State, j.Priority, tries(j), age(j.CreatedAt, now), jobTook(j, now), j.Agent, clipText(note(j, now), 60))
	}
	switch {
	case a.json:
		return nil
	case n == 0:
		a.notef("no jobs%s\n", suchAs(cmd))
		return nil
	}
	if err := t.end(); err != nil {
		return err
	}
	if limit > 0 && n > limit {
		a.notef("there are more; --limit 0 shows all\n")
	}
	return nil
}

// suchAs is " like that" when flags narrowed a list.
func suchAs(cmd *cobra.Command) string {
	if cmd.Flags().NFlag() > 0 {
		return " like that"
	}
	return ""
}

// tries is attempts made of those that failing may use up.
func tries(j *job.Job) string { return fmt.Sprintf("%d/%d", j.Attempt(), j.MaxAttempts) }

func jobTook(j *job.Job, now time.Time) string {
	if len(j.Attempts) == 0 {
		return ""
	}
	return runTime(j.Attempts[len(j.Attempts)-1], now)
}

// note is what one wants to know about a job besides its state.
func note(j *job.Job, now time.Time) string {
	switch {
	case j.State == job.Scheduled && j.Error != nil:
		return fmt.Sprintf("runs again %s; %s", age(j.ReadyAt, now), j.Error.Message)
	case j.State == job.Scheduled:
		return "runs " + age(j.ReadyAt, now)
	case j.State == job.Cancelled:
		return j.CancelReason
	case j.CancelRequested && j.State.Active():
		return "asked to stop"
	case j.State.Active() && j.Progress != nil:
		return progressText(*j.Progress)
	case j.State != job.Completed && !j.State.Active() && j.Error != nil:
		return j.Error.Message
	case j.Lost > 0:
		return count(j.Lost, "attempt") + " lost"
	}
	return ""
}

func progressText(p job.Progress) string {
	text := ""
	switch {
	case p.Steps > 0:
		text = fmt.Sprintf("step %d of %d", p.Step, p.Steps)
	case p.Percent > 0:
		text = fmt.Sprintf("%.0f %%", p.Percent)
	}
	if p.Message != "" && text != "" {
		text += ": "
	}
	return text + p.Message
}
