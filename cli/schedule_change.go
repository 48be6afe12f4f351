package cli

import (
	"context"
	"fmt"
	"time"

	"github.com/orrery-io/orrery/client"
	"github.com/orrery-io/orrery/job"
	"github.com/spf13/cobra"
)

func newScheduleRun(a *app) *cobra.Command {
	var f submitFlags
	var reason string
	cmd := &cobra.Command{
		Use:   "run NAME",
		Short: "Make a job of a schedule now, beside the planned ones",
		Example: `  orrery schedule run nightly --follow
  orrery schedule run nightly --wait --reason 'data came late'`,
		Args:              takes(1, 1, "the name of a schedule"),
		ValidArgsFunction: a.scheduleArg(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := a.client()
			if err != nil {
				return err
			}
			j, err := c.RunSchedule(cmd.Context(), args[0], reason)
			if err != nil {
				return err
			}
			return a.submitted(cmd.Context(), c, j, f)
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&reason, "reason", "", "why; it is kept in the history")
	flags.BoolVar(&f.wait, "wait", false, "wait for its end; exit code 3 when that is a bad one")
	flags.BoolVar(&f.follow, "follow", false, "show its log while waiting for its end")
	flags.BoolVarP(&f.quiet, "quiet", "q", false, "print only its id")
	return cmd
}

func newSchedulePause(a *app) *cobra.Command {
	var reason string
	var until, lasts job.Time
	cmd := &cobra.Command{
		Use:   "pause NAME...",
		Short: "Have a schedule fire nothing until it is resumed",
		Long: `Have a schedule fire nothing until it is resumed, or until a time. What it would have
fired meanwhile is counted in its history and does not fire afterwards; "orrery
schedule backfill" makes up for it. Jobs that it has made go on.`,
		Example: `  orrery schedule pause nightly --reason 'migration of the warehouse'
  orrery schedule pause nightly --for 2h
  orrery schedule pause nightly --until 2027-02-01T00:00:00Z`,
		Args:              takes(1, -1, "the names of schedules"),
		ValidArgsFunction: a.scheduleArg(-1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if until != 0 && lasts != 0 {
				return usagef("give --until or --for, not both")
			}
			return a.changeSchedules(cmd.Context(), args, func(ctx context.Context, c *client.Client, name string) error {
				s, err := c.PauseSchedule(ctx, name, reason, max(until, lasts))
				if err != nil {
					return err
				}
				a.done("schedule %s is paused%s\n", name, untilText(s.PausedUntil))
				return nil
			})
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&reason, "reason", "", "why; it is shown with the schedule")
	flags.Var(timeFlag{&until, false}, "until", "go on by itself at this `time`")
	flags.Var(timeFlag{&lasts, false}, "for", "go on by itself after this `duration`")
	return cmd
}

func newScheduleResume(a *app) *cobra.Command {
	return &cobra.Command{
		Use:               "resume NAME...",
		Short:             "Have a schedule fire again",
		Args:              takes(1, -1, "the names of schedules"),
		ValidArgsFunction: a.scheduleArg(-1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.changeSchedules(cmd.Context(), args, func(ctx context.Context, c *client.Client, name string) error {
				s, err := c.ResumeSchedule(ctx, name)
				if err != nil {
					return err
				}
				next := "nothing is planned any more"
				if s.NextAt != 0 {
					next = "it fires " + ahead(s.NextAt, time.Now())
				}
				a.done("schedule %s is resumed, %s\n", name, next)
				return nil
			})
		},
	}
}

func newScheduleRm(a *app) *cobra.Command {
	return &cobra.Command{
		Use:               "rm NAME...",
		Aliases:           []string{"delete"},
		Short:             "Remove a schedule with its history; its jobs stay",
		Args:              takes(1, -1, "the names of schedules"),
		ValidArgsFunction: a.scheduleArg(-1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.changeSchedules(cmd.Context(), args, func(ctx context.Context, c *client.Client, name string) error {
				if err := c.DeleteSchedule(ctx, name, client.Condition{}); err != nil {
					return err
				}
				a.done("schedule %s is gone\n", name)
				return nil
			})
		},
	}
}

// changeSchedules does something to each of several schedules, up to the first error.
func (a *app) changeSchedules(ctx context.Context, names []string, do func(context.Context, *client.Client, string) error) error {
	c, err := a.client()
	if err != nil {
		return err
	}
	for _, name := range names {
		if err := do(ctx, c, name); err != nil {
			return err
		}
	}
	return nil
}

func newScheduleBackfill(a *app) *cobra.Command {
	var b client.Backfill
	var yes bool
	cmd := &cobra.Command{
		Use:   "backfill NAME --from TIME [--to TIME]",
		Short: "Make the jobs of a range of the past",
		Long: `Make one job for each planned time of a range of the past, whether it has fired or
not. All of them start as soon as there are agents; the overlap policy does not count.
It shows how many there are, and asks.`,
		Example: `  orrery schedule backfill nightly --from 2027-01-01T00:00:00Z --to 2027-01-08T00:00:00Z
  orrery schedule backfill hourly --from 24h --dry-run`,
		Args:              takes(1, 1, "the name of a schedule"),
		ValidArgsFunction: a.scheduleArg(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if b.From == 0 {
				return usagef("--from is missing: the first planned time that counts, or how long ago that was")
			}
			return a.backfill(cmd.Context(), args[0], b, yes)
		},
	}
	flags := cmd.Flags()
	flags.Var(timeFlag{&b.From, true}, "from", "the first `time` that counts, or so long ago")
	flags.Var(timeFlag{&b.To, true}, "to", "up to this `time`, itself not included, or so long ago (default now)")
	flags.StringVar(&b.Reason, "reason", "", "why; it is kept in the history")
	flags.BoolVar(&b.DryRun, "dry-run", false, "only count")
	flags.BoolVarP(&yes, "yes", "y", false, "don't ask")
	return cmd
}

func (a *app) backfill(ctx context.Context, name string, b client.Backfill, yes bool) error {
	c, err := a.client()
	if err != nil {
		return err
	}
	if b.To == 0 {
		b.To = job.At(time.Now()) // the same for the question and for what is done
	}
	if b.DryRun || !yes {
		ask := b
		ask.DryRun = true
		res, err := c.BackfillSchedule(ctx, name, ask)
		switch {
		case err != nil:
			return err
		case b.DryRun && a.json:
			return a.document(res)
		case b.DryRun || res.Count == 0:
			a.printf("%s would be made%s\n", count(res.Count, "job"), rangeText(res))
			return nil
		}
		if err := a.confirm(ctx, fmt.Sprintf("%s will be made%s. Go on?", count(res.Count, "job"), rangeText(res))); err != nil {
			return err
		}
	}
	res, err := c.BackfillSchedule(ctx, name, b)
	switch {
	case err != nil:
		return err
	case a.json:
		return a.document(res)
	}
	a.printf("%s made%s\n", count(len(res.Jobs), "job"), rangeText(res))
	if n := len(res.Jobs); n > 0 {
		a.notef("jobs %d to %d; `orrery schedule show %s` says how many have not ended\n", res.Jobs[0], res.Jobs[n-1], name)
	}
	return nil
}

func rangeText(b *client.Backfilled) string {
	switch b.Count {
	case 0:
		return ": nothing was planned then"
	case 1:
		return ", for " + b.First.String()
	}
	return fmt.Sprintf(", for %s to %s", b.First, b.Last)
}
