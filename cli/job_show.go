package cli

import (
	"fmt"
	"strings"
	"time"

	"github.com/orrery-io/orrery/client"
	"github.com/orrery-io/orrery/job"
	"github.com/spf13/cobra"
)

func newJobShow(a *app) *cobra.Command {
	var events bool
	cmd := &cobra.Command{
		Use:   "show ID",
		Short: "Show a job with its attempts, payload and result",
		Example: `  orrery job show 42
  orrery job show 42 --events
  orrery job show 42 --json | jq .attempts`,
		Args: takes(1, 1, "the id of a job"),
		RunE: func(cmd *cobra.Command, args []string) error {
			ids, err := jobIDs(args)
			if err != nil {
				return err
			}
			c, err := a.client()
			if err != nil {
				return err
			}
			if events {
				return a.showJobEvents(cmd, c, ids[0])
			}
			j, err := c.Get(cmd.Context(), ids[0])
			if err != nil {
				return err
			}
			if a.json {
				return a.document(j)
			}
			return a.showJob(j, time.Now())
		},
	}
	cmd.Flags().BoolVar(&events, "events", false, "show what happened to it instead")
	return cmd
}

func (a *app) showJobEvents(cmd *cobra.Command, c *client.Client, id job.ID) error {
	events, err := c.JobEvents(cmd.Context(), id)
	if err != nil {
		return err
	}
	if a.json {
		return lines(a, events)
	}
	t := newTable(a.out, "ID", "TIME", "EVENT", "STATE", "TRY", "AGENT", "DETAIL")
	for _, e := range events {
		t.row(e.ID, e.Time, e.Type, stateText(e.State), orDash(e.Attempt), e.Agent, e.Detail)
	}
	return t.end()
}

func (a *app) showJob(j *job.Job, now time.Time) error {
	err := fields(a.out,
		"job", j.ID,
		"type", j.Type,
		"queue", j.Queue,
		"state", stateNote(j),
		"note", note(j, now),
		"schedule", scheduleText(j),
		"priority", j.Priority,
		"attempts", attemptsText(j),
		"created", moment(j.CreatedAt, now),
		"ready", waitingUntil(j, now),
		"started", moment(j.StartedAt, now),
		"finished", moment(j.FinishedAt, now),
		"agent", j.Agent,
		"timeout", orEmpty(j.Timeout),
		"lease", orEmpty(j.Lease),
		"expires", moment(j.ExpiresAt, now),
		"tags", strings.Join(j.Tags, ", "),
		"metadata", labelText(j.Metadata),
		"correlation", j.CorrelationID,
		"key", j.IdempotencyKey,
	)
	if err != nil {
		return err
	}
	if len(j.Attempts) > 0 {
		a.printf("\n")
		t := newTable(a.out, "TRY", "OUTCOME", "AGENT", "BEGAN", "TOOK", "ERROR")
		for _, at := range j.Attempts {
			outcome := at.Outcome.String()
			if at.Outcome == 0 {
				outcome = "under way"
			}
			t.row(at.Number, outcome, at.Agent, age(at.DispatchedAt, now), runTime(at, now), failureText(at.Error))
		}
		if err := t.end(); err != nil {
			return err
		}
	}
	a.block("payload", payloadText(j))
	a.block("result", resultText(j))
	if j.Error != nil && j.State != job.Completed && !j.State.Active() {
		a.block("error", failureText(j.Error)+"\n"+j.Error.Stack)
	}
	return nil
}

// block writes a heading and an indented text, when there is one.
func (a *app) block(head, text string) {
	text = strings.TrimSpace(printable(text))
	if text == "" {
		return
	}
	a.printf("\n%s\n  %s\n", head, strings.ReplaceAll(text, "\n", "\n  "))
}

func payloadText(j *job.Job) string {
	if len(j.PayloadBytes) > 0 {
		return fmt.Sprintf("(%d bytes; --json has them in base64)", len(j.PayloadBytes))
	}
	return pretty(j.Payload)
}

// scheduleText says which schedule made the job, and for which planned time.
func scheduleText(j *job.Job) string {
	switch {
	case j.Schedule == "":
		return ""
	case j.Tick == 0:
		return j.Schedule + ", by hand"
	}
	return j.Schedule + ", for " + j.Tick.String()
}

func stateNote(j *job.Job) string {
	if j.CancelRequested && j.State.Active() {
		return j.State.String() + ", asked to stop"
	}
	return j.State.String()
}

func attemptsText(j *job.Job) string {
	text := fmt.Sprintf("%d made, %d of %d failed", j.Attempt(), j.Failures, j.MaxAttempts)
	if j.Lost > 0 {
		text += fmt.Sprintf(", %d lost", j.Lost)
	}
	return text
}

func waitingUntil(j *job.Job, now time.Time) string {
	if !j.State.Waiting() {
		return ""
	}
	return moment(j.ReadyAt, now)
}

// moment is a time and how long ago it was.
func moment(t job.Time, now time.Time) string {
	switch {
	case t == 0:
		return ""
	case t.Time().After(now.Add(2 * time.Second)):
		return fmt.Sprintf("%s (%s)", t, age(t, now))
	}
	return fmt.Sprintf("%s (%s ago)", t, age(t, now))
}

func orEmpty(d job.Duration) string {
	if d == 0 {
		return ""
	}
	return d.String()
}

func orDash(n int) string {
	if n == 0 {
		return ""
	}
	return fmt.Sprint(n)
}

// stateText is "" for an event that is about no job.
func stateText(s job.State) string {
	if s == 0 {
		return ""
	}
	return s.String()
}

func labelText(l job.Labels) string {
	parts := make([]string, len(l))
	for i, x := range l {
		parts[i] = x.Key + "=" + x.Value
	}
	return strings.Join(parts, ", ")
}

func failureText(f *job.Failure) string {
	if f == nil {
		return ""
	}
	text := f.Kind
	if f.Message != "" {
		text += ": " + f.Message
	}
	if f.ExitCode != nil && !strings.Contains(f.Message, fmt.Sprint(*f.ExitCode)) {
		text += fmt.Sprintf(" (exit code %d)", *f.ExitCode)
	}
	return text
}
