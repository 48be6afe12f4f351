package builtin

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/orrery-io/orrery/agent"
	"github.com/orrery-io/orrery/job"
)

// ExecConfig says how RegisterExec runs programs.
type ExecConfig struct {
	// Grace is how long a program has to end after SIGTERM, before SIGKILL. Zero
	// means 5 s. It should be shorter than the cluster's grace for cancelled jobs
	// (10 s).
	Grace time.Duration
	// MaxOutput bounds how much of stdout, and of stderr, goes into the result, in
	// bytes: the first and the last half of it are kept. Zero means 256 KiB. All of
	// it goes to the job's log.
	MaxOutput int
	// Programs gets to know the programs that run, so that they can be killed with
	// the agent's own process. Nil means that nobody asks.
	Programs *Programs
}

// RegisterExec gives a the handler exec, which lets anybody who may submit jobs run
// any program as the agent's user.
//
// The payload is {"argv":["ls","-l"],"env":{"KEY":"value"},"dir":"/tmp",
// "stdin":"text","timeout":"30s"}; only argv must be there. Nothing is ever given
// to a shell. A program without a path is looked for in the agent's PATH. It gets
// the agent's environment without the variables whose names begin with ORRERY_,
// then ORRERY_JOB_ID, ORRERY_ATTEMPT and ORRERY_FENCE, for the job of a schedule
// ORRERY_SCHEDULE and ORRERY_TICK, its planned time (RFC 3339), then env.
//
// The result is {"exit_code":0,"stdout":"…","stderr":"…"}. Another exit code fails
// the attempt with the kind "exit". Lines go to the job's log as they come, with
// the levels stdout and stderr.
//
// The program runs in a process group of its own. To stop it, the group gets
// SIGTERM and after the grace SIGKILL. What it leaves behind in the group when it
// ends is killed.
func RegisterExec(a *agent.Agent, cfg ExecConfig) {
	r := runner{grace: cmp.Or(cfg.Grace, 5*time.Second), maxOutput: cmp.Or(cfg.MaxOutput, 256<<10), programs: cmp.Or(cfg.Programs, new(Programs))}
	agent.Handle(a, "exec", r.run)
}

// command is the payload of exec.
type command struct {
	Argv    []string          `json:"argv"`
	Env     map[string]string `json:"env"`
	Dir     string            `json:"dir"`
	Stdin   string            `json:"stdin"`
	Timeout job.Duration      `json:"timeout"`
}

// output is the result of exec.
type output struct {
	ExitCode int    `json:"exit_code"`
	Stdout   string `json:"stdout"`
	Stderr   string `json:"stderr"`
}

// runner runs programs for exec.
type runner struct {
	grace     time.Duration
	maxOutput int
	programs  *Programs
}

var errOwnTimeout = errors.New("the program took longer than the payload's timeout")

func (r runner) run(ctx context.Context, j *agent.Job[job.JSON]) (job.JSON, error) {
	if len(j.PayloadBytes) > 0 {
		return nil, badPayload("is raw bytes; it must be an object such as {\"argv\":[\"ls\",\"-l\"]}")
	}
	var c command
	if err := decode(j.Args, &c, "argv", "env", "dir", "stdin", "timeout"); err != nil {
		return nil, err
	}
	if err := c.check(); err != nil {
		return nil, err
	}
	if c.Timeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeoutCause(ctx, c.Timeout.Duration(), errOwnTimeout)
		defer cancel()
	}
	stdout := newStream(r.maxOutput, func(line string) { j.Line("stdout", line) })
	stderr := newStream(r.maxOutput, func(line string) { j.Line("stderr", line) })
	ended := make(chan struct{})
	cmd := r.prepare(ctx, &c, j.RawJob, ended)
	cmd.Stdout, cmd.Stderr = stdout, stderr
	if err := r.programs.start(cmd); err != nil {
		return nil, &agent.Error{Kind: "not_started", Message: explainStart(&c, err), Err: err}
	}
	err := cmd.Wait()
	close(ended)
	r.programs.ended(cmd.Process)
	killGroup(cmd.Process)
	stdout.flush()
	stderr.flush()
	return r.conclude(ctx, j, cmd, err, stdout, stderr)
}

// prepare makes the process, which is stopped when ctx ends. The caller closes ended
// when it has waited for it.
func (r runner) prepare(ctx context.Context, c *command, j *agent.RawJob, ended <-chan struct{}) *exec.Cmd {
	cmd := exec.CommandContext(ctx, c.Argv[0], c.Argv[1:]...)
	cmd.Dir = c.Dir
	cmd.Env = environment(os.Environ(), c.Env, j)
	if c.Stdin != "" {
		cmd.Stdin = strings.NewReader(c.Stdin)
	}
	ownGroup(cmd)
	cmd.Cancel = func() error {
		time.AfterFunc(r.grace, func() {
			select {
			case <-ended: // the number may belong to somebody else by now
			default:
				killGroup(cmd.Process)
			}
		})
		return terminateGroup(cmd.Process)
	}
	// A process that inherited the pipes may hold them for ever.
	cmd.WaitDelay = r.grace + time.Second
	return cmd
}

// conclude makes the result or the failure.
func (r runner) conclude(ctx context.Context, j *agent.Job[job.JSON], cmd *exec.Cmd, err error, stdout, stderr *stream) (job.JSON, error) {
	if cause := context.Cause(ctx); cause != nil && err != nil {
		if errors.Is(cause, errOwnTimeout) {
			return nil, &agent.Error{Kind: "timeout", Message: errOwnTimeout.Error(), Err: err}
		}
		return nil, fmt.Errorf("the program was stopped: %w", cause)
	}
	if errors.Is(err, exec.ErrWaitDelay) {
		j.Line("warn", "the program has ended, but left others behind that held its output; they were killed")
		err = nil
	}
	if _, ok := errors.AsType[*exec.ExitError](err); ok {
		code, how := ending(cmd.ProcessState)
		if last := stderr.last(); last != "" {
			how += ": " + last
		}
		return nil, &agent.Error{Kind: "exit", Message: how, ExitCode: &code, Err: err}
	}
	if err != nil {
		return nil, fmt.Errorf("run %s: %w", cmd.Path, err)
	}
	return encode(r.maxOutput, stdout, stderr)
}

// encode makes the result, with less output when it would become too large by the
// escapes of JSON.
func encode(most int, stdout, stderr *stream) (job.JSON, error) {
	for {
		var b bytes.Buffer
		enc := json.NewEncoder(&b)
		enc.SetEscapeHTML(false)
		err := enc.Encode(output{Stdout: stdout.text(most), Stderr: stderr.text(most)})
		if err != nil || b.Len() <= job.MaxPayload {
			return bytes.TrimSuffix(b.Bytes(), []byte("\n")), err
		}
		most /= 2
	}
}

// check says what can't be run.
func (c *command) check() error {
	if len(c.Argv) == 0 || c.Argv[0] == "" {
		return badPayload("must name a program, as in {\"argv\":[\"ls\",\"-l\"]}")
	}
	for i, arg := range c.Argv {
		if strings.ContainsRune(arg, 0) {
			return badPayload("has a NUL byte in argv[%d]", i)
		}
	}
	for key, value := range c.Env {
		if key == "" || strings.ContainsAny(key, "=\x00") {
			return badPayload("has %q as the name of a variable in env", key)
		}
		if strings.ContainsRune(value, 0) {
			return badPayload("has a NUL byte in env.%s", key)
		}
	}
	if strings.ContainsRune(c.Dir, 0) {
		return badPayload("has a NUL byte in dir")
	}
	return nil
}

// environment is what the program gets. The agent's own variables stay with the
// agent: one of them may be its token.
func environment(own []string, added map[string]string, j *agent.RawJob) []string {
	env := slices.DeleteFunc(slices.Clone(own), func(kv string) bool { return strings.HasPrefix(kv, "ORRERY_") })
	env = append(env,
		"ORRERY_JOB_ID="+j.ID.String(),
		"ORRERY_ATTEMPT="+strconv.Itoa(j.Attempt),
		"ORRERY_FENCE="+strconv.FormatUint(uint64(j.Fence), 10))
	if j.Schedule != "" {
		env = append(env, "ORRERY_SCHEDULE="+j.Schedule)
	}
	if !j.Tick.IsZero() {
		env = append(env, "ORRERY_TICK="+j.Tick.Format(time.RFC3339))
	}
	for _, key := range slices.Sorted(maps.Keys(added)) {
		env = append(env, key+"="+added[key])
	}
	return env
}

// explainStart says why a program could not be started.
func explainStart(c *command, err error) string {
	if c.Dir != "" {
		if info, statErr := os.Stat(c.Dir); statErr != nil || !info.IsDir() {
			return fmt.Sprintf("%s cannot be started: there is no folder %s on this agent", c.Argv[0], c.Dir)
		}
	}
	if errors.Is(err, exec.ErrNotFound) {
		return fmt.Sprintf("there is no program %s in the PATH of this agent", c.Argv[0])
	}
	return fmt.Sprintf("%s cannot be started: %s", c.Argv[0], err)
}
