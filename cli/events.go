package cli

import (
	"fmt"

	"github.com/orrery-io/orrery/client"
	"github.com/orrery-io/orrery/job"
	"github.com/spf13/cobra"
)

func newEvents(a *app) *cobra.Command {
	var opts client.EventOptions
	var follow bool
	var after string
	var names, jobs []string
	cmd := &cobra.Command{
		Use:   "events",
		Short: "Show the feed of everything that happened",
		Long: `Show the feed of everything that happened: what is kept of it, or with --follow
what happens from now on. Each event has an id, the same on every node; --after
goes on behind one, without a gap and without a repetition.`,
		Example: `  orrery events --follow
  orrery events --after 1234.0 --follow --type job.failed,job.timed_out
  orrery events --job 42 --json`,
		Args: nothing(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			for _, name := range names {
				t, err := job.ParseEventType(name)
				if err != nil {
					return unknownEvent(err, name)
				}
				opts.Types = append(opts.Types, t)
			}
			ids, err := jobIDs(jobs)
			if err != nil {
				return err
			}
			opts.Jobs = ids
			switch {
			case after == "oldest":
				opts.After = &job.EventID{}
			case after == "latest":
			case cmd.Flags().Changed("after"):
				id, err := job.ParseEventID(after)
				if err != nil {
					return usagef("%s", err)
				}
				opts.After = &id
			case !follow:
				opts.After = &job.EventID{}
			}
			opts.Stored = !follow
			return a.showEvents(cmd, opts)
		},
	}
	flags := cmd.Flags()
	flags.BoolVarP(&follow, "follow", "f", false, "go on with what happens")
	flags.StringVar(&after, "after", "", "only behind the event with this `id`; oldest or latest")
	flags.StringSliceVar(&names, "type", nil, "only of these `types`, such as job.completed")
	flags.StringSliceVar(&jobs, "job", nil, "only of the jobs with these `ids`")
	flags.StringSliceVar(&opts.JobTypes, "job-type", nil, "only of jobs of these `types`")
	flags.StringSliceVar(&opts.Queues, "queue", nil, "only of jobs in these `queues`")
	flags.StringSliceVar(&opts.Schedules, "schedule", nil, "only of these `schedules`")
	_ = cmd.RegisterFlagCompletionFunc("schedule", a.scheduleArg(-1))
	_ = cmd.RegisterFlagCompletionFunc("type", cobra.FixedCompletions(job.EventTypes(), cobra.ShellCompDirectiveNoFileComp))
	return cmd
}

func unknownEvent(err error, name string) error {
	e := usagef("%s", err)
	e.hint = "the types are"
	for i, t := range job.EventTypes() {
		if i > 0 {
			e.hint += ","
		}
		e.hint += " " + t
		if t == "job."+name {
			e.hint = "did you mean " + t + "?"
			break
		}
	}
	return e
}

func (a *app) showEvents(cmd *cobra.Command, opts client.EventOptions) error {
	c, err := a.client()
	if err != nil {
		return err
	}
	ctx := cmd.Context()
	for e, err := range c.Events(ctx, opts) {
		switch {
		case err != nil && ctx.Err() != nil:
			return nil // Ctrl-C is how one leaves
		case err != nil:
			return err
		case a.json:
			if err := a.line(e); err != nil {
				return err
			}
		default:
			// A stream has no last row, so its columns are of fixed width.
			a.printf("%-10s %s %-18s %s\n", e.ID, e.Time.Time().Local().Format("15:04:05.000"), e.Type, printable(eventText(e)))
		}
	}
	return nil
}

// eventText is the rest of an event for people.
func eventText(e job.Event) string {
	text := ""
	add := func(format string, v any) {
		if text != "" {
			text += " "
		}
		text += fmt.Sprintf(format, v)
	}
	if e.Schedule != "" {
		add("schedule %v", e.Schedule)
	}
	if e.Job != 0 {
		add("job %v", e.Job)
	}
	if e.JobType != "" {
		add("%v", e.JobType)
	}
	if e.Queue != "" {
		add("in %v", e.Queue)
	}
	if e.Attempt > 0 {
		add("attempt %v", e.Attempt)
	}
	if e.Agent != "" {
		add("on %v", e.Agent)
	}
	if e.Detail != "" {
		text += ": " + e.Detail
	}
	return text
}
