package cli

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/orrery-io/orrery/client"
	"github.com/spf13/cobra"
)

func newDead(a *app) *cobra.Command {
	cmd := isGroup(&cobra.Command{
		Use:   "dead",
		Short: "See, run again and remove jobs that failed for good",
	})
	cmd.AddCommand(newDeadLs(a), newDeadRedrive(a), newDeadPurge(a))
	return cmd
}

// deadShown is how many dead letters are shown one by one.
const deadShown = 10

func newDeadLs(a *app) *cobra.Command {
	var f client.Filter
	cmd := &cobra.Command{
		Use:     "ls",
		Aliases: []string{"list"},
		Short:   "List dead letters, grouped by type and kind of error",
		Example: `  orrery dead ls
  orrery dead ls --type email.send
  orrery job ls --state failed,timed_out --limit 0`,
		Args: nothing(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := a.client()
			if err != nil {
				return err
			}
			d, err := c.DeadLetters(cmd.Context(), client.DeadLetterOptions{Filter: f, Limit: deadShown, Linearizable: true})
			switch {
			case err != nil:
				return err
			case a.json:
				return a.document(d)
			case len(d.Groups) == 0:
				a.notef("no dead letters%s\n", suchAs(cmd))
				return nil
			}
			return a.showDead(d, time.Now())
		},
	}
	filterFlags(cmd, &f)
	return cmd
}

func (a *app) showDead(d *client.DeadLetters, now time.Time) error {
	t := newTable(a.out, "TYPE", "ERROR", "COUNT", "OLDEST", "NEWEST", "MESSAGE")
	for _, g := range d.Groups {
		t.row(g.Type, g.ErrorKind, g.Count, age(g.Oldest, now), age(g.Newest, now), clipText(g.Message, 60))
	}
	if err := t.end(); err != nil {
		return err
	}
	a.printf("\n%s; the newest:\n", count(d.Total, "dead letter"))
	t = newTable(a.out, "ID", "TYPE", "QUEUE", "TRY", "AGE", "ERROR")
	for _, j := range d.Jobs {
		t.row(j.ID, j.Type, j.Queue, tries(j), age(j.FinishedAt, now), clipText(failureText(j.Error), 60))
	}
	return t.end()
}

// deadFlags says which dead letters are meant.
type deadFlags struct {
	filter   client.Filter
	all, yes bool
	dryRun   bool
}

func (f *deadFlags) declare(cmd *cobra.Command) {
	filterFlags(cmd, &f.filter)
	cmd.Flags().BoolVar(&f.all, "all", false, "all dead letters")
	cmd.Flags().BoolVarP(&f.yes, "yes", "y", false, "don't ask")
	cmd.Flags().BoolVar(&f.dryRun, "dry-run", false, "only count")
}

func newDeadRedrive(a *app) *cobra.Command {
	var f deadFlags
	cmd := &cobra.Command{
		Use:   "redrive [ID...]",
		Short: "Run dead letters again, with a full set of attempts",
		Example: `  orrery dead redrive 42 43
  orrery dead redrive --type email.send --since 1d
  orrery dead redrive --all --yes`,
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.changeDead(cmd, f, args, "run again", (*client.Client).Redrive)
		},
	}
	f.declare(cmd)
	return cmd
}

func newDeadPurge(a *app) *cobra.Command {
	var f deadFlags
	cmd := &cobra.Command{
		Use:   "purge [ID...]",
		Short: "Remove dead letters for good",
		Example: `  orrery dead purge 42
  orrery dead purge --type import --error-kind panic
  orrery dead purge --all --dry-run`,
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.changeDead(cmd, f, args, "removed for good", (*client.Client).Purge)
		},
	}
	f.declare(cmd)
	return cmd
}

type deadAction func(*client.Client, context.Context, client.Selection) (client.Affected, error)

// changeDead does something to dead letters: those with the ids given, or those
// that the flags select, after having shown how many they are and asked.
func (a *app) changeDead(cmd *cobra.Command, f deadFlags, args []string, done string, do deadAction) error {
	ids, err := jobIDs(args)
	if err != nil {
		return err
	}
	filtered := false
	for _, name := range []string{"queue", "type", "tag", "meta", "error-kind", "since"} {
		filtered = filtered || cmd.Flags().Changed(name)
	}
	sel := client.Selection{IDs: ids}
	switch {
	case len(ids) > 0 && (filtered || f.all), filtered && f.all:
		return usagef("give ids, or flags that select, or --all: only one of them")
	case len(ids) == 0 && !filtered && !f.all:
		e := usagef("which dead letters? Give ids, flags that select such as --type, or --all")
		e.hint = "`orrery dead ls` shows what there is"
		return e
	case len(ids) == 0:
		sel.Filter = &f.filter
	}
	c, err := a.client()
	if err != nil {
		return err
	}
	if f.dryRun || sel.Filter != nil && !f.yes {
		sel.DryRun = true
		n, err := do(c, cmd.Context(), sel)
		if err != nil {
			return err
		}
		switch {
		case f.dryRun && a.json:
			return a.document(n)
		case f.dryRun || n.Matched == 0:
			a.printf("%s would be %s\n", count(n.Matched, "dead letter"), done)
			return nil
		}
		question := fmt.Sprintf("%s will be %s. Go on?", count(n.Matched, "dead letter"), done)
		if err := a.confirm(cmd.Context(), question); err != nil {
			return err
		}
		sel.DryRun = false
	}
	n, err := do(c, cmd.Context(), sel)
	if err != nil {
		return err
	}
	if a.json {
		return a.document(n)
	}
	a.printf("%s %s\n", count(n.Changed, "dead letter"), done)
	if missed := int64(len(ids)) - n.Changed; missed > 0 {
		return failuref("`orrery dead ls` shows what there is", "%d of %d are no dead letters (any more)", missed, len(ids))
	}
	return nil
}

// confirm asks a yes-or-no question; anything but yes is an error.
func (a *app) confirm(ctx context.Context, question string) error {
	if f, ok := a.in.(interface{ Fd() uintptr }); ok && f != nil && !isTerminal(a.in) {
		e := usagef("%s Nobody can answer here", question)
		e.hint = "--yes goes on without asking"
		return e
	}
	a.notef("%s [y/N] ", question)
	answer := make(chan string, 1)
	go func() {
		text, err := bufio.NewReader(io.LimitReader(a.in, 1024)).ReadString('\n')
		if err != nil {
			a.notef("\n")
		}
		answer <- text
	}()
	select {
	case <-ctx.Done():
		a.notef("\n")
		return context.Cause(ctx)
	case text := <-answer:
		switch strings.ToLower(strings.TrimSpace(text)) {
		case "y", "yes":
			return nil
		}
		return failuref("", "nothing was changed")
	}
}
