//go:build unix

package builtin

import (
	"encoding/json"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/orrery-io/orrery/wire"
)

// TestMain lets the test binary play the programs that exec runs.
func TestMain(m *testing.M) {
	if len(os.Args) > 2 && os.Args[1] == "play" {
		play(os.Args[2], os.Args[3:])
		os.Exit(0)
	}
	os.Exit(m.Run())
}

func play(part string, args []string) {
	switch part {
	case "args":
		_ = json.NewEncoder(os.Stdout).Encode(args)
	case "env":
		for _, kv := range os.Environ() {
			fmt.Println(kv)
		}
	case "parent": // starts a child that starts another, all deaf to SIGTERM
		signal.Ignore(syscall.SIGTERM)
		depth, _ := strconv.Atoi(args[0])
		fmt.Println("pid", os.Getpid())
		if depth > 0 {
			p, err := os.StartProcess(os.Args[0], []string{os.Args[0], "play", "parent", strconv.Itoa(depth - 1)},
				&os.ProcAttr{Files: []*os.File{nil, os.Stdout, os.Stderr}})
			if err != nil {
				panic(err)
			}
			defer func() { _ = p.Release() }()
		}
		time.Sleep(time.Hour)
	case "leave": // ends well and leaves a child that holds the output
		if _, err := os.StartProcess(os.Args[0], []string{os.Args[0], "play", "parent", "0"},
			&os.ProcAttr{Files: []*os.File{nil, os.Stdout, os.Stderr}}); err != nil {
			panic(err)
		}
		fmt.Println("done")
	case "polite": // ends well on SIGTERM
		c := make(chan os.Signal, 1)
		signal.Notify(c, syscall.SIGTERM)
		fmt.Println("pid", os.Getpid())
		<-c
		fmt.Println("bye")
	}
}

// exe makes the payload that plays a part.
func exe(part string, args ...string) string {
	b, _ := json.Marshal(map[string]any{"argv": append([]string{os.Args[0], "play", part}, args...)})
	return string(b)
}

func resultOf(t *testing.T, o outcome) output {
	t.Helper()
	if o.Error != nil {
		t.Fatalf("%s: %+v", o.Outcome, o.Error)
	}
	var out output
	if err := json.Unmarshal(o.Result.Result, &out); err != nil {
		t.Fatal(err)
	}
	return out
}

func TestExec(t *testing.T) {
	n := setup(t)
	t.Run("output comes as result and as lines", func(t *testing.T) {
		n.t = t
		o := n.run("exec", `{"argv":["/bin/sh","-c","echo out; echo err >&2; cat; exit 0"],"stdin":"in\nput"}`)
		out := resultOf(t, o)
		if out.ExitCode != 0 || out.Stdout != "out\nin\nput" || out.Stderr != "err\n" {
			t.Errorf("got %+v", out)
		}
		got := map[string]int{}
		for _, l := range o.lines {
			got[l.Level+" "+l.Text]++
		}
		for _, want := range []string{"stdout out", "stderr err", "stdout in", "stdout put"} {
			if got[want] != 1 {
				t.Errorf("line %q came %d times", want, got[want])
			}
		}
	})
	t.Run("arguments are given to no shell", func(t *testing.T) {
		n.t = t
		out := resultOf(t, n.run("exec", exe("args", "$HOME; `id` *", "", `"'`)))
		if out.Stdout != `["$HOME; `+"`id`"+` *","","\"'"]`+"\n" {
			t.Errorf("got %s", out.Stdout)
		}
	})
	t.Run("the environment is the agent's without its own variables", func(t *testing.T) {
		t.Setenv("ORRERY_TOKEN", "secret")
		t.Setenv("OTHER", "kept")
		n.t = t
		payload := strings.Replace(exe("env"), "{", `{"env":{"ADDED":"a=b","HOME":"/nowhere"},`, 1)
		out := resultOf(t, n.run("exec", payload, attempt(2)))
		for _, want := range []string{"OTHER=kept\n", "ADDED=a=b\n", "HOME=/nowhere\n", "ORRERY_ATTEMPT=2\n", "ORRERY_FENCE=5\n", fmt.Sprintf("ORRERY_JOB_ID=%d\n", n.next)} {
			if !strings.Contains("\n"+out.Stdout, "\n"+want) {
				t.Errorf("%q is missing in %q", want, out.Stdout)
			}
		}
		if strings.Contains(out.Stdout, "secret") || strings.Contains(out.Stdout, "ORRERY_SCHEDULE") || strings.Contains(out.Stdout, "ORRERY_TICK") {
			t.Errorf("the agent's token was passed on, or a schedule that there is not: %s", out.Stdout)
		}
		out = resultOf(t, n.run("exec", payload, scheduled("nightly", 1798761600000)))
		if !strings.Contains(out.Stdout, "\nORRERY_SCHEDULE=nightly\nORRERY_TICK=2027-01-01T00:00:00Z\n") {
			t.Errorf("the schedule is missing in %s", out.Stdout)
		}
		out = resultOf(t, n.run("exec", payload, scheduled("nightly", 0)))
		if !strings.Contains(out.Stdout, "\nORRERY_SCHEDULE=nightly\n") || strings.Contains(out.Stdout, "ORRERY_TICK") {
			t.Errorf("a job made by hand has %s", out.Stdout)
		}
	})
	t.Run("the folder is the one asked for", func(t *testing.T) {
		n.t = t
		dir, err := filepath.EvalSymlinks(t.TempDir())
		if err != nil {
			t.Fatal(err)
		}
		out := resultOf(t, n.run("exec", fmt.Sprintf(`{"argv":["pwd"],"dir":%q}`, dir)))
		if out.Stdout != dir+"\n" {
			t.Errorf("got %s", out.Stdout)
		}
	})
	t.Run("another exit code is a failure with the last lines", func(t *testing.T) {
		n.t = t
		o := n.run("exec", `{"argv":["sh","-c","echo no >&2; echo luck >&2; exit 3"]}`)
		if o.Outcome != "failed" || o.Error.Kind != "exit" || *o.Error.ExitCode != 3 || o.Error.Message != "exit status 3: no\nluck" || o.Error.Permanent {
			t.Errorf("got %s, %+v", o.Outcome, o.Error)
		}
	})
	t.Run("so is a signal", func(t *testing.T) {
		n.t = t
		o := n.run("exec", `{"argv":["sh","-c","kill -9 $$"]}`)
		if o.Error == nil || *o.Error.ExitCode != 137 || o.Error.Message != "ended by signal 9 (killed)" {
			t.Errorf("got %+v", o.Error)
		}
	})
	t.Run("large output is cut in the result and whole in the log", func(t *testing.T) {
		n.t = t
		o := n.run("exec", `{"argv":["sh","-c","i=0; while [ $i -lt 10000 ]; do echo line $i of a rather long output that goes on; i=$((i+1)); done"]}`)
		out := resultOf(t, o)
		if len(o.lines) != 10_000 || len(out.Stdout) > 257<<10 || !strings.Contains(out.Stdout, "bytes left out") {
			t.Errorf("%d lines, %d bytes", len(o.lines), len(out.Stdout))
		}
		for i, l := range o.lines {
			if l.Seq != int64(i+1) {
				t.Fatalf("line %d has number %d", i+1, l.Seq)
			}
		}
	})
	for _, tt := range []struct{ name, payload, kind, message string }{
		{"no program", `{}`, "bad_payload", "must name a program"},
		{"an empty program", `{"argv":[""]}`, "bad_payload", "must name a program"},
		{"a command line", `{"argv":"ls -l"}`, "bad_payload", `has a string as "argv"`},
		{"an unknown field", `{"argv":["ls"],"cwd":"/"}`, "bad_payload", `unknown field "cwd"; the fields are argv, env, dir, stdin, timeout`},
		{"a NUL byte", `{"argv":["ls","a\u0000b"]}`, "bad_payload", "NUL byte in argv[1]"},
		{"a bad variable", `{"argv":["ls"],"env":{"A=B":"c"}}`, "bad_payload", `"A=B"`},
		{"a bad timeout", `{"argv":["ls"],"timeout":"-3s"}`, "bad_payload", "negative"},
		{"a missing program", `{"argv":["no-such-program"]}`, "not_started", "there is no program no-such-program in the PATH of this agent"},
		{"a missing folder", `{"argv":["ls"],"dir":"/no/such/folder"}`, "not_started", "there is no folder /no/such/folder on this agent"},
		{"a folder as program", `{"argv":["/tmp"]}`, "not_started", "permission denied"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			n.t = t
			o := n.run("exec", tt.payload)
			if o.Error == nil || o.Error.Kind != tt.kind || !strings.Contains(o.Error.Message, tt.message) || o.Error.Permanent != (tt.kind == "bad_payload") {
				t.Errorf("got %+v", o.Error)
			}
		})
	}
}

// pids collects the process ids that the players tell, and calls then when there
// are so many.
func pids(count int, then func()) (*[]int, func(wire.Message)) {
	var ids []int
	return &ids, func(m wire.Message) {
		if m.Log == nil {
			return
		}
		for _, l := range m.Log.Lines {
			if pid, ok := strings.CutPrefix(l.Text, "pid "); ok {
				id, _ := strconv.Atoi(pid)
				if ids = append(ids, id); len(ids) == count {
					then()
				}
			}
		}
	}
}

// expectDead fails when a process lives. It may take the system a moment to end
// one that was killed.
func expectDead(t *testing.T, ids []int) {
	t.Helper()
	for _, id := range ids {
		for try := 0; ; try++ {
			if !alive(id) {
				break
			}
			if try == 1000 {
				_ = syscall.Kill(id, syscall.SIGKILL)
				t.Errorf("process %d lives on", id)
				break
			}
			time.Sleep(5 * time.Millisecond)
		}
	}
}

// alive reports whether a process runs; one that has ended and was not collected
// does not.
func alive(id int) bool {
	if syscall.Kill(id, 0) != nil {
		return false
	}
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", id))
	if err != nil {
		return !os.IsNotExist(err) && syscall.Kill(id, 0) == nil
	}
	_, rest, _ := strings.Cut(string(stat), ") ")
	return !strings.HasPrefix(rest, "Z")
}

func TestExecEndsTheWholeGroup(t *testing.T) {
	t.Run("on cancel, with children that ignore SIGTERM", func(t *testing.T) {
		n := setup(t)
		id := n.submit("exec", exe("parent", "2"))
		ids, seen := pids(3, func() { n.cancel(id) })
		o := n.wait(seen)
		if o.Outcome != "cancelled" {
			t.Errorf("got %s, %+v", o.Outcome, o.Error)
		}
		expectDead(t, *ids)
	})
	t.Run("on the payload's timeout", func(t *testing.T) {
		n := setup(t)
		n.submit("exec", strings.Replace(exe("parent", "1"), "{", `{"timeout":"500ms",`, 1))
		ids, seen := pids(2, func() {})
		o := n.wait(seen)
		if o.Outcome != "failed" || o.Error.Kind != "timeout" {
			t.Errorf("got %s, %+v", o.Outcome, o.Error)
		}
		expectDead(t, *ids)
	})
	t.Run("on the job's timeout", func(t *testing.T) {
		n := setup(t)
		n.submit("exec", exe("parent", "1"), func(d *wire.Dispatch) { d.Timeout = 500 })
		ids, seen := pids(2, func() {})
		o := n.wait(seen)
		if o.Outcome != "timed_out" || o.Error.Kind != "timeout" {
			t.Errorf("got %s, %+v", o.Outcome, o.Error)
		}
		expectDead(t, *ids)
	})
	t.Run("after its own good end, when it leaves a child that holds the output", func(t *testing.T) {
		n := setup(t)
		n.submit("exec", exe("leave"))
		ids, seen := pids(1, func() {})
		o := n.wait(seen)
		if out := resultOf(t, o); !strings.Contains(out.Stdout, "done\n") {
			t.Errorf("got %+v", out)
		}
		if last := o.lines[len(o.lines)-1]; last.Level != "warn" || !strings.Contains(last.Text, "left others behind") {
			t.Errorf("the last line is %+v", last)
		}
		expectDead(t, *ids)
	})
	t.Run("a program that obeys SIGTERM may finish", func(t *testing.T) {
		n := setup(t)
		id := n.submit("exec", exe("polite"))
		ids, seen := pids(1, func() { n.cancel(id) })
		o := n.wait(seen)
		if o.Outcome != "cancelled" || o.lines[len(o.lines)-1].Text != "bye" {
			t.Errorf("got %s, %+v", o.Outcome, o.lines)
		}
		expectDead(t, *ids)
	})
}
