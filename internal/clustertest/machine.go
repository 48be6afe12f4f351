package clustertest

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"sync"
	"time"

	"github.com/orrery-io/orrery/cluster"
	"github.com/orrery-io/orrery/command"
	"github.com/orrery-io/orrery/fsm"
	"github.com/orrery-io/orrery/job"
)

// Machine is a state machine in memory: a list of the payloads that were submitted, and
// the answers to request ids. It checks what the log promises: indexes and times that
// never go back.
type Machine struct {
	disk *disk

	mu      sync.Mutex
	moved   chan struct{} // closed when something was applied
	state   state
	synced  uint64
	hold    chan struct{} // Apply waits for it while it isn't nil
	refuses func(command.Command) bool
}

var _ cluster.Machine = (*Machine)(nil)

// state is what a Machine stores.
type state struct {
	Applied, Term uint64
	Time          job.Time
	Marker        *fsm.Marker
	ConfIndex     uint64
	Conf          []byte
	Cluster       string
	Schema        int
	Jobs          []string // payloads, in order
	Answers       map[string]command.Result
}

func (s *state) clone() state {
	c := *s
	c.Jobs = append([]string(nil), s.Jobs...)
	c.Answers = make(map[string]command.Result, len(s.Answers))
	maps.Copy(c.Answers, s.Answers)
	return c
}

// disk is what survives a restart of a Machine.
type disk struct {
	mu    sync.Mutex
	state state
}

func newMachine(d *disk) *Machine {
	d.mu.Lock()
	defer d.mu.Unlock()
	return &Machine{disk: d, moved: make(chan struct{}), state: d.state.clone(), synced: d.state.Applied}
}

// Apply implements cluster.Machine.
func (m *Machine) Apply(entries []fsm.Entry) ([][]command.Result, error) {
	m.mu.Lock()
	gate := m.hold
	m.mu.Unlock()
	if gate != nil {
		<-gate
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	out := make([][]command.Result, len(entries))
	for i, e := range entries {
		if e.Index <= m.state.Applied {
			continue
		}
		d, err := command.Decode(e.Data)
		if err != nil {
			return nil, fmt.Errorf("log entry %d: %w", e.Index, err)
		}
		if d.Time < m.state.Time || e.Term < m.state.Term {
			return nil, errors.New("time or term went back")
		}
		for _, it := range d.Items {
			if m.refuses != nil && m.refuses(it.Command) {
				return nil, fmt.Errorf("log entry %d: %w", e.Index, &command.UnknownKindError{Kind: it.Command.Kind(), Version: d.Version})
			}
		}
		out[i] = m.state.apply(e.Index, d.Items)
		m.state.Applied, m.state.Term, m.state.Time = e.Index, e.Term, d.Time
	}
	close(m.moved)
	m.moved = make(chan struct{})
	return out, nil
}

func (s *state) apply(index uint64, items []command.Item) []command.Result {
	results := make([]command.Result, len(items))
	for i, it := range items {
		if first, ok := s.Answers[it.RequestID]; ok && it.RequestID != "" {
			results[i] = first
			continue
		}
		results[i].Index = index
		switch c := it.Command.(type) {
		case *command.Submit:
			s.Jobs = append(s.Jobs, string(c.Spec.Payload))
			results[i].Job = job.ID(len(s.Jobs))
		case *command.Init:
			s.Cluster = c.ClusterID
		case *command.Migrate:
			s.Schema = c.To
		}
		if it.RequestID != "" {
			s.Answers[it.RequestID] = results[i]
		}
	}
	return results
}

func (s *state) hash() []byte {
	h := sha256.New()
	for _, p := range s.Jobs {
		_ = binary.Write(h, binary.BigEndian, uint64(len(p))) // a hash never fails
		h.Write([]byte(p))
	}
	return h.Sum(nil)
}

// Jobs returns the payloads in order.
func (m *Machine) Jobs() []string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return append([]string(nil), m.state.Jobs...)
}

// Len is the number of jobs.
func (m *Machine) Len() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return len(m.state.Jobs)
}

// Answered reports whether a request id was applied.
func (m *Machine) Answered(id string) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	_, ok := m.state.Answers[id]
	return ok
}

// Sum is that of all jobs.
func (m *Machine) Sum() string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return hex.EncodeToString(m.state.hash())
}

// Hold makes Apply wait from now on; release lets it go on.
func (m *Machine) Hold() (release func()) {
	gate := make(chan struct{})
	m.mu.Lock()
	m.hold = gate
	m.mu.Unlock()
	return sync.OnceFunc(func() {
		m.mu.Lock()
		m.hold = nil
		m.mu.Unlock()
		close(gate)
	})
}

// Refuse makes the machine one of a version that doesn't know some commands.
func (m *Machine) Refuse(f func(command.Command) bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.refuses = f
}

// Flush writes everything to the disk, as far as a Machine has one.
func (m *Machine) Flush() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.disk.mu.Lock()
	defer m.disk.mu.Unlock()
	m.disk.state = m.state.clone()
	m.synced = m.state.Applied
}

// Applied implements cluster.Machine.
func (m *Machine) Applied() (index, term uint64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.state.Applied, m.state.Term
}

// WaitApplied implements cluster.Machine.
func (m *Machine) WaitApplied(ctx context.Context, index uint64) error {
	for {
		m.mu.Lock()
		applied, moved := m.state.Applied, m.moved
		m.mu.Unlock()
		if applied >= index {
			return nil
		}
		select {
		case <-moved:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// LastTime implements cluster.Machine.
func (m *Machine) LastTime() job.Time {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.state.Time
}

// ClusterID implements cluster.Machine.
func (m *Machine) ClusterID() string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.state.Cluster
}

// SchemaVersion implements cluster.Machine.
func (m *Machine) SchemaVersion() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.state.Schema
}

// Marker implements cluster.Machine.
func (m *Machine) Marker() (fsm.Marker, bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.state.Marker == nil {
		return fsm.Marker{}, false
	}
	return *m.state.Marker, true
}

// Mark implements cluster.Machine.
func (m *Machine) Mark(_ context.Context, marker fsm.Marker) error {
	m.mu.Lock()
	if marker.Index > m.state.Applied {
		m.state.Applied, m.state.Term = marker.Index, marker.Term
	}
	m.state.Marker = &marker
	m.state.ConfIndex, m.state.Conf = marker.ConfigurationIndex, marker.Configuration
	m.mu.Unlock()
	m.Flush()
	return nil
}

// StoreConfiguration implements cluster.Machine.
func (m *Machine) StoreConfiguration(index uint64, conf []byte) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.state.ConfIndex, m.state.Conf = index, conf
}

// Configuration implements cluster.Machine.
func (m *Machine) Configuration() (index uint64, conf []byte) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.state.ConfIndex, m.state.Conf
}

// CopyTo implements cluster.Machine.
func (m *Machine) CopyTo(_ context.Context, path string) (int64, error) {
	m.mu.Lock()
	b, err := json.Marshal(&m.state)
	m.mu.Unlock()
	if err != nil {
		return 0, err
	}
	return int64(len(b)), os.WriteFile(path, b, 0o600)
}

// Install implements cluster.Machine.
func (m *Machine) Install(_ context.Context, path string, at fsm.Marker) (fsm.Marker, error) {
	b, err := os.ReadFile(path) //nolint:gosec // the node's own file
	if err != nil {
		return fsm.Marker{}, err
	}
	var s state
	if err := json.Unmarshal(b, &s); err != nil {
		return fsm.Marker{}, err
	}
	m.mu.Lock()
	if s.Marker == nil { // a backup
		s.Marker, s.Applied, s.Term, s.Time, s.Cluster = &at, at.Index, at.Term, max(s.Time, m.state.Time), m.state.Cluster
	}
	m.state = s.clone()
	close(m.moved)
	m.moved = make(chan struct{})
	m.mu.Unlock()
	m.Flush()
	return *s.Marker, nil
}

// Reset implements cluster.Machine.
func (m *Machine) Reset(context.Context) (aside string, err error) {
	m.mu.Lock()
	m.state = state{}
	m.mu.Unlock()
	m.Flush()
	return "nowhere", nil
}

// Synced implements cluster.Machine.
func (m *Machine) Synced() uint64 {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.synced
}

// Backup implements cluster.Machine: there is none in memory.
func (m *Machine) Backup(context.Context, string, time.Time, string) (fsm.BackupInfo, error) {
	return fsm.BackupInfo{}, errors.New("a machine in memory has no backup")
}

// Hash implements cluster.Machine.
func (m *Machine) Hash(context.Context, uint64) ([]byte, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.state.hash(), nil
}
