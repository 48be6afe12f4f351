package agentconn

import (
	"fmt"
	"strings"
	"unicode"

	"github.com/coder/websocket"
	"github.com/orrery-io/orrery/job"
	"github.com/orrery-io/orrery/wire"
)

// Bounds on what a hello may carry.
const (
	maxSlots        = 10_000
	maxCapabilities = 1000
	maxQueues       = 100
	maxVersion      = 100 // bytes
)

// checkHello returns how to end a session whose hello cannot be taken, nil when it
// can; then its defaults are filled in.
func checkHello(h *wire.Hello) *ending {
	if h.Protocol != wire.Protocol {
		return fault("protocol_version", fmt.Sprintf("this node speaks version %d of the agents' protocol, not %d; use a fitting version of the agent", wire.Protocol, h.Protocol),
			websocket.StatusPolicyViolation, true)
	}
	if h.Name == "" {
		h.Name = h.ID
	}
	if len(h.Queues) == 0 {
		h.Queues = []string{job.DefaultQueue}
	}
	if wrong := helloFault(h); wrong != "" {
		return fault("invalid_hello", "hello."+wrong, websocket.StatusPolicyViolation, true)
	}
	return nil
}

// helloFault says in a sentence that begins with the field what is wrong.
func helloFault(h *wire.Hello) string {
	for _, n := range []struct{ field, value string }{{"id", h.ID}, {"name", h.Name}, {"group", h.Group}} {
		if n.field == "group" && n.value == "" {
			continue
		}
		if wrong := job.CheckName(n.value); wrong != "" {
			return n.field + " " + wrong
		}
	}
	if h.Slots < 1 || h.Slots > maxSlots {
		return fmt.Sprintf("slots is %d; it must be 1 to %d", h.Slots, maxSlots)
	}
	if wrong := job.CheckLabels("labels", job.LabelsOf(h.Labels)); len(wrong) > 0 {
		return wrong[0].Pointer + " " + wrong[0].Detail
	}
	if n := len(h.Capabilities); n > maxCapabilities {
		return fmt.Sprintf("capabilities has %d entries; the limit is %d", n, maxCapabilities)
	}
	for i, c := range h.Capabilities {
		if wrong := job.CheckName(c.Type); wrong != "" {
			return fmt.Sprintf("capabilities[%d].type %s", i, wrong)
		}
		if !isVersion(c.Version) {
			return fmt.Sprintf("capabilities[%d].version must be at most %d printable bytes", i, maxVersion)
		}
	}
	if n := len(h.Queues); n > maxQueues {
		return fmt.Sprintf("queues has %d entries; the limit is %d", n, maxQueues)
	}
	for i, q := range h.Queues {
		if wrong := job.CheckName(q); wrong != "" {
			return fmt.Sprintf("queues[%d] %s", i, wrong)
		}
	}
	if !isVersion(h.Version) || !isVersion(h.SDK) {
		return fmt.Sprintf("version and sdk must be at most %d printable bytes", maxVersion)
	}
	if !areAttempts(h.Held) || !areAttempts(h.Outbox) {
		return "held and outbox must name a job and a fence in each entry"
	}
	return ""
}

func isVersion(s string) bool {
	return len(s) <= maxVersion && strings.IndexFunc(s, func(r rune) bool {
		return r == unicode.ReplacementChar || !unicode.IsPrint(r)
	}) < 0
}

func areAttempts(list []wire.Held) bool {
	for _, h := range list {
		if !isAttempt(h.Job, h.Fence) {
			return false
		}
	}
	return true
}

func isAttempt(id job.ID, fence job.Fence) bool { return id > 0 && fence > 0 }
