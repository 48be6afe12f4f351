package job

import (
	"fmt"
	"strings"
)

// State is where a job stands. The zero State is no state: a job that does not
// exist.
type State uint8

// The states. The numbers are stored and never change.
const (
	// Scheduled waits for its time: a delayed job, or one between two attempts.
	Scheduled State = iota + 1
	// Pending is ready and waits for an agent.
	Pending
	// Dispatched was given to an agent.
	Dispatched
	// Running is known to have been executing for about a second or more; shorter
	// attempts go from Dispatched to their end.
	Running
	// Completed ended well.
	Completed
	// Failed ended badly, with no attempts left; it is a dead letter.
	Failed
	// TimedOut ended by its attempt timeout, with no attempts left; it is a dead
	// letter.
	TimedOut
	// Cancelled was ended by request.
	Cancelled
	// Expired was not started by its deadline.
	Expired
)

// States lists every state in order.
var States = []State{Scheduled, Pending, Dispatched, Running, Completed, Failed, TimedOut, Cancelled, Expired}

var stateNames = [...]string{"", "scheduled", "pending", "dispatched", "running", "completed", "failed", "timed_out", "cancelled", "expired"}

// String returns the word used in API, CLI and docs.
func (s State) String() string {
	if int(s) < len(stateNames) {
		return stateNames[s]
	}
	return fmt.Sprintf("state(%d)", uint8(s))
}

// ParseState is the inverse of String.
func ParseState(text string) (State, error) {
	for i, n := range stateNames {
		if i > 0 && n == text {
			return State(i), nil
		}
	}
	return 0, fmt.Errorf("%q is not a state; the states are %s", clip([]byte(text)), strings.Join(stateNames[1:], ", "))
}

// MarshalText implements encoding.TextMarshaler.
func (s State) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// UnmarshalText implements encoding.TextUnmarshaler.
func (s *State) UnmarshalText(b []byte) error {
	v, err := ParseState(string(b))
	if err != nil {
		return err
	}
	*s = v
	return nil
}

// Waiting reports whether the job waits for its time or for an agent.
func (s State) Waiting() bool { return s == Scheduled || s == Pending }

// Active reports whether an agent has the job.
func (s State) Active() bool { return s == Dispatched || s == Running }

// Terminal reports whether the job has ended.
func (s State) Terminal() bool { return s >= Completed && s <= Expired }

// DeadLetter reports whether a job in this state is in the dead letters.
func (s State) DeadLetter() bool { return s == Failed || s == TimedOut }

// Action is what a command wants to do with a job. Together with the state it
// selects a line of the state table.
type Action uint8

// The actions.
const (
	// ActReady makes a job whose time has come pending.
	ActReady Action = iota + 1
	// ActDispatch gives the job to an agent.
	ActDispatch
	// ActStart records that the attempt has been running for a while.
	ActStart
	// ActReport stores progress or log lines of the current attempt.
	ActReport
	// ActComplete ends the attempt and the job well.
	ActComplete
	// ActFail ends the attempt badly.
	ActFail
	// ActTimeOut ends an attempt that took too long.
	ActTimeOut
	// ActLose ends an attempt whose agent vanished.
	ActLose
	// ActRevoke takes back a dispatch that the agent did not acknowledge, refused
	// or handed back.
	ActRevoke
	// ActCancel asks for the job to end.
	ActCancel
	// ActConfirmCancel ends an attempt that was asked to stop.
	ActConfirmCancel
	// ActExpire ends a job that was not started by its deadline.
	ActExpire
	// ActRetry makes a job run again, or now instead of later.
	ActRetry
	// ActPromote makes a delayed job run now.
	ActPromote
	// ActRedrive takes a job out of the dead letters and runs it again.
	ActRedrive
	// ActDelete removes an ended job.
	ActDelete
)

// Actions lists every action in order.
var Actions = []Action{
	ActReady, ActDispatch, ActStart, ActReport, ActComplete, ActFail, ActTimeOut, ActLose,
	ActRevoke, ActCancel, ActConfirmCancel, ActExpire, ActRetry, ActPromote, ActRedrive, ActDelete,
}

var actionNames = [...]string{
	"", "made ready", "dispatched", "started", "reported on", "completed", "failed", "timed out", "lost",
	"revoked", "cancelled", "confirmed as cancelled", "expired", "retried", "promoted", "redriven", "deleted",
}

// String returns the action as a past participle, for "job 7 cannot be …".
func (a Action) String() string {
	if int(a) < len(actionNames) {
		return actionNames[a]
	}
	return fmt.Sprintf("action(%d)", uint8(a))
}

// set is a set of states, one bit each.
type set uint16

func of(states ...State) set {
	var s set
	for _, x := range states {
		s |= 1 << x
	}
	return s
}

func (s set) has(x State) bool { return s&(1<<x) != 0 }

// again are the states after an attempt that did not end well: waiting for the
// next one, or one of the ends that the table adds.
var again = of(Scheduled, Pending)

// gone is the "state" of a deleted job.
const gone State = 0

// table is the state machine of jobs: for a state and an action, the states that
// may follow. What is not in it is refused.
var table = map[State]map[Action]set{
	Scheduled: {
		ActReady:   of(Pending),
		ActCancel:  of(Cancelled),
		ActExpire:  of(Expired),
		ActRetry:   of(Pending),
		ActPromote: of(Pending),
	},
	Pending: {
		ActDispatch: of(Dispatched),
		ActCancel:   of(Cancelled),
		ActExpire:   of(Expired),
	},
	Dispatched: {
		ActStart:         of(Running),
		ActReport:        of(Dispatched),
		ActComplete:      of(Completed),
		ActFail:          again | of(Failed),
		ActTimeOut:       again | of(TimedOut),
		ActLose:          again | of(Failed, Cancelled),
		ActRevoke:        of(Pending, Cancelled),
		ActCancel:        of(Dispatched),
		ActConfirmCancel: of(Cancelled),
	},
	Running: {
		ActReport:        of(Running),
		ActComplete:      of(Completed),
		ActFail:          again | of(Failed),
		ActTimeOut:       again | of(TimedOut),
		ActLose:          again | of(Failed, Cancelled),
		ActRevoke:        of(Pending, Cancelled),
		ActCancel:        of(Running),
		ActConfirmCancel: of(Cancelled),
	},
	Completed: {
		ActDelete: of(gone),
	},
	Failed: {
		ActRetry:   of(Pending),
		ActRedrive: of(Pending),
		ActDelete:  of(gone),
	},
	TimedOut: {
		ActRetry:   of(Pending),
		ActRedrive: of(Pending),
		ActDelete:  of(gone),
	},
	Cancelled: {
		ActRetry:  of(Pending),
		ActDelete: of(gone),
	},
	Expired: {
		ActRetry:  of(Pending),
		ActDelete: of(gone),
	},
}

// Allowed reports whether a job in state s may be acted on by a, and end up in
// next. The state machine asks this before every transition.
func Allowed(s State, a Action, next State) bool { return table[s][a].has(next) }

// Accepts reports whether a job in state s may be acted on by a at all.
func Accepts(s State, a Action) bool { return table[s][a] != 0 }

// Refusal is the error for an action that the table does not allow.
func Refusal(id ID, s State, a Action) *Error {
	return Errorf(Conflict, "wrong_state", "job %d is %s and cannot be %s", id, s, a)
}
