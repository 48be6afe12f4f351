package fsm

import (
	"context"
	"slices"
	"strings"

	"github.com/orrery-io/orrery/job"
)

const sqlTicks = "SELECT doc FROM ticks WHERE schedule = ? AND seq < ? ORDER BY seq DESC LIMIT ?"

// Schedules returns every schedule, sorted by name.
func (m *Machine) Schedules() []*job.Schedule {
	m.gate.RLock()
	defer m.gate.RUnlock()
	var list []*job.Schedule
	m.state.schedules.each(func(_ string, s *job.Schedule) { list = append(list, s) })
	slices.SortFunc(list, func(a, b *job.Schedule) int { return strings.Compare(a.Name, b.Name) })
	return list
}

// Schedule returns the newest version of a schedule, or job.ErrScheduleNotFound.
func (m *Machine) Schedule(name string) (*job.Schedule, error) {
	m.gate.RLock()
	defer m.gate.RUnlock()
	s, ok := m.state.schedules.peek(name)
	if !ok || s == nil {
		return nil, job.ErrScheduleNotFound
	}
	return s, nil
}

// Ticks lists up to limit entries of a schedule's history, the newest first, that
// come before an entry; zero begins with the newest. It may be a flush old.
func (m *Machine) Ticks(ctx context.Context, name string, before int64, limit int) ([]*job.Tick, error) {
	if m.SchemaVersion() < schemaSchedules {
		return nil, nil
	}
	if before == 0 {
		before = 1<<63 - 1
	}
	var list []*job.Tick
	err := m.list(ctx, sqlTicks, []any{name, before, limit}, func(r row) (bool, error) {
		doc, err := r.scanDoc()
		if err != nil {
			return false, err
		}
		t, err := decodeDoc[job.Tick](doc)
		if err != nil {
			return false, err
		}
		list = append(list, t)
		return true, nil
	})
	return list, err
}
