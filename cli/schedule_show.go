package cli

import (
	"fmt"
	"strings"
	"time"

	"github.com/orrery-io/orrery/client"
	"github.com/orrery-io/orrery/job"
	"github.com/spf13/cobra"
)

// recent is how many entries of the history are shown with a schedule.
const recent = 5

func newScheduleShow(a *app) *cobra.Command {
	return &cobra.Command{
		Use:               "show NAME",
		Short:             "Show a schedule, when it fires, and what it did",
		Example:           `  orrery schedule show nightly`,
		Args:              takes(1, 1, "the name of a schedule"),
		ValidArgsFunction: a.scheduleArg(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := a.client()
			if err != nil {
				return err
			}
			ctx := cmd.Context()
			s, err := c.Schedule(ctx, args[0])
			switch {
			case err != nil:
				return err
			case a.json:
				return a.document(s)
			}
			next, err := c.NextTicks(ctx, s.Name, soon, time.Time{})
			if err != nil {
				return err
			}
			var ticks []*client.Tick
			for t, err := range c.Ticks(ctx, s.Name, client.TickOptions{Limit: recent, Linearizable: true}) {
				if err != nil {
					return err
				}
				ticks = append(ticks, t)
			}
			return a.showSchedule(s, next, ticks)
		},
	}
}

func (a *app) showSchedule(s *client.Schedule, next *client.NextTicks, ticks []*client.Tick) error {
	now := time.Now()
	t := &s.Template
	err := fields(a.out,
		"schedule", s.Name,
		"what", s.Description,
		"when", s.Summary,
		"state", stateOfSchedule(s, now),
		"expressions", strings.Join(s.Expressions, "  |  "),
		"timezone", s.Timezone,
		"start", moment(s.Start, now),
		"end", moment(s.End, now),
		"exclude", strings.Join(s.Exclude, ", "),
		"jitter", orEmpty(s.Jitter),
		"catch up", catchUpText(s.CatchUp),
		"overlap", s.Overlap,
		"job", fmt.Sprintf("%s in queue %s, priority %d, up to %d attempts", t.Type, t.Queue, t.Priority, t.MaxAttempts),
		"delay", orEmpty(t.Delay),
		"timeout", orEmpty(t.Timeout),
		"expires in", orEmpty(t.ExpiresIn),
		"retention", orEmpty(t.Retention),
		"tags", strings.Join(t.Tags, ", "),
		"metadata", labelText(t.Metadata),
		"ticks", countsText(s.Ticks),
		"waiting", moment(s.Queued, now),
		"open", openText(s),
		"last", lastText(s, now),
		"changed", moment(s.UpdatedAt, now),
		"revision", s.Rev,
	)
	if err != nil {
		return err
	}
	a.block("payload", payloadText(&job.Job{Spec: t.Spec}))
	if len(s.Warnings) > 0 {
		a.printf("\n")
		a.warn(s.Warnings)
	}
	head := "next"
	if next.Paused && next.PausedUntil == 0 {
		head = "next, if it were resumed"
	}
	if err := a.plannedTimes(head, next.Next, now); err != nil || len(ticks) == 0 {
		return err
	}
	a.printf("\nhistory\n")
	return a.showTicks(ticks)
}

func stateOfSchedule(s *client.Schedule, now time.Time) string {
	switch {
	case s.Paused:
		text := "paused for " + age(s.PausedAt, now)
		if s.PausedUntil != 0 {
			text += ", until " + moment(s.PausedUntil, now)
		}
		if s.PauseReason != "" {
			text += ": " + s.PauseReason
		}
		return text
	case s.State == "ended":
		return "ended: nothing is planned any more"
	}
	return s.State
}

func catchUpText(c job.CatchUp) string {
	text := c.Policy.String()
	if c.Policy != job.CatchUpNone {
		text += fmt.Sprintf(", up to %s late", c.Window)
	}
	if c.Policy == job.CatchUpAll {
		text += fmt.Sprintf(", %d at once", c.Max)
	}
	return text
}

func countsText(c job.TickCounts) string {
	parts := []string{fmt.Sprintf("%d fired", c.Fired)}
	for _, x := range []struct {
		n    int64
		what string
	}{{c.Missed, "missed"}, {c.Skipped, "skipped"}, {c.Paused, "paused"}} {
		if x.n > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", x.n, x.what))
		}
	}
	return strings.Join(parts, ", ")
}

func openText(s *client.Schedule) string {
	if s.Open == 0 {
		return ""
	}
	const most = 5
	var ids []string
	for _, id := range s.OpenJobs[max(0, len(s.OpenJobs)-most):] {
		ids = append(ids, id.String())
	}
	text := fmt.Sprintf("%s: %s", count(s.Open, "job"), strings.Join(ids, ", "))
	if n := s.Open - int64(len(ids)); n > 0 {
		text += fmt.Sprintf(" and %d more", n)
	}
	return text
}

func lastText(s *client.Schedule, now time.Time) string {
	switch {
	case s.LastTick == 0 && s.LastJob == 0:
		return ""
	case s.LastTick == 0:
		return "job " + s.LastJob.String()
	}
	return fmt.Sprintf("%s, newest job %d", moment(s.LastTick, now), s.LastJob)
}
