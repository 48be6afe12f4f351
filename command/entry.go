package command

import (
	"errors"
	"fmt"

	"github.com/orrery-io/orrery/job"
	"github.com/tinylib/msgp/msgp"
)

// Kind is the number of a command in the log. Numbers are never used again.
type Kind uint8

// The kinds.
const (
	KindSubmit Kind = iota + 1
	KindSubmitAll
	KindReady
	KindDispatch
	KindStart
	KindProgress
	KindAppendLog
	KindFinish
	KindCancel
	KindExpire
	KindRetry
	KindPromote
	KindRedrive
	KindDelete
	KindSetQueue
	KindSetAgent
	KindAgentGone
	KindForgetAgents
	KindInit
	KindMigrate
	KindTrimFeed
	KindVerify
	KindSetSchedule
	KindPauseSchedule
	KindDeleteSchedule
	KindTick
	KindRunSchedule
)

// Command is one kind of fact: a pointer to one of the structs of this package.
type Command interface {
	// Kind is the number under which the command is stored.
	Kind() Kind
	msgp.Marshaler
	msgp.Unmarshaler
	msgp.Sizer
}

// Kind implements Command.
func (*Submit) Kind() Kind { return KindSubmit }

// Kind implements Command.
func (*SubmitAll) Kind() Kind { return KindSubmitAll }

// Kind implements Command.
func (*Ready) Kind() Kind { return KindReady }

// Kind implements Command.
func (*Dispatch) Kind() Kind { return KindDispatch }

// Kind implements Command.
func (*Start) Kind() Kind { return KindStart }

// Kind implements Command.
func (*Progress) Kind() Kind { return KindProgress }

// Kind implements Command.
func (*AppendLog) Kind() Kind { return KindAppendLog }

// Kind implements Command.
func (*Finish) Kind() Kind { return KindFinish }

// Kind implements Command.
func (*Cancel) Kind() Kind { return KindCancel }

// Kind implements Command.
func (*Expire) Kind() Kind { return KindExpire }

// Kind implements Command.
func (*Retry) Kind() Kind { return KindRetry }

// Kind implements Command.
func (*Promote) Kind() Kind { return KindPromote }

// Kind implements Command.
func (*Redrive) Kind() Kind { return KindRedrive }

// Kind implements Command.
func (*Delete) Kind() Kind { return KindDelete }

// Kind implements Command.
func (*SetQueue) Kind() Kind { return KindSetQueue }

// Kind implements Command.
func (*SetAgent) Kind() Kind { return KindSetAgent }

// Kind implements Command.
func (*AgentGone) Kind() Kind { return KindAgentGone }

// Kind implements Command.
func (*ForgetAgents) Kind() Kind { return KindForgetAgents }

// Kind implements Command.
func (*Init) Kind() Kind { return KindInit }

// Kind implements Command.
func (*Migrate) Kind() Kind { return KindMigrate }

// Kind implements Command.
func (*TrimFeed) Kind() Kind { return KindTrimFeed }

// Kind implements Command.
func (*Verify) Kind() Kind { return KindVerify }

// Kind implements Command.
func (*SetSchedule) Kind() Kind { return KindSetSchedule }

// Kind implements Command.
func (*PauseSchedule) Kind() Kind { return KindPauseSchedule }

// Kind implements Command.
func (*DeleteSchedule) Kind() Kind { return KindDeleteSchedule }

// Kind implements Command.
func (*Tick) Kind() Kind { return KindTick }

// Kind implements Command.
func (*RunSchedule) Kind() Kind { return KindRunSchedule }

// New returns an empty command of kind k, nil when this program does not know k.
func New(k Kind) Command {
	switch k {
	case KindSubmit:
		return new(Submit)
	case KindSubmitAll:
		return new(SubmitAll)
	case KindReady:
		return new(Ready)
	case KindDispatch:
		return new(Dispatch)
	case KindStart:
		return new(Start)
	case KindProgress:
		return new(Progress)
	case KindAppendLog:
		return new(AppendLog)
	case KindFinish:
		return new(Finish)
	case KindCancel:
		return new(Cancel)
	case KindExpire:
		return new(Expire)
	case KindRetry:
		return new(Retry)
	case KindPromote:
		return new(Promote)
	case KindRedrive:
		return new(Redrive)
	case KindDelete:
		return new(Delete)
	case KindSetQueue:
		return new(SetQueue)
	case KindSetAgent:
		return new(SetAgent)
	case KindAgentGone:
		return new(AgentGone)
	case KindForgetAgents:
		return new(ForgetAgents)
	case KindInit:
		return new(Init)
	case KindMigrate:
		return new(Migrate)
	case KindTrimFeed:
		return new(TrimFeed)
	case KindVerify:
		return new(Verify)
	case KindSetSchedule:
		return new(SetSchedule)
	case KindPauseSchedule:
		return new(PauseSchedule)
	case KindDeleteSchedule:
		return new(DeleteSchedule)
	case KindTick:
		return new(Tick)
	case KindRunSchedule:
		return new(RunSchedule)
	default:
		return nil
	}
}

// Item is one command of an entry.
type Item struct {
	// RequestID makes a repeated proposal get the first one's result instead of
	// happening twice. Empty for commands whose preconditions already do that.
	RequestID string
	Command   Command
}

// Entry is what one log entry carries.
type Entry struct {
	// Time is the leader's clock when it proposed. The state machine takes the time
	// of the entry before when that is later.
	Time job.Time
	// Version is that of the program that wrote the entry.
	Version string
	Items   []Item
}

// Bounds on what the decoder takes, far above what the proposer makes.
const (
	MaxItems     = 100_000
	MaxRequestID = 128
)

// format is the first byte of an entry. A new layout gets a new number.
const format = 1

// UnknownKindError is returned by Decode when an entry holds a command that this
// program does not know. The node must stop: passing over it would let its state
// diverge.
type UnknownKindError struct {
	Kind    Kind
	Version string
}

// Error implements error.
func (e *UnknownKindError) Error() string {
	return fmt.Sprintf("the log holds a command of kind %d, written by version %q, that this version does not know; start this node with that version or a newer one", e.Kind, e.Version)
}

var errTruncated = errors.New("entry: truncated or malformed")

// Append encodes e at the end of b. The layout is the format byte, then in
// MessagePack: time, version, number of items, and for each item its kind, its
// request id, and its command as a map.
func (e *Entry) Append(b []byte) ([]byte, error) {
	b = append(b, format)
	b = msgp.AppendInt64(b, int64(e.Time))
	b = msgp.AppendString(b, e.Version)
	b = msgp.AppendArrayHeader(b, uint32(len(e.Items))) //nolint:gosec // bounded by MaxItems
	var err error
	for i := range e.Items {
		if b, err = e.Items[i].append(b); err != nil {
			return nil, fmt.Errorf("encode item %d: %w", i, err)
		}
	}
	return b, nil
}

func (it *Item) append(b []byte) ([]byte, error) {
	b = msgp.AppendUint8(b, uint8(it.Command.Kind()))
	b = msgp.AppendString(b, it.RequestID)
	return it.Command.MarshalMsg(b)
}

// Size is an upper bound for the encoded size of the item, in bytes.
func (it *Item) Size() int { return 2 + 5 + len(it.RequestID) + it.Command.Msgsize() }

// Decode reads an entry. The result does not share memory with b.
func Decode(b []byte) (*Entry, error) {
	if len(b) == 0 {
		return nil, errTruncated
	}
	if b[0] != format {
		return nil, fmt.Errorf("entry: layout %d is not known to this version; start this node with the version that wrote it or a newer one", b[0])
	}
	t, b, err := msgp.ReadInt64Bytes(b[1:])
	if err != nil {
		return nil, fmt.Errorf("entry time: %w", err)
	}
	e := &Entry{Time: job.Time(t)}
	if e.Version, b, err = msgp.ReadStringBytes(b); err != nil {
		return nil, fmt.Errorf("entry version: %w", err)
	}
	n, b, err := msgp.ReadArrayHeaderBytes(b)
	if err != nil {
		return nil, fmt.Errorf("entry size: %w", err)
	}
	if n > MaxItems || int(n) > len(b) {
		return nil, errTruncated
	}
	e.Items = make([]Item, n)
	for i := range e.Items {
		if b, err = e.Items[i].decode(b, e.Version); err != nil {
			return nil, fmt.Errorf("entry item %d: %w", i, err)
		}
	}
	if len(b) != 0 {
		return nil, errTruncated
	}
	return e, nil
}

func (it *Item) decode(b []byte, version string) ([]byte, error) {
	k, b, err := msgp.ReadUint8Bytes(b)
	if err != nil {
		return nil, err
	}
	if it.RequestID, b, err = msgp.ReadStringBytes(b); err != nil {
		return nil, err
	}
	if len(it.RequestID) > MaxRequestID {
		return nil, errTruncated
	}
	if it.Command = New(Kind(k)); it.Command == nil {
		return nil, &UnknownKindError{Kind: Kind(k), Version: version}
	}
	return it.Command.UnmarshalMsg(b)
}
