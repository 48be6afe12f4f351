package cli

import (
	"strings"
	"time"

	"github.com/orrery-io/orrery/client"
	"github.com/orrery-io/orrery/job"
	"github.com/spf13/cobra"
)

func newScheduleLs(a *app) *cobra.Command {
	var opts client.ScheduleOptions
	cmd := &cobra.Command{
		Use:     "ls",
		Aliases: []string{"list"},
		Short:   "List schedules and when they fire next",
		Example: `  orrery schedule ls
  orrery schedule ls --state paused
  orrery schedule ls --text report --json | jq -r .name`,
		Args: nothing(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := a.client()
			if err != nil {
				return err
			}
			n, now := 0, time.Now()
			t := newTable(a.out, "NAME", "WHEN", "ZONE", "NEXT", "LAST", "OPEN", "STATE")
			for s, err := range c.Schedules(cmd.Context(), opts) {
				if err != nil {
					return err
				}
				if n++; a.json {
					if err := a.line(s); err != nil {
						return err
					}
					continue
				}
				t.row(s.Name, clipText(whenText(s), 60), s.Timezone, ahead(s.NextAt, now), age(s.LastTick, now), s.Open, scheduleNote(s, now))
			}
			switch {
			case a.json:
				return nil
			case n == 0 && suchAs(cmd) == "":
				a.notef("no schedules yet; `orrery schedule create` makes one\n")
				return nil
			case n == 0:
				a.notef("no schedules%s\n", suchAs(cmd))
				return nil
			}
			return t.end()
		},
	}
	opts.PageSize = 500
	opts.Linearizable = true
	flags := cmd.Flags()
	flags.StringSliceVar(&opts.States, "state", nil, "only in these `states`: active, paused, ended")
	flags.StringVar(&opts.Prefix, "prefix", "", "only those whose name begins with this `text`")
	flags.StringVar(&opts.Text, "text", "", "only those that contain this `text`")
	flags.StringSliceVar(&opts.Types, "type", nil, "only those that make jobs of these `types`")
	flags.StringSliceVar(&opts.Queues, "queue", nil, "only those that make jobs in these `queues`")
	flags.StringSliceVar(&opts.Tags, "tag", nil, "only those whose jobs have these `tags`")
	_ = cmd.RegisterFlagCompletionFunc("state", cobra.FixedCompletions([]string{"active", "paused", "ended"}, cobra.ShellCompDirectiveNoFileComp))
	return cmd
}

// whenText is the summary without the zone, which has a column of its own.
func whenText(s *client.Schedule) string { return strings.TrimSuffix(s.Summary, ", "+s.Timezone) }

// scheduleNote is the state, and why it is that.
func scheduleNote(s *client.Schedule, now time.Time) string {
	text := s.State
	if s.PausedUntil != 0 {
		text += ", goes on " + ahead(s.PausedUntil, now)
	}
	if s.PauseReason != "" {
		text += " (" + clipText(s.PauseReason, 40) + ")"
	}
	return text
}

func untilText(t job.Time) string {
	if t == 0 {
		return ""
	}
	return " until " + t.String()
}
