package cluster

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/hashicorp/raft"
	"github.com/orrery-io/orrery/internal/obs"
	"github.com/orrery-io/orrery/job"
	"github.com/tinylib/msgp/msgp"
)

// reads are the readers that wait for an index, one question for all of them.
type reads struct {
	asked chan *read
}

// read is one reader.
type read struct {
	index uint64
	err   error
	done  chan struct{} // closed when index or err is there
}

func newReads() *reads { return &reads{asked: make(chan *read)} }

// ReadIndex returns an index such that a reader who sees everything up to it sees
// everything that was acknowledged, on any node, before ReadIndex was called; here it
// is applied when ReadIndex returns. It works on every node: the leader makes sure
// that it still leads, and those who ask at the same time share one question. While
// there is no leader it waits for up to Config.LeaderWait.
func (n *Node) ReadIndex(ctx context.Context) (uint64, error) {
	index, err := n.readAnywhere(ctx)
	if err != nil {
		return 0, err
	}
	return index, n.cfg.Machine.WaitApplied(ctx, index)
}

// Methods of other nodes that reading uses.
const (
	methodRead    = "cluster.read"
	methodConfirm = "cluster.confirm"
)

func (n *Node) readHandlers() map[string]Handler {
	return map[string]Handler{methodRead: n.answerRead, methodConfirm: n.answerConfirm}
}

// questionLimit bounds one question to other nodes: it can be put again.
const questionLimit = time.Second

// readAnywhere returns an index as ReadIndex does, which need not be applied here.
func (n *Node) readAnywhere(ctx context.Context) (index uint64, err error) {
	if n.cfg.Peers == nil {
		if n.term.Load() == 0 {
			return 0, n.refusal()
		}
		return n.join(ctx)
	}
	if !n.enter() {
		return 0, job.ErrClosed
	}
	defer n.guests.Done()
	err = n.withLeader(ctx, n.cfg.LeaderWait, func(string) (err error) {
		index, err = n.join(ctx)
		return err
	})
	return index, err
}

// join takes part in the next question.
func (n *Node) join(ctx context.Context) (uint64, error) {
	r := &read{done: make(chan struct{})}
	select {
	case n.reads.asked <- r:
	case <-ctx.Done():
		return 0, context.Cause(ctx)
	case <-n.over:
		return 0, job.ErrClosed
	}
	select {
	case <-r.done:
		return r.index, r.err
	case <-ctx.Done():
		return 0, context.Cause(ctx)
	}
}

// answerReads puts one question at a time, for all who have joined by then.
func (n *Node) answerReads(ctx context.Context, r *raft.Raft) {
	var waiting []*read
	for {
		select {
		case <-ctx.Done():
			return
		case one := <-n.reads.asked:
			waiting = append(waiting[:0], one)
		}
		for more := true; more; {
			select {
			case one := <-n.reads.asked:
				waiting = append(waiting, one)
			default:
				more = false
			}
		}
		index, err := n.question(ctx, r)
		if err != nil && ctx.Err() != nil {
			err = job.ErrClosed
		}
		for _, one := range waiting {
			one.index, one.err = index, err
			close(one.done)
		}
		clear(waiting)
	}
}

// question finds an index for readers who are waiting already: here when this node
// leads, else from the leader. Nothing is lost when it goes wrong: every error that
// another attempt may not meet is job.ErrNotLeader.
func (n *Node) question(ctx context.Context, r *raft.Raft) (uint64, error) {
	if term := n.term.Load(); term != 0 {
		// Acknowledged means applied by the leader of the time: by this node in its
		// term, or before the barrier with which the term began.
		index := n.adapter.lastCommand.Load()
		if mutant == "read" {
			return index, nil
		}
		if err := n.confirm(ctx, r, term); err != nil {
			return 0, err
		}
		return index, nil
	}
	leader := n.Leader()
	if leader == "" || leader == n.cfg.ID || n.cfg.Peers == nil {
		return 0, n.refusal()
	}
	ctx, cancel := context.WithTimeout(ctx, questionLimit)
	defer cancel()
	answer, err := n.cfg.Peers.Call(ctx, leader, methodRead, msgp.AppendUint64(nil, r.CurrentTerm()))
	if err != nil {
		n.log.DebugContext(ctx, "the leader gives no read index", obs.Node(leader), obs.Err(err))
		return 0, job.ErrNotLeader
	}
	index, _, err := msgp.ReadUint64Bytes(answer)
	if err != nil {
		return 0, fmt.Errorf("read index of node %s: %w", leader, err)
	}
	return index, nil
}

// confirm makes sure that no other node has led since it was called: a majority of the
// voters says, after that, that it knows no later term. Raft's own VerifyLeader asks
// for less: it counts nodes without a vote, and answers to what was sent before.
func (n *Node) confirm(ctx context.Context, r *raft.Raft, term uint64) error {
	if n.cfg.Peers == nil {
		if err := r.VerifyLeader().Error(); err != nil || n.term.Load() != term {
			return n.refusal()
		}
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, questionLimit)
	var asking sync.WaitGroup
	defer asking.Wait()
	defer cancel()
	others, need := n.voters(r)
	answers := make(chan bool, len(others))
	for _, id := range others {
		asking.Go(func() { answers <- n.knowsNoLater(ctx, id, term) })
	}
	for range others {
		if need <= 0 {
			break
		}
		if <-answers {
			need--
		}
	}
	if need > 0 || n.term.Load() != term || r.CurrentTerm() != term {
		return n.refusal()
	}
	return nil
}

// voters returns the other voters, and how many of them make a majority with this node.
func (n *Node) voters(r *raft.Raft) (others []string, need int) {
	all, mine := 0, 0
	for _, s := range r.GetConfiguration().Configuration().Servers {
		switch {
		case s.Suffrage != raft.Voter:
		case s.ID == raft.ServerID(n.cfg.ID):
			all, mine = all+1, 1
		default:
			all++
			others = append(others, string(s.ID))
		}
	}
	return others, all/2 + 1 - mine
}

func (n *Node) knowsNoLater(ctx context.Context, id string, term uint64) bool {
	theirs, _, err := n.askTerm(ctx, id)
	return err == nil && theirs <= term
}

// askTerm asks another node for its term, in a later one of which it has not voted,
// and the last entry of its log.
func (n *Node) askTerm(ctx context.Context, id string) (term, last uint64, err error) {
	answer, err := n.cfg.Peers.Call(ctx, id, methodConfirm, nil)
	if err != nil {
		return 0, 0, err
	}
	if term, answer, err = msgp.ReadUint64Bytes(answer); err != nil {
		return 0, 0, err
	}
	last, _, err = msgp.ReadUint64Bytes(answer)
	return term, last, err
}

func (n *Node) answerConfirm(context.Context, string, []byte) ([]byte, error) {
	r := n.raft.Load()
	if r == nil || n.isClosed() {
		return nil, n.refusal()
	}
	b := msgp.AppendUint64(nil, r.CurrentTerm())
	return msgp.AppendUint64(b, r.LastIndex()), nil
}

// answerRead gives another node an index for its readers. With that node, which knew no
// later term after they had begun to wait, three voters have their majority.
func (n *Node) answerRead(ctx context.Context, from string, body []byte) ([]byte, error) {
	theirs, _, err := msgp.ReadUint64Bytes(body)
	if err != nil {
		return nil, job.Errorf(job.Invalid, "malformed_read", "the request for a read index can't be read")
	}
	if err := n.awaitTerm(ctx); err != nil {
		return nil, err
	}
	r, term := n.raft.Load(), n.term.Load()
	if others, need := n.voters(r); need <= 1 && slices.Contains(others, from) && theirs <= term {
		index := n.adapter.lastCommand.Load()
		if r.CurrentTerm() != term || n.term.Load() != term {
			return nil, n.refusal()
		}
		return msgp.AppendUint64(nil, index), nil
	}
	index, err := n.join(ctx)
	if err != nil {
		return nil, err
	}
	return msgp.AppendUint64(nil, index), nil
}
