//go:build linux

package chaos

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"
)

// began is when this process started; times in the history count from it.
var began = time.Now()

func since() int64 { return int64(time.Since(began)) }

// findings are the violations of a run.
type findings struct {
	mu   sync.Mutex
	list []string
	by   map[int]int
}

// invariants are what the run checks, by number.
var invariants = [...]string{
	0: "no process ends or sticks by itself, and one that must end says why",
	1: "every acknowledged job is on every node, an unknown one at most once",
	2: "one end per job, all ended within the drain time",
	3: "leases never overlap, fences rise, no stale result or write",
	4: "verify hashes are equal on all nodes",
	5: "the histories are linearizable",
	6: "one leader per term, applied never goes back, databases are whole, one feed",
	7: "a commit within seconds after healing",
	8: "each tick of a schedule is decided once, as its policies say, and told",
}

// maxShown bounds how many violations of one invariant are kept.
const maxShown = 20

// violated notes that an invariant does not hold.
func (f *findings) violated(invariant int, format string, args ...any) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.by == nil {
		f.by = map[int]int{}
	}
	if f.by[invariant]++; f.by[invariant] <= maxShown {
		f.list = append(f.list, fmt.Sprintf("violated %d (%s): %s", invariant, invariants[invariant], fmt.Sprintf(format, args...)))
	}
}

// all returns the violations, and one line that says which invariants they are of.
func (f *findings) all() (list []string, summary string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	var numbers []int
	for i := range f.by {
		numbers = append(numbers, i)
	}
	slices.Sort(numbers)
	for _, i := range numbers {
		summary += fmt.Sprintf(" %d(%d×)", i, f.by[i])
	}
	return slices.Clone(f.list), summary
}

// journal is a file of JSON lines: what the suite did, for whoever looks for the
// cause of a violation.
type journal struct {
	mu sync.Mutex
	f  *os.File
}

func newJournal(room string) (*journal, error) {
	f, err := os.Create(filepath.Join(room, "history.jsonl"))
	return &journal{f: f}, err
}

// entry is a line of the journal.
type entry struct {
	At   float64 `json:"at"` // seconds
	What string  `json:"what"`
	Data any     `json:"data,omitempty"`
}

func (j *journal) write(what string, data any) {
	line, err := json.Marshal(entry{At: float64(since()/1e6) / 1e3, What: what, Data: data})
	if err != nil {
		panic(err)
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	_, _ = j.f.Write(append(line, '\n'))
}
