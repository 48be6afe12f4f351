package cli

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/orrery-io/orrery/client"
	"github.com/orrery-io/orrery/job"
	"github.com/spf13/cobra"
)

func newBackup(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "backup FILE",
		Short: "Back up the whole cluster into one file",
		Long: `Write everything that the cluster holds into one file, while it works. The file
appears when it is complete and its checksum is right; an older one of that name is
replaced then. "-" writes to standard output.

Nodes make backups by themselves too, into backups/ below their data folder; keep
some on another machine.`,
		Example: `  orrery backup /backups/orrery-$(date +%F).db
  orrery backup - | gzip > orrery.db.gz`,
		Args: takes(1, 1, "the name of a file, or -"),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := a.client()
			if err != nil {
				return err
			}
			return a.backup(cmd.Context(), c, args[0])
		},
	}
}

func (a *app) backup(ctx context.Context, c *client.Client, path string) error {
	began := time.Now()
	show := a.progress("received")
	if path == "-" {
		if isTerminal(a.out) {
			e := usagef("a backup is no text for a terminal")
			e.hint = "name a file, or send the output into a pipe"
			return e
		}
		_, err := c.BackupTo(ctx, a.out, show.tell)
		show.end()
		return err
	}
	if info, err := os.Stat(path); err == nil && !info.Mode().IsRegular() {
		return usagef("%s is no file that could be replaced", path)
	}
	size, err := c.Backup(ctx, path, show.tell)
	show.end()
	switch {
	case err != nil:
		return err
	case a.json:
		return a.document(map[string]any{"file": path, "bytes": size})
	}
	a.printf("%s in %s after %s\n", byteText(size), path, took(time.Since(began)))
	return nil
}

func newRestore(a *app) *cobra.Command {
	var yes bool
	cmd := &cobra.Command{
		Use:   "restore FILE",
		Short: "Replace everything in the cluster with a backup",
		Long: `Replace everything that the cluster holds with what a backup holds, on all nodes.
The file is checked before anything is replaced. What was recorded since the backup
was made is gone afterwards: jobs that were submitted then are unknown, jobs that
ended then run again.

A new cluster is restored in the same way: start it empty, then restore into it.`,
		Example: `  orrery backup before.db && orrery restore orrery-2027-01-31.db`,
		Args:    takes(1, 1, "the name of a file"),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := a.client()
			if err != nil {
				return err
			}
			return a.restore(cmd.Context(), c, args[0], yes)
		},
	}
	cmd.Flags().BoolVarP(&yes, "yes", "y", false, "don't ask")
	return cmd
}

func (a *app) restore(ctx context.Context, c *client.Client, path string, yes bool) error {
	info, err := os.Stat(path)
	switch {
	case err != nil:
		return failuref("", "%s", err)
	case !info.Mode().IsRegular():
		return usagef("%s is no file; a backup that is compressed or comes from a pipe must be written into one first", path)
	case info.Size() == 0:
		return failuref("", "%s is empty", path)
	}
	if !yes {
		cl, err := c.Cluster(ctx)
		if err != nil {
			return err
		}
		question := fmt.Sprintf("Everything in cluster %s (%s, applied up to %d) will be replaced with the %s of %s from %s. Go on?",
			orElse(cl.ClusterID, "without a name"), count(len(cl.Servers), "node"), cl.Applied, byteText(info.Size()), path, info.ModTime().Format(time.DateTime))
		if err := a.confirm(ctx, question); err != nil {
			return err
		}
	}
	began := time.Now()
	show := a.progress("sent")
	cl, err := c.Restore(ctx, path, show.tell)
	show.end()
	const look = "look at it before you try again: `orrery cluster status` and `orrery job ls`"
	e, ok := errors.AsType[*client.Error](err)
	switch {
	case ok && (e.Code == client.CodeNoAnswer || e.Code == job.ErrOutcomeUnknown.Code):
		return failuref(look, "%s; the cluster may be restored, or as it was", e.Message())
	case err != nil && ctx.Err() != nil:
		return &exitError{code: exitInterrupted, text: "interrupted; the cluster may be restored, or as it was", hint: look}
	case err != nil:
		return err
	case a.json:
		return a.document(cl)
	}
	a.printf("cluster %s holds what %s holds, after %s\n", cl.ClusterID, path, took(time.Since(began)))
	return nil
}

// progress shows how far something has come, on one line that is overwritten. It
// shows nothing when nobody watches, or it is done soon.
type progress struct {
	a      *app
	verb   string
	watch  bool
	next   time.Time
	length int
}

const (
	progressAfter = time.Second
	progressEvery = 250 * time.Millisecond
)

func (a *app) progress(verb string) *progress {
	return &progress{a: a, verb: verb, watch: isTerminal(a.err) && !a.json, next: time.Now().Add(progressAfter)}
}

// tell is a client.Progress.
func (p *progress) tell(done, total int64) {
	now := time.Now()
	if !p.watch || now.Before(p.next) {
		return
	}
	p.next = now.Add(progressEvery)
	text := byteText(done) + " " + p.verb
	if total > 0 {
		text = fmt.Sprintf("%d%%, %s of %s %s", 100*done/total, byteText(done), byteText(total), p.verb)
		if done == total && p.verb == "sent" {
			text += "; the cluster works on it"
		}
	}
	p.a.notef("\r%-*s", p.length, text)
	p.length = len(text)
}

// end removes the line.
func (p *progress) end() {
	if p.length > 0 {
		p.a.notef("\r%-*s\r", p.length, "")
	}
}
