package cli

import (
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/orrery-io/orrery/client"
	"github.com/orrery-io/orrery/job"
	"github.com/spf13/cobra"
)

// scheduleFlags say what a schedule is.
type scheduleFlags struct {
	jobFlags
	every, at []string
	catchUp   string
	overlap   string
}

// fieldsOf names the field of a definition, or inside of it, that each flag sets.
func fieldsOf() map[string]string {
	return map[string]string{
		"every": "expressions", "at": "expressions", "catch-up": "catch_up.policy", "catch-up-window": "catch_up.window", "catch-up-max": "catch_up.max",
		"timezone": "timezone", "start": "start", "end": "end", "exclude": "exclude", "jitter": "jitter", "overlap": "overlap", "description": "description",
		"type": "template.type", "payload": "template.payload", "queue": "template.queue", "priority": "template.priority", "delay": "template.delay",
		"max-attempts": "template.max_attempts", "timeout": "template.timeout", "expires-in": "template.expires_in", "lease": "template.lease",
		"retention": "template.retention", "tag": "template.tags", "meta": "template.metadata", "correlation-id": "template.correlation_id",
	}
}

func (f *scheduleFlags) declare(cmd *cobra.Command, d *client.ScheduleDefinition) {
	flags := cmd.Flags()
	flags.StringArrayVar(&f.every, "every", nil, "fire whenever this `duration` has passed")
	flags.StringArrayVar(&f.at, "at", nil, "fire once at this `time`, or so long from now")
	flags.StringVar(&d.Timezone, "timezone", "", "IANA `name` of the zone that the expressions mean (default \"UTC\")")
	flags.Var(timeFlag{&d.Start, false}, "start", "plan nothing before this `time`")
	flags.Var(timeFlag{&d.End, false}, "end", "plan nothing from this `time` on")
	flags.StringArrayVar(&d.Exclude, "exclude", nil, "leave out `dates or times`, such as 12-24..12-26 or \"SAT,SUN\"")
	flags.Var(durationFlag{&d.Jitter}, "jitter", "fire up to this `duration` later, each tick by its own delay")
	flags.StringVar(&f.catchUp, "catch-up", "", "ticks that could not fire in time: `last`, none or all (default \"last\")")
	flags.Var(durationFlag{&d.CatchUp.Window}, "catch-up-window", "`duration` that a tick may be late and still fire (default 24h)")
	flags.IntVar(&d.CatchUp.Max, "catch-up-max", 0, "how many fire at once with --catch-up all (default 100)")
	flags.StringVar(&f.overlap, "overlap", "", "while its jobs have not ended: `allow`, skip, queue_one or cancel_running (default \"allow\")")
	flags.StringVar(&d.Description, "description", "", "`text` for people")
	flags.StringVar(&d.Template.Type, "type", "", "`type` of the jobs (with a command after --: exec)")
	f.jobFlags.declare(cmd, &d.Template)
	for name, words := range map[string][]string{"catch-up": {"last", "none", "all"}, "overlap": {"allow", "skip", "queue_one", "cancel_running"}} {
		_ = cmd.RegisterFlagCompletionFunc(name, cobra.FixedCompletions(words, cobra.ShellCompDirectiveNoFileComp))
	}
}

// fill completes a definition by what the flags alone cannot set. Args are the name,
// the expressions, and a command behind the dash.
func (f *scheduleFlags) fill(a *app, cmd *cobra.Command, d *client.ScheduleDefinition, args []string) error {
	dash := cmd.ArgsLenAtDash()
	words := args
	if dash >= 0 {
		words = args[:dash]
		if d.Template.Type == "" {
			d.Template.Type = "exec"
		}
	}
	d.Expressions = append([]string(nil), words[1:]...)
	for _, text := range f.every {
		d.Expressions = append(d.Expressions, "@every "+text)
	}
	for _, text := range f.at {
		if after, err := job.ParseDuration(text); err == nil {
			text = job.At(time.Now()).Add(after).Time().Format(time.RFC3339)
		}
		d.Expressions = append(d.Expressions, "@at "+text)
	}
	if f.catchUp != "" {
		if err := d.CatchUp.Policy.UnmarshalText([]byte(f.catchUp)); err != nil {
			return usagef("--catch-up: %s", err)
		}
	}
	if f.overlap != "" {
		if err := d.Overlap.UnmarshalText([]byte(f.overlap)); err != nil {
			return usagef("--overlap: %s", err)
		}
	}
	if n := len(d.Expressions); n > 1 && looksSplit(d.Expressions) {
		e := usagef("the expression has come in %d parts", n)
		e.hint = fmt.Sprintf("quote it for the shell: '%s'", strings.Join(d.Expressions, " "))
		return e
	}
	return f.jobFlags.fill(a, cmd, &d.Template, args)
}

// looksSplit reports whether the shell has taken one expression for many: none of the
// parts has a blank in it.
func looksSplit(parts []string) bool {
	for _, p := range parts {
		if strings.ContainsAny(p, " @") {
			return false
		}
	}
	return true
}

// patch makes a merge patch of those fields of a definition whose flags were given, and
// of the expressions when there are any. A field that is empty then is taken away.
func (f *scheduleFlags) patch(cmd *cobra.Command, d *client.ScheduleDefinition) (map[string]any, error) {
	text, err := json.Marshal(d)
	if err != nil {
		return nil, fmt.Errorf("encode the definition: %w", err)
	}
	var whole map[string]any
	if err := json.Unmarshal(text, &whole); err != nil {
		return nil, fmt.Errorf("encode the definition: %w", err)
	}
	patch := map[string]any{}
	set := func(place string) {
		from, to := whole, patch
		outer, inner, nested := strings.Cut(place, ".")
		if nested {
			from, _ = whole[outer].(map[string]any)
			within, ok := patch[outer].(map[string]any)
			if !ok {
				within = map[string]any{}
				patch[outer] = within
			}
			to, outer = within, inner
		}
		to[outer] = from[outer] // nil takes it away
	}
	for name, place := range fieldsOf() {
		if cmd.Flags().Changed(name) {
			set(place)
		}
	}
	if len(d.Expressions) > 0 {
		set("expressions")
	}
	if cmd.ArgsLenAtDash() >= 0 {
		set("template.payload")
	}
	// What a script wrote goes on as it is, numbers included.
	if t, ok := patch["template"].(map[string]any); ok && t["payload"] != nil {
		t["payload"] = d.Template.Payload
	}
	return patch, nil
}
