package server

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/orrery-io/orrery/internal/obs"
	"github.com/orrery-io/orrery/job"
)

// otherNodes are the ids of the other servers.
func (s *Server) otherNodes() []string {
	var ids []string
	for _, m := range s.node.Status().Servers {
		if m.ID != s.data.id.Node {
			ids = append(ids, m.ID)
		}
	}
	return ids
}

// urls are the addresses of the API on all nodes that take agents. This node's own
// comes first.
func (s *Server) urls() []string {
	var own, others []string
	if !s.draining.Load() {
		own = append(own, s.url)
	}
	if s.net != nil {
		for _, p := range s.net.gossip.Peers() {
			if p.Alive && p.HTTP != "" && !p.Draining && !p.Fresh {
				others = append(others, p.HTTP)
			}
		}
	}
	slices.Sort(others)
	return append(own, others...)
}

// lookAtPeers is how often the servers are looked at, beside each change that gossip
// tells of.
const lookAtPeers = 2 * time.Second

// keepPeers holds links to all other servers, remembers where they are for the next
// start, and tells agents when the nodes have changed.
func (s *Server) keepPeers(ctx context.Context) error {
	changed := make(chan struct{}, 1)
	s.net.gossip.OnChange(func() {
		select {
		case changed <- struct{}{}:
		default:
		}
	})
	tick := time.NewTicker(lookAtPeers)
	defer tick.Stop()
	var linked, told []string
	for {
		nodes := s.otherNodes()
		for _, id := range nodes {
			if !slices.Contains(linked, id) {
				s.net.mesh.Connect(id)
			}
		}
		for _, id := range linked {
			if !slices.Contains(nodes, id) {
				s.net.mesh.Disconnect(id)
			}
		}
		linked = nodes
		if urls := s.urls(); !slices.Equal(urls, told) {
			told = urls
			s.hub.NodesChanged()
		}
		if err := s.rememberPeers(nodes); err != nil {
			return err
		}
		s.net.gossip.Update()
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		case <-changed:
		}
	}
}

// rememberPeers writes down the cluster and where its servers are.
func (s *Server) rememberPeers(nodes []string) error {
	if len(nodes) > 0 {
		var addrs []string
		for _, id := range nodes {
			if a := s.addressOf(id); a != "" {
				addrs = append(addrs, a)
			}
		}
		if err := s.data.setPeers(addrs); err != nil {
			return err
		}
	}
	return s.data.setCluster(s.machine.ClusterID(), s.cfg.Version)
}

// awaitReady closes ready once this node has a leader and has caught up with it.
func (s *Server) awaitReady(ctx context.Context) error {
	const pause = 100 * time.Millisecond
	for {
		_, err := s.node.ReadIndex(ctx)
		switch {
		case err == nil:
			s.onReady.Do(func() { close(s.ready) })
			<-ctx.Done()
			return nil
		case ctx.Err() != nil:
			return nil //nolint:nilerr // it was cancelled
		case !errors.Is(err, job.ErrNotLeader):
			s.log.DebugContext(ctx, "not ready yet", obs.Err(err))
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(pause):
		}
	}
}
