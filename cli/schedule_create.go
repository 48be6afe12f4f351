package cli

import (
	"context"
	"fmt"
	"time"

	"github.com/orrery-io/orrery/client"
	"github.com/orrery-io/orrery/job"
	"github.com/spf13/cobra"
)

func newScheduleCreate(a *app) *cobra.Command {
	var d client.ScheduleDefinition
	var f scheduleFlags
	var replace, keep, dryRun bool
	cmd := &cobra.Command{
		Use:   "create NAME [EXPRESSION...] [flags] [-- ARGV...]",
		Short: "Create a schedule",
		Long: `Create a schedule: expressions that say when, and the job that each tick makes.

An expression is cron with five fields (minute, hour, day of month, month, day of
week), with six (seconds first), or a word such as @daily. Several are joined.
--every and --at are for intervals and for one time. What stands after "--" becomes a
command for the exec handler, as in "orrery job submit exec".`,
		Example: `  orrery schedule create nightly '0 3 * * *' --timezone Europe/Berlin --type report.build
  orrery schedule create cleanup --every 90s --overlap skip -- rm -rf /tmp/scratch
  orrery schedule create month-end '0 18 L * *' --type invoice --payload @invoice.json --exclude 12-31
  orrery schedule create reminder --at 2027-01-31T08:00:00Z --type notify
  orrery schedule create nightly '0 3 * * *' --type report.build --dry-run`,
		Args: atLeastName("a name, and when it fires"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if replace && keep {
				return usagef("give --replace or --if-not-exists, not both")
			}
			if err := f.fill(a, cmd, &d, args); err != nil {
				return err
			}
			switch {
			case len(d.Expressions) == 0:
				e := usagef("when does it fire? Give an expression, --every or --at")
				e.hint = fmt.Sprintf("such as: orrery schedule create %s '0 3 * * *' …", args[0])
				return e
			case d.Template.Type == "":
				e := usagef("what does it run? Give --type, or a command after --")
				e.hint = "`orrery agents` shows which types are handled"
				return e
			case dryRun:
				return a.previewSchedule(cmd.Context(), args[0], d)
			}
			return a.createSchedule(cmd.Context(), args[0], d, replace, keep)
		},
		ValidArgsFunction: cobra.NoFileCompletions,
	}
	f.declare(cmd, &d)
	flags := cmd.Flags()
	flags.BoolVar(&replace, "replace", false, "replace one that is there; its history and a pause stay")
	flags.BoolVar(&keep, "if-not-exists", false, "leave one that is there as it is")
	flags.BoolVar(&dryRun, "dry-run", false, "only show what it would do")
	return cmd
}

// atLeastName checks that there is an argument before the dash.
func atLeastName(usage string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if dash := cmd.ArgsLenAtDash(); dash >= 0 {
			args = args[:dash]
		}
		return takes(1, -1, usage)(cmd, args)
	}
}

func (a *app) createSchedule(ctx context.Context, name string, d client.ScheduleDefinition, replace, keep bool) error {
	c, err := a.client()
	if err != nil {
		return err
	}
	s, err := c.PutSchedule(ctx, name, d, client.Condition{Absent: !replace})
	switch {
	case isThere(err) && keep:
		if s, err = c.Schedule(ctx, name); err != nil {
			return err
		}
		if a.json {
			return a.document(s)
		}
		a.printf("schedule %s is there already and stays as it is: %s\n", name, s.Summary)
		return nil
	case isThere(err):
		return failuref("--replace gives it this definition, --if-not-exists leaves it as it is; `orrery schedule edit` changes parts of it",
			"schedule %s is there already", name)
	case err != nil:
		return faulty(err, d.Expressions, d.Exclude)
	}
	return a.scheduleSet(ctx, c, s, "is set")
}

// soon is how many planned times are shown along with a change.
const soon = 3

// scheduleSet tells what has become of a schedule: when it fires, and what to know.
func (a *app) scheduleSet(ctx context.Context, c *client.Client, s *client.Schedule, what string) error {
	if a.json {
		return a.document(s)
	}
	a.printf("schedule %s %s: %s\n", s.Name, what, s.Summary)
	next, err := c.NextTicks(ctx, s.Name, soon, time.Time{})
	if err != nil {
		return err
	}
	a.warn(s.Warnings)
	if next.Paused {
		a.printf("it is paused%s; `orrery schedule resume %s` has it go on\n", untilText(next.PausedUntil), s.Name)
	}
	return a.plannedTimes("next", next.Next, time.Now())
}

func (a *app) previewSchedule(ctx context.Context, name string, d client.ScheduleDefinition) error {
	c, err := a.client()
	if err != nil {
		return err
	}
	p, err := c.PreviewSchedule(ctx, d, client.PreviewOptions{Name: name})
	switch {
	case err != nil:
		return faulty(err, d.Expressions, d.Exclude)
	case a.json:
		return a.document(p)
	}
	a.printf("schedule %s would fire %s\n", name, p.Summary)
	a.warn(p.Warnings)
	return a.plannedTimes("next", p.Next, time.Now())
}

// warn shows what one should know.
func (a *app) warn(warnings []string) {
	for _, w := range warnings {
		a.printf("warning: %s\n", printable(w))
	}
}

// plannedTimes shows planned times under a head.
func (a *app) plannedTimes(head string, list []client.PlannedTime, now time.Time) error {
	if len(list) == 0 {
		return nil
	}
	a.printf("\n%s\n", head)
	t := newTable(a.out)
	for _, p := range list {
		cells := []any{localText(p), ahead(p.FiresAt, now)}
		if p.FiresAt != p.PlannedAt {
			cells = append(cells, "with a jitter of "+took(p.FiresAt.Sub(p.PlannedAt).Duration()))
		}
		t.row(cells...)
	}
	return t.end()
}

// ahead is when something is to come: "in 5m", or "now".
func ahead(t job.Time, now time.Time) string {
	if t != 0 && t.Time().Before(now.Add(2*time.Second)) {
		return "now"
	}
	return age(t, now)
}

// localText is a planned time on a clock of the schedule's zone.
func localText(p client.PlannedTime) string {
	local, err := time.Parse(time.RFC3339, p.Local)
	if err != nil {
		return p.PlannedAt.String()
	}
	return local.Format("Mon 2006-01-02 15:04:05 ") + p.Zone
}
