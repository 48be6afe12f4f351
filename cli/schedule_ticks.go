package cli

import (
	"fmt"
	"strings"
	"time"

	"github.com/orrery-io/orrery/client"
	"github.com/orrery-io/orrery/job"
	"github.com/spf13/cobra"
)

func newScheduleNext(a *app) *cobra.Command {
	var n int
	var from job.Time
	cmd := &cobra.Command{
		Use:   "next NAME",
		Short: "Show when a schedule fires next",
		Example: `  orrery schedule next nightly
  orrery schedule next nightly -n 5 --from 2027-03-26T00:00:00Z`,
		Args:              takes(1, 1, "the name of a schedule"),
		ValidArgsFunction: a.scheduleArg(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if n < 1 {
				return usagef("-n is %d; it must be 1 or more", n)
			}
			c, err := a.client()
			if err != nil {
				return err
			}
			next, err := c.NextTicks(cmd.Context(), args[0], n, from.Time())
			switch {
			case err != nil:
				return err
			case a.json:
				return lines(a, next.Next)
			case next.Paused:
				a.notef("schedule %s is paused%s\n", args[0], untilText(next.PausedUntil))
			}
			if len(next.Next) == 0 {
				a.notef("nothing is planned; `orrery schedule show %s` says why\n", args[0])
				return nil
			}
			now := time.Now()
			t := newTable(a.out, "PLANNED", "FIRES", "UTC")
			for _, p := range next.Next {
				t.row(localText(p), ahead(p.FiresAt, now), p.FiresAt)
			}
			return t.end()
		},
	}
	cmd.Flags().IntVarP(&n, "count", "n", 10, "how many")
	cmd.Flags().Var(timeFlag{&from, false}, "from", "begin at this `time`, or so long from now")
	return cmd
}

func newScheduleTicks(a *app) *cobra.Command {
	opts := client.TickOptions{PageSize: 500, Linearizable: true}
	cmd := &cobra.Command{
		Use:     "ticks NAME",
		Aliases: []string{"history"},
		Short:   "Show what the ticks of a schedule did and why, newest first",
		Example: `  orrery schedule ticks nightly
  orrery schedule ticks nightly --limit 0 --json | jq 'select(.action=="missed")'`,
		Args:              takes(1, 1, "the name of a schedule"),
		ValidArgsFunction: a.scheduleArg(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if opts.Limit < 0 {
				return usagef("--limit is %d; it must be 0 (all) or more", opts.Limit)
			}
			c, err := a.client()
			if err != nil {
				return err
			}
			var ticks []*client.Tick
			for t, err := range c.Ticks(cmd.Context(), args[0], opts) {
				if err != nil {
					return err
				}
				ticks = append(ticks, t)
			}
			switch {
			case a.json:
				return lines(a, ticks)
			case len(ticks) == 0:
				a.notef("schedule %s has no history yet\n", args[0])
				return nil
			}
			return a.showTicks(ticks)
		},
	}
	cmd.Flags().IntVar(&opts.Limit, "limit", 20, "how many at most; 0 shows all that are kept")
	return cmd
}

func (a *app) showTicks(ticks []*client.Tick) error {
	t := newTable(a.out, "PLANNED", "DID", "LATE", "JOB", "WHY")
	for _, x := range ticks {
		did, late, id := x.Action.String(), "", ""
		if x.Count > 1 || x.AtLeast {
			did += fmt.Sprintf(" ×%d", x.Count)
			if x.AtLeast {
				did += "+"
			}
		}
		if x.Action == job.TickFired || x.Action == job.TickCaughtUp {
			late = took(x.Late.Duration())
		}
		if x.Job != 0 {
			id = x.Job.String()
		}
		why := x.Reason
		if x.Through != 0 {
			why = strings.TrimSuffix("up to "+x.Through.String()+": "+why, ": ")
		}
		t.row(x.Planned, did, late, id, why)
	}
	return t.end()
}
