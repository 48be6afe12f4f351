package fsm

import (
	"errors"
	"fmt"

	"github.com/orrery-io/orrery/job"

	"github.com/tinylib/msgp/msgp"
)

// batch is what one log entry gave to the feed.
type batch struct {
	index  uint64
	time   job.Time
	events []job.Event
	bytes  int // that the batch keeps in memory, roughly
}

// feedFormat is the first byte of a stored batch.
const feedFormat = 1

// appendBatch encodes a batch at the end of b. After the format byte comes, in
// MessagePack: the time, the number of events, and for each event its type,
// state, job (as the difference to the event before), fence, attempt, and the
// strings type, queue, agent (of events about schedules, the schedule) and detail. A string is an array of one when it is
// new, and otherwise the number of the earlier one: most events of an entry have
// theirs in common.
func appendBatch(b []byte, x *batch) []byte {
	b = append(b, feedFormat)
	b = msgp.AppendInt64(b, int64(x.time))
	b = msgp.AppendInt(b, len(x.events))
	w := words{}
	last := job.ID(0)
	for i := range x.events {
		e := &x.events[i]
		b = msgp.AppendUint8(b, uint8(e.Type))
		b = msgp.AppendUint8(b, uint8(e.State))
		b = msgp.AppendInt64(b, int64(e.Job-last))
		last = e.Job
		b = msgp.AppendUint64(b, uint64(e.Fence))
		b = msgp.AppendInt(b, e.Attempt)
		b = w.append(b, e.JobType)
		b = w.append(b, e.Queue)
		if e.Type.OfSchedule() {
			b = w.append(b, e.Schedule)
		} else {
			b = w.append(b, e.Agent)
		}
		b = w.append(b, e.Detail)
	}
	return b
}

// words are the strings of a batch. Only the newest few are looked through, so
// that encoding stays linear.
type words struct{ seen []string }

const wordsBack = 8

func (w *words) append(b []byte, s string) []byte {
	for i := len(w.seen) - 1; i >= max(0, len(w.seen)-wordsBack); i-- {
		if w.seen[i] == s {
			return msgp.AppendInt(b, i)
		}
	}
	w.seen = append(w.seen, s)
	return msgp.AppendString(msgp.AppendArrayHeader(b, 1), s)
}

func (w *words) read(b []byte) (string, []byte, error) {
	if msgp.NextType(b) == msgp.ArrayType {
		n, b, err := msgp.ReadArrayHeaderBytes(b)
		if err != nil || n != 1 {
			return "", nil, errors.Join(errFeedRow, err)
		}
		s, b, err := msgp.ReadStringBytes(b)
		w.seen = append(w.seen, s)
		return s, b, err
	}
	i, b, err := msgp.ReadIntBytes(b)
	if err != nil || i < 0 || i >= len(w.seen) {
		return "", nil, errors.Join(errFeedRow, err)
	}
	return w.seen[i], b, nil
}

var errFeedRow = errors.New("feed: malformed row")

// decodeBatch is the inverse of appendBatch.
func decodeBatch(index uint64, b []byte) (*batch, error) {
	if len(b) == 0 || b[0] != feedFormat {
		return nil, fmt.Errorf("feed: row %d has a layout that this version does not know", index)
	}
	t, b, err := msgp.ReadInt64Bytes(b[1:])
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errFeedRow, err)
	}
	n, b, err := msgp.ReadIntBytes(b)
	if err != nil || n < 0 || n > len(b) {
		return nil, errors.Join(errFeedRow, err)
	}
	x := &batch{index: index, time: job.Time(t), events: make([]job.Event, n)}
	w := words{}
	last := job.ID(0)
	for i := range x.events {
		e := &x.events[i]
		e.ID = job.EventID{Index: index, N: uint32(i)} //nolint:gosec // below len(b)
		e.Time = x.time
		if b, err = readEvent(e, b, &w); err != nil {
			return nil, fmt.Errorf("%w: event %d.%d: %w", errFeedRow, index, i, err)
		}
		e.Job += last
		last = e.Job
	}
	if len(b) != 0 {
		return nil, errFeedRow
	}
	return x, nil
}

func readEvent(e *job.Event, b []byte, w *words) (_ []byte, err error) {
	var typ, state uint8
	var delta int64
	var fence uint64
	if typ, b, err = msgp.ReadUint8Bytes(b); err != nil {
		return nil, err
	}
	if state, b, err = msgp.ReadUint8Bytes(b); err != nil {
		return nil, err
	}
	if delta, b, err = msgp.ReadInt64Bytes(b); err != nil {
		return nil, err
	}
	if fence, b, err = msgp.ReadUint64Bytes(b); err != nil {
		return nil, err
	}
	if e.Attempt, b, err = msgp.ReadIntBytes(b); err != nil {
		return nil, err
	}
	e.Type, e.State, e.Job, e.Fence = job.EventType(typ), job.State(state), job.ID(delta), job.Fence(fence)
	who := &e.Agent
	if e.Type.OfSchedule() {
		who = &e.Schedule
	}
	for _, to := range []*string{&e.JobType, &e.Queue, who, &e.Detail} {
		if *to, b, err = w.read(b); err != nil {
			return nil, err
		}
	}
	return b, nil
}
