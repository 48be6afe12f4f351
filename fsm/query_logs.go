package fsm

import (
	"context"
	"slices"
	"strings"

	"github.com/orrery-io/orrery/job"
)

// LogQuery says which lines of a job's log are wanted.
type LogQuery struct {
	// Attempt is the number of one attempt, 0 for the newest, -1 for all of them.
	Attempt int
	// After leaves out the lines up to this sequence number.
	After int64
	// Tail, when positive, gives the newest that many lines only.
	Tail int
	// Limit, when positive, bounds how many lines are given.
	Limit int
}

// LogRow is one line of a job's log.
type LogRow struct {
	Attempt int
	Fence   job.Fence
	job.LogLine
	// CutLines and CutBytes say what is missing before this line, because the log
	// was longer than what is kept of it.
	CutLines, CutBytes int64
}

// JobLog returns lines of a job's log, oldest first. It sees what was applied,
// flushed or not.
func (m *Machine) JobLog(ctx context.Context, id job.ID, q LogQuery) ([]LogRow, error) {
	j, err := m.Job(ctx, id)
	if err != nil {
		return nil, err
	}
	m.gate.RLock()
	defer m.gate.RUnlock()
	var rows []LogRow
	for i := range j.Attempts {
		a := &j.Attempts[i]
		switch {
		case !a.Logged:
		case q.Attempt < 0, q.Attempt == a.Number, q.Attempt == 0 && i == len(j.Attempts)-1:
			if rows, err = m.attemptLog(ctx, rows, j.ID, a, q); err != nil {
				return nil, m.readError(err)
			}
		}
	}
	if q.Tail > 0 && len(rows) > q.Tail {
		rows = rows[len(rows)-q.Tail:]
	}
	if q.Limit > 0 && len(rows) > q.Limit {
		rows = rows[:q.Limit]
	}
	return rows, nil
}

// attemptLog appends the lines of one attempt.
func (m *Machine) attemptLog(ctx context.Context, rows []LogRow, id job.ID, a *job.Attempt, q LogQuery) ([]LogRow, error) {
	head, err := m.state.heads.get(ctx, attemptKey{id, a.Fence})
	if err != nil || head == nil {
		return rows, err
	}
	for i, c := range head.Chunks {
		chunk, err := m.state.chunks.get(ctx, c.ID)
		if err != nil {
			return nil, err
		}
		if chunk == nil {
			continue // cut since the head was read
		}
		for n, line := range chunk.Lines {
			if line.Seq <= q.After {
				continue
			}
			r := LogRow{Attempt: a.Number, Fence: a.Fence, LogLine: line}
			if i == head.Head && n == 0 {
				r.CutLines, r.CutBytes = head.CutLines, head.CutBytes
			}
			rows = append(rows, r)
		}
		if q.Limit > 0 && q.Tail == 0 && len(rows) >= q.Limit {
			break
		}
	}
	return rows, nil
}

// Agents returns every agent that is known, sorted by id.
func (m *Machine) Agents() []*job.Agent {
	m.gate.RLock()
	defer m.gate.RUnlock()
	var list []*job.Agent
	m.state.agents.each(func(_ string, a *job.Agent) { list = append(list, a) })
	slices.SortFunc(list, func(a, b *job.Agent) int { return strings.Compare(a.ID, b.ID) })
	return list
}

// Agent returns one agent, or job.ErrAgentNotFound.
func (m *Machine) Agent(id string) (*job.Agent, error) {
	m.gate.RLock()
	defer m.gate.RUnlock()
	a, ok := m.state.agents.peek(id)
	if !ok || a == nil {
		return nil, job.ErrAgentNotFound
	}
	return a, nil
}
