package cluster

import (
	"context"
	"fmt"
	"time"
)

// Backup writes everything that was acknowledged before the call, on any node, to one
// file, fsynced, and returns its size. The copy is made of this node's database while
// work goes on. A file of that name is replaced once the backup is whole; after an
// error nothing is left behind. It needs a leader.
func (n *Node) Backup(ctx context.Context, path string) (size int64, err error) {
	if _, err := n.ReadIndex(ctx); err != nil {
		return 0, err
	}
	info, err := n.cfg.Machine.Backup(ctx, path, time.Now(), n.cfg.Version)
	if err != nil {
		return 0, fmt.Errorf("back up: %w", err)
	}
	return info.Size, nil
}
