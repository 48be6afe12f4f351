package server

import (
	"context"
	"encoding/json"
	"sync"
	"time"

	"github.com/orrery-io/orrery/internal/obs"
	"github.com/orrery-io/orrery/job"
	"github.com/orrery-io/orrery/scheduler"
)

// caller asks other nodes; *link.Mesh does.
type caller interface {
	Call(ctx context.Context, node, method string, body []byte) ([]byte, error)
}

// How long the agents' load that the leader told counts as new, and how long to wait
// for it. A list of agents asks for each of them.
const (
	loadFresh = 250 * time.Millisecond
	loadWait  = 2 * time.Second
)

// loads is what the leader told of the agents' load.
type loads struct {
	mu    sync.Mutex
	asked time.Time
	from  string
	all   map[string]scheduler.AgentLoad
}

// AgentLoad implements httpapi.Scheduler on every node: the leader knows, the others
// ask it. false means that nobody knows.
func (r *relay) AgentLoad(id string) (scheduler.AgentLoad, bool) {
	leader := r.leads.Load().leader
	if leader == r.node || leader == "" || r.mesh == nil {
		return r.sched.AgentLoad(id)
	}
	r.loads.mu.Lock()
	defer r.loads.mu.Unlock()
	if r.loads.from != leader || time.Since(r.loads.asked) > loadFresh {
		r.loads.all, r.loads.from = r.askLoads(leader), leader
		r.loads.asked = time.Now()
	}
	load, ok := r.loads.all[id]
	return load, ok
}

// askLoads asks the leader; nil when it does not answer.
func (r *relay) askLoads(leader string) map[string]scheduler.AgentLoad {
	ctx, cancel := context.WithTimeout(context.Background(), loadWait)
	defer cancel()
	b, err := r.mesh.Call(ctx, leader, methodLoad, nil)
	var all map[string]scheduler.AgentLoad
	if err == nil {
		err = json.Unmarshal(b, &all)
	}
	if err != nil {
		r.log.DebugContext(ctx, "load of agents not known", obs.Node(leader), obs.Err(err))
		return nil
	}
	return all
}

// serveLoad tells another node.
func (r *relay) serveLoad(context.Context, string, []byte) ([]byte, error) {
	all, ok := r.sched.AgentLoads()
	if !ok {
		return nil, job.ErrNotLeader
	}
	return json.Marshal(all)
}
