package server

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/orrery-io/orrery/agent"
	"github.com/orrery-io/orrery/client"
)

// The tests of this package kill real processes: the test binary starts itself
// again as a node or as an agent. What a child is told comes by environment.
const (
	roleEnv = "ORRERY_TEST_ROLE" // node or agent
	dataEnv = "ORRERY_TEST_DATA"
	httpEnv = "ORRERY_TEST_HTTP"
	idEnv   = "ORRERY_TEST_AGENT"
	// leaseEnv is the node's lease; testLease when it is not set.
	leaseEnv = "ORRERY_TEST_LEASE"
	// These make the node one of several: its cluster port, how many begin, whom to
	// join, and the key.
	clusterEnv = "ORRERY_TEST_CLUSTER"
	expectEnv  = "ORRERY_TEST_EXPECT"
	joinEnv    = "ORRERY_TEST_JOIN"
	keyEnv     = "ORRERY_TEST_KEY"
	// levelEnv is from where on the node logs; warnings when it is not set.
	levelEnv = "ORRERY_TEST_LEVEL"
)

// patience bounds every wait for another process. It is far longer than anything
// takes, because machines are slow at times.
const patience = 2 * time.Minute

// testLease is the lease of the nodes under test: short, so that a lost agent is
// noticed soon.
const testLease = 2 * time.Second

func TestMain(m *testing.M) {
	role := os.Getenv(roleEnv)
	if role == "" {
		os.Exit(m.Run())
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	defer stop()
	run := map[string]func(context.Context) error{"node": childNode, "agent": childAgent}[role]
	if err := run(ctx); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func childNode(ctx context.Context) error {
	lease := testLease
	if text := os.Getenv(leaseEnv); text != "" {
		var err error
		if lease, err = time.ParseDuration(text); err != nil {
			return err
		}
	}
	level := slog.LevelWarn
	if text := os.Getenv(levelEnv); text != "" {
		if err := level.UnmarshalText([]byte(text)); err != nil {
			return err
		}
	}
	cfg := Config{
		Data:    os.Getenv(dataEnv),
		HTTP:    os.Getenv(httpEnv),
		Cluster: os.Getenv(clusterEnv),
		KeyFile: os.Getenv(keyEnv),
		Version: "test",
		Lease:   lease,
		Log:     slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: level})),
	}
	if text := os.Getenv(joinEnv); text != "" {
		cfg.Join = strings.Split(text, ",")
	}
	if text := os.Getenv(expectEnv); text != "" {
		var err error
		if cfg.BootstrapExpect, err = strconv.Atoi(text); err != nil {
			return err
		}
	}
	s, err := New(cfg)
	if err != nil {
		return err
	}
	go func() {
		<-s.Ready()
		fmt.Println("ready")
	}()
	return s.Run(ctx)
}

// heldJob is the payload of the handler "hold": it ends once the file exists.
type heldJob struct {
	File string `json:"file"`
}

func childAgent(ctx context.Context) error {
	id := os.Getenv(idEnv)
	a, err := agent.New(agent.Config{Addrs: []string{"http://" + os.Getenv(httpEnv)}, ID: id, Slots: 1})
	if err != nil {
		return err
	}
	agent.Handle(a, "hold", func(ctx context.Context, j *agent.Job[heldJob]) (string, error) {
		j.Logf("held by %s", id)
		return id, waitForFile(ctx, j.Args.File)
	})
	fmt.Println("ready")
	return a.Run(ctx)
}

// waitForFile looks for the file until it is there. Files are how the test tells
// a process that may have been stopped in between to go on.
func waitForFile(ctx context.Context, file string) error {
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		if _, err := os.Stat(file); err == nil {
			return nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// child is a process of the test. It is killed when the test ends.
type child struct {
	t   *testing.T
	cmd *exec.Cmd
	// exited is closed once the process is gone; err is how.
	exited chan struct{}
	err    error
	stderr *said
	begin  time.Time
	// told gets a value when the process says that it is ready; ready is how long that
	// took.
	told  chan bool
	ready time.Duration
}

// said is what a process has said so far.
type said struct {
	mu   sync.Mutex
	text strings.Builder
}

func (s *said) Write(b []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.text.Write(b)
}

func (s *said) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.text.String()
}

// startChild starts the test binary in a role and waits until it is ready.
func startChild(t *testing.T, role string, env ...string) *child {
	t.Helper()
	c := launch(t, role, env...)
	if c == nil {
		t.FailNow()
	}
	return c
}

// launch is startChild for a process that may end before it is ready: then it
// returns nil after reporting what the process said.
func launch(t *testing.T, role string, env ...string) *child {
	t.Helper()
	c := spawn(t, role, env...)
	if !c.await() {
		return nil
	}
	return c
}

// spawn starts the test binary in a role.
func spawn(t *testing.T, role string, env ...string) *child {
	t.Helper()
	c := &child{t: t, exited: make(chan struct{}), stderr: new(said), begin: time.Now(), told: make(chan bool, 1)}
	c.cmd = exec.CommandContext(context.WithoutCancel(t.Context()), os.Args[0])
	c.cmd.Env = append(os.Environ(), append(env, roleEnv+"="+role)...)
	c.cmd.Stderr = c.stderr
	out, err := c.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := c.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		lines := bufio.NewScanner(out)
		for lines.Scan() {
			if lines.Text() == "ready" {
				c.told <- true
			}
		}
		c.err = c.cmd.Wait()
		close(c.exited)
	}()
	t.Cleanup(c.kill)
	return c
}

// await waits until the process is ready. It reports false, and what the process said,
// when it ends before, or takes too long.
func (c *child) await() bool {
	c.t.Helper()
	select {
	case <-c.told:
		c.ready = time.Since(c.begin)
		return true
	case <-c.exited:
		c.t.Errorf("a process ended before it was ready: %v\n%s", c.err, c.stderr)
	case <-time.After(patience):
		c.t.Errorf("a process was not ready in %s\n%s", patience, c.stderr)
	}
	return false
}

// refusal runs a node that is expected to refuse to start, and returns what it
// says.
func refusal(ctx context.Context, t *testing.T, env ...string) string {
	t.Helper()
	cmd := exec.CommandContext(ctx, os.Args[0])
	cmd.Env = append(os.Environ(), append(env, roleEnv+"=node")...)
	out, err := cmd.CombinedOutput()
	if _, ok := errors.AsType[*exec.ExitError](err); !ok {
		t.Fatalf("want a refusal, got %v", err)
	}
	return string(out)
}

// kill is kill -9, and waits until the process is gone.
func (c *child) kill() {
	_ = c.cmd.Process.Kill()
	<-c.exited
}

func (c *child) signal(sig os.Signal) {
	c.t.Helper()
	if err := c.cmd.Process.Signal(sig); err != nil {
		c.t.Fatal(err)
	}
}

// stop ends the process as an operator would and wants it to end well.
func (c *child) stop() {
	c.t.Helper()
	c.signal(syscall.SIGTERM)
	select {
	case <-c.exited:
	case <-time.After(patience):
		c.t.Fatal("the process did not end")
	}
	if exit, ok := errors.AsType[*exec.ExitError](c.err); ok {
		c.t.Fatalf("ended with %v\n%s", exit, c.stderr)
	}
}

// freeAddr returns a loopback address that nobody listens on. The node is told to
// use it again after each restart, so it cannot be port 0.
func freeAddr(t *testing.T) string {
	t.Helper()
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// dataFolder is a folder on a real disk: the test folder may be in memory, where
// fsync means nothing.
func dataFolder(t *testing.T) string {
	t.Helper()
	return filepath.Join(t.TempDir(), "data")
}

func newClient(t *testing.T, addr string) *client.Client {
	t.Helper()
	c, err := client.New(client.Config{Addr: addr})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// bounded is the test's context with the patience of the tests.
func bounded(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	t.Cleanup(cancel)
	return ctx
}
