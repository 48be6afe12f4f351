package cluster

import (
	"context"
	"encoding/hex"
	"slices"
	"sync"
	"time"

	"github.com/hashicorp/raft"
	"github.com/orrery-io/orrery/command"
	"github.com/orrery-io/orrery/internal/obs"
)

// methodHash asks a node for the hash of its rows at an entry.
const methodHash = "cluster.hash"

// verifyLimit is how long a verification waits for a node that is behind.
const verifyLimit = time.Minute

type hashAsked struct {
	Index uint64 `json:"index"`
}

type hashAnswer struct {
	Hash string `json:"hash"`
}

func (n *Node) hashHandlers() map[string]Handler {
	return map[string]Handler{methodHash: answer(func(ctx context.Context, _ string, q hashAsked) (hashAnswer, error) {
		ctx, cancel := context.WithTimeout(ctx, verifyLimit)
		defer cancel()
		h, err := n.hash(ctx, q.Index)
		return hashAnswer{h}, err
	})}
}

func (n *Node) hash(ctx context.Context, index uint64) (string, error) {
	sum, err := n.cfg.Machine.Hash(ctx, index)
	return hex.EncodeToString(sum), err
}

// Verify compares the rows of all servers at the same entry, on any node. Every server
// reads all of its rows for that, about two seconds for a million jobs, while it goes
// on working. A server that can't be reached, or doesn't come to that entry within a
// minute, is missing in the answer. Unequal rows are also logged and counted.
func (n *Node) Verify(ctx context.Context) (Verification, error) {
	results, err := n.Propose(ctx, command.Item{Command: &command.Verify{}})
	if err == nil {
		err = results[0].Error()
	}
	if err != nil {
		return Verification{}, err
	}
	v := Verification{Index: results[0].Index, Equal: true, Hashes: map[string]string{}}
	ctx, cancel := context.WithTimeout(ctx, verifyLimit)
	defer cancel()
	// A node that has just begun doesn't know yet who is part of the cluster.
	if err := n.cfg.Machine.WaitApplied(ctx, v.Index); err != nil {
		return Verification{}, err
	}
	servers := n.configured()
	if len(servers) == 0 {
		servers = []raft.Server{{ID: raft.ServerID(n.cfg.ID)}}
	}
	var wg sync.WaitGroup
	var mu sync.Mutex
	for _, s := range servers {
		id := string(s.ID)
		wg.Go(func() {
			var h string
			var err error
			if id == n.cfg.ID {
				h, err = n.hash(ctx, v.Index)
			} else {
				var a hashAnswer
				a, err = request[hashAnswer](ctx, n.cfg.Peers, id, methodHash, hashAsked{v.Index})
				h = a.Hash
			}
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				n.log.WarnContext(ctx, "a node could not be verified", obs.Node(id), obs.Index(v.Index), obs.Err(err))
				v.Missing = append(v.Missing, id)
				return
			}
			v.Hashes[id] = h
		})
	}
	wg.Wait()
	slices.Sort(v.Missing)
	n.judge(ctx, &v)
	return v, nil
}

// judge compares the hashes of a verification.
func (n *Node) judge(ctx context.Context, v *Verification) {
	counts := map[string]int{}
	for _, h := range v.Hashes {
		counts[h]++
	}
	v.Equal = len(counts) == 1
	n.metrics.verifications.Inc()
	if len(counts) < 2 {
		n.metrics.unequal.Set(0)
		return
	}
	most := 0
	for _, c := range counts {
		most = max(most, c)
	}
	n.metrics.unequal.Set(float64(len(v.Hashes) - most))
	for id, h := range v.Hashes {
		n.log.ErrorContext(ctx, "the nodes have different rows at the same entry of the log; back up, find out which is right, and let the others join again with an empty folder",
			obs.Node(id), obs.Index(v.Index), obs.Reason(h))
	}
}

// configured are the servers of the cluster as of what is applied here.
func (n *Node) configured() []raft.Server {
	_, conf := n.cfg.Machine.Configuration()
	if conf == nil {
		return nil
	}
	return raft.DecodeConfiguration(conf).Servers
}
