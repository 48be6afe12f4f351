package cli

import (
	"context"
	"io"
	"os"
	"os/signal"
	"syscall"

	"github.com/orrery-io/orrery/agent/builtin"
)

// Main runs the program and returns its exit code. The first Ctrl-C, or SIGTERM,
// ends it in order; a second one ends it at once.
func Main() int {
	ctx, cancel := context.WithCancelCause(context.Background())
	defer cancel(nil)
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	programs := new(builtin.Programs)
	go func() {
		<-signals
		cancel(errInterrupted)
		<-signals
		// The programs that jobs run here would go on without the agent, while their
		// jobs are given to another one.
		programs.KillAll()
		os.Exit(exitInterrupted)
	}()
	return Run(ctx, Env{In: os.Stdin, Out: os.Stdout, Err: os.Stderr, Getenv: os.Getenv, Programs: programs}, os.Args[1:])
}

// Env is what a command sees of the process.
type Env struct {
	In       io.Reader
	Out, Err io.Writer
	// Getenv is os.Getenv, or less.
	Getenv func(string) string
	// Programs are those that the jobs of an agent in this process run; nil when
	// nobody has to know.
	Programs *builtin.Programs
}

// Run runs one command line, without the program's name, and returns the exit
// code. It returns soon after ctx has ended.
func Run(ctx context.Context, env Env, args []string) int {
	a := &app{in: env.In, out: env.Out, err: env.Err, getenv: env.Getenv, programs: env.Programs}
	root := newRoot(a)
	root.SetArgs(args)
	root.SetIn(env.In)
	root.SetOut(env.Out)
	root.SetErr(env.Err)
	return report(env.Err, root.ExecuteContext(ctx))
}
