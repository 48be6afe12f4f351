package fsm

import "github.com/orrery-io/orrery/command"

// maxRequests is how many request ids are remembered. It is counted, not timed,
// so that every node forgets the same ones. It may not differ between nodes.
const maxRequests = 65_536

// requestLog remembers the answers to the newest request ids, so that a proposal
// that comes again gets the first answer instead of happening twice. Only apply
// uses it.
type requestLog struct {
	limit uint64
	ring  []requestRow      // the answer number n is at n % limit
	byID  map[string]uint64 // to its number
	first uint64            // number of the oldest answer
	next  uint64

	rows    []requestCount // of SQLite, oldest first
	drop    uint64         // rows up to this index hold nothing that counts
	dropped uint64         // the same, as SQLite knows it
	pending []requestBatch // not taken by a flush yet
}

// requestCount says how many answers of an entry's row still count.
type requestCount struct {
	index uint64
	left  int
}

// requestBatch are the answers of one entry.
type requestBatch struct {
	index uint64
	rows  requestRows
}

func newRequestLog(limit int) *requestLog {
	return &requestLog{limit: uint64(limit), byID: make(map[string]uint64)} //nolint:gosec // positive
}

// find returns the first answer to a request id.
func (l *requestLog) find(id string) (command.Result, bool) {
	n, ok := l.byID[id]
	if !ok {
		return command.Result{}, false
	}
	return l.ring[n%l.limit].Result, true
}

// add remembers an answer of entry index, and stores it with the next flush.
func (l *requestLog) add(index uint64, id string, r command.Result) {
	row := requestRow{ID: id, Result: r}
	l.remember(index, row)
	if n := len(l.pending); n == 0 || l.pending[n-1].index != index {
		l.pending = append(l.pending, requestBatch{index: index})
	}
	last := &l.pending[len(l.pending)-1]
	last.rows = append(last.rows, row)
}

// remember puts an answer into memory, and forgets the oldest when it is full.
func (l *requestLog) remember(index uint64, row requestRow) {
	if l.next-l.first == l.limit {
		l.forget()
	}
	if uint64(len(l.ring)) < l.limit {
		l.ring = append(l.ring, row)
	} else {
		l.ring[l.next%l.limit] = row
	}
	l.byID[row.ID] = l.next
	l.next++
	if n := len(l.rows); n == 0 || l.rows[n-1].index != index {
		l.rows = append(l.rows, requestCount{index: index})
	}
	l.rows[len(l.rows)-1].left++
}

func (l *requestLog) forget() {
	old := l.ring[l.first%l.limit]
	if l.byID[old.ID] == l.first {
		delete(l.byID, old.ID)
	}
	l.first++
	if l.rows[0].left--; l.rows[0].left == 0 {
		l.drop = l.rows[0].index
		l.rows = l.rows[1:]
	}
}

// each calls f for every answer, oldest first.
func (l *requestLog) each(f func(*requestRow)) {
	for n := l.first; n < l.next; n++ {
		f(&l.ring[n%l.limit])
	}
}
