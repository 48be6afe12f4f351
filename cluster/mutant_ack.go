//go:build mutant_ack

package cluster

import "github.com/orrery-io/orrery/command"

const mutant = "ack"

// acknowledgeEarly answers cancellations and retries before they are committed: their
// results can be guessed, those of submissions cannot.
func (p *proposer) acknowledgeEarly(e *entry) {
	results := make([]command.Result, len(e.items))
	for i := range e.items {
		switch c := e.items[i].Command.(type) {
		case *command.Cancel:
			results[i].Job = c.Job
		case *command.Retry:
			results[i].Job = c.Job
		default:
			return
		}
	}
	for i := range e.parts {
		p.queue.deliver(e.parts[i], results, nil)
	}
	e.parts = e.parts[:0]
}
