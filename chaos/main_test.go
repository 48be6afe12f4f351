//go:build linux

package chaos

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"strings"
	"syscall"
	"testing"
	"time"
)

// What scripts/chaos.sh and scripts/mutants.sh choose.
var (
	flagMode      = flag.String("chaos", "", "what to run: quick, soak, failover, single (one node), or schedules (nothing is broken); empty runs only the checkers' own tests")
	flagSeed      = flag.Uint64("seed", 0, "seed of the schedule of faults; 0 takes one from the clock")
	flagDuration  = flag.Duration("duration", 0, "how long faults go on; 0 is the mode's own")
	flagBinary    = flag.String("binary", "", "the orrery program; it must be built with the tag chaos")
	flagKeep      = flag.String("keep", "", "folder for the history of a failed run")
	flagFaults    = flag.String("faults", "", "only these faults, divided by commas")
	flagNodes     = flag.Int("nodes", 0, "how many nodes; 0 is the mode's own")
	flagKills     = flag.Int("kills", 30, "how many leaders the mode failover kills")
	flagSchedules = flag.Int("schedules", 10_000, "how many schedules the mode schedules makes")
	flagWorkers   = flag.Int("workers", 3, "how many agents execute the jobs of the mode schedules")
	flagNet       = flag.String("net", "", "what lies between nodes: proxies or spaces (network namespaces); empty chooses by the seed")
	flagRoom      = flag.String("room", "", "folder for the nodes' data and logs; empty is a new one below the temporary folder")
)

const (
	roleEnv  = "ORRERY_CHAOS_ROLE" // agent, or inside
	inside   = "inside"
	agentEnv = "ORRERY_CHAOS_AGENT"
)

// TestMain runs this program as an agent, or moves it into namespaces of its own
// before the suite begins, so that its mounts and processes end with it.
func TestMain(m *testing.M) {
	switch os.Getenv(roleEnv) {
	case "agent":
		ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
		err := runAgent(ctx)
		stop()
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	case inside:
		if err := settle(); err != nil {
			fmt.Fprintln(os.Stderr, "chaos:", err)
			os.Exit(1)
		}
		os.Exit(m.Run())
	}
	flag.Parse()
	if *flagMode == "" || os.Geteuid() != 0 {
		os.Exit(m.Run())
	}
	os.Exit(moveInside())
}

// moveInside runs the same command in a new mount and process namespace.
func moveInside() int {
	cmd := exec.Command(os.Args[0], os.Args[1:]...)
	cmd.Env = append(os.Environ(), roleEnv+"="+inside)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = nil, os.Stdout, os.Stderr
	cmd.SysProcAttr = namespaces()
	if err := cmd.Start(); err != nil {
		fmt.Fprintf(os.Stderr, "chaos: no namespaces of its own (%v); run as an ordinary user to do without\n", err)
		return 1
	}
	signals := make(chan os.Signal, 4)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	go func() {
		for range signals {
			_ = cmd.Process.Kill() // with it all of the namespace ends
		}
	}()
	if err := cmd.Wait(); err != nil {
		return 1
	}
	return 0
}

// isInside reports whether mounts and processes are this run's own.
func isInside() bool { return os.Getenv(roleEnv) == inside }

// TestChaos runs the suite.
func TestChaos(t *testing.T) {
	if *flagMode == "" {
		t.Skip("run by scripts/chaos.sh")
	}
	seed := *flagSeed
	if seed == 0 {
		seed = uint64(time.Now().UnixNano()) % 1_000_000_000
	}
	var only []string
	if *flagFaults != "" {
		only = strings.Split(*flagFaults, ",")
	}
	opts := options{mode: *flagMode, seed: seed, duration: *flagDuration, nodes: *flagNodes, kills: *flagKills, schedules: *flagSchedules, workers: *flagWorkers, only: only, binary: *flagBinary, keep: *flagKeep, network: *flagNet}
	if err := opts.defaults(); err != nil {
		t.Fatal(err)
	}
	if opts.mode == "schedules" {
		runCalm(t, opts)
		return
	}
	run(t, opts)
}
