package cluster

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"sync"
	"time"

	"github.com/orrery-io/orrery/command"
	"github.com/orrery-io/orrery/fsm"
	"github.com/orrery-io/orrery/job"
)

// fakeState is what a fakeMachine stores.
type fakeState struct {
	Applied, Term uint64
	Time          job.Time
	Marker        *fsm.Marker
	ConfIndex     uint64
	Conf          []byte
	Cluster       string
	Schema        int
	Jobs          []string // payloads, in order
}

func (s fakeState) clone() fakeState {
	s.Jobs = append([]string(nil), s.Jobs...)
	return s
}

// fakeDisk survives a restart of the machine.
type fakeDisk struct {
	mu    sync.Mutex
	state fakeState
}

// fakeMachine keeps submitted payloads in memory, and writes when it is told to.
type fakeMachine struct {
	disk *fakeDisk

	mu      sync.Mutex
	changed *sync.Cond
	state   fakeState
	synced  uint64
	fed     []uint64 // indexes given to Apply
	entries int      // that held a Submit
	copies  int
	fail    error
	gate    chan struct{} // Apply waits for it while it is not nil
	reached chan struct{} // gets a signal when Apply waits
}

func newFake(d *fakeDisk) *fakeMachine {
	if d == nil {
		d = &fakeDisk{}
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	m := &fakeMachine{disk: d, state: d.state.clone(), synced: d.state.Applied, reached: make(chan struct{}, 1)}
	m.changed = sync.NewCond(&m.mu)
	return m
}

func (m *fakeMachine) Apply(entries []fsm.Entry) ([][]command.Result, error) {
	m.mu.Lock()
	gate := m.gate
	m.mu.Unlock()
	if gate != nil {
		select {
		case m.reached <- struct{}{}:
		default:
		}
		<-gate
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.fail != nil {
		return nil, m.fail
	}
	var out [][]command.Result
	for _, e := range entries {
		m.fed = append(m.fed, e.Index)
		d, err := command.Decode(e.Data)
		if err != nil {
			return nil, err
		}
		if e.Index > m.state.Applied && d.Time < m.state.Time {
			return nil, errors.New("time went back")
		}
		results := make([]command.Result, len(d.Items))
		submits := 0
		for i, it := range d.Items {
			results[i].Index = e.Index
			if e.Index <= m.state.Applied {
				continue
			}
			switch c := it.Command.(type) {
			case *command.Submit:
				submits++
				m.state.Jobs = append(m.state.Jobs, string(c.Spec.Payload))
				results[i].Job = job.ID(len(m.state.Jobs))
			case *command.Init:
				m.state.Cluster = c.ClusterID
			case *command.Migrate:
				m.state.Schema = c.To
			}
		}
		if submits > 0 {
			m.entries++
		}
		if e.Index > m.state.Applied {
			m.state.Applied, m.state.Term, m.state.Time = e.Index, e.Term, d.Time
		}
		out = append(out, results)
	}
	m.changed.Broadcast()
	return out, nil
}

func (m *fakeMachine) Applied() (index, term uint64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.state.Applied, m.state.Term
}

func (m *fakeMachine) WaitApplied(ctx context.Context, index uint64) error {
	defer context.AfterFunc(ctx, m.changed.Broadcast)()
	m.mu.Lock()
	defer m.mu.Unlock()
	for m.state.Applied < index && ctx.Err() == nil {
		m.changed.Wait()
	}
	return ctx.Err()
}

func (m *fakeMachine) LastTime() job.Time {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.state.Time
}

func (m *fakeMachine) ClusterID() string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.state.Cluster
}

func (m *fakeMachine) SchemaVersion() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.state.Schema
}

func (m *fakeMachine) Marker() (fsm.Marker, bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.state.Marker == nil {
		return fsm.Marker{}, false
	}
	return *m.state.Marker, true
}

func (m *fakeMachine) Mark(_ context.Context, marker fsm.Marker) error {
	m.mu.Lock()
	if marker.Index > m.state.Applied {
		m.state.Applied, m.state.Term = marker.Index, marker.Term
	}
	m.state.Marker = &marker
	m.state.ConfIndex, m.state.Conf = marker.ConfigurationIndex, marker.Configuration
	m.mu.Unlock()
	m.flush()
	return nil
}

// flush writes everything to the disk.
func (m *fakeMachine) flush() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.disk.mu.Lock()
	defer m.disk.mu.Unlock()
	m.disk.state = m.state.clone()
	m.synced = m.state.Applied
}

func (m *fakeMachine) StoreConfiguration(index uint64, conf []byte) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.state.ConfIndex, m.state.Conf = index, conf
}

func (m *fakeMachine) Configuration() (index uint64, conf []byte) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.state.ConfIndex, m.state.Conf
}

func (m *fakeMachine) CopyTo(_ context.Context, path string) (int64, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.copies++
	b, err := json.Marshal(m.state)
	if err != nil {
		return 0, err
	}
	return int64(len(b)), os.WriteFile(path, b, 0o600)
}

func (m *fakeMachine) Backup(_ context.Context, path string, _ time.Time, _ string) (fsm.BackupInfo, error) {
	return fsm.BackupInfo{}, errors.New("a fake has no backup")
}

func (m *fakeMachine) Hash(context.Context, uint64) ([]byte, error) {
	return nil, errors.New("a fake has no hash")
}

func (m *fakeMachine) Reset(context.Context) (string, error) {
	m.mu.Lock()
	m.state = fakeState{}
	m.mu.Unlock()
	m.flush()
	return "aside", nil
}

func (m *fakeMachine) Install(_ context.Context, path string, at fsm.Marker) (fsm.Marker, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return fsm.Marker{}, err
	}
	var s fakeState
	if err := json.Unmarshal(b, &s); err != nil {
		return fsm.Marker{}, err
	}
	m.mu.Lock()
	if s.Marker == nil { // a backup
		s.Marker, s.Applied, s.Term, s.Time = &at, at.Index, at.Term, max(s.Time, m.state.Time)
		s.Cluster = m.state.Cluster
	}
	m.state = s
	m.changed.Broadcast()
	m.mu.Unlock()
	m.flush()
	return *s.Marker, nil
}

func (m *fakeMachine) Synced() uint64 {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.synced
}

func (m *fakeMachine) jobs() []string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return append([]string(nil), m.state.Jobs...)
}

func (m *fakeMachine) feed() []uint64 {
	m.mu.Lock()
	defer m.mu.Unlock()
	return append([]uint64(nil), m.fed...)
}

// hold makes Apply wait from now on; what it returns lets it go on.
func (m *fakeMachine) hold() (release func()) {
	gate := make(chan struct{})
	m.mu.Lock()
	m.gate = gate
	m.mu.Unlock()
	return sync.OnceFunc(func() {
		m.mu.Lock()
		m.gate = nil
		m.mu.Unlock()
		close(gate)
	})
}
