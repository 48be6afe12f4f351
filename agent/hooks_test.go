package agent

import (
	"errors"
	"fmt"
	"io"
	"testing"
	"testing/synctest"

	"github.com/orrery-io/orrery/wire"
)

// TestHooks follows an agent through two connections: the hooks tell of each once,
// and of every result that was answered for.
func TestHooks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var told []string
		say := func(format string, args ...any) { told = append(told, fmt.Sprintf(format, args...)) }
		h := newHold()
		n := start(t, Config{Slots: 2, Hooks: Hooks{
			Connected:    func(string) { say("connected") },
			Disconnected: func(_ string, why error) { say("disconnected, as expected: %v", errors.Is(why, io.EOF)) },
			Recorded:     func(j *RawJob, accepted bool) { say("job %d with %q: %v", j.ID, j.Payload, accepted) },
			Dropped:      func(j *RawJob) { say("job %d is dropped", j.ID) },
		}}, func(a *Agent) { Handle(a, "hold", h.run) })
		l, _ := n.next()
		synctest.Wait()
		expectAll(t, "told before the welcome", told)
		l.send(wire.Message{Welcome: welcome()})
		l.send(dispatch(1, 10, "hold", payload(`"a"`)), dispatch(2, 11, "hold"))
		synctest.Wait()
		h.free <- nil
		h.free <- nil
		synctest.Wait()
		l.send(ack(1, 10))
		l.send(ack(1, 10)) // once more, which changes nothing
		l.send(wire.Message{ResultAck: &wire.ResultAck{Job: 2, Fence: 11, Reason: "too late"}})
		synctest.Wait()
		// The third ends and is dropped; the fourth is dropped before it ends, so there
		// is no result to speak of.
		l.send(dispatch(3, 12, "hold"))
		synctest.Wait()
		h.free <- nil
		synctest.Wait()
		l.send(dispatch(4, 13, "hold"))
		synctest.Wait()
		l.send(wire.Message{Beat: &wire.Beat{Drop: []wire.Held{{Job: 3, Fence: 12}, {Job: 4, Fence: 13}}}}, ack(3, 12))
		synctest.Wait()
		l.cut()
		n.welcomed()
		synctest.Wait()
		expectAll(t, "told", told, "connected", `job 1 with "\"a\"": true`, `job 2 with "": false`,
			"job 3 is dropped", "disconnected, as expected: true", "connected")
	})
}
