package cluster

import (
	"errors"
	"fmt"

	"github.com/orrery-io/orrery/command"
	"github.com/orrery-io/orrery/job"
	"github.com/tinylib/msgp/msgp"
)

// A forwarded request holds the calls of many callers: in MessagePack an array with
// the number of items of each call, and behind it one command.Entry with the items of
// all. The answer is the index that the leader has applied, and an array with, for
// each call, either its error or an array of its results.

var errForward = errors.New("forwarded calls: truncated or malformed")

// appendCalls encodes a request.
func appendCalls(b []byte, calls []*call, version string) ([]byte, error) {
	e := command.Entry{Version: version}
	b = msgp.AppendArrayHeader(b, uint32(len(calls))) //nolint:gosec // bounded by forwardItems
	for _, c := range calls {
		b = msgp.AppendInt(b, len(c.items))
		e.Items = append(e.Items, c.items...)
	}
	return e.Append(b)
}

// outdatedError is returned for calls of a newer version with something in them that
// this one doesn't know: it would be lost, because the leader encodes them anew.
type outdatedError struct{ version string }

func (e *outdatedError) Error() string {
	return fmt.Sprintf("forwarded calls: version %q has written fields that this version does not know", e.version)
}

// decodeCalls reads a request for a node of the given version. The result does not
// share memory with b.
func decodeCalls(b []byte, version string) ([][]command.Item, error) {
	n, b, err := msgp.ReadArrayHeaderBytes(b)
	if err != nil {
		return nil, err
	}
	if int64(n) > int64(len(b)) {
		return nil, errForward
	}
	calls, sizes := make([][]command.Item, n), make([]int, n)
	for i := range sizes {
		if sizes[i], b, err = msgp.ReadIntBytes(b); err != nil {
			return nil, err
		}
	}
	e, err := command.Decode(b)
	if err != nil {
		return nil, err
	}
	if e.Version != version {
		again, err := e.Append(nil)
		if err != nil {
			return nil, err
		}
		if len(again) < len(b) {
			return nil, &outdatedError{e.Version}
		}
	}
	rest := e.Items
	for i, size := range sizes {
		if size < 0 || size > len(rest) {
			return nil, errForward
		}
		calls[i], rest = rest[:size:size], rest[size:]
	}
	if len(rest) > 0 {
		return nil, errForward
	}
	return calls, nil
}

// verdict is what became of one call: results, or the error for the whole of it.
type verdict struct {
	results []command.Result
	err     *job.Error
}

// appendVerdicts encodes an answer.
func appendVerdicts(b []byte, applied uint64, verdicts []verdict) (_ []byte, err error) {
	b = msgp.AppendUint64(b, applied)
	b = msgp.AppendArrayHeader(b, uint32(len(verdicts))) //nolint:gosec // as many as there were calls
	for _, v := range verdicts {
		if v.err != nil {
			b = msgp.AppendBool(b, false)
			if b, err = v.err.MarshalMsg(b); err != nil {
				return nil, err
			}
			continue
		}
		b = msgp.AppendBool(b, true)
		b = msgp.AppendArrayHeader(b, uint32(len(v.results))) //nolint:gosec // as many as there were items
		for i := range v.results {
			if b, err = v.results[i].MarshalMsg(b); err != nil {
				return nil, err
			}
		}
	}
	return b, nil
}

// decodeVerdicts reads the answer to a request of that many calls.
func decodeVerdicts(b []byte, calls int) (applied uint64, verdicts []verdict, err error) {
	if applied, b, err = msgp.ReadUint64Bytes(b); err != nil {
		return 0, nil, err
	}
	n, b, err := msgp.ReadArrayHeaderBytes(b)
	if err != nil {
		return 0, nil, err
	}
	if int(n) != calls {
		return 0, nil, errForward
	}
	verdicts = make([]verdict, n)
	for i := range verdicts {
		if b, err = verdicts[i].decode(b); err != nil {
			return 0, nil, err
		}
	}
	if len(b) > 0 {
		return 0, nil, errForward
	}
	return applied, verdicts, nil
}

func (v *verdict) decode(b []byte) ([]byte, error) {
	ok, b, err := msgp.ReadBoolBytes(b)
	if err != nil {
		return nil, err
	}
	if !ok {
		v.err = new(job.Error)
		return v.err.UnmarshalMsg(b)
	}
	n, b, err := msgp.ReadArrayHeaderBytes(b)
	if err != nil {
		return nil, err
	}
	if int64(n) > int64(len(b)) {
		return nil, errForward
	}
	v.results = make([]command.Result, n)
	for i := range v.results {
		if b, err = v.results[i].UnmarshalMsg(b); err != nil {
			return nil, err
		}
	}
	return b, nil
}
