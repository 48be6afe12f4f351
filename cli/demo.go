package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"github.com/orrery-io/orrery/client"
	"github.com/orrery-io/orrery/server"
	"github.com/spf13/cobra"
)

// demoLease is short, so that a killed agent's jobs are rescued while one watches.
const demoLease = 2 * time.Second

type demoOptions struct {
	dir      string
	exit     bool
	maxFiles int
}

func newDemo(a *app) *cobra.Command {
	var opts demoOptions
	cmd := &cobra.Command{
		Use:   "demo",
		Short: "See it work: hash files by durable jobs, with an agent killed on the way",
		Long: `Start a node (on loopback, a free port, in a temporary folder) and an agent as a
process of its own; submit one durable job for each file below a folder, which
computes its SHA-256; kill the agent in the middle, start another, and watch the
jobs that it had being rescued; compare every result with the hash computed
directly. Then stay up to look around, until Ctrl-C.

The exit code is 0 only when everything agreed.`,
		Example: `  orrery demo
  orrery demo --dir /usr/share/doc --exit`,
		Args: nothing(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.demo(cmd.Context(), opts)
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&opts.dir, "dir", ".", "`folder` whose files are hashed")
	flags.BoolVar(&opts.exit, "exit", false, "end when all is done instead of staying up")
	flags.IntVar(&opts.maxFiles, "max-files", 2000, "how many files at most")
	_ = cmd.MarkFlagDirname("dir")
	return cmd
}

// demo is one run of the demonstration.
type demo struct {
	opts  demoOptions
	out   io.Writer // for people: stdout, or stderr when stdout gets JSON
	tty   bool
	tmp   string
	url   string
	c     *client.Client
	feed  *demoFeed
	agent *demoAgent
	// started counts the agents.
	started int
	files   []demoFile
	// quarter is how far plain progress was shown.
	quarter int
}

// demoReport is what the demonstration found.
type demoReport struct {
	Files    int            `json:"files"`
	Skipped  int            `json:"skipped"`
	Agree    int            `json:"agree"`
	Disagree int            `json:"disagree"`
	Changed  int            `json:"changed"`
	Rescued  []demoRescue   `json:"rescued"`
	Killed   int            `json:"killed_pid"`
	Took     string         `json:"took"`
	Wrong    []demoMismatch `json:"wrong,omitempty"`
}

// ok reports whether everything went as promised.
func (r *demoReport) ok() bool { return r.Disagree == 0 && len(r.Rescued) > 0 }

func (a *app) demo(ctx context.Context, opts demoOptions) (err error) {
	d := &demo{opts: opts, out: a.out, tty: isTerminal(a.out)}
	if a.json {
		d.out, d.tty = a.err, isTerminal(a.err)
	}
	found, err := findFiles(opts.dir, opts.maxFiles)
	if err != nil {
		return err
	}
	d.files = found.files
	d.showFound(found)

	if d.tmp, err = os.MkdirTemp("", "orrery-demo-"); err != nil {
		return failuref("", "make a temporary folder: %s", err)
	}
	defer func() {
		if rerr := os.RemoveAll(d.tmp); rerr != nil && err == nil {
			err = failuref("", "remove the temporary folder: %s", rerr)
		}
	}()
	logFile, err := os.Create(filepath.Join(d.tmp, "node.log"))
	if err != nil {
		return failuref("", "%s", err)
	}
	defer logFile.Close()

	cfg := server.Config{
		Data: filepath.Join(d.tmp, "data"), HTTP: "127.0.0.1:0", Lease: demoLease, Version: version(),
		Log: slog.New(slog.NewTextHandler(logFile, nil)),
	}
	return a.withNode(ctx, cfg, func(ctx context.Context, s *server.Server) error {
		d.url = localURL(s.Addr())
		return d.run(ctx, a, found)
	})
}

// run does everything that needs the node.
func (d *demo) run(ctx context.Context, a *app, found *demoFiles) error {
	began := time.Now()
	var err error
	if d.c, err = client.New(client.Config{Addr: d.url}); err != nil {
		return err
	}
	d.sayf("node     %s, data in %s\n", d.url, d.tmp)
	d.feed = followFeed(ctx, d.c)
	defer d.feed.stop()
	defer func() { d.agent.stop() }()
	if err := d.startAgent(); err != nil {
		return err
	}
	rep := &demoReport{Files: len(d.files), Skipped: found.skipped()}
	if err := d.work(ctx, rep); err != nil {
		return d.explain(err)
	}
	if err := d.compare(ctx, rep); err != nil {
		return d.explain(err)
	}
	rep.Took = took(time.Since(began))
	d.showReport(rep)
	if a.json {
		if err := a.document(rep); err != nil {
			return err
		}
	}
	if !d.opts.exit {
		d.showWhereToLook()
		if err := untilInterrupted(ctx); err != nil {
			return err
		}
		d.sayf("\nstopped\n")
	}
	if !rep.ok() {
		return failuref("", "not everything agreed: %d of %d results differ, %d rescued", rep.Disagree, rep.Files, len(rep.Rescued))
	}
	return nil
}

// work submits one job per file, kills the agent when half of them are done, and
// waits for the end of all.
func (d *demo) work(ctx context.Context, rep *demoReport) error {
	// The first job takes its time in its first attempt, so there always is one in
	// the agent's hands when it is killed.
	slow, err := d.submit(ctx, d.files[:1], lingering)
	if err != nil {
		return err
	}
	half := 1 + (len(d.files)-1)/2
	early, err := d.submit(ctx, d.files[1:half], prompt)
	if err != nil {
		return err
	}
	d.sayf("jobs     %s submitted, each stored durably before it was acknowledged\n", count(half, "job"))
	err = d.until(ctx, "the first half of the jobs", func() bool { return d.feed.allEnded(early) && d.feed.running(slow[0]) })
	if err != nil {
		return err
	}
	late, err := d.submit(ctx, d.files[half:], prompt)
	if err != nil {
		return err
	}
	d.line("")
	d.sayf("jobs     %s more submitted\n", count(len(late), "job"))

	killed := d.agent
	rep.Killed = killed.pid()
	d.sayf("kill -9  agent %s, process %d, in the middle of job %d\n", killed.id, rep.Killed, slow[0])
	if err := killed.kill(); err != nil {
		return err
	}
	d.sayf("         within its lease of %s its jobs go back to the queue, for another agent\n", took(demoLease))
	if err := d.startAgent(); err != nil {
		return err
	}
	err = d.until(ctx, "the rest of the jobs", func() bool { return d.feed.allEnded(slow) && d.feed.allEnded(early) && d.feed.allEnded(late) })
	if err != nil {
		return err
	}
	d.line("")
	d.feed.stop() // nobody reads it any more
	rep.Rescued = d.feed.rescues()
	return nil
}

// explain adds the end of the log to an error that is not the user's doing.
func (d *demo) explain(err error) error {
	if errors.Is(err, errInterrupted) || errors.Is(err, context.Canceled) {
		return err
	}
	for _, name := range []string{"node.log", "agent-1.log", "agent-2.log"} {
		if tail := lastLines(filepath.Join(d.tmp, name), 5); tail != "" {
			d.sayf("end of %s:\n%s\n", name, printable(tail))
		}
	}
	return err
}

func (d *demo) sayf(format string, args ...any) { fmt.Fprintf(d.out, format, args...) }
