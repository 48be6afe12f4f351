package cli

import (
	"context"
	"errors"
	"fmt"
	"os"
	"runtime/debug"
	"runtime/pprof"
	"strings"

	"github.com/orrery-io/orrery/internal/bench"
	"github.com/orrery-io/orrery/job"
	"github.com/spf13/cobra"
)

func newBench(a *app) *cobra.Command {
	cmd := isGroup(&cobra.Command{
		Use:   "bench",
		Short: "Measure a running cluster",
		Long: `Measure a running cluster: put load on it, and tell what it did, how long that took
and what the nodes used. Jobs are no-ops in a queue of their own; what is left of
them is executed at the end and on Ctrl-C, and deleted by the cluster soon after.

With --rate requests are due at fixed times (an open loop), and latencies count from
then; without it each connection sends the next request after the answer to the last
(a closed loop), which finds the highest rate.

Name every node with --addr: they are loaded in turn, and the processors and the
memory that they use come from their /metrics. A bench on the machine of the nodes
takes processors from them; the last line says how much.`,
		Example: `  orrery bench submit
  orrery bench submit --batch 500 --connections 4 --payload 1kB
  orrery bench e2e --rate 5000 --duration 1m
  orrery bench latency --addr 10.0.0.1:7700,10.0.0.2:7700,10.0.0.3:7700
  orrery bench idle-agents --agents 10000 --json`,
	})
	for _, b := range []struct {
		mode    bench.Mode
		short   string
		long    string
		example string
	}{
		{
			bench.Submit, "Measure submissions: acknowledged jobs per second",
			`Measure submissions alone: nobody executes the jobs until the measurement is over.`,
			`  orrery bench submit                                  # 64 connections, single jobs
  orrery bench submit --connections 4 --batch 500
  orrery bench submit --rate 2000 --duration 30s       # latency at a rate
  orrery bench submit --jobs 1000000 --batch 1000 --connections 4 --keep`,
		},
		{
			bench.Process, "Measure execution: how fast a full queue is emptied",
			`Measure execution: fill a paused queue with --jobs, connect agents, resume the
queue, and measure until the last result is recorded.`,
			`  orrery bench process --jobs 500000 --agents 8 --slots 100`,
		},
		{
			bench.EndToEnd, "Measure submitting and executing at the same time",
			`Measure submitting and executing at the same time. A job counts when its result is
recorded. In a closed loop there are at most --in-flight jobs between submission and
result, so that the rate is one that lasts.`,
			`  orrery bench e2e
  orrery bench e2e --rate 5000 --connections 16 --batch 1 --duration 1m`,
		},
		{
			bench.Latency, "Measure how long a job takes while nothing else is to do",
			`Measure the latency of a system without load: one job after another, each submitted
when the one before is recorded; with --rate so many per second. "start" is the time
from the submission until the handler is called in an agent.`,
			`  orrery bench latency
  orrery bench latency --rate 50 --duration 1m`,
		},
		{
			bench.IdleAgents, "Measure what connected agents cost that have nothing to do",
			`Connect agents, hold them, and tell what the nodes need for each of them. Memory is
what the resident memory grew by, so measure a node that has just been started: one
that has worked has room already.`,
			`  orrery bench idle-agents --agents 10000 --duration 1m`,
		},
	} {
		cmd.AddCommand(newBenchMode(a, b.mode, b.short, b.long, b.example))
	}
	return cmd
}

// benchFlags are those that bench.Config has in another form.
type benchFlags struct {
	payload          int64
	duration, warmup job.Duration
	retention        job.Duration
	profile          string
}

func newBenchMode(a *app, mode bench.Mode, short, long, example string) *cobra.Command {
	cfg := bench.Config{Mode: mode}
	var f benchFlags
	cmd := &cobra.Command{
		Use: string(mode), Short: short, Long: long, Example: example, Args: nothing(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg.Addrs = a.nodes()
			cfg.Payload, cfg.Duration, cfg.Retention = int(f.payload), f.duration.Duration(), f.retention.Duration()
			if cfg.Warmup = f.warmup.Duration(); cfg.Warmup == 0 && cmd.Flags().Changed("warmup") {
				cfg.Warmup = -1
			}
			if err := checkBench(cmd, &cfg); err != nil {
				return err
			}
			var err error
			if cfg.Token, err = a.token(); err != nil {
				return err
			}
			return a.bench(cmd.Context(), cfg, f.profile)
		},
	}
	declareBench(cmd, mode, &cfg, &f)
	return cmd
}

// checkBench refuses zero, which is no number of anything here, and leaves what was
// not given to the defaults: they depend on what was.
func checkBench(cmd *cobra.Command, cfg *bench.Config) error {
	for name, n := range map[string]*int{
		"connections": &cfg.Connections, "batch": &cfg.Batch, "agents": &cfg.Agents, "slots": &cfg.Slots, "in-flight": &cfg.InFlight,
	} {
		switch given := cmd.Flags().Changed(name); {
		case given && *n == 0:
			return usagef("--%s 0 would do nothing", name)
		case !given:
			*n = 0
		}
	}
	return nil
}

// declareBench declares the flags that mean something in a mode.
func declareBench(cmd *cobra.Command, mode bench.Mode, cfg *bench.Config, f *benchFlags) {
	flags := cmd.Flags()
	d := bench.Config{Mode: mode}.Defaults()
	idle := mode == bench.IdleAgents
	connections := "how many connections submit at the same time"
	if idle {
		connections = "how many agents connect at the same time"
	}
	flags.IntVar(&cfg.Connections, "connections", d.Connections, connections)
	if mode != bench.Process {
		f.duration = job.For(d.Duration)
		flags.Var(durationFlag{&f.duration}, "duration", "for how long to measure")
	}
	if !idle {
		flags.IntVar(&cfg.Batch, "batch", d.Batch, "how many jobs one request submits")
		f.payload = int64(d.Payload)
		flags.Var(sizeFlag{&f.payload}, "payload", fmt.Sprintf("`size` of a job's payload (default %dB)", d.Payload))
		flags.Int64Var(&cfg.Jobs, "jobs", d.Jobs, "how many to submit in all, instead of a duration")
		flags.Var(durationFlag{&f.retention}, "retention", "for how long the cluster keeps an ended job (default: until it has been counted)")
		flags.BoolVar(&cfg.Keep, "keep", false, "leave the jobs in the cluster, as they are")
	}
	if !idle && mode != bench.Process {
		f.warmup = job.For(d.Warmup)
		flags.Var(durationFlag{&f.warmup}, "warmup", "for how long there is load before the measurement")
		flags.Float64Var(&cfg.Rate, "rate", 0, "how many jobs per second are due, in an open loop (default: a closed loop)")
	}
	if mode != bench.Submit {
		flags.IntVar(&cfg.Agents, "agents", d.Agents, "how many agents connect")
		flags.IntVar(&cfg.Slots, "slots", d.Slots, "how many jobs an agent runs at once")
	}
	if mode == bench.EndToEnd {
		flags.IntVar(&cfg.InFlight, "in-flight", d.InFlight, "most jobs between submission and result in a closed loop; -1 for no bound")
	}
	flags.StringVar(&f.profile, "cpuprofile", "", "write a profile of the bench itself to this `file`")
	_ = flags.MarkHidden("cpuprofile")
}

// bench measures, and shows the report; also one that is wrong, or incomplete.
func (a *app) bench(ctx context.Context, cfg bench.Config, profile string) error {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(mostGCPercent) // it may share the processors with the node
	}
	if profile != "" {
		file, err := os.Create(profile)
		if err != nil {
			return failuref("", "%s", err)
		}
		defer file.Close()
		if err := pprof.StartCPUProfile(file); err != nil {
			return failuref("", "%s", err)
		}
		defer pprof.StopCPUProfile()
	}
	line := &progressLine{a: a, live: isTerminal(a.err)}
	cfg.Progress = line.show
	rep, err := bench.Run(ctx, cfg)
	line.end()
	if rep != nil {
		if a.json {
			if err := a.document(rep); err != nil {
				return err
			}
		} else if err := showBench(a, rep); err != nil {
			return err
		}
	}
	if wrong, ok := errors.AsType[*bench.UsageError](err); ok {
		return usagef("%s", wrong)
	}
	return err
}

// progressLine shows how far a measurement is, in one line of the terminal. A stream
// that is no terminal gets nothing.
type progressLine struct {
	a     *app
	live  bool
	width int
}

func (l *progressLine) show(p bench.Progress) {
	if !l.live {
		return
	}
	text := fmt.Sprintf("%s  %ds", p.Stage, int(p.Elapsed.Seconds()))
	if p.Of > 0 {
		text += fmt.Sprintf(" of %ds", int(p.Of.Seconds()))
	}
	text += fmt.Sprintf("  %s  %s/s", thousands(p.Done), thousands(int64(p.Rate)))
	if p.P99 > 0 {
		text += fmt.Sprintf("  p99 %s ms", millis(p.P99))
	}
	if p.Waiting > 0 {
		text += fmt.Sprintf("  %s waiting", thousands(p.Waiting))
	}
	if p.Errors > 0 {
		text += fmt.Sprintf("  %s", count(p.Errors, "error"))
	}
	l.write(text)
}

// write replaces the line.
func (l *progressLine) write(text string) {
	l.a.notef("\r%s%s", text, strings.Repeat(" ", max(l.width-len(text), 0)))
	l.width = len(text)
}

// end removes the line.
func (l *progressLine) end() {
	if l.width > 0 {
		l.write("")
		l.a.notef("\r")
	}
}
