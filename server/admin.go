package server

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"time"

	"github.com/orrery-io/orrery/cluster"
	"github.com/orrery-io/orrery/httpapi"
	"github.com/orrery-io/orrery/internal/obs"
	"github.com/orrery-io/orrery/job"
)

// methodDrain asks a node to drain itself, or to stop doing so.
const methodDrain = "server.drain"

// admin is what operators do with the cluster, behind the API of this node.
type admin struct{ *Server }

var _ httpapi.Cluster = admin{}

// Members implements httpapi.Cluster.
func (a admin) Members(ctx context.Context) ([]cluster.Member, error) { return a.node.Members(ctx) }

// Join implements httpapi.Cluster: this node looks for a cluster at addr.
func (a admin) Join(ctx context.Context, addr string) error {
	if a.net == nil {
		return httpapi.ErrAlone
	}
	return a.net.gossip.Join(ctx, addr)
}

// Remove implements httpapi.Cluster.
func (a admin) Remove(ctx context.Context, id string, force bool) error {
	if a.net == nil {
		return httpapi.ErrAlone
	}
	return a.node.Remove(ctx, id, force)
}

// Transfer implements httpapi.Cluster.
func (a admin) Transfer(ctx context.Context, to string) (string, error) {
	if a.net == nil {
		return "", httpapi.ErrAlone
	}
	return a.node.Transfer(ctx, to)
}

// drainRequest is the body of methodDrain.
type drainRequest struct {
	On bool `json:"on"`
}

// Drain implements httpapi.Cluster.
func (a admin) Drain(ctx context.Context, id string, on bool) error {
	if a.net == nil {
		return httpapi.ErrAlone
	}
	if id == a.data.id.Node {
		return a.drain(ctx, on)
	}
	known := false
	for _, m := range a.node.Status().Servers {
		known = known || m.ID == id
	}
	if !known {
		return job.Errorf(job.NotFound, "node_not_found", "no server of this cluster is called %q", id).
			WithHint("GET /v1/cluster lists them")
	}
	body, err := json.Marshal(drainRequest{On: on})
	if err != nil {
		return err
	}
	_, err = a.net.mesh.Call(ctx, id, methodDrain, body)
	return err
}

// answerDrain is the other side of Drain.
func (s *Server) answerDrain(ctx context.Context, _ string, body []byte) ([]byte, error) {
	var q drainRequest
	if err := json.Unmarshal(body, &q); err != nil {
		return nil, job.Errorf(job.Invalid, "malformed_request", "the request to drain cannot be read: %s", err)
	}
	return nil, s.drain(ctx, q.On)
}

// drain gives the agents and the leadership of this node away, and takes no agents
// until it is called with false. It lasts until the process ends.
func (s *Server) drain(ctx context.Context, on bool) error {
	if s.draining.Swap(on) == on {
		return nil
	}
	s.hub.Drain(on)
	s.net.gossip.Update()
	s.log.InfoContext(ctx, "draining changed", obs.Node(s.data.id.Node), obs.Draining(on))
	if !on || !s.node.IsLeader() {
		return nil
	}
	if _, err := s.node.Transfer(ctx, ""); err != nil {
		return fmt.Errorf("the agents leave this node, but it still leads: %w", err)
	}
	return nil
}

// Verify implements httpapi.Cluster.
func (a admin) Verify(ctx context.Context) (cluster.Verification, error) { return a.node.Verify(ctx) }

// Snapshot implements httpapi.Cluster.
func (a admin) Snapshot(ctx context.Context) (uint64, error) { return a.node.Snapshot(ctx) }

// Backup implements httpapi.Cluster. The file has no name any more: it is gone when
// it is closed.
func (a admin) Backup(ctx context.Context) (*os.File, error) {
	path := a.data.sub(scratchName) + "/backup-" + time.Now().UTC().Format("20060102T150405.000000000") + ".db"
	if _, err := a.node.Backup(ctx, path); err != nil {
		return nil, err
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	if err := os.Remove(path); err != nil {
		_ = f.Close()
		return nil, err
	}
	return f, nil
}

// Restore implements httpapi.Cluster.
func (a admin) Restore(ctx context.Context, path string) error { return a.node.Restore(ctx, path) }
