package server

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/orrery-io/orrery/agent"
	"github.com/orrery-io/orrery/client"
	"github.com/orrery-io/orrery/job"
	_ "modernc.org/sqlite" // integrity_check, from outside
)

// kills is how often TestNodeKilled kills the node.
const kills = 30

// TestNodeKilled kills a node with SIGKILL thirty times while jobs are submitted,
// executed, retried and cancelled, and looks at the end whether everything that
// was acknowledged is there and ended exactly once.
func TestNodeKilled(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 5*patience)
	defer cancel()
	data, addr := dataFolder(t), freeAddr(t)
	// The lease is longer than the agent takes to come back: no job counts as lost
	// because the node was killed, and the agent resumes what it has.
	env := []string{dataEnv + "=" + data, httpEnv + "=" + addr, leaseEnv + "=1m"}
	node := startChild(t, "node", env...)

	// One agent, which outlives every node.
	var executions atomic.Int64
	executed := make(chan struct{}, 1)
	a, err := agent.New(agent.Config{Addrs: []string{"http://" + addr}, ID: "worker", Slots: 16})
	if err != nil {
		t.Fatal(err)
	}
	agent.Handle(a, "work", func(_ context.Context, j *agent.Job[int]) (int, error) {
		executions.Add(1)
		select {
		case executed <- struct{}{}:
		default:
		}
		if j.Args%10 == 0 && j.Attempt == 1 {
			return 0, errors.New("the first attempt of every tenth job fails")
		}
		return j.Args * 2, nil
	})
	agentCtx, stopAgent := context.WithCancel(ctx)
	var background sync.WaitGroup
	background.Go(func() {
		if err := a.Run(agentCtx); err != nil {
			t.Errorf("agent: %v", err)
		}
	})

	// Submitters go on through every crash. What was acknowledged is written down.
	var mu sync.Mutex
	acked := map[job.ID]int{}
	acks := make(chan struct{}, 1<<16)
	submitCtx, stopSubmit := context.WithCancel(ctx)
	for w := range 8 {
		c := newClient(t, addr)
		background.Go(func() {
			for n := w; submitCtx.Err() == nil; n += 8 {
				j, err := c.Submit(submitCtx, client.Submission{
					Type: "work", Payload: n, IdempotencyKey: fmt.Sprintf("key-%d", n),
					Retry: job.Retry{Backoff: job.Fixed, Initial: 10},
				})
				if err != nil {
					continue // unknown or refused: it was not acknowledged
				}
				mu.Lock()
				acked[j.ID] = n
				mu.Unlock()
				if n%25 == 24 {
					_, _ = c.Cancel(submitCtx, j.ID, "every twenty-fifth")
				}
				select {
				case acks <- struct{}{}:
				default:
				}
			}
		})
	}
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 1))
	var restarts []time.Duration
	for i := range kills {
		if i%5 == 4 {
			// Not only while the agent looks for the node: in the middle of work too.
			select {
			case <-executed:
			default:
			}
			select {
			case <-executed:
			case <-ctx.Done():
				t.Fatal("no job is executed any more")
			}
		}
		for range 1 + random.IntN(200) {
			select {
			case <-acks:
			case <-ctx.Done():
				t.Fatalf("no submission was acknowledged any more; the node said:\n%s", node.stderr)
			}
		}
		node.kill()
		node = startChild(t, "node", env...)
		restarts = append(restarts, node.ready)
	}
	stopSubmit()

	c := newClient(t, addr)
	for id, n := range acked {
		j, err := c.Wait(ctx, id)
		if err != nil {
			t.Fatalf("job %d was acknowledged: %v", id, err)
		}
		switch {
		case j.State == job.Cancelled && n%25 == 24:
		case j.State == job.Completed && string(j.Result) == fmt.Sprint(n*2):
		default:
			t.Errorf("job %d (payload %d) is %s with result %s, %+v", id, n, j.State, j.Result, j.Error)
		}
	}
	ends := map[job.ID]int{}
	for e, err := range c.Events(ctx, client.EventOptions{After: new(job.EventID), Stored: true}) {
		if err != nil {
			t.Fatal(err)
		}
		if e.Ended() {
			ends[e.Job]++
		}
	}
	for id := range acked {
		if ends[id] != 1 {
			t.Errorf("job %d has %d transitions to an end state", id, ends[id])
		}
	}
	stopAgent()
	background.Wait()
	node.stop()
	checkDatabase(t, data)
	slices.Sort(restarts)
	t.Logf("%d jobs acknowledged, %d executions; restart until ready: median %s, worst %s", len(acked), executions.Load(), restarts[len(restarts)/2], restarts[len(restarts)-1])
}

// checkDatabase opens the stopped node's database from outside.
func checkDatabase(t *testing.T, data string) {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(data, "db", "gen-*", "state.db"))
	if err != nil || len(files) != 1 {
		t.Fatalf("want one database, found %v, %v", files, err)
	}
	db, err := sql.Open("sqlite", "file:"+files[0]+"?mode=ro")
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	var verdict string
	if err := db.QueryRowContext(t.Context(), "PRAGMA integrity_check").Scan(&verdict); err != nil || verdict != "ok" {
		t.Fatalf("integrity_check: %s, %v", verdict, err)
	}
}

// TestAgentKilled kills an agent in the middle of a job. Another one finishes it.
func TestAgentKilled(t *testing.T) {
	ctx := bounded(t)
	addr := freeAddr(t)
	startChild(t, "node", dataEnv+"="+dataFolder(t), httpEnv+"="+addr)
	c := newClient(t, addr)
	file := filepath.Join(t.TempDir(), "go-on")

	first := startChild(t, "agent", httpEnv+"="+addr, idEnv+"=first")
	j, err := c.Submit(ctx, client.Submission{Type: "hold", Payload: heldJob{file}})
	if err != nil {
		t.Fatal(err)
	}
	waitForEvent(ctx, t, c, j.ID, job.JobStarted)
	first.kill()
	startChild(t, "agent", httpEnv+"="+addr, idEnv+"=second")
	waitForEvent(ctx, t, c, j.ID, job.JobLost)
	write(t, file, "")
	if j, err = c.Wait(ctx, j.ID); err != nil {
		t.Fatal(err)
	}
	if j.State != job.Completed || string(j.Result) != `"second"` || j.Lost != 1 || j.Failures != 0 || len(j.Attempts) != 2 {
		t.Fatalf("got %s with %s, %d lost, %d failures, attempts %+v; want it completed by the second agent after one lost attempt", j.State, j.Result, j.Lost, j.Failures, j.Attempts)
	}
}

// TestAgentPaused stops an agent with SIGSTOP for longer than its lease. What it
// has to say when it goes on is refused, and changes nothing.
func TestAgentPaused(t *testing.T) {
	ctx := bounded(t)
	addr := freeAddr(t)
	startChild(t, "node", dataEnv+"="+dataFolder(t), httpEnv+"="+addr)
	c := newClient(t, addr)
	file := filepath.Join(t.TempDir(), "go-on")

	paused := startChild(t, "agent", httpEnv+"="+addr, idEnv+"=paused")
	j, err := c.Submit(ctx, client.Submission{Type: "hold", Payload: heldJob{file}})
	if err != nil {
		t.Fatal(err)
	}
	waitForEvent(ctx, t, c, j.ID, job.JobStarted)
	paused.signal(sigstop)
	startChild(t, "agent", httpEnv+"="+addr, idEnv+"=healthy")
	waitForEvent(ctx, t, c, j.ID, job.JobLost)
	write(t, file, "")
	ended, err := c.Wait(ctx, j.ID)
	if err != nil {
		t.Fatal(err)
	}
	if ended.State != job.Completed || string(ended.Result) != `"healthy"` {
		t.Fatalf("got %s with %s; want it completed by the healthy agent", ended.State, ended.Result)
	}
	paused.signal(sigcont)
	// The paused agent takes part again: it gets the next job once the healthy one
	// is busy, and the first job is as it was.
	if err := waitForAgent(ctx, c, "paused"); err != nil {
		t.Fatal(err)
	}
	again, err := c.Get(ctx, j.ID)
	if err != nil {
		t.Fatal(err)
	}
	if again.Rev != ended.Rev || string(again.Result) != `"healthy"` || again.Attempts[0].Outcome != job.OutcomeLost {
		t.Fatalf("the late report of the paused agent changed the job: %+v, then %+v", ended, again)
	}
	paused.stop()
}

// waitForEvent follows the job's events until one of the type has come.
func waitForEvent(ctx context.Context, t *testing.T, c *client.Client, id job.ID, want job.EventType) {
	t.Helper()
	for e, err := range c.Events(ctx, client.EventOptions{After: new(job.EventID), Jobs: []job.ID{id}}) {
		if err != nil {
			t.Fatalf("wait for %s of job %d: %v", want, id, err)
		}
		if e.Type == want {
			return
		}
	}
	t.Fatalf("the events of job %d ended without %s", id, want)
}

// waitForAgent waits until the agent is connected and ready.
func waitForAgent(ctx context.Context, c *client.Client, id string) error {
	for e, err := range c.Events(ctx, client.EventOptions{After: new(job.EventID)}) {
		if err != nil {
			return err
		}
		if e.Agent != id || e.Type != job.AgentConnected && e.Type != job.AgentChanged {
			continue
		}
		if a, err := c.Agent(ctx, id); err == nil && a.Status == job.AgentReady {
			return nil
		}
	}
	return errors.New("the events ended")
}

// TestFullDisk fills the disk under a node. It stops with a sentence, and goes on
// where it was when there is room again.
func TestFullDisk(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root, to mount a small file system")
	}
	ctx := bounded(t)
	disk := t.TempDir()
	if err := mountSmall(ctx, t, disk, "48m"); err != nil {
		t.Skipf("no small file system can be mounted here: %v", err)
	}
	addr := freeAddr(t)
	env := []string{dataEnv + "=" + filepath.Join(disk, "data"), httpEnv + "=" + addr}
	node := startChild(t, "node", env...)
	c := newClient(t, addr)
	var acked []job.ID
	payload := make([]byte, 256<<10)
	for range 1000 {
		short, cancel := context.WithTimeout(ctx, 20*time.Second)
		j, err := c.Submit(short, client.Submission{Type: "big", PayloadBytes: payload})
		cancel()
		if err != nil {
			break
		}
		acked = append(acked, j.ID)
	}
	select {
	case <-node.exited:
	case <-ctx.Done():
		t.Fatalf("the node goes on with a full disk after %d jobs; it said:\n%s", len(acked), node.stderr)
	}
	if node.err == nil || !containsAll(node.stderr.String(), "full", "space") {
		t.Fatalf("ended with %v; it does not say that the disk is full:\n%s", node.err, node.stderr)
	}
	// A start with no room at all says the same.
	filler := filepath.Join(disk, "filler")
	if err := os.WriteFile(filler, make([]byte, 64<<20), 0o600); err == nil {
		t.Fatal("the disk is not full")
	}
	empty := []string{dataEnv + "=" + filepath.Join(disk, "new"), httpEnv + "=" + addr}
	if says := refusal(ctx, t, empty...); !containsAll(says, "full", "space") {
		t.Errorf("started in an empty folder of a full disk it says:\n%s", says)
	}
	// Its own files may have room left for a start. Then it says so at the first
	// write that needs more.
	writing, stopWriting := context.WithCancel(ctx)
	var writer sync.WaitGroup
	writer.Go(func() {
		for writing.Err() == nil {
			j, err := c.Submit(writing, client.Submission{Type: "big", PayloadBytes: payload})
			if err == nil {
				acked = append(acked, j.ID)
			}
		}
	})
	says := refusal(ctx, t, env...)
	stopWriting()
	writer.Wait()
	if !containsAll(says, "full", "space") {
		t.Errorf("started on a full disk it says:\n%s", says)
	}
	if err := os.Remove(filler); err != nil {
		t.Fatal(err)
	}
	if err := growMount(ctx, disk, "512m"); err != nil {
		t.Fatal(err)
	}
	node = startChild(t, "node", env...)
	for _, id := range acked {
		if _, err := c.Get(ctx, id); err != nil {
			t.Fatalf("job %d was acknowledged: %v", id, err)
		}
	}
	node.stop()
	checkDatabase(t, filepath.Join(disk, "data"))
	t.Logf("%d jobs of 256 KiB were acknowledged before the disk was full; all are there", len(acked))
}
