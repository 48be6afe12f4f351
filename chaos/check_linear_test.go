//go:build linux

package chaos

import (
	"fmt"
	"math"
	"os"
	"path/filepath"
	"time"

	"github.com/anishathalye/porcupine"
)

// registerState is a register as the model has it: a job without a handler.
type registerState struct {
	rev       uint64
	cancelled bool
}

// registerModel says what operations may give, one after the other. The job was
// submitted before its history begins, which is revision 1.
var registerModel = porcupine.Model{
	Init: func() any { return registerState{rev: 1} },
	Step: func(state, input, _ any) (bool, any) {
		s, o := state.(registerState), input.(op)
		switch o.Kind {
		case opRead:
			want := "pending"
			if s.cancelled {
				want = "cancelled"
			}
			return o.State == want && o.Rev == s.rev, s
		case opCancel, opRetry:
			// A pending job can be cancelled, a cancelled one retried.
			possible := s.cancelled == (o.Kind == opRetry)
			if !o.Open && o.OK != possible {
				return false, s
			}
			if possible {
				s = registerState{rev: s.rev + 1, cancelled: o.Kind == opCancel}
			}
			return true, s
		}
		return false, s
	},
	DescribeOperation: func(input, _ any) string {
		o := input.(op)
		what := [...]string{"read", "cancel", "retry"}[o.Kind]
		switch {
		case o.Kind == opRead:
			return fmt.Sprintf("read n%d → %s, revision %d", o.Node+1, o.State, o.Rev)
		case o.Open:
			return what + " → ?"
		case o.OK:
			return what + " → done"
		default:
			return what + " → refused"
		}
	},
	DescribeState: func(state any) string {
		s := state.(registerState)
		return fmt.Sprintf("revision %d, cancelled %t", s.rev, s.cancelled)
	},
}

// operations turns a history into what the checker takes. What has an open outcome
// never returns.
func operations(ops []op) []porcupine.Operation {
	out := make([]porcupine.Operation, 0, len(ops))
	for _, o := range ops {
		end := o.Return
		if o.Open {
			end = math.MaxInt64
		}
		out = append(out, porcupine.Operation{ClientId: o.Client, Input: o, Call: o.Call, Return: end})
	}
	return out
}

// checkLinear checks all histories. "Unknown" is a violation: nothing was proved.
func checkLinear(all []*register, f *findings, room string) {
	for _, x := range all {
		result, info := porcupine.CheckOperationsVerbose(registerModel, operations(x.ops), 30*time.Second)
		if result == porcupine.Ok {
			continue
		}
		picture := filepath.Join(room, fmt.Sprintf("register-%d.html", x.id))
		if out, err := os.Create(picture); err == nil {
			_ = porcupine.Visualize(registerModel, info, out)
			_ = out.Close()
		}
		f.violated(5, "the history of register %d with %d operations, %d of them open: the checker says %s (picture in %s)",
			x.id, len(x.ops), x.unknown, result, filepath.Base(picture))
	}
}
