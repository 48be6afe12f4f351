package cluster

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hashicorp/raft"
	"github.com/orrery-io/orrery/command"
	"github.com/orrery-io/orrery/fsm"
	"github.com/orrery-io/orrery/job"
)

// counting counts what is given to Apply.
type counting struct {
	*fsm.Machine
	entries atomic.Int64
	copies  atomic.Int64
}

func (c *counting) CopyTo(ctx context.Context, path string) (int64, error) {
	c.copies.Add(1)
	return c.Machine.CopyTo(ctx, path)
}

func (c *counting) Apply(entries []fsm.Entry) ([][]command.Result, error) {
	c.entries.Add(int64(len(entries)))
	return c.Machine.Apply(entries)
}

// whole is a node with its real state machine.
type whole struct {
	*Node
	machine *counting
	leads   chan struct{}
	ended   chan struct{} // Run of the node has returned
	stop    func() error
	fails   bool // Run is expected to return an error
}

// launch runs a node on a real state machine in dir.
func launch(t testing.TB, dir string, change func(*Config)) *whole {
	t.Helper()
	log := slog.New(slog.DiscardHandler)
	w := &whole{leads: make(chan struct{}, 64), ended: make(chan struct{})}
	cfg := Config{
		ID: "n1", Dir: filepath.Join(dir, "raft"), Version: "test", Log: log,
		Lead: func(ctx context.Context, _ uint64) error { w.leads <- struct{}{}; <-ctx.Done(); return nil },
	}
	if change != nil {
		change(&cfg)
	}
	m, err := OpenMachine(t.Context(), fsm.Config{Dir: filepath.Join(dir, "db"), Log: log}, cfg.Dir, cfg.ID, cfg.Transport == nil)
	if err != nil {
		t.Fatal(err)
	}
	w.machine = &counting{Machine: m}
	cfg.Machine = w.machine
	if w.Node, err = New(cfg); err != nil {
		t.Fatal(errors.Join(err, m.Close()))
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	flush, endFlush := context.WithCancel(context.WithoutCancel(t.Context()))
	var flushed sync.WaitGroup
	var nodeErr, machineErr error
	flushed.Go(func() { machineErr = m.Run(flush) })
	go func() { defer close(w.ended); nodeErr = w.Run(ctx) }()
	w.stop = sync.OnceValue(func() error {
		cancel()
		<-w.ended
		endFlush()
		flushed.Wait()
		return errors.Join(nodeErr, machineErr, m.Close())
	})
	t.Cleanup(func() {
		if err := w.stop(); err != nil && !w.fails {
			t.Error(err)
		}
	})
	return w
}

func (w *whole) awaitLead(t testing.TB) {
	t.Helper()
	select {
	case <-w.leads:
	case <-w.ended:
		t.Fatal(w.stop())
	}
}

// spec is a job whose payload tells which one it is.
func spec(payload string) job.Spec {
	return job.Spec{Type: "noop", Queue: "default", Payload: job.JSON(payload), Priority: 4, MaxAttempts: 5}
}

func realSubmit(payload string) command.Item {
	return command.Item{Command: &command.Submit{Spec: spec(payload)}}
}

func TestRealRestart(t *testing.T) {
	dir := t.TempDir()
	w := launch(t, dir, nil)
	w.awaitLead(t)
	results, err := w.Propose(t.Context(), realSubmit("1"), realSubmit("2"))
	if err != nil {
		t.Fatal(err)
	}
	if err := w.stop(); err != nil {
		t.Fatal(err)
	}
	w = launch(t, dir, nil)
	w.awaitLead(t)
	if n := w.machine.entries.Load(); n != 0 {
		t.Errorf("%d entries were replayed", n)
	}
	for i, r := range results {
		j, err := w.machine.Job(t.Context(), r.Job)
		if err != nil || string(j.Payload) != fmt.Sprint(i+1) {
			t.Errorf("job %d: %+v, %v", r.Job, j, err)
		}
	}
	if index, err := w.ReadIndex(t.Context()); err != nil || index < results[1].Index {
		t.Errorf("ReadIndex = %d, %v", index, err)
	}
}

const childDir = "ORRERY_TEST_CLUSTER_DIR"

// TestChild is no test of its own: it is the process that TestKill kills. It records
// jobs and prints the id and payload of each one that was acknowledged.
func TestChild(t *testing.T) {
	dir := os.Getenv(childDir)
	if dir == "" {
		t.Skip("runs as a child of TestKill only")
	}
	w := launch(t, dir, func(cfg *Config) { cfg.SnapshotThreshold = 32 << 10 })
	w.awaitLead(t)
	var out sync.Mutex
	var wg sync.WaitGroup
	for c := range 8 {
		wg.Go(func() {
			for i := 0; ; i++ {
				payload := fmt.Sprintf(`"%d-%d-%d"`, os.Getpid(), c, i)
				results, err := w.Propose(t.Context(), realSubmit(payload))
				if err != nil {
					return
				}
				out.Lock()
				fmt.Printf("ack %d %s\n", results[0].Job, payload)
				out.Unlock()
			}
		})
	}
	wg.Wait()
}

func TestKill(t *testing.T) {
	if testing.Short() {
		t.Skip("kills processes")
	}
	dir := t.TempDir()
	acked := map[job.ID]string{}
	for round := range 4 {
		killChild(t, dir, acked, 200*(round+1))
		w := launch(t, dir, nil)
		w.awaitLead(t)
		for id, payload := range acked {
			j, err := w.machine.Job(t.Context(), id)
			if err != nil || string(j.Payload) != payload {
				t.Fatalf("round %d: job %d was acknowledged with payload %s and is %+v, %v", round, id, payload, j, err)
			}
		}
		if err := w.stop(); err != nil {
			t.Fatal(err)
		}
	}
}

// killChild runs TestChild in dir until n jobs were acknowledged, and kills it.
func killChild(t *testing.T, dir string, acked map[job.ID]string, n int) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestChild$")
	cmd.Env = append(os.Environ(), childDir+"="+dir)
	var stderr strings.Builder
	cmd.Stderr = &stderr
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(stdout)
	got, other := 0, ""
	for lines.Scan() {
		var id job.ID
		var payload string
		if _, err := fmt.Sscanf(lines.Text(), "ack %d %s", &id, &payload); err != nil {
			other += lines.Text() + "\n"
			continue
		}
		acked[id] = payload
		if got++; got == n {
			if err := cmd.Process.Kill(); err != nil {
				t.Fatal(err)
			}
		}
	}
	_ = cmd.Wait() // killed
	if got < n {
		t.Fatalf("the child ended after %d of %d jobs: %s%s", got, n, other, stderr.String())
	}
}

// TestRealInstall lets a follower stay away for longer than the log, with real
// databases.
func TestRealInstall(t *testing.T) {
	var founders []raft.Server
	var transports []*raft.InmemTransport
	for i := range 3 {
		id := fmt.Sprintf("n%d", i+1)
		founders = append(founders, raft.Server{ID: raft.ServerID(id), Address: raft.ServerAddress(id)})
	}
	dirs := []string{t.TempDir(), t.TempDir(), t.TempDir()}
	nodes := make([]*whole, 3)
	begin := func(i int) {
		_, trans := raft.NewInmemTransport(founders[i].Address)
		if i < len(transports) {
			transports[i] = trans
		} else {
			transports = append(transports, trans)
		}
		for j, other := range transports {
			if j != i {
				other.Disconnect(founders[i].Address)
				other.Connect(founders[i].Address, trans)
				trans.Connect(founders[j].Address, other)
			}
		}
		nodes[i] = launch(t, dirs[i], func(cfg *Config) {
			cfg.ID, cfg.Transport, cfg.Founders = string(founders[i].ID), trans, founders
			cfg.TrailingLogs, cfg.SnapshotThreshold = 1, 1<<40
		})
	}
	for i := range nodes {
		begin(i)
	}
	record := func(payload string) int {
		for {
			for i, n := range nodes {
				if n == nil || !n.IsLeader() {
					continue
				}
				if _, err := n.Propose(t.Context(), realSubmit(payload)); err == nil {
					return i
				}
			}
			if t.Context().Err() != nil {
				t.Fatal("the test ended before a job was recorded")
			}
			time.Sleep(time.Millisecond)
		}
	}
	l := record("0")
	away := (l + 1) % 3
	if err := nodes[away].stop(); err != nil {
		t.Fatal(err)
	}
	nodes[away] = nil
	for i := range 150 {
		l = record(fmt.Sprint(i + 1))
	}
	for _, n := range nodes {
		if n == nil {
			continue
		}
		if err := n.machine.WaitApplied(t.Context(), nodes[l].adapter.lastCommand.Load()); err != nil {
			t.Fatal(err)
		}
		if err := n.snapshot(n.raft.Load()); err != nil {
			t.Fatal(err)
		}
	}
	l = record("151")
	begin(away)
	want := nodes[l].adapter.lastCommand.Load()
	if err := nodes[away].machine.WaitApplied(t.Context(), want); err != nil {
		t.Fatal(err)
	}
	for id := job.ID(1); id <= 152; id++ {
		a, err := nodes[l].machine.Job(t.Context(), id)
		if err != nil {
			t.Fatal(err)
		}
		b, err := nodes[away].machine.Job(t.Context(), id)
		if err != nil || string(a.Payload) != string(b.Payload) {
			t.Fatalf("job %d: %v, %v", id, b, err)
		}
	}
	if m, ok := nodes[away].machine.Marker(); !ok || m.Index < 100 {
		t.Errorf("marker %+v, %v", m, ok)
	}
}
