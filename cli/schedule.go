package cli

import (
	"context"
	"errors"
	"time"

	"github.com/orrery-io/orrery/client"
	"github.com/spf13/cobra"
)

func newSchedule(a *app) *cobra.Command {
	cmd := isGroup(&cobra.Command{
		Use:     "schedule",
		Aliases: []string{"schedules"},
		Short:   "Have jobs made by cron, by interval, or at one time",
	})
	cmd.AddCommand(
		newScheduleCreate(a), newScheduleEdit(a), newScheduleApply(a), newScheduleLs(a), newScheduleShow(a), newScheduleNext(a),
		newScheduleTicks(a), newScheduleRun(a), newSchedulePause(a), newScheduleResume(a), newScheduleBackfill(a), newScheduleRm(a),
	)
	return cmd
}

// completeTime bounds how long a shell waits for names.
const completeTime = 2 * time.Second

// scheduleArg completes the names of schedules, up to most of them on one command line;
// negative is no bound.
func (a *app) scheduleArg(most int) cobra.CompletionFunc {
	return func(cmd *cobra.Command, args []string, begun string) ([]cobra.Completion, cobra.ShellCompDirective) {
		if most >= 0 && len(args) >= most {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		ctx := cmd.Context()
		if ctx == nil {
			ctx = context.Background()
		}
		ctx, cancel := context.WithTimeout(ctx, completeTime)
		defer cancel()
		c, err := a.client()
		if err != nil {
			return nil, cobra.ShellCompDirectiveError
		}
		var names []cobra.Completion
		for s, err := range c.Schedules(ctx, client.ScheduleOptions{Prefix: begun, Limit: 200, PageSize: 200}) {
			if err != nil {
				return names, cobra.ShellCompDirectiveError
			}
			names = append(names, cobra.CompletionWithDesc(s.Name, s.Summary))
		}
		return names, cobra.ShellCompDirectiveNoFileComp
	}
}

// isThere reports whether err says that a schedule is there already.
func isThere(err error) bool {
	e, ok := errors.AsType[*client.Error](err)
	return ok && e.Code == client.CodePreconditionFailed
}
