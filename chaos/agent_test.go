//go:build linux

package chaos

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/orrery-io/orrery/agent"
	"github.com/orrery-io/orrery/job"
	"golang.org/x/sys/unix"
)

// agentSetup is what an agent's process is told.
type agentSetup struct {
	ID       string   `json:"id"`
	Addrs    []string `json:"addrs"`
	Record   string   `json:"record"` // file for what it executes
	Resource string   `json:"resource"`
	Token    string   `json:"token"`
	Slots    int      `json:"slots"`
}

// work is the payload of the jobs that agents execute.
type work struct {
	Token string `json:"token"`
	// Kind is quick, slow, flaky (every other attempt fails), bad (fails until the job
	// was retried by hand) or stubborn: a handler that does not care whether it shall
	// stop, nor for the resource, and reports a result however late.
	Kind string `json:"kind"`
	// Steps is how many steps of 50 ms a slow job has.
	Steps int `json:"steps,omitempty"`
}

const stubborn = "stubborn"

// outcome is the result of such a job: who says so.
type outcome struct {
	Token string `json:"token"`
	Agent string `json:"agent"`
	Fence uint64 `json:"fence"`
}

// stamp is a line of what an agent executed. Times are the machine's monotonic
// clock, which is the same for all processes.
type stamp struct {
	Job   int64  `json:"j"`
	Fence uint64 `json:"f"`
	Agent string `json:"a"`
	// What is begin, step, end (the handler is about to return a result) or quit
	// (it was told to stop).
	What string `json:"w"`
	At   int64  `json:"t"`
	Run  int    `json:"r"` // the process
}

func monotonic() int64 {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &ts); err != nil {
		panic(err)
	}
	return ts.Nano()
}

// recorder appends stamps to a file, whole lines at a time: what was written stays
// when the process is killed.
type recorder struct {
	mu   sync.Mutex
	f    *os.File
	name string
}

func (r *recorder) stamp(j *agent.RawJob, what string) {
	line, err := json.Marshal(stamp{Job: int64(j.ID), Fence: uint64(j.Fence), Agent: r.name, What: what, At: monotonic(), Run: os.Getpid()})
	if err != nil {
		panic(err)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if _, err := r.f.Write(append(line, '\n')); err != nil {
		panic(err)
	}
}

// runAgent is the process of an agent.
func runAgent(ctx context.Context) error {
	var s agentSetup
	if err := json.Unmarshal([]byte(os.Getenv(agentEnv)), &s); err != nil {
		return err
	}
	f, err := os.OpenFile(s.Record, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer f.Close()
	rec := &recorder{f: f, name: s.ID}
	log := slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelInfo}))
	a, err := agent.New(agent.Config{Addrs: s.Addrs, ID: s.ID, Token: s.Token, Slots: s.Slots, Log: log, DrainTimeout: 5 * time.Second})
	if err != nil {
		return err
	}
	agent.Handle(a, "work", func(ctx context.Context, j *agent.Job[work]) (outcome, error) {
		return rec.work(ctx, j, s)
	})
	agent.Handle(a, tickType, func(ctx context.Context, j *agent.Job[work]) (outcome, error) {
		// All jobs of a schedule have the same payload: how long one takes is up to its
		// id, and what it is for the agent is told beside it.
		j.Args.Token = tickToken(j.Schedule, job.At(j.Tick))
		j.Args.Steps = int(int64(j.ID) % int64(j.Args.Steps+1))
		return rec.work(ctx, j, s)
	})
	agent.Handle(a, idleType, func(context.Context, *agent.Job[struct{}]) (struct{}, error) { return struct{}{}, nil })
	return a.Run(ctx)
}

// step is how long a slow job takes between two looks at its context.
const step = 50 * time.Millisecond

func (r *recorder) work(ctx context.Context, j *agent.Job[work], s agentSetup) (outcome, error) {
	r.stamp(j.RawJob, "begin")
	if j.Args.Kind == stubborn {
		time.Sleep(time.Duration(j.Args.Steps) * step)
		return outcome{Token: j.Args.Token, Agent: s.ID, Fence: uint64(j.Fence)}, nil
	}
	if err := useResource(s.Resource, j.ID.String(), uint64(j.Fence)); err != nil {
		r.stamp(j.RawJob, "quit")
		return outcome{}, err
	}
	for range j.Args.Steps {
		select {
		case <-ctx.Done():
			r.stamp(j.RawJob, "quit")
			return outcome{}, context.Cause(ctx)
		case <-time.After(step):
			if ctx.Err() == nil {
				r.stamp(j.RawJob, "step")
			}
		}
	}
	switch j.Args.Kind {
	case "flaky":
		if j.Attempt%2 == 1 {
			r.stamp(j.RawJob, "quit")
			return outcome{}, errors.New("every other attempt fails")
		}
	case "bad":
		if j.Attempt == 1 {
			r.stamp(j.RawJob, "quit")
			return outcome{}, agent.Permanent(errors.New("the first attempt fails for good"))
		}
	}
	if err := useResource(s.Resource, j.ID.String(), uint64(j.Fence)); err != nil {
		r.stamp(j.RawJob, "quit")
		return outcome{}, err
	}
	r.stamp(j.RawJob, "end")
	return outcome{Token: j.Args.Token, Agent: s.ID, Fence: uint64(j.Fence)}, nil
}

// useResource writes to the fake resource, which refuses a fence older than one
// that it has seen.
func useResource(addr, id string, fence uint64) error {
	c, err := net.DialTimeout("tcp", addr, 10*time.Second)
	if err != nil {
		return err
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(30 * time.Second))
	if _, err := fmt.Fprintf(c, "%s %d\n", id, fence); err != nil {
		return err
	}
	answer, err := bufio.NewReader(c).ReadString('\n')
	if err != nil {
		return err
	}
	if answer != "ok\n" {
		return fmt.Errorf("the resource says: %s", strings.TrimSpace(answer))
	}
	return nil
}

// resource is something outside of the cluster that jobs change: it remembers the
// highest fence of each job, and takes no lower one.
type resource struct {
	l  net.Listener
	wg sync.WaitGroup

	mu      sync.Mutex
	highest map[int64]uint64
	writes  map[int64][]uint64 // accepted
	stale   int
}

func newResource() (*resource, error) {
	l, err := net.Listen("tcp", "0.0.0.0:0") // agents may come from other namespaces
	if err != nil {
		return nil, err
	}
	r := &resource{l: l, highest: map[int64]uint64{}, writes: map[int64][]uint64{}}
	r.wg.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			r.wg.Go(func() { r.answer(c) })
		}
	})
	return r, nil
}

func (r *resource) close() {
	_ = r.l.Close()
	r.wg.Wait()
}

func (r *resource) answer(c net.Conn) {
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(time.Minute))
	line, err := bufio.NewReader(c).ReadString('\n')
	if err != nil {
		return
	}
	id, fence, _ := strings.Cut(strings.TrimSpace(line), " ")
	j, err1 := strconv.ParseInt(id, 10, 64)
	f, err2 := strconv.ParseUint(fence, 10, 64)
	if err1 != nil || err2 != nil {
		return
	}
	r.mu.Lock()
	ok := f >= r.highest[j]
	if ok {
		r.highest[j] = f
		r.writes[j] = append(r.writes[j], f)
	} else {
		r.stale++
	}
	r.mu.Unlock()
	if ok {
		_, _ = fmt.Fprintln(c, "ok")
	} else {
		_, _ = fmt.Fprintln(c, "stale")
	}
}

// worker is an agent's process as the suite sees it.
type worker struct {
	setup agentSetup
	log   string
	space *os.File

	mu     sync.Mutex
	proc   *process
	pauses []interval // by the monotonic clock, in which it was stopped
}

// interval is a time on the monotonic clock, in nanoseconds.
type interval struct{ from, to int64 }

func newWorker(c *cluster, i, slots int, resource int, addrs []string) (*worker, error) {
	id := "a" + strconv.Itoa(i+1)
	w := &worker{
		log: filepath.Join(c.room, id+".log"),
		setup: agentSetup{
			ID: id, Addrs: addrs, Record: filepath.Join(c.room, id+".executions.jsonl"),
			Resource: loopback(resource), Slots: slots, Token: token,
		},
	}
	if s := c.net.spaces; s != nil {
		if err := s.add(id); err != nil {
			return nil, err
		}
		w.space = s.fds[id]
		w.setup.Resource = fmt.Sprintf("%s:%d", routerFor(id), resource)
	}
	return w, nil
}

func (w *worker) start() error {
	text, err := json.Marshal(w.setup)
	if err != nil {
		return err
	}
	p, err := spawn(w.space, w.setup.ID, w.log, []string{roleEnv + "=agent", agentEnv + "=" + string(text)}, os.Args[0])
	if err != nil {
		return err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.proc = p
	return nil
}

func (w *worker) process() *process {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.proc
}

// pause stops the process; resume lets it go on.
func (w *worker) pause() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.pauses = append(w.pauses, interval{from: monotonic()})
	w.proc.pause()
}

func (w *worker) resume() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.proc.resume()
	w.pauses[len(w.pauses)-1].to = monotonic()
}
