package httpapi

import (
	"context"
	"net"
	"net/http"
	"os"
	"strconv"
	"time"

	"github.com/orrery-io/orrery/cluster"
	"github.com/orrery-io/orrery/job"
)

// Cluster is what the API needs of the nodes together. Its errors that clients may
// see are *job.Error. A node alone has one too: for it there are backups, snapshots
// and verification, and ErrAlone for the rest.
type Cluster interface {
	// Members are the servers as the leader sees them.
	Members(ctx context.Context) ([]cluster.Member, error)
	// Join tells this node of another one, by the address of its cluster port.
	Join(ctx context.Context, addr string) error
	// Remove takes a server out of the cluster; with force also when too few of the
	// others answer for a majority.
	Remove(ctx context.Context, id string, force bool) error
	// Transfer makes another server the leader, any when to is "", and returns which.
	Transfer(ctx context.Context, to string) (leader string, err error)
	// Drain makes a node give its agents away and take no new ones, until it is
	// called with on false.
	Drain(ctx context.Context, id string, on bool) error
	// Verify compares the rows of all servers.
	Verify(ctx context.Context) (cluster.Verification, error)
	// Snapshot sets a marker on this node and returns its index.
	Snapshot(ctx context.Context) (index uint64, err error)
	// Backup returns a copy of the database, positioned at its beginning. It is gone
	// once it is closed.
	Backup(ctx context.Context) (file *os.File, err error)
	// Restore checks the file, and replaces the state of the whole cluster with it.
	Restore(ctx context.Context, path string) error
}

// ErrAlone is the answer of a node without others to what needs others.
var ErrAlone = &job.Error{
	Kind: job.Conflict, Code: "node_alone",
	Message: "this node is alone: it was started without --cluster",
	Hint:    "start it with --cluster HOST:PORT and --cluster-key-file FILE to let other nodes join",
}

// The limits on how long a request to the cluster may take.
const (
	membersTime  = 5 * time.Second // more than a leader is given to answer
	changeTime   = 30 * time.Second
	snapshotTime = 2 * time.Minute
	verifyTime   = 10 * time.Minute
)

// ClusterInfo is how the cluster looks from this node.
type ClusterInfo struct {
	ClusterID string `json:"cluster_id" doc:"Stays the same for the life of the cluster; empty until it has begun."`
	Version   string `json:"version" doc:"Of the program on this node."`
	Node      string `json:"node" doc:"The id of this node."`
	Leader    string `json:"leader" doc:"The id of the node that decides; empty while there is none."`
	State     string `json:"state" doc:"starting, follower, candidate, leader or stopped."`
	Term      uint64 `json:"term" doc:"Counts leaderships."`
	Commit    uint64 `json:"commit" doc:"Up to where the log is known to be decided."`
	Applied   uint64 `json:"applied" doc:"Up to where this node has applied it."`
	Synced    uint64 `json:"synced" doc:"Up to where it is in this node's database, on disk."`
	Snapshot  uint64 `json:"snapshot" doc:"The index of the newest snapshot marker."`
	LogFirst  uint64 `json:"log_first" doc:"The oldest entry of the log that is kept."`
	LogLast   uint64 `json:"log_last" doc:"The newest entry of the log."`
	// LastContact is zero on the leader.
	LastContact time.Time           `json:"last_contact,omitzero" doc:"When the leader was last heard of."`
	Installing  *cluster.Installing `json:"installing,omitempty" doc:"How much of a copy of the database this node has received; absent while it receives none."`
	Refetching  bool                `json:"refetching,omitempty" doc:"This node has lost its database, and waits for a leader that sends it a copy."`
	Waiting     string              `json:"waiting,omitempty" doc:"What this node waits for while it belongs to no cluster."`
	Servers     []cluster.Server    `json:"servers" doc:"The members of the cluster, as this node knows them."`
	Members     []cluster.Member    `json:"members,omitempty" doc:"The members of the cluster as the leader sees them, or as this node knows them while there is no leader; absent when neither can be told."`
	// MembersError is set when Members are not.
	MembersError string `json:"members_error,omitempty" doc:"Why members is absent."`
}

func clusterInfo(version string, st cluster.Status) *ClusterInfo {
	return &ClusterInfo{
		ClusterID: st.ClusterID, Version: version, Node: st.ID, Leader: st.Leader, State: st.State, Term: st.Term,
		Commit: st.Commit, Applied: st.Applied, Synced: st.Synced, Snapshot: st.Snapshot,
		LogFirst: st.LogFirst, LogLast: st.LogLast, LastContact: st.LastContact, Installing: st.Installing,
		Refetching: st.Refetching,
		Servers:    append([]cluster.Server{}, st.Servers...),
	}
}

// JoinRequest is the body of POST /v1/cluster/join.
type JoinRequest struct {
	Address string `json:"address" doc:"The cluster port of another node." example:"10.0.0.2:7701"`
}

// RemoveRequest is the body of POST /v1/cluster/remove.
type RemoveRequest struct {
	ID    string `json:"id" doc:"The id of the server." example:"n-k3xq7w2abc"`
	Force bool   `json:"force,omitempty" doc:"Remove it although too few of the others answer for a majority; it takes effect when they do."`
}

// TransferRequest is the body of POST /v1/cluster/transfer.
type TransferRequest struct {
	To string `json:"to,omitempty" doc:"The id of the server that shall lead; without it, the one that is nearest to the leader's state." example:"n-k3xq7w2abc"`
}

// TransferAnswer says who leads now.
type TransferAnswer struct {
	Leader string `json:"leader" doc:"The id of the server that leads now."`
}

// DrainRequest is the body of POST /v1/cluster/drain.
type DrainRequest struct {
	ID string `json:"id" doc:"The id of the node." example:"n-k3xq7w2abc"`
	On *bool  `json:"on,omitempty" doc:"false ends the draining; true when it is absent."`
}

// SnapshotAnswer says where the marker is.
type SnapshotAnswer struct {
	Index uint64 `json:"index" doc:"The log up to this index is in the database, on disk."`
}

func (a *API) clusterRoutes() []route {
	info := func(doc string) []answer {
		return []answer{{status: http.StatusOK, doc: doc, body: typeOf[ClusterInfo]()}}
	}
	return append([]route{
		{
			method: http.MethodGet, path: "/v1/cluster", id: "getCluster", tag: "cluster",
			summary: "Get how the cluster looks from this node",
			doc:     "It answers without a leader too.",
			answers: info("This node and the members of the cluster."),
			curl:    `$ORRERY/v1/cluster`,
			handle: func(w *response, r *http.Request, _ *query) error {
				if _, err := accept(r, typeJSON); err != nil {
					return err
				}
				return a.replyCluster(w, r)
			},
		},
		{
			method: http.MethodPost, path: "/v1/cluster/join", id: "joinCluster", tag: "cluster",
			summary: "Tell this node of another one",
			doc:     "The two find each other and all that either knows. One that has never been in a cluster joins that of the other: it gets a copy of the database first and its vote when it has caught up. Clusters are never merged.",
			body:    typeOf[JoinRequest](),
			answers: info("The other node has answered."), refusals: []int{http.StatusConflict, http.StatusServiceUnavailable},
			curl:   `$ORRERY/v1/cluster/join --json '{"address":"10.0.0.2:7701"}'`,
			handle: a.joinCluster,
		},
		{
			method: http.MethodPost, path: "/v1/cluster/remove", id: "removeMember", tag: "cluster",
			summary: "Take a server out of the cluster",
			doc:     "It stops for good, and can come back only with an empty data folder. Jobs that its agents run go on elsewhere.",
			body:    typeOf[RemoveRequest](),
			answers: info("The server is no member any more."), refusals: []int{http.StatusNotFound, http.StatusConflict, http.StatusServiceUnavailable},
			curl:   `$ORRERY/v1/cluster/remove --json '{"id":"n-k3xq7w2abc"}'`,
			handle: a.removeMember,
		},
		{
			method: http.MethodPost, path: "/v1/cluster/transfer", id: "transferLeadership", tag: "cluster",
			summary: "Make another server the leader",
			body:    typeOf[TransferRequest](), optional: true,
			answers:  []answer{{status: http.StatusOK, doc: "Another server leads.", body: typeOf[TransferAnswer]()}},
			refusals: []int{http.StatusNotFound, http.StatusConflict, http.StatusServiceUnavailable},
			curl:     `-X POST $ORRERY/v1/cluster/transfer`,
			handle:   a.transferLeadership,
		},
		{
			method: http.MethodPost, path: "/v1/cluster/drain", id: "drainNode", tag: "cluster",
			summary: "Let a node give its agents away",
			doc:     "Its agents connect to other nodes and keep what they run; it takes no new ones and is not ready (/readyz) until the draining ends. It stays a member and keeps its vote.",
			body:    typeOf[DrainRequest](),
			answers: info("The node is told."), refusals: []int{http.StatusNotFound, http.StatusConflict, http.StatusServiceUnavailable},
			curl:   `$ORRERY/v1/cluster/drain --json '{"id":"n-k3xq7w2abc","on":true}'`,
			handle: a.drainNode,
		},
		{
			method: http.MethodPost, path: "/v1/cluster/verify", id: "verifyCluster", tag: "cluster",
			summary: "Compare the rows of all servers",
			doc:     "Every server hashes all its rows at the same place of the log. It takes a while in a large database, and goes on beside the work.",
			answers: []answer{{status: http.StatusOK, doc: "What the comparison gave. Look at equal.", body: typeOf[cluster.Verification]()}}, refusals: []int{http.StatusServiceUnavailable},
			curl:   `-X POST $ORRERY/v1/cluster/verify`,
			handle: a.verifyCluster,
		},
		{
			method: http.MethodPost, path: "/v1/cluster/snapshot", id: "takeSnapshot", tag: "cluster",
			summary: "Sync the database of this node and cut its log",
			doc:     "A node does this by itself; before it is stopped for long, it makes its log short.",
			answers: []answer{{status: http.StatusOK, doc: "The marker is set.", body: typeOf[SnapshotAnswer]()}},
			curl:    `-X POST $ORRERY/v1/cluster/snapshot`,
			handle:  a.takeSnapshot,
		},
	}, a.backupRoutes()...)
}

// nodes is the cluster to be asked.
func (a *API) nodes() (Cluster, error) {
	if a.cluster == nil {
		return nil, ErrAlone
	}
	return a.cluster, nil
}

// replyCluster answers with how the cluster looks from here now.
func (a *API) replyCluster(w *response, r *http.Request) error {
	var members []cluster.Member
	var err error
	if a.cluster != nil {
		ctx, cancel := context.WithTimeout(r.Context(), membersTime)
		defer cancel()
		members, err = a.cluster.Members(ctx)
	}
	// This node is looked at last: that the leader is gone is noticed meanwhile.
	info := clusterInfo(a.version, a.node.Status())
	if err != nil {
		info.MembersError = a.problem(r.Context(), err).Detail
	} else {
		info.Members = members
	}
	if info.ClusterID == "" && !info.Refetching {
		info.Waiting = a.waiting()
	}
	w.index(info.Applied)
	return a.reply(w, http.StatusOK, info)
}

// nothingIn refuses a body that has anything in it.
func (a *API) nothingIn(w *response, r *http.Request) error {
	return a.object(w, r, maxSmall, true, nil, func(*decoder, path, string, []byte) {})
}

func (a *API) joinCluster(w *response, r *http.Request, _ *query) error {
	c, err := a.nodes()
	if err != nil {
		return err
	}
	addr := ""
	err = a.object(w, r, maxSmall, false, []string{"address"}, func(d *decoder, p path, _ string, value []byte) {
		addr = d.text(p, value)
	})
	if err != nil {
		return err
	}
	if host, port, err := net.SplitHostPort(addr); err != nil || host == "" || port == "" {
		return invalidFields("invalid_value", []job.FieldError{{Pointer: "/address", Detail: "must be the address of a node's cluster port, such as 10.0.0.2:7701"}})
	}
	ctx, cancel := context.WithTimeout(r.Context(), changeTime)
	defer cancel()
	if err := c.Join(ctx, addr); err != nil {
		return err
	}
	return a.replyCluster(w, r)
}

// nodeID reads the id of a node.
func (d *decoder) nodeID(p path, raw []byte) string {
	id := d.text(p, raw)
	if detail := job.CheckName(id); detail != "" && raw[0] == '"' {
		d.fail("invalid_value", p, "is not the id of a node: it %s", detail)
	}
	return id
}

// errNoNodeID is the refusal of a body that doesn't say which node is meant.
func errNoNodeID() error {
	return invalidFields("missing_field", []job.FieldError{{Pointer: "/id", Detail: "is missing: the id of a node, as in GET /v1/cluster"}})
}

func (a *API) removeMember(w *response, r *http.Request, _ *query) error {
	c, err := a.nodes()
	if err != nil {
		return err
	}
	var req RemoveRequest
	err = a.object(w, r, maxSmall, false, []string{"id", "force"}, func(d *decoder, p path, name string, value []byte) {
		switch name {
		case "id":
			req.ID = d.nodeID(p, value)
		case "force":
			req.Force = d.boolean(p, value)
		}
	})
	switch {
	case err != nil:
		return err
	case req.ID == "":
		return errNoNodeID()
	}
	ctx, cancel := context.WithTimeout(r.Context(), changeTime)
	defer cancel()
	if err := c.Remove(ctx, req.ID, req.Force); err != nil {
		return err
	}
	return a.replyCluster(w, r)
}

func (a *API) transferLeadership(w *response, r *http.Request, _ *query) error {
	c, err := a.nodes()
	if err != nil {
		return err
	}
	to := ""
	err = a.object(w, r, maxSmall, true, []string{"to"}, func(d *decoder, p path, _ string, value []byte) {
		to = d.nodeID(p, value)
	})
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(r.Context(), changeTime)
	defer cancel()
	leader, err := c.Transfer(ctx, to)
	if err != nil {
		return err
	}
	applied, _ := a.machine.Applied()
	w.index(applied)
	return a.reply(w, http.StatusOK, &TransferAnswer{Leader: leader})
}

func (a *API) drainNode(w *response, r *http.Request, _ *query) error {
	c, err := a.nodes()
	if err != nil {
		return err
	}
	id, on := "", true
	err = a.object(w, r, maxSmall, false, []string{"id", "on"}, func(d *decoder, p path, name string, value []byte) {
		switch name {
		case "id":
			id = d.nodeID(p, value)
		case "on":
			on = d.boolean(p, value)
		}
	})
	switch {
	case err != nil:
		return err
	case id == "":
		return errNoNodeID()
	}
	ctx, cancel := context.WithTimeout(r.Context(), changeTime)
	defer cancel()
	if err := c.Drain(ctx, id, on); err != nil {
		return err
	}
	return a.replyCluster(w, r)
}

func (a *API) verifyCluster(w *response, r *http.Request, _ *query) error {
	c, err := a.nodes()
	if err != nil {
		return err
	}
	if err := a.nothingIn(w, r); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(r.Context(), verifyTime)
	defer cancel()
	w.stream = true // how long it takes says nothing about the API
	v, err := c.Verify(ctx)
	if err != nil {
		return err
	}
	w.index(v.Index)
	return a.reply(w, http.StatusOK, &v)
}

func (a *API) takeSnapshot(w *response, r *http.Request, _ *query) error {
	c, err := a.nodes()
	if err != nil {
		return err
	}
	if err := a.nothingIn(w, r); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(r.Context(), snapshotTime)
	defer cancel()
	index, err := c.Snapshot(ctx)
	if err != nil {
		return err
	}
	w.index(index)
	return a.reply(w, http.StatusOK, &SnapshotAnswer{Index: index})
}

// byteText is a size for people: 640 kB, 1.2 GB.
func byteText(n int64) string {
	const units = "kMGTPE"
	if n < 1000 {
		return strconv.FormatInt(n, 10) + " B"
	}
	f, unit := float64(n), -1
	for f >= 1000 && unit < len(units)-1 {
		f /= 1000
		unit++
	}
	digits := 0
	if f < 10 {
		digits = 1
	}
	return strconv.FormatFloat(f, 'f', digits, 64) + " " + units[unit:unit+1] + "B"
}
