package cli

import (
	"time"

	"github.com/orrery-io/orrery/client"
	"github.com/orrery-io/orrery/job"
	"github.com/spf13/cobra"
)

func newQueue(a *app) *cobra.Command {
	cmd := isGroup(&cobra.Command{
		Use:     "queue",
		Aliases: []string{"queues"},
		Short:   "List, pause and resume queues",
	})
	cmd.AddCommand(newQueueLs(a), newQueuePause(a), newQueueResume(a))
	return cmd
}

func newQueueLs(a *app) *cobra.Command {
	return &cobra.Command{
		Use:     "ls",
		Aliases: []string{"list"},
		Short:   "List queues and how many jobs are in them",
		Args:    nothing(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := a.client()
			if err != nil {
				return err
			}
			queues, err := c.Queues(cmd.Context())
			switch {
			case err != nil:
				return err
			case a.json:
				return lines(a, queues)
			case len(queues) == 0:
				a.notef("no queues yet; a queue exists from the first job in it\n")
				return nil
			}
			return showQueues(a, queues, time.Now())
		},
	}
}

func showQueues(a *app, queues []client.Queue, now time.Time) error {
	t := newTable(a.out, "QUEUE", "SCHEDULED", "PENDING", "ACTIVE", "COMPLETED", "DEAD", "OTHER", "PAUSED")
	for _, q := range queues {
		n := q.Counts
		paused := ""
		if q.Paused {
			paused = age(q.PausedAt, now)
			if q.Reason != "" {
				paused += " (" + q.Reason + ")"
			}
		}
		t.row(q.Name, n[job.Scheduled], n[job.Pending], n[job.Dispatched]+n[job.Running], n[job.Completed],
			n[job.Failed]+n[job.TimedOut], n[job.Cancelled]+n[job.Expired], paused)
	}
	return t.end()
}

func newQueuePause(a *app) *cobra.Command {
	var reason string
	cmd := &cobra.Command{
		Use:     "pause NAME...",
		Short:   "Stop giving out jobs of a queue; what runs goes on",
		Example: `  orrery queue pause email --reason "provider is down"`,
		Args:    takes(1, -1, "the names of queues"),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := a.client()
			if err != nil {
				return err
			}
			for _, name := range args {
				if err := c.PauseQueue(cmd.Context(), name, reason); err != nil {
					return err
				}
				a.done("queue %s is paused\n", name)
			}
			return nil
		},
	}
	cmd.Flags().StringVar(&reason, "reason", "", "why; it is shown with the queue")
	return cmd
}

func newQueueResume(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "resume NAME...",
		Short: "Give out jobs of a queue again",
		Args:  takes(1, -1, "the names of queues"),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := a.client()
			if err != nil {
				return err
			}
			for _, name := range args {
				if err := c.ResumeQueue(cmd.Context(), name); err != nil {
					return err
				}
				a.done("queue %s is resumed\n", name)
			}
			return nil
		},
	}
}

// done tells a person that something was done; a script knows by the exit code.
func (a *app) done(format string, args ...any) {
	if !a.json {
		a.printf(format, args...)
	}
}
