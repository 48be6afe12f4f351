package cli

import (
	"bufio"
	"errors"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"orrery": func() { os.Exit(Main()) }})
}

// TestScripts runs the command lines in testdata/cli as a person would type them,
// with real processes. Besides the commands of testscript there are
//
//	start NAME LINE orrery ARGS...   starts a process, and waits until it has
//	                                 printed a line that begins with LINE; the
//	                                 addresses in it become $ORRERY_ADDR and $CLUSTER
//	signal NAME SIGNAL LINE          sends a signal, and waits for such a line
//	halt NAME SIGNAL [CODE]          sends INT, TERM or KILL, and waits for the
//	                                 exit code (0 unless given)
//	ends NAME CODE                   waits for the exit code
//	exits CODE orrery ARGS...        runs a command that must end with this code
//	until TEXT orrery ARGS...        repeats a command until its output has TEXT;
//	                                 with ! before it, until it has not
//	freeport NAME...                 sets variables to ports that are free
//	let NAME REGEXP                  sets a variable to what the group in REGEXP
//	                                 matched in the standard output of the last exec
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir: filepath.Join("..", "testdata", "cli"),
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"start": cmdStart, "signal": cmdSignal, "halt": cmdHalt, "ends": cmdEnds, "exits": cmdExits, "until": cmdUntil, "let": cmdLet, "freeport": cmdFreeport,
		},
		Setup: func(env *testscript.Env) error {
			env.Values[processes{}] = map[string]*process{}
			env.Setenv("TMPDIR", filepath.Join(env.WorkDir, ".tmp"))
			return nil
		},
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
		UpdateScripts:       os.Getenv("UPDATE_SCRIPTS") != "",
	})
}

// processes is the key of what a script has started.
type processes struct{}

type process struct {
	cmd    *exec.Cmd
	output string // file with everything it printed
	lines  chan string
	ended  chan struct{}
}

func started(ts *testscript.TestScript) map[string]*process {
	all, _ := ts.Value(processes{}).(map[string]*process)
	return all
}

// command makes a process with the folder and the environment of the script.
func command(ts *testscript.TestScript, args []string) *exec.Cmd {
	path, err := exec.LookPath(args[0])
	ts.Check(err)
	cmd := exec.Command(path, args[1:]...)
	cmd.Dir = ts.MkAbs(".")
	for _, name := range []string{"PATH", "HOME", "TMPDIR", "ORRERY_ADDR", "ORRERY_TOKEN", "ORRERY_CONFIG", "ORRERY_JOIN", "ORRERY_BOOTSTRAP_EXPECT", "ORRERY_CLUSTER_KEY_FILE"} {
		cmd.Env = append(cmd.Env, name+"="+ts.Getenv(name))
	}
	return cmd
}

func cmdStart(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 3 {
		ts.Fatalf("usage: start NAME LINE PROGRAM [ARGS...]")
	}
	name, line := args[0], args[1]
	p := &process{cmd: command(ts, args[2:]), output: ts.MkAbs(name + ".out"), ended: make(chan struct{})}
	file, err := os.Create(p.output)
	ts.Check(err)
	r, w, err := os.Pipe()
	ts.Check(err)
	p.cmd.Stdout, p.cmd.Stderr = w, w
	ts.Check(p.cmd.Start())
	_ = w.Close()
	p.lines = make(chan string, 1000)
	go func() {
		defer close(p.ended)
		defer file.Close()
		defer close(p.lines)
		s := bufio.NewScanner(io.TeeReader(r, file))
		for s.Scan() {
			select {
			case p.lines <- s.Text():
			default: // nobody reads any more
			}
		}
		_ = p.cmd.Wait()
	}()
	started(ts)[name] = p
	ts.Defer(func() {
		_ = p.cmd.Process.Kill()
		<-p.ended
	})
	text := p.expect(ts, line)
	for name, before := range map[string]string{"ORRERY_ADDR": "http://", "CLUSTER": "cluster port "} {
		if _, addr, ok := strings.Cut(text, before); ok {
			addr = addr[:strings.IndexFunc(addr+" ", func(r rune) bool { return r == ',' || r == ' ' })]
			ts.Setenv(name, strings.TrimPrefix(before+addr, "cluster port "))
		}
	}
}

// expect waits for a line that begins with text, and returns it.
func (p *process) expect(ts *testscript.TestScript, text string) string {
	limit := time.After(time.Minute)
	for {
		select {
		case <-limit:
			ts.Fatalf("%q was not printed within a minute:\n%s", text, ts.ReadFile(p.output))
		case line, ok := <-p.lines:
			if !ok {
				ts.Fatalf("the end came before %q:\n%s", text, ts.ReadFile(p.output))
			}
			if strings.HasPrefix(line, text) {
				return line
			}
		}
	}
}

func cmdSignal(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 3 {
		ts.Fatalf("usage: signal NAME SIGNAL LINE")
	}
	p, sig := named(ts, args[0]), signalOf(ts, args[1])
	ts.Check(p.cmd.Process.Signal(sig))
	p.expect(ts, args[2])
}

func named(ts *testscript.TestScript, name string) *process {
	p := started(ts)[name]
	if p == nil {
		ts.Fatalf("nothing is called %s", name)
	}
	return p
}

func signalOf(ts *testscript.TestScript, name string) syscall.Signal {
	sig, ok := map[string]syscall.Signal{"INT": syscall.SIGINT, "TERM": syscall.SIGTERM, "KILL": syscall.SIGKILL}[name]
	if !ok {
		ts.Fatalf("%s is not INT, TERM or KILL", name)
	}
	return sig
}

func cmdHalt(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 || len(args) > 3 {
		ts.Fatalf("usage: halt NAME SIGNAL [CODE]")
	}
	p, sig := named(ts, args[0]), signalOf(ts, args[1])
	want := "0"
	if sig == syscall.SIGKILL {
		want = "-1"
	}
	if len(args) == 3 {
		want = args[2]
	}
	ts.Check(p.cmd.Process.Signal(sig))
	cmdEnds(ts, false, []string{args[0], want})
}

func cmdEnds(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: ends NAME CODE")
	}
	p := named(ts, args[0])
	select {
	case <-p.ended:
	case <-time.After(time.Minute):
		ts.Fatalf("%s did not end within a minute:\n%s", args[0], ts.ReadFile(p.output))
	}
	if got := strconv.Itoa(p.cmd.ProcessState.ExitCode()); got != args[1] {
		ts.Fatalf("%s ended with code %s, want %s:\n%s", args[0], got, args[1], ts.ReadFile(p.output))
	}
}

func cmdExits(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: exits CODE PROGRAM [ARGS...]")
	}
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	got := 0
	if err := ts.Exec(args[1], args[2:]...); err != nil {
		exit, ok := errors.AsType[*exec.ExitError](err)
		if !ok {
			ts.Fatalf("%v", err)
		}
		got = exit.ExitCode()
	}
	if got != want {
		ts.Fatalf("exit code %d, want %d:\n%s%s", got, want, ts.ReadFile("stdout"), ts.ReadFile("stderr"))
	}
}

func cmdUntil(ts *testscript.TestScript, neg bool, args []string) {
	if len(args) < 2 {
		ts.Fatalf("usage: [!] until TEXT PROGRAM [ARGS...]")
	}
	limit := time.After(time.Minute)
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		out, err := command(ts, args[1:]).CombinedOutput()
		if strings.Contains(string(out), args[0]) != neg && (err == nil || !neg) {
			_, _ = ts.Stdout().Write(out)
			return
		}
		select {
		case <-limit:
			ts.Fatalf("%q did not appear, or go, within a minute: %v\n%s", args[0], err, out)
		case <-tick.C:
		}
	}
}

func cmdLet(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: let NAME REGEXP")
	}
	re, err := regexp.Compile("(?m)" + args[1])
	ts.Check(err)
	m := re.FindStringSubmatch(ts.ReadFile("stdout"))
	if len(m) != 2 {
		ts.Fatalf("%s does not match, or has not one group:\n%s", args[1], ts.ReadFile("stdout"))
	}
	ts.Setenv(args[0], m[1])
}

// cmdFreeport finds ports that are free for TCP and UDP. They are released again, so
// somebody else may take one; the range is that of short-lived sockets.
func cmdFreeport(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) == 0 {
		ts.Fatalf("usage: freeport NAME...")
	}
	var keep []io.Closer
	defer func() {
		for _, c := range keep {
			_ = c.Close()
		}
	}()
	for _, name := range args {
		for {
			l, err := net.Listen("tcp", "127.0.0.1:0")
			ts.Check(err)
			keep = append(keep, l)
			p, err := net.ListenPacket("udp", l.Addr().String())
			if err != nil {
				continue
			}
			keep = append(keep, p)
			_, port, err := net.SplitHostPort(l.Addr().String())
			ts.Check(err)
			ts.Setenv(name, port)
			break
		}
	}
}
