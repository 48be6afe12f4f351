package cli

import (
	"encoding/json"
	"fmt"
	"strings"

	"github.com/orrery-io/orrery/client"
	"github.com/orrery-io/orrery/job"
	"github.com/spf13/cobra"
)

// jobFlags are the flags that say what a job is, for one that is submitted and for
// those that a schedule makes.
type jobFlags struct {
	payload  string
	priority int
}

func (f *jobFlags) declare(cmd *cobra.Command, s *client.Submission) {
	flags := cmd.Flags()
	flags.StringVar(&f.payload, "payload", "", "the payload as `JSON`, @FILE, or - for stdin")
	flags.StringVar(&s.Queue, "queue", "", "`queue` to wait in (default \"default\")")
	flags.IntVar(&f.priority, "priority", job.DefaultPriority, "0 to 9, higher first")
	flags.Var(durationFlag{&s.Delay}, "delay", "run it only after this `duration`")
	flags.IntVar(&s.MaxAttempts, "max-attempts", 0, "how often it may fail (default 5)")
	flags.Var(durationFlag{&s.Timeout}, "timeout", "`duration` that one attempt may take")
	flags.Var(durationFlag{&s.ExpiresIn}, "expires-in", "give up when it was not started within this `duration`")
	flags.Var(durationFlag{&s.Lease}, "lease", "`duration` that its agent may be silent")
	flags.Var(durationFlag{&s.Retention}, "retention", "`duration` to keep it after its end")
	flags.StringSliceVar(&s.Tags, "tag", nil, "`tags` to find it by")
	flags.Var(pairsFlag{&s.Metadata}, "meta", "metadata, `key=value`; may be repeated")
	flags.StringVar(&s.CorrelationID, "correlation-id", "", "`id` of what it belongs to")
}

// fill completes what the flags alone cannot set: the priority, which may be 0, and
// the payload.
func (f *jobFlags) fill(a *app, cmd *cobra.Command, s *client.Submission, args []string) error {
	if cmd.Flags().Changed("priority") {
		s.Priority = &f.priority
	}
	return a.payload(cmd, s, f.payload, args)
}

// payload fills in what the job is to work on.
func (a *app) payload(cmd *cobra.Command, s *client.Submission, text string, args []string) error {
	dash := cmd.ArgsLenAtDash()
	if dash >= 0 {
		switch {
		case cmd.Flags().Changed("payload"):
			return usagef("give --payload or a command after --, not both")
		case len(args) == dash:
			return usagef("a command is missing after --")
		}
		s.Payload = map[string][]string{"argv": args[dash:]}
		return nil
	}
	if !cmd.Flags().Changed("payload") {
		return nil
	}
	b, err := a.readInput(text, job.MaxPayload)
	if err != nil {
		return err
	}
	if err := checkJSON(b); err != nil {
		e := usagef("the payload is not JSON: %s", err)
		e.hint = `quote it for the shell: --payload '{"name":"Ada"}', and text: --payload '"text"'`
		return e
	}
	s.Payload = json.RawMessage(b)
	return nil
}

func checkJSON(b []byte) error {
	if strings.TrimSpace(string(b)) == "" {
		return fmt.Errorf("it is empty")
	}
	var v json.RawMessage
	return json.Unmarshal(b, &v)
}
