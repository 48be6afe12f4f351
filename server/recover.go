package server

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"

	"github.com/hashicorp/raft"
	"github.com/orrery-io/orrery/cluster"
	"github.com/orrery-io/orrery/fsm"
	"github.com/orrery-io/orrery/job"
)

// RecoveryConfig names the node that shall go on alone.
type RecoveryConfig struct {
	// Data is its data folder. No node may run on it.
	Data string
	// Version is that of the program.
	Version string
	// Log gets what is done; nil means nowhere.
	Log *slog.Logger
}

// Recovery makes a cluster of one node's data, when the majority of the others is gone
// for good. It is opened first, to be able to say what is there; Run does it.
type Recovery struct {
	cfg     RecoveryConfig
	data    *dataDir
	machine *fsm.Machine

	// Node and Cluster are the ids in the folder.
	Node, Cluster string
	// Others are the other servers of the cluster, as far as this node knows.
	Others []cluster.Server
	// Last is when the newest command that this node has applied was recorded; there
	// may be newer ones in its log.
	Last job.Time
}

// OpenRecovery locks and reads the data folder, and changes nothing. The caller closes
// it. Its errors are sentences.
func OpenRecovery(ctx context.Context, cfg RecoveryConfig) (_ *Recovery, err error) {
	cfg.Version = cmp.Or(cfg.Version, "devel")
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	r := &Recovery{cfg: cfg}
	defer func() {
		if err != nil {
			_ = r.Close()
		}
	}()
	if err := isNode(cfg.Data); err != nil {
		return nil, err
	}
	if r.data, err = openDataDir(cfg.Data, cfg.Version); err != nil {
		return nil, err
	}
	if r.machine, err = fsm.Open(ctx, fsm.Config{Dir: r.data.sub("db"), Log: cfg.Log}); err != nil {
		return nil, err
	}
	r.Node, r.Cluster, r.Last = r.data.id.Node, cmp.Or(r.machine.ClusterID(), r.data.id.Cluster), r.machine.LastTime()
	if _, conf := r.machine.Configuration(); conf != nil {
		for _, s := range raft.DecodeConfiguration(conf).Servers {
			if string(s.ID) != r.Node {
				r.Others = append(r.Others, cluster.Server{ID: string(s.ID), Address: string(s.Address), Voter: s.Suffrage == raft.Voter})
			}
		}
	}
	return r, nil
}

// Run makes the node the only one of a new cluster that holds what this node has. When
// it was interrupted it can be done again.
func (r *Recovery) Run(ctx context.Context) (cluster.Recovery, error) {
	// Without an id the folder takes that of its database at the next start, so it
	// fits whatever comes of this.
	if err := r.data.leaveCluster(); err != nil {
		return cluster.Recovery{}, err
	}
	done, err := cluster.Recover(ctx, cluster.Config{
		ID: r.Node, Dir: r.data.sub("raft"), Machine: r.machine, Version: r.cfg.Version, Log: r.cfg.Log,
	})
	if err != nil {
		return done, err
	}
	// What the founders of the former cluster promised each other counts no more.
	if err := os.Remove(r.data.sub(foundingName)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return done, explainPath(r.data.sub(foundingName), err)
	}
	return done, r.data.setCluster(done.ClusterID, r.cfg.Version)
}

// Close releases the folder.
func (r *Recovery) Close() error {
	var err error
	if r.machine != nil {
		err = r.machine.Close()
		r.machine = nil
	}
	if r.data != nil {
		err = errors.Join(err, r.data.close())
		r.data = nil
	}
	return err
}

// isNode refuses a folder in which no node was before: a typing error must not make
// one.
func isNode(path string) error {
	if path == "" {
		return errors.New("no data folder was given; name that of the node with --data DIR")
	}
	_, err := os.Stat(filepath.Join(path, "node.json"))
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%s is not the data folder of a node: it has no node.json; name the right one with --data DIR", path)
	}
	return err
}

// leaveCluster forgets the cluster and who was in it.
func (d *dataDir) leaveCluster() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.id.Cluster, d.id.Peers = "", nil
	return d.save()
}
