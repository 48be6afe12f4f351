package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/orrery-io/orrery/client"
	"github.com/orrery-io/orrery/job"
)

// The exit codes, the same for every command.
const (
	exitOK      = 0
	exitFailure = 1
	// exitUsage means that the command line is wrong; nothing was done.
	exitUsage = 2
	// exitJob means that the command worked, and the job that it waited for ended
	// badly.
	exitJob = 3
	// exitInterrupted means that Ctrl-C came before what was waited for.
	exitInterrupted = 130
)

// errInterrupted is the cause with which the context ends at Ctrl-C and SIGTERM.
var errInterrupted = errors.New("interrupted")

// exitError ends the program with a code. Its message is shown unless it is empty.
type exitError struct {
	code int
	text string
	hint string
}

func (e *exitError) Error() string { return e.text }

// usagef is the error of a wrong command line.
func usagef(format string, args ...any) *exitError {
	return &exitError{code: exitUsage, text: fmt.Sprintf(format, args...)}
}

// failuref is an error with a hint for the person at the keyboard.
func failuref(hint, format string, args ...any) *exitError {
	return &exitError{code: exitFailure, text: fmt.Sprintf(format, args...), hint: hint}
}

// report tells what went wrong and returns the exit code.
func report(w io.Writer, err error) int {
	if err == nil {
		return exitOK
	}
	if e, ok := errors.AsType[*exitError](err); ok {
		if e.text != "" {
			say(w, e.text, e.hint)
		}
		return e.code
	}
	if e, ok := errors.AsType[*client.Error](err); ok {
		// What was being done stands before the answer of the node.
		prefix, _ := strings.CutSuffix(err.Error(), e.Error())
		say(w, prefix+e.Message(), clientHint(e))
		return exitFailure
	}
	if errors.Is(err, errInterrupted) || errors.Is(err, context.Canceled) {
		say(w, "interrupted", "")
		return exitInterrupted
	}
	say(w, err.Error(), "")
	return exitFailure
}

// clientHint puts the hint of the SDK into the words of the command line.
func clientHint(e *client.Error) string {
	switch {
	case e.Code == client.CodeUnreachable:
		return "start a node with `orrery dev`, or name a running one with --addr or ORRERY_ADDR"
	case e.Status == 401:
		return "name the file with the node's token with --token-file, or set ORRERY_TOKEN"
	}
	switch e.Code {
	case job.ErrJobNotFound.Code:
		return "jobs are deleted some time after they ended; `orrery job ls` lists those that there are"
	case job.ErrAgentNotFound.Code:
		return "`orrery agents` lists those that there are"
	case job.ErrQueueNotFound.Code:
		return "a queue exists from the first job in it; `orrery queue ls` lists those that there are"
	case job.ErrScheduleNotFound.Code:
		return "`orrery schedule ls` lists those that there are"
	case "wrong_state":
		return "`orrery job show` says where it stands"
	case "events_trimmed":
		return "--after oldest begins with what is kept"
	}
	return e.Hint
}

func say(w io.Writer, text, hint string) {
	fmt.Fprintf(w, "orrery: %s\n", printable(text))
	if hint != "" {
		fmt.Fprintf(w, "hint: %s\n", printable(hint))
	}
}
