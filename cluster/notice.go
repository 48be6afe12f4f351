package cluster

import (
	"context"
	"runtime"
	"sync"
	"time"

	"github.com/hashicorp/raft"
	"github.com/orrery-io/orrery/job"
	"github.com/tinylib/msgp/msgp"
)

// Raft tells the followers what is committed with the next entry, or 50 to 100 ms later
// when there is none. That long would every write on a follower take while little is
// going on, and every linearizable read after a write. So a leader that has committed
// the end of its log says so at once: it sends what an AppendEntries without entries
// would say, and the follower hands that to its raft. Raft's messages may come twice,
// late and in any order, and this is one of them: the leader of that term has that
// entry, and knows that it is committed.

const methodCommit = "cluster.commit"

// noticeLimit bounds one notice: raft's own comes anyway.
const noticeLimit = time.Second

// notices tells the other servers what is committed, on the leader, and keeps what was
// told on a follower until the entry is there.
type notices struct {
	wake chan struct{} // capacity 1: an entry was committed

	mu      sync.Mutex
	busy    map[string]bool // servers to which a notice is on its way
	pending notice          // of an entry that is not in the log yet
}

// notice says that the entry at index, of that term, is committed.
type notice struct{ term, index uint64 }

func newNotices() *notices {
	return &notices{wake: make(chan struct{}, 1), busy: map[string]bool{}}
}

func (n *Node) noticeHandlers() map[string]Handler {
	return map[string]Handler{methodCommit: n.answerCommit}
}

// committed takes note that an entry of this leader was committed.
func (s *notices) committed() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// notify sends notices until ctx ends.
func (n *Node) notify(ctx context.Context, r *raft.Raft) {
	var sending sync.WaitGroup
	defer sending.Wait()
	for {
		select {
		case <-ctx.Done():
			return
		case <-n.notices.wake:
		}
		for range 4 { // callers that have just got their answer may have the next entry
			runtime.Gosched()
		}
		now, ok := n.tip(r)
		if !ok {
			continue
		}
		for _, s := range servers(r) {
			if s.ID != n.cfg.ID && n.notices.begin(s.ID) {
				sending.Go(func() { n.sendNotices(ctx, r, s.ID, now) })
			}
		}
	}
}

// tip returns the end of the log when this node leads and it is committed. While there
// is more, raft sends what is committed with it.
func (n *Node) tip(r *raft.Raft) (notice, bool) {
	now := notice{term: n.term.Load(), index: r.CommitIndex()}
	return now, now.term != 0 && r.LastIndex() == now.index && r.CurrentTerm() == now.term && n.term.Load() == now.term
}

func (s *notices) begin(id string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.busy[id] {
		return false
	}
	s.busy[id] = true
	return true
}

// sendNotices tells one server, again when there was news meanwhile.
func (n *Node) sendNotices(ctx context.Context, r *raft.Raft, id string, now notice) {
	for {
		limited, cancel := context.WithTimeout(ctx, noticeLimit)
		_, err := n.cfg.Peers.Call(limited, id, methodCommit, msgp.AppendUint64(msgp.AppendUint64(nil, now.term), now.index))
		cancel()
		n.notices.mu.Lock()
		next, ok := n.tip(r)
		if err != nil || !ok || next == now {
			delete(n.notices.busy, id)
			n.notices.mu.Unlock()
			return
		}
		n.notices.mu.Unlock()
		now = next
	}
}

// answerCommit takes a notice from the leader.
func (n *Node) answerCommit(_ context.Context, from string, body []byte) ([]byte, error) {
	var told notice
	var err error
	if told.term, body, err = msgp.ReadUint64Bytes(body); err == nil {
		told.index, _, err = msgp.ReadUint64Bytes(body)
	}
	r := n.raft.Load()
	switch {
	case err != nil:
		return nil, job.Errorf(job.Invalid, "malformed_notice", "the notice of what is committed can't be read")
	case r == nil, r.CurrentTerm() != told.term, r.CommitIndex() >= told.index:
		return nil, nil
	}
	addr, id := r.LeaderWithID()
	if string(id) != from || addr == "" {
		return nil, nil
	}
	n.notices.mu.Lock()
	n.notices.pending = told
	n.notices.mu.Unlock()
	n.noticed(r.LastIndex())
	return nil, nil
}

// noticed hands what is pending to raft when the log reaches so far. Raft's own
// goroutine calls it too.
func (n *Node) noticed(last uint64) {
	n.notices.mu.Lock()
	told := n.notices.pending
	if told.index == 0 || told.index > last {
		n.notices.mu.Unlock()
		return
	}
	n.notices.pending = notice{}
	n.notices.mu.Unlock()
	addr, id := n.raft.Load().LeaderWithID()
	if addr == "" || string(id) == n.cfg.ID || n.guard == nil {
		return
	}
	n.guard.inject(&raft.AppendEntriesRequest{
		RPCHeader:    raft.RPCHeader{ProtocolVersion: raft.ProtocolVersionMax, ID: []byte(id), Addr: []byte(addr)},
		Term:         told.term,
		PrevLogEntry: told.index, PrevLogTerm: told.term, LeaderCommitIndex: told.index,
	})
}
