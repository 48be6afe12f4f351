package cluster

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"

	"github.com/hashicorp/raft"
)

// found writes the first entry of a new cluster, if this node is the one who begins
// it. It waits until that is decided.
func (n *Node) found(ctx context.Context) error {
	founders, id := n.cfg.Founders, ""
	switch {
	case n.cfg.Transport == nil:
		founders = []raft.Server{{Suffrage: raft.Voter, ID: raft.ServerID(n.cfg.ID), Address: n.transport.LocalAddr()}}
	case len(founders) == 0 && n.cfg.Found != nil:
		var err error
		if founders, id, err = n.cfg.Found(ctx); err != nil {
			if ctx.Err() != nil {
				return context.Cause(ctx)
			}
			return fmt.Errorf("begin a cluster: %w", err)
		}
	}
	if len(founders) == 0 {
		return nil
	}
	if err := n.store.SetUint64(keyCurrentTerm, 1); err != nil {
		return err
	}
	// The id travels with the entry: another founder may win the first election.
	return n.store.StoreLog(&raft.Log{
		Index: 1, Term: 1, Type: raft.LogConfiguration, Extensions: []byte(id),
		Data: raft.EncodeConfiguration(raft.Configuration{Servers: founders}),
	})
}

// foundedAs returns the id of a cluster that has none yet: the one that came with its
// first entry, or a new one.
func (n *Node) foundedAs() (string, error) {
	var first raft.Log
	err := n.store.GetLog(1, &first)
	if err != nil && !errors.Is(err, raft.ErrLogNotFound) {
		return "", fmt.Errorf("read the first entry: %w", err)
	}
	if id := string(first.Extensions); id != "" {
		return id, nil
	}
	return newClusterID(), nil
}

// newClusterID returns a random name of 26 letters and digits.
func newClusterID() string { return rand.Text() }
